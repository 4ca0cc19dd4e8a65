"""Everything that can go wrong from outside, done to real runs: killed, interrupted, disk full, files broken or gone, two runs at once.

After each: one clear line, nothing half-written that is later taken for whole, and a second run that gives what a calm run gives.
FAULTS is the table that the page "What is promised" shows.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import clipnb
from clipnb import datasets
from clipnb.cli import main
from clipnb.embeddings import Embeddings, StoreWriter
from clipnb.errors import InputError

ROOT = clipnb.datasets.ASSETS.parents[1]
FAULTS = {  # what happens: (what comes of it, the test that proves it)
    "kill -9 at a random moment: encode": ("runs go on; the bytes of a calm run", "test_kill.py::test_killed_at_random_points"),
    "kill -9 at a random moment: evaluate, margin, ensemble, audit": ("whole files or none; a second run gives the same",
                                                                      "test_faults.py::test_a_killed_command_leaves_whole_files_or_none"),
    "kill -9 while a language model is asked": ("answers so far are kept; only the others are asked again", "test_llm.py::test_a_killed_run_goes_on_where_it_stopped"),
    "kill -9 while notebooks run": ("what is done is kept; a second run finishes", "test_faults.py::test_a_killed_or_interrupted_build_of_the_notebooks_goes_on"),
    "Ctrl-C, to all processes of the command": ("one line, exit code 130; the next run goes on", "test_faults.py::test_ctrl_c_is_one_line_and_the_next_run_goes_on"),
    "the disk is full (a limit on file size)": ("one line that names the file; whole shards stay", "test_kill.py::test_a_full_disk_leaves_what_was_whole"),
    "the disk is full (a small real one)": ("one line that names the file, nothing half-written", "test_faults.py::test_a_full_disk_is_one_line"),
    "one bit of a shard flips": ("named by its checksum; deleted, the next run makes it again", "test_faults.py::test_a_flipped_bit_in_a_shard_is_found"),
    "a shard is cut off, or replaced by something else": ("named, with the way out", "test_embeddings.py::test_a_broken_store_is_told"),
    "an entry of the text cache is cut off, swapped or broken": ("computed again", "test_textcache.py::test_what_is_damaged_is_computed_again"),
    "a cached answer of a language model is cut off": ("named: delete it to ask again", "test_llm.py::test_a_spoilt_cache_is_told"),
    "one bit of the shipped weights or pictures flips": ("refused by its checksum", "test_faults.py::test_a_flipped_bit_in_what_is_shipped_is_found"),
    "a picture disappears while the run reads": ("named; after it is back, the run goes on", "test_faults.py::test_a_file_that_disappears_is_named"),
    "the data change under a begun store": ("refused, with what differs", "test_datasets.py::test_a_changed_picture_changes_the_fingerprint"),
    "two runs write one store": ("both give the whole store, or one says why not", "test_faults.py::test_two_runs_on_one_store"),
    "several processes use one text cache": ("all entries are kept", "test_textcache.py::test_many_may_write_at_once"),
    "anything that nobody foresaw": ("one line that points to --debug, exit code 1", "test_faults.py::test_the_unforeseen_is_one_line_without_debug"),
}

# One process loads libraries and model; each run is its fork, so that what happens to it happens to the work and not to imports.
SERVER = """
import json, os, sys, time
import matplotlib, open_clip, pandas, pyarrow.parquet, scipy.stats, torch, transformers
weights = sys.argv[1]
open_clip.add_model_config(os.path.join(os.path.dirname(weights), "tiny-clip.json"))
from clipnb import cli, comparison, datasets, encode, models, report, worst
torch.set_num_threads(1)
encode.SHARD_SIZE = 6
loaded = models.load_model("tiny-clip", weights, "cpu", "fp32")
models.load_model = report.load_model = lambda *_: loaded
read = datasets.LabeledImages.__getitem__
def slow(self, i):
    time.sleep(float(os.environ.get("SLOW", 0)))
    return read(self, i)
datasets.LabeledImages.__getitem__ = slow
shards = encode.encode_shards
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order["place"] + "." + name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    os.environ["SLOW"] = order["slow"]
    encode.encode_shards = lambda task, data, rows, batch_size, workers, progress: shards(task, data, rows, batch_size, order["workers"], progress)
    try:
        cli.main(order["command"])
    except SystemExit as ending:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(ending.code or 0)
    os._exit(3)
"""


class Runs:
    """Starts commands as processes of their own, each in a group of its own."""

    def __init__(self, weights):
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(weights)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert self.process.stdout.readline() == "ready\n"

    def _ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, place, *command, slow=0.0, workers=0):
        return self._ask(place=str(place), command=list(map(str, command)), slow=str(slow), workers=workers)

    def wait(self, pid):
        return self._ask(wait=pid)


@pytest.fixture(scope="module")
def runs(tiny_weights):
    runs = Runs(tiny_weights)
    yield runs
    runs.process.stdin.close()
    runs.process.wait()


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "sea_lion"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def content(folder):
    """What a run left, but for its time stamps and what a killed process could not clear away."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"):
        text = file.read_bytes()
        if file.name == "out.json":
            text = json.loads(text)
            text.get("summary", {}).pop("made", None)
        elif file.name == "out.html":
            text = b"".join(line for line in text.splitlines() if b" UTC" not in line)
        found[file.relative_to(folder).as_posix()] = text
    return found


