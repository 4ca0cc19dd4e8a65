"""`clipnb encode` killed at random points: every run resumes, nothing is lost or doubled, the bytes are those of a calm run."""

import os
import subprocess
import sys

import pytest
from conftest import photographs

from clipnb import Embeddings, load_dataset

KILLS = 20
# One process loads libraries and model; the runs are its forks, so that a kill falls into the work and not into imports.
SCRIPT = """
import os, random, signal, sys, time
import open_clip, torch, pyarrow.parquet, transformers
weights, dataset, folder, kills = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
open_clip.add_model_config(os.path.join(os.path.dirname(weights), "tiny-clip.json"))
from clipnb import cli, encode, models
encode.SHARD_SIZE = 5
loaded = models.load_model("tiny-clip", weights, "cpu", "fp32")
models.load_model = lambda *_: loaded

def start(store):
    child = os.fork()
    if child:
        return child
    try:
        cli.main(["encode", "--model", "tiny-clip", "--pretrained", weights, "--precision", "fp32", "--device", "cpu",
                  "--dataset", dataset, "--store", os.path.join(folder, store), "--json", os.devnull])
    except SystemExit as ending:
        os._exit(ending.code or 0)
    os._exit(3)

def finish(store):
    child = start(store)
    return os.waitpid(child, 0)[1]

begin = time.monotonic()
assert finish("calm") == 0
whole, rng, done, number = time.monotonic() - begin, random.Random(0), 0, 0
while done < kills:
    store = f"cut-{number}"
    for _ in range(4):  # the more often one store is cut, the less is left to cut
        child = start(store)
        time.sleep(rng.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        done += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert finish(store) == 0, store
    number += 1
print(done, number)
"""


@pytest.fixture
def photos(tmp_path):
    return photographs(tmp_path / "photos", ("cat", "dog"), 30)


def test_killed_at_random_points(tiny_weights, photos, tmp_path):
    folder = tmp_path / "stores"
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tiny_weights), f"folder:{photos}", str(folder), str(KILLS)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    killed, stores = map(int, run.stdout.splitlines()[-1].split())  # the runs printed their tables before
    assert killed >= KILLS and stores >= KILLS / 4
    calm = {path.name: path.read_bytes() for path in (folder / "calm").iterdir()}
    assert len(calm) == 13 and Embeddings.load(folder / "calm").ids == load_dataset(f"folder:{photos}").ids
    for number in range(stores):
        left = {path.name: path.read_bytes() for path in (folder / f"cut-{number}").iterdir() if not path.name.endswith(".tmp")}
        assert left == calm


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size there")
def test_a_full_disk_leaves_what_was_whole(tiny_weights, photos, tmp_path):
    """A limit on the size of a file stands for the disk: the write fails in the middle, as on a full one."""
    script = f"""
import resource, sys, open_clip
open_clip.add_model_config({str(tiny_weights.with_name("tiny-clip.json"))!r})
from clipnb import cli, encode
encode.SHARD_SIZE = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
cli.main(["encode", "--model", "tiny-clip", "--pretrained", {str(tiny_weights)!r}, "--precision", "fp32", "--dataset", "folder:{photos}",
          "--store", {str(tmp_path / "s")!r}])
"""
    run = subprocess.run([sys.executable, "-c", script, "30", "1500"], capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == "" and run.stderr.count("\n") == 1
    assert "File too large" in run.stderr and "part-000000000.parquet" in run.stderr
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["provenance.json"]
    run = subprocess.run([sys.executable, "-c", script, "30", "1000000"], capture_output=True, text=True)
    assert run.returncode == 0 and len(Embeddings.load(tmp_path / "s")) == 60
