"""`transformers:` against the library's own example, on tiny random checkpoints of every family."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from clipnb import InputError, encode_images, encode_texts, load_dataset, load_model, zero_shot_classifier
from clipnb.models._transformers import FAMILIES as KNOWN
from clipnb.models._transformers import unpacked
from tests.support.shared import photographs
from tests.support.tiny_hub import FAMILIES, make_checkpoint

TEXTS = ["a dog", "A photo of a fire truck, No. 42.", "cat", "very " * 40 + "long"]
PADDED = ("siglip", "siglip2", "align")  # whose documentation fills texts up to the longest length


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder for each family, made when it is first asked for."""
    folders = {}

    def make(family):
        if family not in folders:
            folders[family] = make_checkpoint(family, tmp_path_factory.mktemp(family))
        return folders[family]

    return make


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 48 + 20 * i, 3), dtype=np.uint8)) for i in range(4)]


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def test_every_known_family_is_tested():
    assert set(FAMILIES) == set(KNOWN)


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_ids_vectors_and_logits_are_those_of_the_librarys_example(family, checkpoint, images):
    from transformers import AutoModel, AutoProcessor

    folder = checkpoint(family)
    model = load_model(f"transformers:{folder}", device="cpu")
    own, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    longest = {"truncation": True, "max_length": model.context_length}  # without it the library stops at long texts
    inputs = processor(
        text=TEXTS, images=images, return_tensors="pt", padding="max_length" if family in PADDED else True, **longest
    )
    with torch.no_grad():
        expected = own(**inputs)

    ids = model.tokenizer(TEXTS)
    width = inputs["input_ids"].shape[1]
    assert torch.equal(ids[:, :width], inputs["input_ids"]) and (ids[:, width:] == model.padding_id).all()
    if "attention_mask" in inputs:
        assert torch.equal(model.tokenizer.mask(ids)[:, :width], inputs["attention_mask"])
    pixels = torch.stack([model.preprocess(image) for image in images])
    if family == "siglip2":
        parts = unpacked(pixels)
        for part, name in zip(parts, ("pixel_values", "pixel_attention_mask", "spatial_shapes")):
            assert np.allclose(part, inputs[name], atol=1e-5)
    else:
        assert np.allclose(pixels, inputs["pixel_values"], atol=1e-5)

    texts, vectors = encode_texts(model, TEXTS), model.encode_pixels(pixels)
    assert np.abs(texts - unit(expected.text_embeds)).max() < 1e-5
    assert np.abs(vectors - unit(expected.image_embeds)).max() < 1e-5
    assert np.abs(texts @ texts[0]).min() < 0.99 and np.abs(vectors @ vectors[0]).min() < 0.99  # they differ at all
    logits = model.logit_scale * vectors @ texts.T + (model.logit_bias or 0)
    assert np.allclose(logits, expected.logits_per_image.numpy(), atol=1e-4)
    assert (model.logit_bias is None) == (family not in ("siglip", "siglip2"))


@pytest.mark.parametrize("family", ["clip", "siglip2", "align"])
def test_the_whole_way_from_images_to_scores(family, checkpoint, tmp_path):
    data = load_dataset(f"folder:{photographs(tmp_path / 'images', ('cat', 'dog'), 3)}")
    model = load_model(f"transformers:{checkpoint(family)}", device="cpu")
    stored = encode_images(model, data, store=tmp_path / "store")
    assert np.allclose(stored.vectors, encode_images(model, data, workers=1).vectors, atol=1e-6)
    assert stored.provenance["model_fingerprint"] == model.fingerprint
    assert zero_shot_classifier(model, data.classnames).shape == (2, stored.vectors.shape[1])
    half = load_model(f"transformers:{checkpoint(family)}", device="cpu", precision="bf16")
    found = encode_images(half, data)
    assert (found.vectors * stored.vectors).sum(axis=1).min() > 0.9 and half.fingerprint != model.fingerprint
    assert found.provenance["precision_check"]["images"] == len(data)


def test_prompts_are_cut_to_their_batch_only_where_padding_is_not_read(checkpoint):
    exact = {family: load_model(f"transformers:{checkpoint(family)}").capabilities.trims_exactly for family in FAMILIES}
    assert exact == {
        "clip": True,
        "siglip": False,
        "siglip2": False,
        "altclip": True,
        "chinese_clip": True,
        "align": True,
    }