@pytest.mark.parametrize("name", ["evaluate", "margin", "ensemble", "audit"])
def test_a_killed_command_leaves_whole_files_or_none(runs, photos, tmp_path, name):
    def command(place):
        more = {"audit": ["--out", place / "out.html", "--csv", place / "csv"], "ensemble": ["--method", "cmm"]}.get(name, [])
        return [name, "--dataset", f"folder:{photos}", "--json", place / "out.json", "--store", place / "store", *more]

    calm, cut, rng, killed = tmp_path / "calm", tmp_path / "cut", random.Random(0), 0
    calm.mkdir(), cut.mkdir()
    begin = time.monotonic()
    assert runs.wait(runs.start(calm, *command(calm))) == 0
    whole = time.monotonic() - begin
    for _ in range(4):
        run = runs.start(cut, *command(cut))
        time.sleep(rng.uniform(0, 0.7) * whole)  # what is in the store already makes it faster
        os.kill(run, signal.SIGKILL)
        killed += runs.wait(run) == -signal.SIGKILL
        for file in cut.rglob("*.json"):
            json.loads(file.read_text("utf-8"))  # what is there under its own name is whole
        assert all(file.read_text("utf-8").rstrip().endswith("</html>") for file in cut.rglob("*.html"))
    assert runs.wait(runs.start(cut, *command(cut))) == 0
    assert killed and content(cut) == content(calm)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(runs, tiny, photos, tmp_path):
    store, place = tmp_path / "store", tmp_path / "log"
    run = runs.start(place, "encode", "--dataset", f"folder:{photos}", "--store", store, slow=0.1, workers=2)
    wait_for(lambda: (store / "part-000000000.parquet").is_file())
    os.killpg(run, signal.SIGINT)  # as a terminal does: to the workers too, which read where a GPU encodes
    assert runs.wait(run) == 130 and place.with_suffix(".out").read_text() == ""
    assert place.with_suffix(".err").read_text() == "clipnb: interrupted; what was written so far is whole\n"
    before = (store / "part-000000000.parquet").stat().st_mtime_ns
    assert runs.wait(runs.start(place, "encode", "--dataset", f"folder:{photos}", "--store", store)) == 0
    assert (store / "part-000000000.parquet").stat().st_mtime_ns == before
    assert np.allclose(Embeddings.load(store).vectors, clipnb.encode_images(tiny, clipnb.load_dataset(f"folder:{photos}")).vectors, atol=1e-6)


def test_two_runs_on_one_store(runs, photos, tmp_path):
    store, places = tmp_path / "store", [tmp_path / "log0", tmp_path / "log1"]
    both = [runs.start(place, "encode", "--dataset", f"folder:{photos}", "--store", store, slow=0.02) for place in places]
    codes = [runs.wait(run) for run in both]
    errors = [place.with_suffix(".err").read_text() for place in places]
    assert set(codes) <= {0, 2} and 0 in codes, errors
    assert all(error == "" if code == 0 else error.startswith("clipnb: Expected ") and error.count("\n") == 1 for code, error in zip(codes, errors))
    assert Embeddings.load(store).ids == clipnb.load_dataset(f"folder:{photos}").ids and not list(store.glob(".*.tmp"))


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root; test_kill.py has a limit on file size instead")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("command", ["evaluate", "audit", "encode"])
def test_a_full_disk_is_one_line(tiny_weights, photos, small_disk, command):
    (small_disk / "filler").write_bytes(bytes(12 * 1024))
    target = {"evaluate": ["--json", small_disk / "out.json"], "audit": ["--out", small_disk / "out.html"], "encode": ["--store", small_disk / "store"]}[command]
    arguments = [command, "--model", "tiny-clip", "--pretrained", str(tiny_weights), "--precision", "fp32", "--dataset", f"folder:{photos}", *map(str, target)]
    if command == "evaluate":
        (small_disk / "more").write_bytes(bytes(4096))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "No space left on device" in result.stderr and result.stderr.count("\n") == 1, result.output
    assert str(target[1]) in result.stderr
    assert sorted(path.name for path in small_disk.rglob("*") if path.is_file() and path.name not in ("filler", "more", "provenance.json")) == []
    (small_disk / "filler").unlink()
    assert CliRunner().invoke(main, arguments).exit_code == (0 if command != "audit" else 1)  # 16 kB never hold the page


def flip(file, place):
    raw = bytearray(file.read_bytes())
    raw[place] ^= 4
    file.write_bytes(raw)


