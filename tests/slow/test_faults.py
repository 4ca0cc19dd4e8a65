"""Everything that can go wrong from outside, done to real runs: killed, interrupted, disk full, files broken or gone,
two runs at once.

After each: one clear line, nothing half-written that is later taken for whole, and a second run that gives what a
    calm run gives.
FAULTS is the table that the page "What is promised" shows.
"""

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import clipnb
from clipnb import datasets
from clipnb.cli import main
from clipnb.embeddings import Embeddings, StoreWriter
from clipnb.errors import InputError
from tests.support.llm_server import KEY, Server, good
from tests.support.shared import PATIENCE, photographs

ROOT = datasets.ASSETS.parents[1]
COMMANDS = ("encode", "evaluate", "margin", "ensemble", "audit", "describe", "reproduce")
FAULTS = {  # what happens: (what comes of it, {the test that proves it: for which commands})
    "kill -9 while images are read and before, in and after the writing of a file": (
        "what was written is whole; the next run resumes and gives what a calm one gives",
        {
            "test_faults.py::test_a_killed_command_leaves_whole_files_or_none": COMMANDS,
            "test_faults.py::test_a_killed_or_interrupted_build_of_the_notebooks_goes_on": ("book",),
        },
    ),
    "kill -9 or Ctrl-C while a language model is asked": (
        "answers so far are kept; only the others are asked again",
        {
            "test_faults.py::test_a_language_model_half_asked": ("describe",),
            "test_llm.py::test_a_killed_run_resumes_where_it_stopped": ("describe",),
        },
    ),
    "Ctrl-C, to all processes of the command": (
        "one line, exit code 130; the next run resumes",
        {
            "test_faults.py::test_ctrl_c_is_one_line_and_the_next_run_goes_on": COMMANDS,
            "test_faults.py::test_a_killed_or_interrupted_build_of_the_notebooks_goes_on": ("book",),
        },
    ),
    "the disk is full (a limit on file size)": (
        "one line that names the file, nothing half-written; with room again, the next run resumes",
        {
            "test_faults.py::test_no_room_is_one_line_and_the_next_run_goes_on": COMMANDS,
            "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",),
        },
    ),
    "the disk is full (a small real one)": (
        "the same",
        {"test_faults.py::test_a_full_disk_is_one_line": ("encode", "evaluate", "audit")},
    ),
    "an image, or a notebook, disappears while the run reads": (
        "named (an audit lists it); after it is back, the next run resumes",
        {
            "test_faults.py::test_a_picture_that_disappears_is_named": COMMANDS,
            "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",),
        },
    ),
    "one bit of a shard, or of an executed notebook, flips": (
        "found by its checksum; a shard is named and, deleted, made again",
        {
            "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS[1:],
            "test_faults.py::test_a_flipped_bit_in_a_shard_is_found": ("encode",),
            "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",),
        },
    ),
    "a shard, or the record of the notebooks, is cut off": (
        "a shard is named and, deleted, made again; the record is made again",
        {
            "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS,
            "test_embeddings.py::test_a_broken_store_raises": ("encode",),
            "test_faults.py::test_a_build_of_the_notebooks_in_which_all_goes_wrong": ("book",),
        },
    ),
    "the cache of text vectors is cut off, swapped or broken": (
        "computed again",
        {
            "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS[1:],
            "test_textcache.py::test_what_is_damaged_is_computed_again": COMMANDS[1:],
        },
    ),
    "a cached answer of a language model is cut off": (
        "named: delete it to ask again",
        {
            "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": ("describe",),
            "test_llm.py::test_a_spoilt_cache_is_reported": ("describe",),
        },
    ),
    "one bit of the shipped weights or images flips": (
        "refused by its checksum",
        {"test_faults.py::test_a_flipped_bit_in_what_is_shipped_is_found": COMMANDS},
    ),
    "the data change under a begun store": (
        "refused, with what differs",
        {
            "test_faults.py::test_what_is_kept_and_broken_is_named_or_made_again": COMMANDS,
            "test_datasets.py::test_a_changed_picture_changes_the_fingerprint": ("encode",),
        },
    ),
    "two runs at once in one store, answer cache and output": (
        "both give the whole result, or one says why not",
        {
            "test_faults.py::test_two_runs_at_once": COMMANDS,
            "test_textcache.py::test_many_may_write_at_once": COMMANDS[1:],
        },
    ),
    "any unforeseen failure": (
        "one line that points to --debug, exit code 1",
        {"test_faults.py::test_the_unforeseen_is_one_line_without_debug": COMMANDS},
    ),
}

