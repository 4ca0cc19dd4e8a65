"""Everything that can go wrong from outside, done to real runs: killed, interrupted, disk full, files broken or gone, two runs at once.

After each: one clear line, nothing half-written that is later taken for whole, and a second run that gives what a calm run gives.
FAULTS is the table that the page "What is promised" shows.
"""

import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import photographs
from test_llm import KEY, Server, good

import clipnb
from clipnb import datasets
from clipnb.cli import main
from clipnb.embeddings import Embeddings, StoreWriter
from clipnb.errors import InputError

ROOT = datasets.ASSETS.parents[1]
COMMANDS = ("encode", "evaluate", "margin", "ensemble", "audit", "describe", "reproduce")
FAULTS = {  # what happens: (what comes of it, {the test that proves it: for which commands})
    "kill -9 at a random moment": ("what was written is whole; the next run goes on and gives what a calm one gives", {
        "test_faults.py::test_a_killed_command_leaves_whole_files_or_none": COMMANDS,
        "test_faults.py::test_a_killed_or_interrupted_build_of_the_notebooks_goes_on": ("book",)}),
    "kill -9 or Ctrl-C while a language model is asked": ("answers so far are kept; only the others are asked again", {
        "test_faults.py::test_a_language_model_half_asked": ("describe",), "test_llm.py::test_a_killed_run_goes_on_where_it_stopped": ("describe",)}),
    "Ctrl-C, to all processes of the command": ("one line, exit code 130; the next run goes on", {
        "test_faults.py::test_ctrl_c_is_one_line_and_the_next_run_goes_on": COMMANDS,
        "test_faults.py::test_a_killed_or_interrupted_build_of_the_notebooks_goes_on": ("book",)}),
    "the disk is full (a limit on file size)": ("one line that names the file, nothing half-written; with room again, the next run goes on", {
        "test_faults.py::test_no_room_is_one_line_and_the_next_run_goes_on": COMMANDS,
        "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",)}),
    "the disk is full (a small real one)": ("the same", {"test_faults.py::test_a_full_disk_is_one_line": ("encode", "evaluate", "audit")}),
    "a picture, or a notebook, disappears while the run reads": ("named (an audit lists it); after it is back, the next run goes on", {
        "test_faults.py::test_a_picture_that_disappears_is_named": COMMANDS, "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",)}),
    "one bit of a shard, or of an executed notebook, flips": ("found by its checksum; a shard is named and, deleted, made again", {
        "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS[1:], "test_faults.py::test_a_flipped_bit_in_a_shard_is_found": ("encode",),
        "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",)}),
    "a shard, or the record of the notebooks, is cut off": ("a shard is named and, deleted, made again; the record is made again", {
        "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS, "test_embeddings.py::test_a_broken_store_is_told": ("encode",),
        "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",)}),
    "the cache of text vectors is cut off, swapped or broken": ("computed again", {
        "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS[1:], "test_textcache.py::test_what_is_damaged_is_computed_again": COMMANDS[1:]}),
    "a cached answer of a language model is cut off": ("named: delete it to ask again", {
        "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": ("describe",), "test_llm.py::test_a_spoilt_cache_is_told": ("describe",)}),
    "one bit of the shipped weights or pictures flips": ("refused by its checksum", {"test_faults.py::test_a_flipped_bit_in_what_is_shipped_is_found": COMMANDS}),
    "the data change under a begun store": ("refused, with what differs", {"test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS,
                                                                              "test_datasets.py::test_a_changed_picture_changes_the_fingerprint": ("encode",)}),
    "two runs at once in one store, answer cache and output": ("both give the whole result, or one says why not", {
        "test_faults.py::test_two_runs_at_once": COMMANDS, "test_textcache.py::test_many_may_write_at_once": COMMANDS[1:]}),
    "anything that nobody foresaw": ("one line that points to --debug, exit code 1", {"test_faults.py::test_the_unforeseen_is_one_line_without_debug": COMMANDS}),
}

# One process loads libraries and model; each run is its fork, so that what happens to it happens to the work and not to imports.
SERVER = """
import json, os, resource, sys, time
import matplotlib, open_clip, pandas, pyarrow.parquet, scipy.stats, torch
weights = sys.argv[1]
open_clip.add_model_config(os.path.join(os.path.dirname(weights), "tiny-clip.json"))
from clipnb import cli, comparison, datasets, encode, llm, models, report, reproduce, worst
try:  # nobody is there; but what it loads with its first call is loaded then
    llm._litellm().completion("openai/x", [{"role": "user", "content": "x"}], api_base="http://127.0.0.1:9", num_retries=0, max_retries=0, timeout=1)
except Exception:
    pass
torch.set_num_threads(1)
encode.SHARD_SIZE = 6
loaded = models.load_model("tiny-clip", weights, "cpu", "fp32")
models.load_model = report.load_model = reproduce.load_model = lambda *_: loaded
read = datasets.LabeledImages.__getitem__
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
    def reading(self, i, order=order, started=[]):
        started.append(i)
        time.sleep(order["slow"])
        if len(started) == 20 and order["removes"]:  # of 36
            os.rename(order["removes"], order["place"] + ".removed")
        return read(self, i)
    datasets.LabeledImages.__getitem__ = reading
    if order["room"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["room"], resource.RLIM_INFINITY))
    os.environ["CLIPNB_CACHE"] = order["texts"]
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
                                        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENAI_API_KEY": KEY})
        assert self.process.stdout.readline() == "ready\n"

    def _ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, place, command, slow=0.0, workers=0, room=0, removes="", texts=""):
        """What it says goes into files beside the folder `place`; `room`: most bytes of a file; `removes`: in the middle; `texts`: their cache."""
        return self._ask(place=str(place), command=list(map(str, command)), slow=slow, workers=workers, room=room, removes=str(removes), texts=str(texts))

    def wait(self, pid):
        return self._ask(wait=pid)

    def run(self, place, command, **options):
        """(exit code, lines on stderr)"""
        code = self.wait(self.start(place, command, **options))
        return code, said(place)


def said(place):
    return place.with_name(place.name + ".err").read_text().splitlines()


@pytest.fixture(scope="module")
def runs(tiny_weights):
    runs = Runs(tiny_weights)
    yield runs
    runs.process.stdin.close()
    runs.process.wait()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("faults") / "photos", ("cat", "dog", "sea_lion"), 12)


@pytest.fixture(scope="module")
def server():
    """A language model over HTTP; where `second` is set, it holds back that answer until `go`."""
    def answer(name, turn, _):
        if server.second and len(server.seen) == 2:
            server.reached.set()
            server.go.wait(20)
            return 200, {}, server.second
        return 200, {}, good(name)

    server = Server(answer)
    server.second, server.reached, server.go = "", threading.Event(), threading.Event()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def command(photos, server):
    """The command of that name with everything it writes below `place`."""
    def arguments(name, place):
        place.mkdir(exist_ok=True)
        more = {"audit": ["--out", place / "out.html", "--csv", place / "csv"], "ensemble": ["--method", "cmm"], "reproduce": ["--no-pool", "--templates", "bare"],
                "describe": ["--llm", "openai/test-model", "--api-base", server.url, "--price", "0,0", "--concurrency", "1", "--count", "2",
                             "--cache", place / "cache", "--out", place / "out.descriptions"]}
        return [name, "--dataset", f"folder:{photos}", "--json", place / "out.json", "--store", place / "store", *more.get(name, [])]

    return arguments


@pytest.fixture(scope="module")
def calm(runs, command, tmp_path_factory):
    """The folder in which nothing disturbed the command of that name, and the seconds it took."""
    @functools.cache
    def of(name):
        place = tmp_path_factory.mktemp("calm") / name
        begin = time.monotonic()
        assert runs.run(place, command(name, place))[0] == 0, said(place)
        return place, time.monotonic() - begin

    return of


def content(place):
    """What a run left, but for its time stamps, its path and what a killed process could not clear away."""
    found = {}
    for file in sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".tmp"):
        text = file.read_bytes()
        if file.suffix == ".json" and file.parent.name != "store":
            text = json.loads(text.replace(str(place).encode(), b""))
            for part in (text, text.get("summary", {})):
                for varies in ("made", "steps", "date", "calls", "cost"):
                    part.pop(varies, None)
        elif file.name == "out.html":
            text = b"".join(line for line in text.splitlines() if b" UTC" not in line)
        found[file.relative_to(place).as_posix()] = text
    return found


def results(place):
    return [path.name for path in place.glob("out.*")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_whole_files_or_none(runs, command, calm, tmp_path, name):
    rng, killed, (whole, seconds), times = random.Random(0), 0, calm(name), 5 if name == "encode" else 1
    for number in range(times):
        place = tmp_path / str(number)
        for _ in range(4):
            run = runs.start(place, command(name, place))
            time.sleep(rng.uniform(0, 0.7) * seconds)  # what is in the store already makes it faster
            os.kill(run, signal.SIGKILL)
            killed += runs.wait(run) == -signal.SIGKILL
            for file in place.rglob("*.json"):
                json.loads(file.read_text("utf-8"))  # what is there under its own name is whole
            assert all(file.read_text("utf-8").rstrip().endswith("</html>") for file in place.rglob("*.html"))
        assert runs.run(place, command(name, place))[0] == 0, said(place)
        assert content(place) == content(whole)
    assert killed >= 2 * times


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


INTERRUPTED = "clipnb: interrupted; what was written so far is whole"


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in COMMANDS), ("encode", 2)])
def test_ctrl_c_is_one_line_and_the_next_run_goes_on(runs, command, calm, tmp_path, name, workers):
    """As a terminal sends it: to all processes, so to the workers too, which read where a GPU encodes."""
    place = tmp_path / "place"
    first = place / "store" / "part-000000000.parquet"
    run = runs.start(place, command(name, place), slow=0.05, workers=workers)
    wait_for(first.is_file)
    os.killpg(run, signal.SIGINT)
    assert runs.wait(run) == 130 and said(place) == [INTERRUPTED] and place.with_name("place.out").read_text() == "" and results(place) == []
    before = first.stat().st_mtime_ns
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert first.stat().st_mtime_ns == before and content(place) == content(calm(name)[0])


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_language_model_half_asked(runs, command, calm, server, tmp_path, ending):
    """The second answer is on its way: a kill loses it; Ctrl-C waits for it, keeps it, and asks no more although it cannot be used."""
    server.reached.clear(), server.go.clear(), server.seen.clear()
    server.second, place = "[]", tmp_path / "place"
    run = runs.start(place, command("describe", place))
    assert server.reached.wait(60)
    os.killpg(run, ending)
    time.sleep(0.3)
    server.go.set()
    assert runs.wait(run) == (130 if ending == signal.SIGINT else -ending) and results(place) == []
    assert len(server.seen) == 2 and len(list((place / "cache").glob("*.json"))) == (1 if ending == signal.SIGKILL else 2)
    if ending == signal.SIGINT:
        assert said(place)[-1] == INTERRUPTED
    server.second = ""
    assert runs.run(place, command("describe", place))[0] == 0, said(place)
    first, second, again, third = (name for name, _, _ in server.seen)
    assert second == again and {first, second, third} == {"cat", "dog", "sea lion"}
    found, whole = content(place), content(calm("describe")[0])
    assert all(found[key] == whole[key] for key in whole if not key.startswith("cache"))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_room_is_one_line_and_the_next_run_goes_on(runs, command, calm, tmp_path, name):
    place = tmp_path / "place"
    if name != "encode":  # which has no room for a shard; the others for their result
        shutil.copytree(calm(name)[0], place, ignore=shutil.ignore_patterns("out.*"))
    code, lines = runs.run(place, command(name, place), room=1100 if name == "encode" else 500)
    named = "part-000000000.parquet" if name == "encode" else f"{place}/out."
    assert code == 1 and "File too large" in lines[-1] and named in lines[-1] and len(lines) == 1 + (name == "describe"), lines
    assert results(place) == [] and place.with_name("place.out").read_text() == "" and not list(place.rglob("*.tmp"))
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert content(place) == content(calm(name)[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_picture_that_disappears_is_named(runs, command, calm, photos, tmp_path, name):
    place, gone = tmp_path / "place", photos / "sea_lion" / "9.png"  # the last one
    try:
        code, lines = runs.run(place, command(name, place), removes=gone)
    finally:
        place.with_name("place.removed").rename(gone)
    if name == "audit":
        assert code == 0 and "sea_lion/9.png" in (place / "out.json").read_text()
        shutil.rmtree(place / "store")  # which keeps that it could not be read
    else:
        assert code == 2 and len(lines) == 1 and "sea_lion/9.png" in lines[0] and "No such file" in lines[0] and results(place) == [], lines
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert content(place) == content(calm(name)[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_kept_and_broken_is_named_or_made_again(runs, command, calm, photos, tmp_path, name):
    place, texts = tmp_path / "place", tmp_path / "texts"
    whole = content(calm(name)[0])

    def again():
        code, lines = runs.run(place, command(name, place), texts=texts)
        assert (code, content(place)) == (0, whole), lines

    def refused(file, text="delete it"):
        code, lines = runs.run(place, command(name, place), texts=texts)
        assert code == 2 and file.name in lines[-1] and text in lines[-1] and len(lines) == 1 + (file.parent.name == "cache"), lines
        if text == "delete it":
            file.unlink()
            again()

    again()
    if name != "encode":
        file = texts / "texts.sqlite"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        again()
    shard = place / "store" / "part-000000006.parquet"
    if name != "encode":  # which reads no vectors
        flip(shard, 300)
        refused(shard)
    shard.write_bytes(shard.read_bytes()[:-40])
    refused(shard)
    picture = photos / "cat" / "0.png"
    times = picture.stat().st_atime_ns, picture.stat().st_mtime_ns
    try:
        os.utime(picture, ns=(0, 0))
        refused(place / "store", "belongs to something else (dataset_fingerprint: ")
    finally:
        os.utime(picture, ns=times)
    if name == "describe":
        answer = sorted((place / "cache").iterdir())[0]
        answer.write_bytes(answer.read_bytes()[:40])
        refused(answer)


@pytest.mark.parametrize("name", COMMANDS)
def test_two_runs_at_once(runs, command, calm, tmp_path, name):
    place = tmp_path / "place"
    both = [runs.start(log, command(name, place), slow=0.01) for log in (tmp_path / "log0", tmp_path / "log1")]
    codes, lines = [runs.wait(run) for run in both], [said(tmp_path / "log0"), said(tmp_path / "log1")]
    assert 0 in codes and all(code == 0 or code == 2 and len(some) == 1 and some[0].startswith("clipnb: Expected ") for code, some in zip(codes, lines)), lines
    assert content(place) == content(calm(name)[0]) and not list(place.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root; the limit on file size has a test of its own")
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


def embedded(name):
    """The command of that name on the shipped model and pictures."""
    return [name, *{"encode": ["--store", "s"], "reproduce": ["--dataset", "emoji"]}.get(name, [])]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flipped_bit_in_what_is_shipped_is_found(tmp_path, monkeypatch, name):
    for file in ("clipnb-mini/open_clip_model.safetensors", "emoji/test.parquet"):
        (tmp_path / file).parent.mkdir()
        shutil.copy(datasets.ASSETS / file, tmp_path / file)
        flip(tmp_path / file, 300_000)
    shutil.copy(datasets.ASSETS / "SHA256SUMS", tmp_path)
    monkeypatch.setattr("clipnb.datasets._assets.ASSETS", tmp_path)
    monkeypatch.setattr("clipnb.datasets._emoji.EMOJI_DIR", tmp_path / "emoji")
    monkeypatch.setattr("clipnb.models.EMBEDDED_DIR", tmp_path / "clipnb-mini")
    for read in (clipnb.load_dataset, clipnb.load_model):
        with pytest.raises(InputError, match=r"^Expected \S+ as it was released .*: it is damaged or was changed; install clipnb again$"):
            read()
    result = CliRunner().invoke(main, embedded(name))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "as it was released" in result.stderr


def test_the_checksums_are_those_of_the_shipped_files():
    from tools import checksums

    assert (datasets.ASSETS / "SHA256SUMS").read_text() == checksums.lines(), "run: python tools/checksums.py"


def notebook(code):
    return json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None, "id": "a"}],
                       "metadata": {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5})


def build(tmp_path):
    return [sys.executable, str(ROOT / "tools" / "run_notebooks.py"), "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "1"]


def test_a_killed_or_interrupted_build_of_the_notebooks_goes_on(tmp_path):
    (tmp_path / "in").mkdir()
    marker = tmp_path / "marker"
    (tmp_path / "in" / "02_quick.ipynb").write_text(notebook("1 + 1"))
    (tmp_path / "in" / "01_slow.ipynb").write_text(notebook(f"import pathlib, time\np = pathlib.Path({str(marker)!r})\np.exists() or time.sleep(600)"))
    command, status = build(tmp_path), tmp_path / "out" / "status.json"
    for ending, pause in ((signal.SIGINT, 0), (signal.SIGINT, 0.7), (signal.SIGKILL, 0)):  # a little later its kernel is just starting
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_for(lambda: status.is_file() and "02_quick" in status.read_text())
        time.sleep(pause)
        os.killpg(run.pid, ending)
        out, error = run.communicate(timeout=60)
        if ending == signal.SIGINT:
            assert run.returncode == 130 and error == "run_notebooks: interrupted; what is done is kept\n"
    marker.write_text("")
    done = (tmp_path / "out" / "02_quick.ipynb").stat().st_mtime_ns
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and "running 1 of 2" in run.stdout and (tmp_path / "out" / "01_slow.ipynb").is_file()
    assert (tmp_path / "out" / "02_quick.ipynb").stat().st_mtime_ns == done


def test_a_build_of_the_notebooks_in_which_all_goes_wrong(tmp_path):
    (tmp_path / "in").mkdir()
    big, thief, out = tmp_path / "in" / "01_big.ipynb", tmp_path / "in" / "02_thief.ipynb", tmp_path / "out"  # the later one runs first
    big.write_text(notebook("print('x' * 200_000)"))
    thief.write_text(notebook(f"import os, pathlib\np = pathlib.Path({str(big)!r})\np.with_name('kept').exists() or os.rename(p, p.with_name('kept'))"))

    def run(**options):
        ended = subprocess.run(build(tmp_path), capture_output=True, text=True, **options)
        assert {path.name for path in out.iterdir()} <= {"01_big.ipynb", "02_thief.ipynb", "status.json", "status_table.md"}
        return ended.returncode, ended.stdout.splitlines()[0], ended.stderr.splitlines()

    code, _, lines = run()
    assert code == 1 and len(lines) == 1 and lines[0].startswith("FAIL 01_big.ipynb: FileNotFoundError: ")
    shutil.copy(big.with_name("kept"), big)
    flip(out / "02_thief.ipynb", 40)
    code, said, lines = run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY)))
    assert code == 1 and "running 2 of 2" in said and len(lines) == 1 and "01_big.ipynb: " in lines[0] and "File too large" in lines[0], lines
    assert not (out / big.name).exists() and json.loads((out / thief.name).read_text())
    status = out / "status.json"
    status.write_bytes(status.read_bytes()[:-20])
    code, said, lines = run()
    assert code == 0 and "running 2 of 2" in said and lines == [] and len(json.loads(status.read_text())["notebooks"]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_the_unforeseen_is_one_line_without_debug(monkeypatch, name):
    def broken(*_):
        raise ZeroDivisionError("nobody thought of this\nsecond line")

    for place in ("clipnb", "clipnb.report", "clipnb.reproduce"):
        monkeypatch.setattr(f"{place}.load_dataset", broken, raising=False)
    result = CliRunner().invoke(main, embedded(name))
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == "clipnb: ZeroDivisionError: nobody thought of this (run again with `clipnb --debug` for details)\n"
    assert isinstance(CliRunner().invoke(main, ["--debug", *embedded(name)]).exception, ZeroDivisionError)


def test_the_table_says_what_the_tests_do():
    for what, (_, proofs) in FAULTS.items():
        for proof, commands in proofs.items():
            file, _, name = proof.partition("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8"), proof
            marks = [mark.args[1] for mark in getattr(globals().get(name), "pytestmark", []) if "name" in mark.args[0] or "command" in mark.args[0]]
            assert all(set(commands) <= {each if isinstance(each, str) else each[0] for each in tried} for tried in marks), what
