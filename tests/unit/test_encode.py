import copy
import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from clipnb import Embeddings, encode_images, encode_texts, load_dataset, load_model
from clipnb.encode import changed_predictions
from clipnb.encode._images import encode_in_memory, fill_store, prepare
from clipnb.errors import InputError
from clipnb.models import Capabilities
from clipnb.models._towers import fold_norms
from tests.support.shared import TINY

RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None}
TEXTS = [
    "dog",
    "a drawing of a very small red fire engine with a ladder on its roof, seen from the left side.",
    "cat",
    "dog",
    "a photo of a " + "very " * 100 + "long name",
    "собака",
    'a "quoted" {name}, with commas',
    "!",
    "dog ",
]


def by_open_clip(model, texts):
    """What open_clip gives: every prompt at its full context."""
    with torch.inference_mode():
        return model.module.encode_text(model.tokenizer(texts), normalize=True).numpy()


@pytest.mark.parametrize("which", ["model", "tiny"])
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_texts_are_open_clips_own_vectors_in_order(request, which, batch_tokens):
    model = request.getfixturevalue(which)
    found = encode_texts(model, TEXTS, batch_tokens)
    assert found.dtype == np.float32 and np.allclose(found, by_open_clip(model, TEXTS), rtol=0, atol=1e-5)
    assert np.array_equal(found[0], found[3])  # equal texts are one vector
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    spread = found @ found.T
    assert spread[0, 2] < 1 - 1e-4  # and different texts are not


def test_prompts_are_cut_and_packed_by_their_tokens(model, monkeypatch):
    assert model.capabilities.trims_exactly and not model.capabilities.shares_prefixes  # it attends both ways
    seen, encode_tokens = [], type(model).encode_tokens
    monkeypatch.setattr(
        type(model),
        "encode_tokens",
        lambda self, tokens: seen.append(tuple(tokens.shape)) or encode_tokens(self, tokens),
    )
    encode_texts(model, ["dog", "a drawing of a very small red fire engine", "cat", "pig", "dog"], batch_tokens=7)
    (rows, short), (last, _), (one, long) = seen
    assert (rows, last, one) == (2, 1, 1) and short == 3 and long > 7  # the longest is a batch of its own


def test_what_prompts_share_is_read_once(tiny, monkeypatch):
    assert tiny.capabilities.shares_prefixes
    seen, encode_trees = [], type(tiny).encode_trees
    monkeypatch.setattr(type(tiny), "encode_trees", lambda self, trees: seen.extend(trees) or encode_trees(self, trees))
    prompts = [f"a photo of the {name}." for name in ("dog", "cat", "pig", "dog")]
    found = encode_texts(tiny, prompts)
    (tree,) = seen
    assert len(tree.ids) == 5 + 3 * 3  # start, "a photo of the"; for each name itself, the stop, the end
    assert np.allclose(found, by_open_clip(tiny, prompts), rtol=0, atol=1e-5)


TOWERS = {  # of open_clip's own kind; whether beginnings can be shared without a change
    "custom text, causal, pools at the end of text": ({}, True),
    "pools at the last place": ({"pool_type": "last"}, False),
    "sees all": ({"no_causal_mask": True}, False),
    "sees all, pools at the last place": ({"no_causal_mask": True, "pool_type": "last"}, False),
    "a class token after the text": ({"embed_cls": True}, False),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_every_tower_gives_open_clips_vectors(tiny, tmp_path, tower):
    import open_clip

    options, shares = TOWERS[tower]
    (tmp_path / "tower.json").write_text(
        json.dumps(TINY | {"custom_text": True, "text_cfg": TINY["text_cfg"] | options})
    )
    open_clip.add_model_config(tmp_path / "tower.json")
    torch.manual_seed(0)
    module = open_clip.create_model("tower").eval()
    torch.nn.init.normal_(module.text.positional_embedding)  # so that a place counts, as in a trained model
    model = dataclasses.replace(tiny, module=module)
    assert model.capabilities.shares_prefixes is shares and not model.capabilities.trims_exactly
    assert np.allclose(encode_texts(model, TEXTS, 64), by_open_clip(model, TEXTS), rtol=0, atol=1e-5)


def test_a_tower_that_reads_its_padding_gets_the_full_context(tiny):
    class MeanPooled(torch.nn.Module):
        def encode_text(self, tokens):
            return torch.nn.functional.one_hot(tokens % 7, 7).float().mean(dim=1)  # padding counts

    model = dataclasses.replace(tiny, module=MeanPooled())
    assert not model.capabilities.trims_exactly and not model.capabilities.shares_prefixes
    found = encode_texts(model, ["dog", "a much longer prompt about a dog"])
    expected = MeanPooled().encode_text(model.tokenizer(["dog"])).numpy()
    assert np.allclose(found[0], expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ("dog", "Expected `texts` to be a list of strings, got the single string 'dog'"),
        ([], "Expected at least one text, got none"),
        (["dog", " "], "Expected `texts[1]` to be a non-empty string, got ' '"),
        ([None], "Expected `texts[0]` to be a non-empty string, got None"),
    ],
)
def test_wrong_texts_are_reported(tiny, texts, text):
    with pytest.raises(InputError, match="^" + re.escape(text) + "$"):
        encode_texts(tiny, texts)
    with pytest.raises(InputError, match="Expected `batch_tokens` >= 1, got 0"):
        encode_texts(tiny, ["dog"], batch_tokens=0)