# One process loads libraries and model; each run is its fork, so that what happens to it happens to the work and not
# to imports. A run passes events: "read 20" (it is about to read its 20th image), "half NAME" (half of that file is
# written under its temporary name), "before NAME" and "after NAME" (the file is renamed). At one of them something is
# done: "kill", "interrupt" (the run and its workers), "meet" (it waits for the file `go`), or the image file of that
# path is taken away.
SERVER = """
import json, os, pathlib, re, resource, signal, sys, time
from collections import Counter
import matplotlib, open_clip, pandas, pyarrow.parquet, scipy.stats, torch
weights = sys.argv[1]
open_clip.add_model_config(os.path.join(os.path.dirname(weights), "tiny-clip.json"))
from clipnb import _runtime, cli, datasets, models, worst
from clipnb.encode import _images as encode
from clipnb.paper import methods, reproduce
from clipnb.report import _audit as report
from clipnb.describe import llm
try:  # no server answers; but the library then loads everything that its first call loads
    with _runtime.offline_litellm() as litellm:
        litellm.completion("openai/x", [{"role": "user", "content": "x"}], api_base="http://127.0.0.1:9", \
num_retries=0, max_retries=0, timeout=1)
except Exception:
    pass
torch.set_num_threads(1)
encode.SHARD_SIZE = 6
loaded = models.load_model("tiny-clip", weights, "cpu", "fp32")
models.load_model = report.load_model = reproduce.load_model = lambda *_, **__: loaded
read, shards, replace, write_bytes, Pool = (datasets.LabeledImages.__getitem__, encode.encode_shards, os.replace, \
pathlib.Path.write_bytes,
                                            llm.ThreadPoolExecutor)


def reach(event, order, passed=Counter()):
    passed[event] += 1
    if order["at"] not in (event, f"{event} {passed[event]}"):
        return
    place, does = order["place"], order["does"]
    order["at"] = None
    try:
        os.close(os.open(place + ".reached-once", os.O_CREAT | os.O_EXCL))
    except FileExistsError:  # another process of this run, a second worker, was there before
        return
    if does == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif does == "interrupt":
        os.killpg(0, signal.SIGINT)
    elif does == "meet":
        open(place + ".reached", "w").close()
        while not os.path.exists(order["go"]):
            time.sleep(0.01)
    else:
        os.rename(does, place + ".removed")


def run(order):
    place = order["place"]
    pathlib.Path(place + ".reached-once").unlink(missing_ok=True)

    def reading(self, i):
        reach("read", order)
        return read(self, i)

    def write(path, content):
        name = re.fullmatch(r"[.](.+)[.][0-9]+[.]tmp", path.name)
        if not name:
            return write_bytes(path, content)
        content = memoryview(content)
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            reach(f"half {name[1]}", order)
            file.write(content[len(content) // 2 :])

    def rename(source, target):
        name = os.path.basename(target)
        reach(f"before {name}", order)
        replace(source, target)
        with open(place + ".written", "a") as file:
            print(name, file=file)
        reach(f"after {name}", order)

    class Asking(Pool):
        def shutdown(self, *arguments, **options):
            open(place + ".stopping", "w").close()
            super().shutdown(*arguments, **options)

    datasets.LabeledImages.__getitem__ = reading
    pathlib.Path.write_bytes, os.replace, llm.ThreadPoolExecutor = write, rename, Asking
    encode.encode_shards = lambda task, data, rows, batch_size=None, workers=None, progress=False: shards(
        task, data, rows, batch_size, order["workers"], progress)
    if order["room"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["room"], resource.RLIM_INFINITY))
    os.environ["CLIPNB_CACHE"] = order["texts"]
    cli.main(order["command"])


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
    try:
        run(order)
    except SystemExit as ending:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(ending.code or 0)
    os._exit(3)
"""


