"""`wrap_model`: two functions as a model, and models of sentence-transformers (a stub stands for that library)."""

import re
import sys
import threading
import types

import numpy as np
import pytest
import torch

import clipnb
from clipnb import InputError
from clipnb.margin import prediction_confidence, softmax_confidence
from tests.support.shared import photographs, unit_rows

WIDTH = 48


def pixels(images):
    return np.stack([np.asarray(image.resize((4, 4)), dtype=float).ravel() for image in images])


def letters(texts):
    return np.array([[text.count(chr(97 + i)) + 0.1 for i in range(WIDTH)] for text in texts])


@pytest.fixture
def data(tmp_path):
    return clipnb.load_dataset(f"folder:{photographs(tmp_path / 'images', ('cat', 'dog'), 5)}")


def wrapped(images=pixels, texts=letters, **options):
    return clipnb.wrap_model(encode_images=images, encode_texts=texts, **options)


def test_the_vectors_are_the_functions_own_normalised(data):
    model = wrapped()
    found, expected = clipnb.encode_images(model, data), pixels([image for image, _ in data])
    assert found.vectors.dtype == np.float32
    assert np.allclose(found.vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    texts = clipnb.encode_texts(model, ["dog", "cat", "dog"])
    assert np.allclose(texts[1], letters(["cat"])[0] / np.linalg.norm(letters(["cat"])), atol=1e-6)
    assert np.array_equal(texts[0], texts[2])
    classifier = clipnb.zero_shot_classifier(model, data.classnames, ["{}", "a {}"])
    assert 0 <= clipnb.evaluate(found.vectors, classifier, data.labels).accuracy <= 1


def test_lists_and_tensors_are_vectors_too():
    assert clipnb.encode_texts(wrapped(texts=lambda t: letters(t).tolist()), ["cat"]).shape == (1, WIDTH)
    assert clipnb.encode_texts(wrapped(texts=lambda t: torch.tensor(letters(t)).half()), ["cat"]).shape == (1, WIDTH)


def test_functions_get_lists_of_bounded_size_from_one_thread_at_a_time(data):
    calls, busy = [], threading.Lock()

    def images(batch):
        assert busy.acquire(blocking=False), "two threads at once"
        calls.append((type(batch), len(batch), batch[0].mode))
        busy.release()
        return pixels(batch)

    sizes = []
    clipnb.encode_images(wrapped(images), data, batch_size=4)
    texts = ["a" * i + "b" for i in range(600)]
    assert calls == [(list, 4, "RGB"), (list, 4, "RGB"), (list, 2, "RGB")]
    clipnb.encode_texts(wrapped(texts=lambda t: sizes.append(len(t)) or letters(t)), texts)
    assert max(sizes) == 256 and sum(sizes) == 600


def test_a_store_needs_a_name_and_is_bound_to_it(data, tmp_path):
    with pytest.raises(InputError, match=r"^Expected a model with a name for a store, got functions without one"):
        clipnb.encode_images(wrapped(), data, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    clipnb.encode_images(wrapped(name="letters-1"), data, store=tmp_path / "store")
    assert len(clipnb.encode_images(wrapped(name="letters-1"), data, store=tmp_path / "store")) == 10
    with pytest.raises(InputError, match=r"belongs to something else.*letters-1.*letters-2"):
        clipnb.encode_images(wrapped(name="letters-2"), data, store=tmp_path / "store")


def test_texts_are_not_cached_between_calls(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPNB_CACHE", str(tmp_path))
    assert not np.array_equal(
        clipnb.encode_texts(wrapped(name="a"), ["cat"]),
        clipnb.encode_texts(wrapped(texts=lambda t: letters(t)[:, ::-1], name="a"), ["cat"]),
    )
    assert not any(tmp_path.iterdir())


def test_an_audit_takes_wrapped_functions(data):
    report = clipnb.audit(data, wrapped(name="letters"), made="today")
    assert report.summary["model"] == "letters" and report.summary["n"] == 10 and "letters" in report.lead


@pytest.mark.parametrize(
    "result, text",
    [
        (lambda n: np.ones((n + 1, WIDTH)), r"to return an array of shape (N, D) = ({n}, D)"),
        (lambda n: np.ones(n), "`result of {function}` to have 2 dimension(s), got shape"),
        (lambda n: np.ones((n, 0)), "to return an array of shape (N, D)"),
        (lambda n: np.full((n, WIDTH), np.nan), "`result of {function}` to be finite"),
        (lambda n: np.full((n, WIDTH), np.inf), "`result of {function}` to be finite"),
        (lambda n: np.zeros((n, WIDTH)), "with a direction, got a row of zeros"),
        (lambda n: None, "`result of {function}` to hold numbers"),
        (lambda n: np.full((n, WIDTH), "a"), "`result of {function}` to hold numbers"),
        (lambda n: np.ones((n, WIDTH), complex), "to hold real numbers"),
    ],
)
@pytest.mark.parametrize("function", ["encode_images", "encode_texts"])
def test_what_a_function_returns_is_checked(result, text, function, data):
    with pytest.raises(
        InputError, match=re.escape(text.format(n=4 if function == "encode_images" else 1, function=function))
    ):
        if function == "encode_images":
            clipnb.encode_images(wrapped(lambda images: result(len(images))), data, batch_size=4)
        else:
            clipnb.encode_texts(wrapped(texts=lambda texts: result(len(texts))), ["cat"])


def test_both_functions_have_one_width(data):
    with pytest.raises(InputError, match="one width D, got 47 and 48"):
        clipnb.encode_images(wrapped(lambda images: pixels(images)[:, 1:]), data)


@pytest.mark.parametrize(
    "given, text",
    [
        ({"encode_images": "f"}, "Expected `encode_images` to be a function, got 'f'"),
        ({"encode_texts": None}, "Expected `encode_texts` to be a function, got None"),
        ({"name": ""}, "Expected `name` to be a non-empty string"),
        ({"logit_scale": 0}, "Expected `logit_scale` > 0"),
        ({"logit_scale": float("nan")}, "Expected `logit_scale` > 0"),
        ({"logit_bias": "x"}, "Expected `logit_bias` to be a number"),
        ({"logit_bias": float("inf")}, "Expected `logit_bias` between"),
    ],
)
def test_wrong_arguments_are_refused(given, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        clipnb.wrap_model(**{"encode_images": pixels, "encode_texts": letters} | given)


def test_what_a_function_raises_comes_through(data):
    with pytest.raises(ZeroDivisionError):
        clipnb.encode_images(wrapped(lambda images: 1 / 0), data)


def test_a_function_that_ignores_its_texts_is_reported_once():
    with pytest.warns(UserWarning, match="its texts do not depend on their words") as seen:
        clipnb.encode_texts(wrapped(texts=lambda texts: np.ones((len(texts), WIDTH))), ["cat", "dog"])
    assert len(seen) == 1


def test_the_probability_of_a_sigmoid_model():
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 50, 8), unit_rows(rng, 5, 8)
    best = (vectors @ classifier.T).max(axis=1).astype(float)
    found = prediction_confidence(vectors, classifier, 20.0, -5.0)
    assert np.allclose(found, 1 / (1 + np.exp(-(20 * best - 5))), atol=1e-6)
    assert np.array_equal(
        prediction_confidence(vectors, classifier, 20.0), softmax_confidence(vectors, classifier, 20.0)
    )


# sentence-transformers ------------------------------------------------------------------------------------------------


class Stub(torch.nn.Module):
    """What clipnb uses of `SentenceTransformer`: its weights, and `encode` of images or of texts."""

    def __init__(self, name, device):
        super().__init__()
        if name == "missing":
            raise OSError("no such\nrepository")
        torch.manual_seed(0)
        self.logit_scale = torch.nn.Parameter(torch.tensor(3.0))
        self.layer, self.max_seq_length = torch.nn.Linear(WIDTH, WIDTH), 77

    def encode(self, items, convert_to_numpy, show_progress_bar):
        assert convert_to_numpy and not show_progress_bar
        values = letters(items) if isinstance(items[0], str) else pixels(items)
        with torch.no_grad():
            return self.layer(torch.tensor(values, dtype=torch.float32)).numpy()


@pytest.fixture
def stub(monkeypatch):
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = Stub
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


def test_a_model_of_sentence_transformers(stub, data, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPNB_CACHE", str(tmp_path / "cache"))
    model = clipnb.load_model("sentence-transformers:clip-stub", device="cpu")
    assert (model.name, model.pretrained) == ("sentence-transformers:clip-stub", "clip-stub")
    assert abs(model.logit_scale - np.exp(3)) < 1e-5 and model.logit_bias is None
    clipnb.encode_images(model, data, store=tmp_path / "store")
    first = clipnb.encode_texts(model, ["cat", "dog"])
    monkeypatch.setattr(Stub, "encode", None)  # calling it would fail: vectors come from the store and the cache
    again = clipnb.load_model("sentence-transformers:clip-stub", device="cpu")
    assert np.array_equal(clipnb.encode_texts(again, ["cat", "dog"]), first)
    assert len(clipnb.encode_images(again, data, store=tmp_path / "store")) == 10


def test_what_sentence_transformers_cannot_load_is_one_line(stub, monkeypatch):
    for name, options, text in (
        ("sentence-transformers:", {}, "Expected sentence-transformers:NAME_OR_PATH"),
        (
            "sentence-transformers:missing",
            {},
            "Cannot load 'sentence-transformers:missing': OSError: no such repository",
        ),
        ("sentence-transformers:x", {"precision": "bf16"}, "Expected `precision` 'fp32'"),
        ("sentence-transformers:x", {"pretrained": "openai"}, "Expected no `pretrained`"),
    ):
        with pytest.raises(InputError, match="^" + re.escape(text)):
            clipnb.load_model(name, **options)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"it is not installed; pip install sentence-transformers$"):
        clipnb.load_model("sentence-transformers:clip-stub")
