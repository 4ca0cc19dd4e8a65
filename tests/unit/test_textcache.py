import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from clipnb import encode_texts
from clipnb.encode import _textcache
from clipnb.encode._textcache import TextCache, cache_folder
from clipnb.models import Model

TEXTS = ["dog", "a photo of a 犬", "cat", "dog"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPNB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def encoded(monkeypatch, tiny):
    """One entry for every prompt that the tower has seen."""
    prompts, encode_trees = [], Model.encode_trees
    monkeypatch.setattr(
        Model,
        "encode_trees",
        lambda self, trees: prompts.extend(p for tree in trees for p in tree.prompts) or encode_trees(self, trees),
    )
    return prompts


def test_a_prompt_is_encoded_once(tiny, folder, encoded):
    first = encode_texts(tiny, TEXTS)
    assert len(encoded) == 3
    assert np.array_equal(encode_texts(tiny, TEXTS[::-1]), first[::-1]) and len(encoded) == 3
    encode_texts(tiny, ["dog", "bird"])
    assert len(encoded) == 4
    assert [path.name for path in folder.iterdir()] == ["texts.sqlite"]
    assert b"photo" not in (folder / "texts.sqlite").read_bytes()  # hashes, no words


def test_another_model_or_tokenizer_has_its_own_vectors(tiny, folder, encoded):
    import dataclasses

    import torch

    encode_texts(tiny, TEXTS)
    other = dataclasses.replace(tiny, tokenizer=lambda texts: torch.flip(tiny.tokenizer(texts), dims=[1]))
    weights = {key: value.clone() for key, value in tiny.module.state_dict().items()}
    assert other.text_fingerprint != tiny.text_fingerprint
    encode_texts(other, TEXTS)
    assert len(encoded) > 6
    before = tiny.fingerprint
    tiny.module.visual.proj.data += 1  # the image tower has no say in it
    again = dataclasses.replace(tiny)
    assert again.text_fingerprint == tiny.text_fingerprint and again.fingerprint != before
    tiny.module.load_state_dict(weights)


def test_a_corrected_activation_is_not_answered_from_the_cache(tiny_weights, folder, tmp_path):
    """As in open_clip#441: the same weights and tokenizer, another architecture."""
    import json
    import shutil

    from clipnb import load_model
    from tests.support.shared import TINY

    (tmp_path / "local").mkdir()
    shutil.copy(tiny_weights, tmp_path / "local" / "open_clip_model.safetensors")

    def vectors(**config):
        (tmp_path / "local" / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": TINY | config, "preprocess_cfg": {}})
        )
        return encode_texts(load_model(f"local-dir:{tmp_path / 'local'}", device="cpu"), TEXTS)

    before, after = vectors(quick_gelu=False), vectors(quick_gelu=True)
    assert not np.array_equal(before, after)
    assert np.array_equal(vectors(quick_gelu=False), before) and np.array_equal(vectors(quick_gelu=True), after)
    shutil.rmtree(folder)
    assert np.array_equal(vectors(quick_gelu=True), after)


def test_entries_of_an_older_version_are_never_found(tmp_path, monkeypatch):
    cache = TextCache(tmp_path / "texts.sqlite", "f")
    monkeypatch.setattr(_textcache, "VERSION", _textcache.VERSION - 1)
    cache.keep({"dog": np.ones(8, dtype=np.float32)})
    assert "dog" in cache.find(["dog"])
    monkeypatch.undo()
    assert cache.find(["dog"]) == {}


def test_where_it_lies(monkeypatch, tiny, tmp_path):
    monkeypatch.setenv("CLIPNB_CACHE", "")
    assert cache_folder() is None
    monkeypatch.setenv("CLIPNB_CACHE", "~/x")
    assert cache_folder() == Path.home() / "x"
    monkeypatch.delenv("CLIPNB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "clipnb" and (sys.platform != "linux" or cache_folder() == tmp_path / "clipnb")


def spoil_file(path):
    path.write_bytes(b"this is no database" * 100)


def spoil_page(path):
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


def spoil_entry(path):
    with sqlite3.connect(path) as database:
        for place, entry in database.execute("SELECT place, entry FROM vectors").fetchall():
            damaged = entry[:20] + bytes([entry[20] ^ 1]) + entry[21:]  # one bit
            database.execute("UPDATE vectors SET entry = ? WHERE place = ?", (damaged, place))


def swap_entries(path):
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT place, entry FROM vectors").fetchall()
        for (place, _), (_, entry) in zip(rows, rows[1:] + rows[:1]):
            database.execute("UPDATE vectors SET entry = ? WHERE place = ?", (entry, place))


@pytest.mark.parametrize(
    "spoil", [spoil_file, spoil_page, spoil_entry, swap_entries, lambda path: path.write_bytes(b""), Path.unlink]
)
def test_what_is_damaged_is_computed_again(tiny, folder, encoded, spoil):
    first = encode_texts(tiny, TEXTS)
    spoil(folder / "texts.sqlite")
    assert np.array_equal(encode_texts(tiny, TEXTS), first) and len(encoded) == 6
    encode_texts(tiny, TEXTS)
    again = len(encoded)
    assert np.array_equal(encode_texts(tiny, TEXTS), first) and len(encoded) == again  # and kept again


def test_without_a_place_to_write_it_is_done_without(tiny, tmp_path, monkeypatch, encoded):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("CLIPNB_CACHE", str(place))
        assert encode_texts(tiny, TEXTS).shape == (4, 16)
    assert len(encoded) == 6 and (tmp_path / "file").read_text() == ""


def test_it_stops_growing(tmp_path, monkeypatch):
    monkeypatch.setattr(_textcache, "MAX_BYTES", 200_000)
    cache = TextCache(tmp_path / "texts.sqlite", "f")
    for start in range(0, 2000, 100):
        cache.keep({str(i): np.full(256, i, dtype=np.float32) for i in range(start, start + 100)})
    assert cache.path.stat().st_size < 600_000
    found = cache.find([str(i) for i in range(2000)])
    assert 0 < len(found) < 300 and "1999" in found and "0" not in found and (found["1999"] == 1999).all()


@pytest.mark.slow
def test_many_may_write_at_once(tmp_path):
    path = tmp_path / "texts.sqlite"

    def write(part):
        for i in range(20):
            TextCache(path, "f").keep({f"{part}/{i}": np.full(8, part, dtype=np.float32)})

    code = f"""
import numpy as np
from pathlib import Path
from clipnb.encode._textcache import TextCache
for i in range(20):
    TextCache(Path({str(path)!r}), "f").keep({{f"9/{{i}}": np.full(8, 9, dtype=np.float32)}})
"""
    other = subprocess.Popen([sys.executable, "-c", code])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert other.wait() == 0
    found = TextCache(path, "f").find([f"{part}/{i}" for part in (0, 1, 2, 3, 9) for i in range(20)])
    assert len(found) == 100 and all((vector == int(name[0])).all() for name, vector in found.items())