class Runs:
    """Starts commands as processes of their own, each in a group of its own."""

    def __init__(self, weights):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENAI_API_KEY": KEY},
        )
        assert self.process.stdout.readline() == "ready\n"

    def _ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, place, command, at="", does="", go="", workers=0, room=0, texts=""):
        """The run's output goes into files beside the folder `place`.

        `at`, `does` and `go` are explained above SERVER; `room` limits the bytes of a file; `texts` is the folder of
        the cache.
        """
        return self._ask(
            place=str(place),
            command=list(map(str, command)),
            at=at,
            does=str(does),
            go=str(go),
            workers=workers,
            room=room,
            texts=str(texts),
        )

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
            server.go.wait(PATIENCE)
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
        more = {
            "audit": ["--out", place / "out.html", "--csv", place / "csv"],
            "ensemble": ["--method", "cmm"],
            "reproduce": ["--no-pool", "--templates", "bare"],
            "describe": [
                "--llm",
                "openai/test-model",
                "--api-base",
                server.url,
                "--price",
                "0,0",
                "--concurrency",
                "1",
                "--count",
                "2",
                "--cache",
                place / "cache",
                "--out",
                place / "out.descriptions",
            ],
        }
        return [
            name,
            "--dataset",
            f"folder:{photos}",
            "--json",
            place / "out.json",
            "--store",
            place / "store",
            *more.get(name, []),
        ]

    return arguments


@pytest.fixture(scope="module")
def calm(runs, command, tmp_path_factory):
    """The folder in which nothing disturbed the command of that name."""

    @functools.cache
    def of(name):
        place = tmp_path_factory.mktemp("calm") / name
        assert runs.run(place, command(name, place))[0] == 0, said(place)
        return place

    return of


def content(place):
    """What a run left, except for its time stamps, its path and what a killed process could not clear away."""
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


def moments(name, place):
    """The events at which a command is killed, one run after the other: each resumes where the one before was
    killed."""
    written = list(dict.fromkeys(place.with_name(f"{place.name}.written").read_text().splitlines()))
    shards = [file for file in written if file.endswith(".parquet")]
    results = [file for file in written if file not in (*shards, "provenance.json")]
    assert len(shards) == 6 and "provenance.json" in written and results
    if name == "encode":
        yield from around("provenance.json")
        yield "read 2"
        yield from around(shards[0])
        yield "read 20"
        yield from around(shards[-1])
    else:
        yield "read 20"
    for file in results:
        yield from around(file) if file.startswith("out.") else [f"half {file}"]