def test_a_flipped_bit_in_a_shard_is_found(tmp_path):
    rng = np.random.default_rng(0)
    whole = Embeddings(rng.normal(size=(64, 32)).astype(np.float32), np.arange(64), [f"{i}.png" for i in range(64)], ["x"], {})
    whole.save(tmp_path / "s", shard_size=32)
    shard = tmp_path / "s" / "part-000000032.parquet"
    raw, missed = shard.read_bytes(), []
    for place in rng.integers(4, len(raw) - 8, 60).tolist():
        flip(shard, place)
        try:
            found = Embeddings.load(tmp_path / "s")
            if not (np.array_equal(found.vectors, whole.vectors) and found.ids == whole.ids and np.array_equal(found.labels, whole.labels)):
                missed.append(place)
        except InputError as error:
            assert "part-000000032.parquet" in str(error) or "Expected 64 images" in str(error)
        shard.write_bytes(raw)
    assert missed == []
    StoreWriter(tmp_path / "s", whole.provenance | {"n": 64}, ["x"], 32)  # is a store to go on with
    shard.unlink()
    assert not StoreWriter(tmp_path / "s", whole.provenance | {"n": 64}, ["x"], 32).has(32)


def test_a_flipped_bit_in_what_is_shipped_is_found(tmp_path, monkeypatch):
    for name in ("clipnb-mini/open_clip_model.safetensors", "emoji/test.parquet"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(datasets.ASSETS / name, tmp_path / name)
        flip(tmp_path / name, 300_000)
    shutil.copy(datasets.ASSETS / "SHA256SUMS", tmp_path)
    monkeypatch.setattr(datasets, "ASSETS", tmp_path)
    monkeypatch.setattr(datasets, "EMOJI_DIR", tmp_path / "emoji")
    monkeypatch.setattr("clipnb.models.EMBEDDED_DIR", tmp_path / "clipnb-mini")
    for read in (clipnb.load_dataset, clipnb.load_model):
        with pytest.raises(InputError, match=r"^Expected \S+ as it was released .*: it is damaged or was changed; install clipnb again$"):
            read()
    result = CliRunner().invoke(main, ["evaluate"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1


def test_the_checksums_are_those_of_the_shipped_files():
    from tools import checksums

    assert (datasets.ASSETS / "SHA256SUMS").read_text() == checksums.lines(), "run: python tools/checksums.py"


def test_a_file_that_disappears_is_named(tiny, tiny_weights, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("clipnb.encode.SHARD_SIZE", 6)
    data, gone = clipnb.load_dataset(f"folder:{photos}"), photos / "dog" / "3.png"
    kept = gone.read_bytes()
    times = gone.stat()
    read = data.read
    def removing(i):
        if i == 10:
            gone.unlink(missing_ok=True)
        return read(i)
    with pytest.raises(InputError, match="^Cannot read image 'dog/3.png' of folder:.*No such file"):
        clipnb.encode_images(tiny, type(data)(data.name, data.ids, data.labels, data.classnames, removing, versions=data.versions), tmp_path / "s", workers=0)
    assert len(list((tmp_path / "s").glob("part-*"))) == 2
    gone.write_bytes(kept)
    os.utime(gone, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = clipnb.encode_images(tiny, clipnb.load_dataset(f"folder:{photos}"), tmp_path / "s")
    assert np.allclose(again.vectors, clipnb.encode_images(tiny, data).vectors, atol=1e-6)


def notebook(code):
    return json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None, "id": "a"}],
                       "metadata": {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5})


def test_a_killed_or_interrupted_build_of_the_notebooks_goes_on(tmp_path):
    (tmp_path / "in").mkdir()
    marker = tmp_path / "marker"
    (tmp_path / "in" / "02_quick.ipynb").write_text(notebook("1 + 1"))
    (tmp_path / "in" / "01_slow.ipynb").write_text(notebook(f"import pathlib, time\np = pathlib.Path({str(marker)!r})\np.exists() or time.sleep(600)"))
    command = [sys.executable, str(ROOT / "tools" / "run_notebooks.py"), "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    status = tmp_path / "out" / "status.json"
    for ending in (signal.SIGINT, signal.SIGKILL):
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_for(lambda: status.is_file() and "02_quick" in status.read_text())
        os.killpg(run.pid, ending)
        out, error = run.communicate(timeout=60)
        if ending == signal.SIGINT:
            assert run.returncode == 130 and error == "run_notebooks: interrupted; what is done is kept\n"
    marker.write_text("")
    done = (tmp_path / "out" / "02_quick.ipynb").stat().st_mtime_ns
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and "running 1 of 2" in run.stdout and (tmp_path / "out" / "01_slow.ipynb").is_file()
    assert (tmp_path / "out" / "02_quick.ipynb").stat().st_mtime_ns == done


def test_the_unforeseen_is_one_line_without_debug(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("nobody thought of this\nsecond line")

    monkeypatch.setattr("clipnb.load_dataset", broken, raising=False)
    for command in ("evaluate", "margin", "ensemble", "describe", "encode --store s"):
        result = CliRunner().invoke(main, command.split())
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr == "clipnb: ZeroDivisionError: nobody thought of this (run again with `clipnb --debug` for details)\n"
        assert isinstance(CliRunner().invoke(main, ["--debug", *command.split()]).exception, ZeroDivisionError)


def test_every_test_that_the_table_names_is_there():
    for _, proof in FAULTS.values():
        file, _, name = proof.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8"), proof
