import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from clipnb import Embeddings, encode_images, load_dataset
from clipnb._files import write_atomically
from clipnb.embeddings import StoreWriter, read_provenance
from clipnb.errors import InputError
from tests.support.shared import unit_rows


@pytest.fixture
def embeddings():
    return Embeddings(
        unit_rows(np.random.default_rng(0), 10, 4),
        np.array([0, 1, -1] * 3 + [0]),
        [f"ü/{i}.png" for i in range(10)],
        ["cat", "犬"],
        {"model": "m", "model_fingerprint": "f", "dataset": "folder:x"},
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize("shard_size", [1, 3, 10, 4096])
def test_round_trip(embeddings, tmp_path, shard_size):
    embeddings.save(tmp_path / "s", shard_size)
    found = Embeddings.load(tmp_path / "s")
    assert np.array_equal(found.vectors, embeddings.vectors) and found.vectors.dtype == np.float32
    assert np.array_equal(found.labels, embeddings.labels) and found.labels.dtype == np.int64
    assert found.ids == embeddings.ids and found.classnames == embeddings.classnames and len(found) == 10
    assert found.provenance == embeddings.provenance | {"n": 10}
    assert len(list((tmp_path / "s").glob("part-*.parquet"))) == -(-10 // shard_size)
    shards = list(Embeddings.shards(tmp_path / "s"))
    assert [len(shard) for shard in shards] == [min(shard_size, 10 - start) for start in range(0, 10, shard_size)]
    assert np.array_equal(np.concatenate([shard.vectors for shard in shards]), embeddings.vectors)
    assert not [name for name in contents(tmp_path / "s") if "tmp" in name]


def test_anyone_can_read_the_store(embeddings, tmp_path):
    embeddings.save(tmp_path, 4)
    shards = sorted(tmp_path.glob("*.parquet"))
    frame = pd.concat(map(pd.read_parquet, shards))
    assert list(frame.columns) == ["id", "label", "vector"] and frame["id"].tolist() == embeddings.ids
    assert np.array_equal(np.stack(frame["vector"]), embeddings.vectors)
    assert str(pq.read_schema(shards[0]).field("vector").type) == "fixed_size_list<element: float>[4]"
    assert json.loads((tmp_path / "provenance.json").read_text("utf-8"))["classnames"] == ["cat", "犬"]


def test_another_store_is_refused_by_what_differs(embeddings, tmp_path):
    embeddings.save(tmp_path / "s")
    before = contents(tmp_path / "s")
    provenance = embeddings.provenance | {"n": 10}

    def refused(text, provenance, classnames=("cat", "犬"), shard_size=4096, folder=tmp_path / "s"):
        with pytest.raises(InputError, match="^" + re.escape(text)):
            StoreWriter(folder, provenance, list(classnames), shard_size)

    belongs = f"The store {tmp_path / 's'} belongs to something else "
    refused(
        belongs + "(model_fingerprint: 'f' there, 'g' now); name another folder",
        provenance | {"model_fingerprint": "g"},
    )
    refused(belongs + "(n: 10 there, 11 now); name another folder", provenance | {"n": 11})
    refused(belongs + "(precision: None there, 'bf16' now); name another folder", provenance | {"precision": "bf16"})
    refused(belongs + "(other classnames or shard size); name another folder", provenance, classnames=["dog", "犬"])
    refused(belongs + "(other classnames or shard size); name another folder", provenance, shard_size=5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    refused(
        f"Expected a new or empty folder for the store, got {tmp_path / 'other'}", provenance, folder=tmp_path / "other"
    )
    refused("Expected a new or empty folder for the store, got ", provenance, folder=tmp_path / "other" / "thesis.txt")
    assert contents(tmp_path / "s") == before and len(contents(tmp_path / "other")) == 1
    StoreWriter(tmp_path / "s", provenance, ["cat", "犬"], 4096)  # its own store is taken up again


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda s: (s / "provenance.json").unlink(),
            "Expected an embeddings store (a folder with provenance.json), got {s}",
        ),
        (
            lambda s: (s / "provenance.json").write_text("{"),
            "Cannot read {s}/provenance.json: expected the provenance of a clipnb-embeddings-2 store",
        ),
        (
            lambda s: (s / "provenance.json").write_text('{"format": "other"}'),
            "Cannot read {s}/provenance.json: expected the provenance of a ",
        ),
        (
            lambda s: (s / "provenance.json").write_text('{"format": "clipnb-embeddings-2"}'),
            "Cannot read {s}/provenance.json: expected the provenance of a ",
        ),
        (
            lambda s: (s / "provenance.json").write_bytes(b"\xff"),
            "Cannot read {s}/provenance.json: expected the provenance of a ",
        ),
        (
            lambda s: (s / "part-000000004.parquet").unlink(),
            "The store {s} is not complete (part-000000004.parquet is missing); run the same",
        ),
        (
            lambda s: (s / "part-000000004.parquet").write_bytes(b"PAR1"),
            "Cannot read shard {s}/part-000000004.parquet: ",
        ),
        (lambda s: (s / "part-000000004.parquet").write_bytes(b""), "Cannot read shard {s}/part-000000004.parquet: "),
        (
            lambda s: pd.DataFrame({"id": ["a"], "vector": [[1.0]]}).to_parquet(s / "part-000000004.parquet"),
            "Cannot read shard {s}/part-000000004.parquet: ",
        ),
        (
            lambda s: (s / "part-000000008.parquet").write_bytes((s / "part-000000004.parquet").read_bytes()),
            "Expected 10 images in {s}, got 12; delete the folder and encode again",
        ),
    ],
)
def test_a_broken_store_raises(embeddings, tmp_path, spoil, text):
    embeddings.save(tmp_path / "s", 4)
    spoil(tmp_path / "s")
    with pytest.raises(InputError, match="^" + re.escape(text.replace("{s}", str(tmp_path / "s")))) as caught:
        Embeddings.load(tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_a_store_of_an_older_version_raises(tiny, pictures, tmp_path):
    data = load_dataset(f"folder:{pictures}")
    encode_images(tiny, data, tmp_path / "s")
    header = tmp_path / "s" / "provenance.json"
    content = json.loads(header.read_text("utf-8")) | {"format": "clipnb-embeddings-1"}
    del content["provenance"]["model_settings"]
    header.write_text(json.dumps(content))
    before = contents(tmp_path / "s")
    for use in (
        lambda: Embeddings.load(tmp_path / "s"),
        lambda: encode_images(tiny, data, tmp_path / "s"),
        lambda: read_provenance(tmp_path / "s"),
    ):
        with pytest.raises(
            InputError, match=r"was written by an older version of clipnb .*clipnb-embeddings-1.* and encode again$"
        ):
            use()
    assert contents(tmp_path / "s") == before


def test_a_store_of_other_settings_is_refused_by_the_setting(tmp_path):
    settings = {"activation": "GELU", "mean": [0.5, 0.5, 0.5]}
    StoreWriter(tmp_path / "s", {"n": 1, "model_settings": settings}, ["cat"], 4096)
    with pytest.raises(
        InputError, match=r"\(model_settings.activation: 'GELU' there, 'QuickGELU' now\); name another folder"
    ):
        StoreWriter(tmp_path / "s", {"n": 1, "model_settings": settings | {"activation": "QuickGELU"}}, ["cat"], 4096)


def test_nothing_to_join_raises():
    with pytest.raises(InputError, match="Expected at least one image, got none"):
        Embeddings.concatenate([])


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert contents(tmp_path) == {"result.json": b"old"}


class Stops:
    """A data set whose reader fails at one image, as a cut-off run does."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        self.name, self.ids, self.labels, self.classnames, self.fingerprint = (
            data.name,
            data.ids,
            data.labels,
            data.classnames,
            data.fingerprint,
        )
        self.exif_rotation = data.exif_rotation

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        if i == self.at:
            raise KeyboardInterrupt
        return self.data[i]


@pytest.mark.parametrize("at", [0, 5, 11])
def test_an_interrupted_run_resumes_to_the_same_bytes(tiny, pictures, tmp_path, monkeypatch, at):
    monkeypatch.setattr("clipnb.encode._images.SHARD_SIZE", 3)
    data = load_dataset(f"folder:{pictures}")
    whole = encode_images(tiny, data, tmp_path / "whole", batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        encode_images(tiny, Stops(data, at), tmp_path / "cut", batch_size=2, workers=0)
    assert len(list((tmp_path / "cut").glob("*.parquet"))) == at // 3
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").iterdir()}
    again = encode_images(tiny, data, tmp_path / "cut", batch_size=2)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert np.array_equal(again.vectors, whole.vectors) and again.ids == data.ids
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())  # what was whole is not written again


def test_a_finished_store_is_read_not_encoded(tiny, pictures, tmp_path):
    data = load_dataset(f"folder:{pictures}")
    first = encode_images(tiny, data, tmp_path / "s")
    again = encode_images(tiny, Stops(data, 0), tmp_path / "s")
    assert np.array_equal(first.vectors, again.vectors)
    (tmp_path / "s" / "part-000000000.parquet").unlink()
    with pytest.raises(KeyboardInterrupt):  # but for what is missing
        encode_images(tiny, Stops(data, 0), tmp_path / "s")


@pytest.mark.slow
def test_a_killed_process_leaves_whole_shards(tiny, tiny_weights, pictures, tmp_path, monkeypatch):
    """SIGKILL in another process, then the same run here: the bytes of an undisturbed one.

    That the store is taken up at all shows that fingerprints are of no process, address or hash seed.
    """
    script = f"""
import os, signal, open_clip
open_clip.add_model_config({str(tiny_weights.with_name("tiny-clip.json"))!r})
from clipnb import load_dataset, load_model, encode_images
from clipnb.encode import _images
from clipnb.embeddings import StoreWriter
_images.SHARD_SIZE = 3
write = StoreWriter.write
def dies(self, start, part):
    if start == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, start, part)