def test_fingerprints_are_of_the_content_and_not_of_the_place(checkpoint, tmp_path):
    shutil.copytree(checkpoint("clip"), tmp_path / "copy")
    here, there = (load_model(f"transformers:{folder}") for folder in (checkpoint("clip"), tmp_path / "copy"))
    assert (here.fingerprint, here.text_fingerprint) == (there.fingerprint, there.text_fingerprint)

    def changed(file, change):
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint("clip"), folder)
        content = json.loads((folder / file).read_text("utf-8"))
        change(content)
        (folder / file).write_text(json.dumps(content), "utf-8")
        other = load_model(f"transformers:{folder}")
        return other.fingerprint != here.fingerprint, other.text_fingerprint != here.text_fingerprint

    def set_mean(content):
        content.get("image_processor", content)["image_mean"] = [0.5, 0.5, 0.5]

    def swap_letters(content):
        vocabulary = content["model"]["vocab"]
        vocabulary["a</w>"], vocabulary["q</w>"] = vocabulary["q</w>"], vocabulary["a</w>"]

    assert changed("processor_config.json", set_mean) == (True, False)
    assert changed("config.json", lambda c: c["text_config"].update(hidden_act="gelu"))[1]
    assert changed("tokenizer.json", swap_letters) == (False, True)


def test_text_vectors_are_kept_between_loads(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPNB_CACHE", str(tmp_path / "cache"))
    first = encode_texts(load_model(f"transformers:{checkpoint('siglip')}"), TEXTS)
    again = load_model(f"transformers:{checkpoint('siglip')}")
    monkeypatch.setattr(type(again), "encode_tokens", None)  # calling it would fail
    assert np.array_equal(encode_texts(again, TEXTS), first)


def refuses(text, name, **options):
    with pytest.raises(InputError, match="^" + re.escape(text)) as caught:
        load_model(name, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


def test_what_cannot_be_loaded_is_one_line(checkpoint, tmp_path):
    refuses("Expected transformers:NAME_OR_PATH, got 'transformers:'", "transformers:")
    for place in (tmp_path, "/no/such", "~/no/such", "a/b/c"):
        refuses("Expected a folder with config.json or a repository", f"transformers:{place}")
    refuses("Expected `name` to be the path of a file or folder", f"transformers:{'x' * 5000}")
    folder = checkpoint("clip")
    refuses("Expected no `pretrained` with model 'transformers:", f"transformers:{folder}", pretrained="openai")
    refuses("Expected no `like` with model 'transformers:", f"transformers:{folder}", like="openai")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    text = refuses("Expected a model of CLIP, SigLIP, ", f"transformers:{tmp_path / 'bert'}")
    assert "got the type 'bert'" in text and "wrap_model" in text
    for missing in ("model.safetensors", "tokenizer.json"):
        broken = tmp_path / f"without {missing}"
        shutil.copytree(folder, broken)
        (broken / missing).unlink()
        refuses("Cannot load 'transformers:", f"transformers:{broken}")
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    refuses("Cannot load 'transformers:", f"transformers:{cut}")


def test_weights_that_are_not_in_the_file_are_reported(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint("clip"), tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "part" / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match="lack 1 tensors of its architecture.*text_projection.weight"):
        load_model(f"transformers:{tmp_path / 'part'}")


def test_a_model_whose_vectors_are_all_alike_is_reported_once(checkpoint, tmp_path, recwarn):
    model = load_model(f"transformers:{checkpoint('clip')}")
    data = load_dataset(f"folder:{photographs(tmp_path / 'images', ('cat', 'dog'), 5)}")
    encode_images(model, data), encode_texts(model, TEXTS)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
    for norm in (model.module.whole.text_model.final_layer_norm, model.module.visual["vision_model"].post_layernorm):
        norm.weight.zero_()
        norm.bias.fill_(1)
    with pytest.warns(UserWarning, match="its texts do not depend on their words") as seen:
        encode_texts(model, [text.replace("a", "b") for text in TEXTS[:2]] + ["bird"])
    assert len(seen) == 1
    with pytest.warns(UserWarning, match="its image vectors do not depend on the images") as seen:
        encode_images(model, data)
    assert len(seen) == 1
