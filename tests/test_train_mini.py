"""Training of clipnb-mini on a toy cache made from shipped pictures: the loss falls, resuming changes nothing."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
timm = pytest.importorskip("timm")

import mini_augment  # noqa: E402
import mini_model  # noqa: E402
import train_mini  # noqa: E402


def trainer(samples):
    """A small trainer; every call with the same number makes the same one."""
    parser = argparse.ArgumentParser()
    train_mini.add_options(parser)
    return train_mini.smoke_trainer(parser.parse_args(["--samples", str(samples)]))


def test_smoke_loss_falls(tmp_path):
    losses = train_mini.run(trainer(256), tmp_path)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("loss" in entry for entry in logged)


def test_resuming_equals_not_stopping(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight = trainer(64)
    train_mini.run(straight, tmp_path / "a")
    first = trainer(64)
    train_mini.run(first, tmp_path / "b", stop_after=2)
    second = trainer(64)
    second.restore(tmp_path / "b/checkpoint.pt")
    train_mini.run(second, tmp_path / "b")
    assert second.seen == straight.seen
    for name in ("model", "average"):
        ours, theirs = getattr(second, name).state_dict(), getattr(straight, name).state_dict()
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_folding_batch_norm_and_back_changes_nothing():
    torch.manual_seed(0)
    trunk = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    for norm in (m for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    folded = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    folded.load_state_dict(trunk.state_dict())
    back = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    mini_model.fold_batch_norm(folded)
    mini_model.unfold_batch_norm(folded, back)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = trunk(x)
        assert torch.allclose(folded(x), expected, atol=1e-4)
        assert torch.allclose(back(x), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "mirror", "colour"),
    [("dog", True, True), ("green apple", True, False), ("magnifying glass tilted left", False, True),
     ("waxing crescent moon", False, True), ("black cat", True, False)],
)
def test_augmentation_spares_what_a_name_says(words, mirror, colour):
    assert mini_augment.flags(words) == (mirror, colour)


def test_augmented_views_have_the_size_asked_for():
    pictures = torch.randint(0, 255, (6, 96, 96, 4), dtype=torch.uint8)
    yes, no = torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)
    views = mini_augment.augment(pictures, no, yes, yes, 48)
    assert views.shape == (6, 3, 48, 48)
    assert 0 <= views.min() and views.max() <= 1


def test_pruned_vocabulary_keeps_ids_and_order():
    pieces = {p: i for i, p in enumerate(["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "é", "cat", "dog", "##s", "rare"])}
    kept = mini_model.keep_pieces(pieces, needed={pieces["rare"]}, pieces=9)
    names = {i: p for p, i in pieces.items()}
    assert [names[i] for i in kept] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "rare"]


def test_class_captions_start_with_the_name():
    captions = train_mini.class_captions({"classname": "dog", "keywords": ["pet", "puppy"]}, 0)
    assert captions[0][0] == "dog" and captions[0][1] == max(w for _, w in captions)
    assert "a drawing of a dog." in [c for c, _ in captions]


def test_class_captions_leave_out_the_names_of_other_classes():
    captions = train_mini.class_captions({"classname": "poodle", "keywords": ["dog", "pet"]}, 0, {"poodle", "dog"})
    assert not any("dog" in c for c, _ in captions)


def test_classes_whose_names_read_alike_are_told_apart():
    """Nearly equal text features excuse two free captions, not the names of two classes."""
    concepts = [{"classname": "first quarter moon", "keywords": []}, {"classname": "last quarter moon", "keywords": []}]
    rows = [{"words": "half moon"}, {"words": "moon half"}]
    captions = train_mini.Captions(concepts, rows)
    raw = torch.nn.functional.normalize(torch.ones(len(captions.texts), 4) + 0.01 * torch.eye(len(captions.texts), 4), dim=-1)
    images, texts = torch.eye(2), torch.eye(2)

    def loss(texts, labels, captioned):
        ids = torch.tensor([captions.texts[t] for t in captioned])
        names = raw[captions.ids[:, 0]]
        owner = torch.from_numpy(captions.owner)
        bank = torch.zeros(2, 2)
        return train_mini.contrastive_loss(images, texts, 5.0, torch.tensor(labels), ids, raw, names, owner, bank).item()

    named, free = ["first quarter moon", "a drawing of a last quarter moon."], ["half moon", "moon half"]
    assert loss(texts, [0, 1], named) < loss(texts.flip(0), [0, 1], named)
    assert loss(texts, [-1, -1], free) == loss(texts.flip(0), [-1, -1], free)