StoreWriter.write = dies
model = load_model("tiny-clip", {str(tiny_weights)!r}, precision="fp32")
encode_images(model, load_dataset("folder:{pictures}"), {str(tmp_path / "cut")!r})
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (killed.returncode, killed.stdout, killed.stderr) == (-signal.SIGKILL, "", "")
    assert sorted(contents(tmp_path / "cut")) == ["part-000000000.parquet", "part-000000003.parquet", "provenance.json"]
    with pytest.raises(InputError, match=r"is not complete \(part-000000006.parquet is missing\)"):
        Embeddings.load(tmp_path / "cut")
    monkeypatch.setattr("clipnb.encode._images.SHARD_SIZE", 3)
    for folder in ("cut", "whole"):
        encode_images(tiny, load_dataset(f"folder:{pictures}"), tmp_path / folder)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_another_models_store_raises(tiny, model, pictures, tmp_path):
    data = load_dataset(f"folder:{pictures}")
    encode_images(tiny, data, tmp_path / "s")
    with pytest.raises(
        InputError,
        match=r"belongs to something else \(model: 'tiny-clip' there, 'clipnb-mini' now; model_fingerprint: ",
    ):
        encode_images(model, data, tmp_path / "s")
    with pytest.raises(
        InputError, match=r"dataset_fingerprint: '\w{16}' there, '\w{16}' now; n: 12 there, 4 now\); name another"
    ):
        encode_images(tiny, data.take(4), tmp_path / "s")