def around(file):
    return [f"half {file}", f"before {file}", f"after {file}"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_whole_files_or_none(runs, command, calm, tmp_path, name):
    place = tmp_path / "place"
    for moment in moments(name, calm(name)):
        code, lines = runs.run(place, command(name, place), at=moment, does="kill")
        assert code == -signal.SIGKILL, (moment, lines)
        for file in place.rglob("*.json"):
            json.loads(file.read_text("utf-8"))  # what is there under its own name is whole
        assert all(file.read_text("utf-8").rstrip().endswith("</html>") for file in place.rglob("*.html"))
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert content(place) == content(calm(name))


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


INTERRUPTED = "clipnb: interrupted; every file written so far is complete"
SECOND = "part-000000006.parquet"


@pytest.mark.parametrize(
    ("name", "workers", "at"),
    [
        *((name, 0, f"after {SECOND}") for name in COMMANDS),
        *(("encode", 0, at) for at in ("read 20", f"half {SECOND}", f"before {SECOND}")),
        *(("encode", 2, at) for at in ("read 10", f"after {SECOND}")),
    ],
)
def test_ctrl_c_is_one_line_and_the_next_run_goes_on(runs, command, calm, tmp_path, name, workers, at):
    """As a terminal sends it: to all processes, so to the workers too, which read where a GPU encodes."""
    place = tmp_path / "place"
    code, lines = runs.run(place, command(name, place), at=at, does="interrupt", workers=workers)
    assert code == 130 and lines == [INTERRUPTED] and place.with_name("place.out").read_text() == ""
    assert results(place) == [] and not list(place.rglob("*.tmp"))
    before = {shard: shard.stat().st_mtime_ns for shard in place.glob("store/part-*")}
    assert before or (workers and at.startswith("read"))  # which may be ahead of the first shard
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert {shard: shard.stat().st_mtime_ns for shard in before} == before and content(place) == content(calm(name))


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_language_model_half_asked(runs, command, calm, server, tmp_path, ending):
    """The second answer is on its way: a kill loses it; Ctrl-C waits for it, keeps it, and asks no more although it
    cannot be used."""
    server.reached.clear(), server.go.clear(), server.seen.clear()
    server.second, place = "[]", tmp_path / "place"
    run = runs.start(place, command("describe", place))
    assert server.reached.wait(PATIENCE)
    os.killpg(run, ending)
    if ending == signal.SIGINT:
        wait_for(place.with_name("place.stopping").exists)
        server.go.set()
        assert runs.wait(run) == 130
    else:
        assert runs.wait(run) == -ending
        server.go.set()
    assert results(place) == []
    assert len(server.seen) == 2 and len(list((place / "cache").glob("*.json"))) == (
        1 if ending == signal.SIGKILL else 2
    )
    if ending == signal.SIGINT:
        assert said(place)[-1] == INTERRUPTED
    server.second = ""
    assert runs.run(place, command("describe", place))[0] == 0, said(place)
    first, second, again, third = (name for name, _, _ in server.seen)
    assert second == again and {first, second, third} == {"cat", "dog", "sea lion"}
    found, whole = content(place), content(calm("describe"))
    assert all(found[key] == whole[key] for key in whole if not key.startswith("cache"))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_room_is_one_line_and_the_next_run_goes_on(runs, command, calm, tmp_path, name):
    place = tmp_path / "place"
    if name != "encode":  # which has no room for a shard; the others for their result
        shutil.copytree(calm(name), place, ignore=shutil.ignore_patterns("out.*"))
    code, lines = runs.run(place, command(name, place), room=1100 if name == "encode" else 500)
    named = "part-000000000.parquet" if name == "encode" else f"{place}/out."
    assert (
        code == 1 and "File too large" in lines[-1] and named in lines[-1] and len(lines) == 1 + (name == "describe")
    ), lines
    assert results(place) == [] and place.with_name("place.out").read_text() == "" and not list(place.rglob("*.tmp"))
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert content(place) == content(calm(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_picture_that_disappears_is_named(runs, command, calm, photos, tmp_path, name):
    place, gone = tmp_path / "place", photos / "sea_lion" / "9.png"  # the last one
    try:
        code, lines = runs.run(place, command(name, place), at="read 20", does=gone)
    finally:
        place.with_name("place.removed").rename(gone)
    if name == "audit":
        assert code == 0 and "sea_lion/9.png" in (place / "out.json").read_text()
        shutil.rmtree(place / "store")  # which keeps that it could not be read
    else:
        assert (
            code == 2
            and len(lines) == 1
            and "sea_lion/9.png" in lines[0]
            and "No such file" in lines[0]
            and results(place) == []
        ), lines
    assert runs.run(place, command(name, place))[0] == 0, said(place)
    assert content(place) == content(calm(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_kept_and_broken_is_named_or_made_again(runs, command, calm, photos, tmp_path, name):
    place, texts = tmp_path / "place", tmp_path / "texts"
    whole = content(calm(name))

    def again():
        code, lines = runs.run(place, command(name, place), texts=texts)
        assert (code, content(place)) == (0, whole), lines

    def refused(file, text="delete it"):
        code, lines = runs.run(place, command(name, place), texts=texts)
        assert (
            code == 2
            and file.name in lines[-1]
            and text in lines[-1]
            and len(lines) == 1 + (file.parent.name == "cache")
        ), lines
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


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *((name, at) for name in COMMANDS for at in ("read 1", "before out.json")),
        *(
            ("encode", at)
            for at in ("before provenance.json", "half part-000000000.parquet", "before part-000000000.parquet")
        ),
    ],
)
def test_two_runs_at_once(runs, command, calm, tmp_path, name, at):
    """Both are at the same event before either resumes."""
    place, logs, go = tmp_path / "place", [tmp_path / "log0", tmp_path / "log1"], tmp_path / "go"
    both = [runs.start(log, command(name, place), at=at, does="meet", go=go) for log in logs]
    wait_for(lambda: all(log.with_name(f"{log.name}.reached").exists() for log in logs))
    go.touch()
    codes, lines = [runs.wait(run) for run in both], [said(log) for log in logs]
    assert 0 in codes and all(
        code == 0 or (code == 2 and len(some) == 1 and some[0].startswith("clipnb: Expected "))
        for code, some in zip(codes, lines)
    ), lines
    assert content(place) == content(calm(name)) and not list(place.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small disk takes root; the limit on file size has a test of its own")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("command", ["evaluate", "audit", "encode"])
def test_a_full_disk_is_one_line(tiny_weights, photos, small_disk, command):
    (small_disk / "filler").write_bytes(bytes(12 * 1024))
    target = {
        "evaluate": ["--json", small_disk / "out.json"],
        "audit": ["--out", small_disk / "out.html"],
        "encode": ["--store", small_disk / "store"],
    }[command]
    arguments = [
        command,
        "--model",
        "tiny-clip",
        "--pretrained",
        str(tiny_weights),
        "--precision",
        "fp32",
        "--dataset",
        f"folder:{photos}",
        *map(str, target),
    ]
    if command == "evaluate":
        (small_disk / "more").write_bytes(bytes(4096))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "No space left on device" in result.stderr and result.stderr.count("\n") == 1, (
        result.output
    )
    assert str(target[1]) in result.stderr
    assert (
        sorted(
            path.name
            for path in small_disk.rglob("*")
            if path.is_file() and path.name not in ("filler", "more", "provenance.json")
        )
        == []
    )
    (small_disk / "filler").unlink()
    assert CliRunner().invoke(main, arguments).exit_code == (
        0 if command != "audit" else 1
    )  # 16 kB never hold the page


def flip(file, place):
    raw = bytearray(file.read_bytes())
    raw[place] ^= 4
    file.write_bytes(raw)


def test_a_flipped_bit_in_a_shard_is_found(tmp_path):
    rng = np.random.default_rng(0)
    whole = Embeddings(
        rng.normal(size=(64, 32)).astype(np.float32), np.arange(64), [f"{i}.png" for i in range(64)], ["x"], {}
    )
    whole.save(tmp_path / "s", shard_size=32)
    shard = tmp_path / "s" / "part-000000032.parquet"
    raw, missed = shard.read_bytes(), []
    for place in rng.integers(4, len(raw) - 8, 60).tolist():
        flip(shard, place)
        try:
            found = Embeddings.load(tmp_path / "s")
            if not (
                np.array_equal(found.vectors, whole.vectors)
                and found.ids == whole.ids
                and np.array_equal(found.labels, whole.labels)
            ):
                missed.append(place)
        except InputError as error:
            assert "part-000000032.parquet" in str(error) or "Expected 64 images" in str(error)
        shard.write_bytes(raw)
    assert missed == []
    StoreWriter(tmp_path / "s", whole.provenance | {"n": 64}, ["x"], 32)  # is a store to resume with
    shard.unlink()
    assert not StoreWriter(tmp_path / "s", whole.provenance | {"n": 64}, ["x"], 32).has(32)


def embedded(name):
    """The command of that name on the shipped model and images."""
    return [name, *{"encode": ["--store", "s"], "reproduce": ["--dataset", "icons"]}.get(name, [])]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flipped_bit_in_what_is_shipped_is_found(tmp_path, monkeypatch, name):
    for file in ("clipnb-mini/open_clip_model.safetensors", "icons/test.parquet"):
        (tmp_path / file).parent.mkdir()
        shutil.copy(datasets.ASSETS / file, tmp_path / file)
        flip(tmp_path / file, 300_000)
    shutil.copy(datasets.ASSETS / "SHA256SUMS", tmp_path)
    monkeypatch.setattr("clipnb.datasets._assets.ASSETS", tmp_path)
    monkeypatch.setattr("clipnb.datasets._icons.ICONS_DIR", tmp_path / "icons")
    monkeypatch.setattr("clipnb.models._loading.EMBEDDED_DIR", tmp_path / "clipnb-mini")
    for read in (clipnb.load_dataset, clipnb.load_model):
        with pytest.raises(
            InputError,
            match=r"^Expected \S+ as it was released .*: it is damaged or was changed; install clipnb again$",
        ):
            read()
    result = CliRunner().invoke(main, embedded(name))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "as it was released" in result.stderr


def test_the_checksums_are_those_of_the_shipped_files():
    from tools.release import checksums

    assert (datasets.ASSETS / "SHA256SUMS").read_text() == checksums.lines(), "run: python -m tools.release.checksums"


def notebook(code):
    return json.dumps(
        {
            "cells": [
                {"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None, "id": "a"}
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def build(tmp_path):
    return [
        sys.executable,
        str(ROOT / "tools" / "book" / "run_notebooks.py"),
        "--source",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]


def test_a_killed_or_interrupted_build_of_the_notebooks_goes_on(tmp_path):
    """One notebook is done when the build is ended: the next one's kernel is just starting, or it computes."""
    (tmp_path / "in").mkdir()
    computing, enough = tmp_path / "computing", tmp_path / "enough"
    temporary = Path(tempfile.mkdtemp())  # a short path, as sockets need
    (tmp_path / "in" / "02_quick.ipynb").write_text(notebook("1 + 1"))
    (tmp_path / "in" / "01_slow.ipynb").write_text(
        notebook(
            f"import pathlib, time\npathlib.Path({str(computing)!r}).touch()\n"
            f"while not pathlib.Path({str(enough)!r}).exists():\n    time.sleep(0.1)"
        )
    )
    command, status = build(tmp_path), tmp_path / "out" / "status.json"
    events = {  # a kernel's connection file is written before the kernel is started
        "done": lambda: True,
        "starting": lambda: any(temporary.glob("*.json")),
        "computing": computing.exists,
    }
    try:
        for ending, event in (*((signal.SIGINT, event) for event in events), (signal.SIGKILL, "computing")):
            computing.unlink(missing_ok=True)
            for left in temporary.glob("*.json"):
                left.unlink()
            run = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env=os.environ | {"TMPDIR": str(temporary)},
            )
            wait_for(
                lambda happened=events[event]: status.is_file() and "02_quick" in status.read_text() and happened()
            )
            os.killpg(run.pid, ending)
            _out, error = run.communicate()
            if ending == signal.SIGINT:
                assert run.returncode == 130 and error == "run_notebooks: interrupted; what is done is kept\n"
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    enough.touch()
    done = (tmp_path / "out" / "02_quick.ipynb").stat().st_mtime_ns
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and "running 1 of 2" in run.stdout and (tmp_path / "out" / "01_slow.ipynb").is_file()
    assert (tmp_path / "out" / "02_quick.ipynb").stat().st_mtime_ns == done


def test_a_build_of_the_notebooks_in_which_all_goes_wrong(tmp_path):
    (tmp_path / "in").mkdir()
    big, thief, out = (
        tmp_path / "in" / "01_big.ipynb",
        tmp_path / "in" / "02_thief.ipynb",
        tmp_path / "out",
    )  # the later one runs first
    big.write_text(notebook("print('x' * 200_000)"))
    thief.write_text(
        notebook(
            f"import os, pathlib\np = pathlib.Path({str(big)!r})\np.with_name('kept').exists() or os.rename(p, "
            f"p.with_name('kept'))"
        )
    )

    def run(**options):
        ended = subprocess.run(build(tmp_path), capture_output=True, text=True, **options)
        assert {path.name for path in out.iterdir()} <= {
            "01_big.ipynb",
            "02_thief.ipynb",
            "status.json",
            "status_table.md",
        }
        return ended.returncode, ended.stdout.splitlines()[0], ended.stderr.splitlines()

    code, _, lines = run()
    assert code == 1 and len(lines) == 1 and lines[0].startswith("FAIL 01_big.ipynb: FileNotFoundError: ")
    shutil.copy(big.with_name("kept"), big)
    flip(out / "02_thief.ipynb", 40)
    code, said, lines = run(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    )
    assert (
        code == 1
        and "running 2 of 2" in said
        and len(lines) == 1
        and "01_big.ipynb: " in lines[0]
        and "File too large" in lines[0]
    ), lines
    assert not (out / big.name).exists() and json.loads((out / thief.name).read_text())
    status = out / "status.json"
    status.write_bytes(status.read_bytes()[:-20])
    code, said, lines = run()
    assert (
        code == 0 and "running 2 of 2" in said and lines == [] and len(json.loads(status.read_text())["notebooks"]) == 2
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_unforeseen_is_one_line_without_debug(monkeypatch, name):
    def broken(*_):
        raise ZeroDivisionError("nobody thought of this\nsecond line")

    for place in ("clipnb", "clipnb.report._audit", "clipnb.paper.reproduce"):
        monkeypatch.setattr(f"{place}.load_dataset", broken, raising=False)
    result = CliRunner().invoke(main, embedded(name))
    assert result.exit_code == 1 and result.stdout == ""
    assert (
        result.stderr
        == "clipnb: ZeroDivisionError: nobody thought of this (run again with `clipnb --debug` for details)\n"
    )
    assert isinstance(CliRunner().invoke(main, ["--debug", *embedded(name)]).exception, ZeroDivisionError)


def test_the_table_says_what_the_tests_do():
    for what, (_, proofs) in FAULTS.items():
        for proof, commands in proofs.items():
            file, _, name = proof.partition("::")
            assert f"def {name}(" in next((ROOT / "tests").rglob(file)).read_text("utf-8"), proof
            marks = [
                mark.args[1]
                for mark in getattr(globals().get(name), "pytestmark", [])
                if "name" in mark.args[0] or "command" in mark.args[0]
            ]
            assert all(
                set(commands) <= {each if isinstance(each, str) else each[0] for each in tried} for tried in marks
            ), what
