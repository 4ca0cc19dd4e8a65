"""Vectors of the shipped sets are kept between runs, and never stand in for other vectors."""

from dataclasses import replace

import numpy as np
import pytest

from clipnb import encode_images, load_dataset, load_splits
from clipnb.encode import _imagecache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPNB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def never(monkeypatch, tiny):
    """Call it to make every further image that is encoded an error."""
    return lambda: monkeypatch.setattr(type(tiny), "encode_pixels", lambda *_: pytest.fail("an image was encoded"))


def test_a_shipped_set_is_encoded_once_and_its_parts_are_read_from_it(cache, tiny, never):
    data = load_dataset("emoji:train-sample")
    first = encode_images(tiny, data)
    assert len(list(cache.iterdir())) == 1
    never()
    again = encode_images(tiny, data)
    assert np.array_equal(first.vectors, again.vectors) and again.ids == data.ids
    assert first.provenance == again.provenance
    some = np.array([7, 2, 30])
    part = encode_images(tiny, data.take(some))
    assert np.array_equal(part.vectors, first.vectors[some]) and part.ids == [data.ids[i] for i in some]
    assert np.array_equal(part.labels, data.labels[some]) and part.provenance["n"] == 3


def test_parts_other_sets_and_an_empty_cache_variable_keep_nothing(cache, tiny, pictures, monkeypatch):
    encode_images(tiny, load_dataset("emoji").take(5))
    encode_images(tiny, load_dataset(f"folder:{pictures}"))
    monkeypatch.setenv("CLIPNB_CACHE", "")
    encode_images(tiny, load_dataset("emoji:train-sample"))
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "rubbish", "another shape", "not a number"])
def test_a_damaged_file_is_computed_again(cache, tiny, damage):
    data = load_dataset("emoji:train-sample")
    whole = encode_images(tiny, data).vectors
    (file,) = cache.iterdir()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "rubbish":
        file.write_bytes(b"no array")
    elif damage == "another shape":
        np.save(file, whole[:5])
    else:
        np.save(file, np.full_like(whole, np.nan))
    assert np.allclose(encode_images(tiny, data).vectors, whole, atol=1e-6)


def test_another_model_precision_or_image_has_vectors_of_its_own(cache, tiny):
    data = load_dataset("emoji:train-sample")
    encode_images(tiny, data)
    other = replace(data, versions=[version + 1 for version in data.versions])
    assert _imagecache.read_vectors(tiny, data) is not None and _imagecache.read_vectors(tiny, other) is None
    assert _imagecache.read_vectors(tiny, replace(data, name="emoji")) is None


def test_old_files_make_room(cache, tiny, monkeypatch):
    monkeypatch.setattr(_imagecache, "MAX_FILES", 2)
    data = load_dataset("emoji:train-sample")
    vectors = np.ones((len(data), tiny.dimensions), dtype=np.float32)
    for name in "abc":
        _imagecache.keep_vectors(tiny, replace(data, name=name), vectors)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(cache, tiny):
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    assert len(encode_images(tiny, load_dataset("emoji:train-sample").take(3))) == 3
    _imagecache.keep_vectors(tiny, data := load_dataset("emoji:train-sample"), np.ones((len(data), tiny.dimensions)))
    assert _imagecache.read_vectors(tiny, data) is None


def test_splits_of_shipped_sets_are_their_own_and_of_others_two_halves(pictures):
    for name in ("icons", "emoji"):
        validation, test = load_splits(name)
        assert (validation.name, test.name) == (f"{name}:validation", name)
        assert validation.classnames == test.classnames and not set(validation.ids) & set(test.ids)
    validation, test = load_splits(f"folder:{pictures}")
    assert len(validation) == len(test) == 6 and not set(validation.ids) & set(test.ids)
    assert np.bincount(validation.labels).tolist() == np.bincount(test.labels).tolist() == [2, 2, 2]