@pytest.fixture
def two_cores():
    """Two threads in torch, as on a machine of two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_images_are_open_clips_own_vectors_in_order(tiny, pictures, two_cores, batch_size, workers):
    data = load_dataset(f"folder:{pictures}")
    found = encode_images(tiny, data, batch_size=batch_size, workers=workers)
    with torch.inference_mode():
        expected = torch.cat(
            [tiny.module.encode_image(tiny.preprocess(image)[None], normalize=True) for image, _ in data]
        ).numpy()
    assert np.allclose(found.vectors, expected, rtol=0, atol=1e-5) and found.vectors.dtype == np.float32
    assert np.array_equal(found.labels, data.labels) and found.ids == data.ids and found.classnames == data.classnames
    assert found.provenance == {
        "model": "tiny-clip",
        "pretrained": tiny.pretrained,
        "model_fingerprint": tiny.fingerprint,
        "model_settings": tiny.settings,
        "precision": "fp32",
        "decoder": "pillow",
        "exif_rotation": "applied",
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "n": 12,
    }
    assert len(np.unique(expected.round(4), axis=0)) == 12  # the order could not hide


@pytest.mark.parametrize(
    ("options", "skips", "folds"),
    [
        ({}, True, False),
        ({"final_ln_after_pool": True}, True, False),
        ({"no_ln_pre": True, "ls_init_value": 0.5}, True, False),
        ({"act_kwargs": {"approximate": "tanh"}}, True, False),
        ({"pool_type": "avg"}, False, False),  # reads every place
        ({"attentional_pool": True}, False, False),
        ({"block_type": "custom"}, False, False),
        (RESNET, False, True),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_image_tower_gives_open_clips_vectors(tiny, tmp_path, options, skips, folds, precision):
    import open_clip

    (tmp_path / "tower.json").write_text(
        json.dumps(TINY | {"vision_cfg": TINY["vision_cfg"] | {"layers": 2} | options})
    )
    open_clip.add_model_config(tmp_path / "tower.json")
    torch.manual_seed(0)
    module = open_clip.create_model("tower").eval()
    for norm in (part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    model = dataclasses.replace(tiny, module=module).cast(precision)
    pixels = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected = module.encode_image(pixels, normalize=True).numpy()
    assert (model.capabilities.skips_unread, model.capabilities.folds_norms) == (skips, folds)
    assert np.allclose(model.encode_pixels(pixels), expected, rtol=0, atol=1e-5 if precision == "fp32" else 0.03)


def test_a_tower_of_open_clip_that_is_not_recognised_gives_one_warning(tiny, tmp_path):
    """Its class is open_clip's own, its parts are not: as after an update of open_clip that renames them."""
    import open_clip

    options = {"vision_cfg": TINY["vision_cfg"] | {"block_type": "custom"}}
    (tmp_path / "tower.json").write_text(json.dumps(TINY | options))
    open_clip.add_model_config(tmp_path / "tower.json")
    with pytest.warns(
        UserWarning, match="^The image tower of tiny-clip is built in a way .* encoding is slower$"
    ) as all_:
        model = dataclasses.replace(tiny, module=open_clip.create_model("tower").eval())
        assert model.capabilities
    assert len(all_) == 1 and not model.capabilities.skips_unread and model.capabilities.shares_prefixes
    (tmp_path / "tower.json").write_text(json.dumps(TINY | {"vision_cfg": TINY["vision_cfg"] | RESNET}))
    open_clip.add_model_config(tmp_path / "tower.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it has no such short way by design
        assert not dataclasses.replace(tiny, module=open_clip.create_model("tower").eval()).capabilities.skips_unread


class NormFirst(torch.nn.Module):
    """A tower whose norm stands after its convolution among its parts, and before it in what it computes."""

    image_size = 32

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 3, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(0.5)
        self.norm.weight.data = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, pixels):
        return self.convolution(self.norm(pixels)).mean(dim=(2, 3))


