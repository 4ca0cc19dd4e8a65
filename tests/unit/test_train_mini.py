"""Training of clipnb-mini on a toy cache made from shipped pictures: the loss falls, resuming changes nothing."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
timm = pytest.importorskip("timm")

from tools.mini import augment as mini_augment  # noqa: E402
from tools.mini import captions as mini_captions  # noqa: E402
from tools.mini import model as mini_model  # noqa: E402
from tools.mini import train as train_mini  # noqa: E402


def trainer(samples):
    """A small trainer; every call with the same number makes the same one."""
    parser = argparse.ArgumentParser()
    train_mini.add_options(parser)
    return train_mini.smoke_trainer(parser.parse_args(["--samples", str(samples)]))


@pytest.mark.slow
def test_smoke_loss_falls(tmp_path):
    losses = train_mini.run(trainer(256), tmp_path)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("loss" in entry for entry in logged)


@pytest.mark.slow
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
    [
        ("dog", True, True),
        ("green apple", True, False),
        ("magnifying glass tilted left", False, True),
        ("waxing crescent moon", False, True),
        ("black cat", True, False),
    ],
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
    pieces = {
        p: i
        for i, p in enumerate(
            ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "é", "cat", "dog", "##s", "rare"]
        )
    }
    kept = mini_model.keep_pieces(pieces, needed={pieces["rare"]}, pieces=9)
    names = {i: p for p, i in pieces.items()}
    assert [names[i] for i in kept] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "rare"]


def test_a_batch_never_holds_two_drawings_of_one_name():
    keys = ["dog"] * 50 + ["cat"] * 30 + [f"rare thing {i}" for i in range(40)]
    sampler, rng = train_mini.Sampler(keys), np.random.default_rng(0)
    drawn = [sampler.draw(16, rng) for _ in range(50)]
    assert all(len({keys[i] for i in rows}) == 16 and (np.diff(rows) > 0).all() for rows in drawn)
    count = np.bincount(np.concatenate(drawn), minlength=len(keys))
    assert count[:50].sum() == 50  # as often drawn as allowed: once a batch
    assert count[80:].sum() > 0


def test_captions_vary_and_keep_to_what_is_known():
    thing = mini_captions.Thing("owl", ("night owl",), ("bird", "wise"), "animals", "line", "icon")
    rng = np.random.default_rng(0)
    captions = [mini_captions.caption(thing, rng) for _ in range(400)]
    assert len(set(captions)) > 80
    assert 60 < captions.count("owl") < 200
    assert not any("photo" in text or "  " in text for text in captions)
    assert all("owl" in text or "bird" in text or "wise" in text for text in captions)
    assert mini_captions.with_article("owl") == "an owl"


def test_the_loss_is_least_where_each_drawing_has_its_own_caption():
    images = torch.nn.functional.normalize(torch.eye(4) + 0.1, dim=-1)
    scale = torch.tensor(10.0)
    right = train_mini.clip_loss(images, images, scale)
    assert right < train_mini.clip_loss(images, images.roll(1, 0), scale)
    plain = torch.nn.functional.cross_entropy(scale * images @ images.T, torch.arange(4))
    assert torch.allclose(right, plain)
