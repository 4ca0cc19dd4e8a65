import re

import numpy as np
import pytest
import torch

from clipnb import encode_images, encode_texts, load_dataset, load_model
from clipnb.errors import InputError

from conftest import TINY

TEXTS = ["dog", "a drawing of a very small red fire engine with a ladder on its roof, seen from the left side.", "cat", "dog",
         "a photo of a " + "very " * 100 + "long name", "собака", "a \"quoted\" {name}, with commas", "!", "dog "]


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


@pytest.mark.parametrize("which", ["model", "tiny"])
def test_prompts_are_cut_and_packed_by_their_tokens(request, which, monkeypatch):
    model = request.getfixturevalue(which)
    assert model.trims_exactly
    seen, encode_tokens = [], type(model).encode_tokens
    monkeypatch.setattr(type(model), "encode_tokens", lambda self, tokens: seen.append(tuple(tokens.shape)) or encode_tokens(self, tokens))
    encode_texts(model, ["dog", "a drawing of a very small red fire engine", "cat", "pig", "dog"], batch_tokens=7)
    (rows, short), (last, _), (one, long) = seen
    assert (rows, last, one) == (2, 1, 1) and short == 3 and long > 7  # the longest is a batch of its own


TOWERS = {  # of open_clip's own kind; whether padding can be cut off without a change
    "custom text, causal, pools at the end of text": ({}, True),
    "pools at the last place": ({"pool_type": "last"}, False),
    "sees all": ({"no_causal_mask": True}, False),
    "sees all, pools at the last place": ({"no_causal_mask": True, "pool_type": "last"}, False),
    "a class token after the text": ({"embed_cls": True}, False),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_every_tower_gives_open_clips_vectors(tiny, tmp_path, tower):
    import dataclasses
    import json

    import open_clip

    options, trims = TOWERS[tower]
    (tmp_path / "tower.json").write_text(json.dumps(TINY | {"custom_text": True, "text_cfg": TINY["text_cfg"] | options}))
    open_clip.add_model_config(tmp_path / "tower.json")
    torch.manual_seed(0)
    module = open_clip.create_model("tower").eval()
    torch.nn.init.normal_(module.text.positional_embedding)  # so that a place counts, as in a trained model
    model = dataclasses.replace(tiny, module=module)
    assert model.trims_exactly is trims
    assert np.allclose(encode_texts(model, TEXTS, 64), by_open_clip(model, TEXTS), rtol=0, atol=1e-5)
    before = {name: value.shape for name, value in module.state_dict().items()}
    assert before["text.positional_embedding"][0] >= 77  # what was cut for a call is whole again


def test_a_tower_that_reads_its_padding_gets_the_full_context(tiny):
    class MeanPooled(torch.nn.Module):
        def encode_text(self, tokens):
            return torch.nn.functional.one_hot(tokens % 7, 7).float().mean(dim=1)  # padding counts

    import dataclasses

    model = dataclasses.replace(tiny, module=MeanPooled())
    assert not model.trims_exactly
    found = encode_texts(model, ["dog", "a much longer prompt about a dog"])
    expected = MeanPooled().encode_text(model.tokenizer(["dog"])).numpy()
    assert np.allclose(found[0], expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize(("texts", "text"), [
    ("dog", "Expected `texts` to be a list of strings, got the single string 'dog'"),
    ([], "Expected at least one text, got none"),
    (["dog", " "], "Expected text 1 to be a non-empty string, got ' '"),
    ([None], "Expected text 0 to be a non-empty string, got None"),
])
def test_wrong_texts_are_told(tiny, texts, text):
    with pytest.raises(InputError, match="^" + re.escape(text) + "$"):
        encode_texts(tiny, texts)
    with pytest.raises(InputError, match="Expected `batch_tokens` >= 1, got 0"):
        encode_texts(tiny, ["dog"], batch_tokens=0)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_images_are_open_clips_own_vectors_in_order(tiny, pictures, batch_size):
    data = load_dataset(f"folder:{pictures}")
    found = encode_images(tiny, data, batch_size=batch_size, workers=3)
    with torch.inference_mode():
        expected = torch.cat([tiny.module.encode_image(tiny.preprocess(image)[None], normalize=True) for image, _ in data]).numpy()
    assert np.allclose(found.vectors, expected, rtol=0, atol=1e-5) and found.vectors.dtype == np.float32
    assert np.array_equal(found.labels, data.labels) and found.ids == data.ids and found.classnames == data.classnames
    assert found.provenance == {"model": "tiny-clip", "pretrained": tiny.pretrained, "model_fingerprint": tiny.fingerprint,
                                "precision": "fp32", "dataset": data.name, "dataset_fingerprint": data.fingerprint, "n": 12}
    assert len(np.unique(expected.round(4), axis=0)) == 12  # the order could not hide


def test_an_unreadable_picture_stops_the_run_by_name(tiny, pictures, tmp_path):
    (pictures / "dog" / "1.png").write_bytes(b"")
    for store in (None, tmp_path / "s"):
        with pytest.raises(InputError, match="Cannot read image 'dog/1.png' of folder:"):
            encode_images(tiny, load_dataset(f"folder:{pictures}"), store)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["provenance.json"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_and_of_unit_norm(tiny, tiny_weights, pictures, precision):
    data = load_dataset(f"folder:{pictures}")
    half = load_model("tiny-clip", str(tiny_weights), device="cpu", precision=precision)
    for encode, inputs in ((encode_texts, TEXTS), (lambda m, d: encode_images(m, d).vectors, data)):
        exact, found = encode(tiny, inputs), encode(half, inputs)
        assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        assert ((exact * found).sum(axis=1) > 0.999).all() and not np.array_equal(exact, found)
    assert half.fingerprint != tiny.fingerprint


def test_the_embedded_model_is_deterministic_and_far_above_chance(model):
    from clipnb import evaluate, zero_shot_classifier

    data = load_dataset("emoji").take(np.arange(0, 1884, 60))
    vectors = encode_images(model, data, batch_size=16).vectors
    assert np.array_equal(vectors[:16], encode_images(model, data.take(16), batch_size=16).vectors)
    result = evaluate(vectors, zero_shot_classifier(model, data.classnames), data.labels)
    assert result.recall_at_k[5] > 10 * 5 / len(data.classnames)