def test_norms_are_merged_only_where_that_changes_nothing(model, tiny):
    assert model.capabilities.folds_norms
    assert not [part for part in model.image_reader.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    torch.manual_seed(0)
    module = copy.deepcopy(tiny.module)
    module.visual = NormFirst().eval()
    other, pixels = dataclasses.replace(tiny, module=module), torch.rand(3, 3, 32, 32)
    assert fold_norms(module.visual) is not None and not other.capabilities.folds_norms
    with torch.inference_mode():
        expected = module.encode_image(pixels, normalize=True).numpy()
    assert np.allclose(other.encode_pixels(pixels), expected, rtol=0, atol=1e-6)


def test_abilities_are_measured_once_and_only_to_encode(tiny_weights):
    calls = []
    model = load_model("tiny-clip", str(tiny_weights))
    model.module.visual.register_forward_hook(lambda *_: calls.append("image"))
    model.module.transformer.register_forward_hook(lambda *_: calls.append("text"))
    assert model.fingerprint and model.settings and not calls
    assert model.capabilities == Capabilities(True, False, skips_unread=True, folds_norms=False)
    calls.clear()
    assert model.capabilities.skips_unread and not calls


def test_an_unreadable_picture_stops_the_run_by_name(tiny, pictures, tmp_path):
    (pictures / "dog" / "1.png").write_bytes(b"")
    for store in (None, tmp_path / "s"):
        with pytest.raises(InputError, match=r"Cannot read image 'dog/1.png' of folder:"):
            encode_images(tiny, load_dataset(f"folder:{pictures}"), store)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["provenance.json"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_and_of_unit_norm(tiny, tiny_weights, pictures, precision):
    data = load_dataset(f"folder:{pictures}")
    half = load_model("tiny-clip", str(tiny_weights), device="cpu", precision=precision)
    exact, found = encode_images(tiny, data).vectors, encode_images(half, data).vectors
    assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert ((exact * found).sum(axis=1) > 0.999).all() and not np.array_equal(exact, found)
    assert np.array_equal(encode_texts(half, TEXTS), encode_texts(tiny, TEXTS))  # a text tower has time for fp32
    assert half.fingerprint != tiny.fingerprint and half.text_fingerprint == tiny.text_fingerprint
    again = tiny.cast(precision)
    assert again.fingerprint == half.fingerprint and np.array_equal(encode_images(again, data).vectors, found)
    assert np.array_equal(encode_images(tiny, data).vectors, exact)  # and left the first as it was


@pytest.fixture
def photos(tmp_path):
    """260 pictures of four classes: enough for a check of bf16."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "bird", "fire truck"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(65):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    return load_dataset(f"folder:{tmp_path / 'photos'}")


def test_a_half_precision_says_how_many_predictions_it_changes(tiny, tiny_weights, photos, tmp_path, monkeypatch):
    model, checks = load_model("tiny-clip", str(tiny_weights), precision="bf16"), []
    measured = changed_predictions(tiny, model, photos)

    def check(exact, half, data):
        checks.append((exact.precision, exact.fingerprint, half.precision, len(data)))
        return measured

    monkeypatch.setattr("clipnb.encode._precision.changed_predictions", check)
    found = encode_images(model, photos, tmp_path / "s")
    assert checks == [("fp32", tiny.fingerprint, "bf16", 260)] and found.provenance["precision"] == "bf16"
    assert found.provenance["precision_check"] == {"changed_predictions": measured[0], "images": 64}
    (tmp_path / "s" / "part-000000000.parquet").unlink()
    again = encode_images(model, photos, tmp_path / "s")
    assert len(checks) == 1 and again.provenance == found.provenance  # a store is checked once
    assert encode_images(tiny.cast("bf16"), photos, tmp_path / "s").provenance == found.provenance
    with pytest.raises(InputError, match="precision: 'bf16' there, 'fp32' now"):
        encode_images(tiny, photos, tmp_path / "s")


def test_precision_stays_as_asked_whatever_the_check_finds(tiny, photos, monkeypatch):
    monkeypatch.setattr("clipnb.encode._precision.changed_predictions", lambda *_: (1.0, 64))
    assert encode_images(tiny.cast("bf16"), photos).provenance["precision"] == "bf16"
    exact = encode_images(tiny, photos).provenance
    assert exact["precision"] == "fp32" and "precision_check" not in exact


def test_a_half_precision_without_anything_to_compare_says_so(tiny, pictures, monkeypatch):
    nothing = {"changed_predictions": None, "images": 0}
    unnamed = load_dataset(f"folder:{pictures / 'dog'}")
    assert encode_images(tiny.cast("bf16"), unnamed).provenance["precision_check"] == nothing
    alone = dataclasses.replace(tiny.cast("bf16"), exact=None)
    assert encode_images(alone, load_dataset(f"folder:{pictures}")).provenance["precision_check"] == nothing


def test_the_check_counts_predictions_that_change(tiny, photos):
    def shifted(size):
        class Shifted:
            def encode_pixels(self, pixels):
                vectors = tiny.encode_pixels(pixels)
                noise = np.random.default_rng(len(pixels)).normal(size=vectors.shape)
                return (vectors + size * noise).astype(np.float32)

        return Shifted()

    shares = [changed_predictions(tiny, shifted(size), photos)[0] for size in (0, 1e-4, 0.3, 3)]
    assert shares[0] == 0 and shares == sorted(shares) and shares[1] < 0.05 and shares[-1] > 0.3
    assert changed_predictions(tiny, tiny.cast("bf16"), photos)[1] == 64


def test_out_of_memory_halves_the_batch(tiny, photos, monkeypatch, capfd):
    expected, sizes = encode_images(tiny, photos, batch_size=32).vectors, []
    encode_pixels = type(tiny).encode_pixels

    def small(self, pixels):
        sizes.append(len(pixels))
        if len(pixels) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode_pixels(self, pixels)

    monkeypatch.setattr(type(tiny), "encode_pixels", small)
    limit = 10
    assert np.allclose(encode_images(tiny, photos, batch_size=32).vectors, expected, atol=1e-6)
    assert sizes[:3] == [32, 16, 8] and max(sizes[3:]) == 8 and sum(sizes) == 260 + 32 + 16
    assert capfd.readouterr().err == (
        "clipnb: out of memory on cpu; continuing with 16 images a batch\n"
        "clipnb: out of memory on cpu; continuing with 8 images a batch\n"
    )
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        encode_images(tiny, photos, batch_size=2)


def spoiled(pictures):
    """Six files that are no pictures, of the twelve, and their ids."""
    good = (pictures / "cat" / "0.png").read_bytes()
    bad = {
        "cat/1.png": b"",
        "cat/2.png": b"just text",
        "dog/0.png": good[: len(good) // 2],
        "dog/3.png": good[:30],
        "fire_truck/1.png": b"%PDF-1.7 " * 20,
        "fire_truck/2.png": bytes(1000),
    }
    for name, content in bad.items():
        (pictures / name).write_bytes(content)
    return sorted(bad)


def encode_in_shards(model, data, store, bad_images, **options):
    """`encode_images` with shards of four images."""
    job = prepare(model, data, store, bad_images, shard_size=4)
    if store is None:
        return encode_in_memory(job, data, **options)
    fill_store(job, data, **options)
    return Embeddings.load(store)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_and_listed_or_stop_the_run(tiny, pictures, tmp_path, workers):
    bad, data = spoiled(pictures), load_dataset(f"folder:{pictures}")
    options = {"batch_size": 2, "workers": workers}
    for store in (None, tmp_path / "s", tmp_path / "s"):  # in memory, written, read back
        found = encode_in_shards(tiny, data, store, "skip", **options)
        assert sorted(found.skipped) == bad and len(found) + len(found.skipped) == len(data) == found.provenance["n"]
        assert found.ids == [name for name in data.ids if name not in bad]
        assert all(
            why.startswith(f"Cannot read image {name!r} of folder:") and "\n" not in why
            for name, why in found.skipped.items()
        )
        rows = [data.ids.index(name) for name in found.ids]
        assert np.array_equal(found.labels, data.labels[rows])
        assert np.allclose(found.vectors, encode_images(tiny, data.take(rows)).vectors, atol=1e-6)
    with pytest.raises(InputError, match=r"^Cannot read image 'cat/1.png' of folder:"):
        encode_images(tiny, data, **options)
    with pytest.raises(
        InputError, match=f"^Expected images in {data.name}, none of 6 can be read: Cannot read image 'cat/1.png'"
    ):
        encode_images(
            tiny, data.take([data.ids.index(name) for name in bad]), tmp_path / "none", bad_images="skip", **options
        )


def test_the_embedded_model_is_deterministic_and_far_above_chance(model):
    from clipnb import evaluate, zero_shot_classifier

    data = load_dataset("emoji").take(np.arange(0, 1884, 60))
    vectors = encode_images(model, data, batch_size=16).vectors
    assert np.array_equal(vectors[:16], encode_images(model, data.take(16), batch_size=16).vectors)
    result = evaluate(vectors, zero_shot_classifier(model, data.classnames), data.labels)
    assert result.recall_at_k[5] > 10 * 5 / len(data.classnames)
