import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest

from clipnb import Embeddings, load_dataset, load_model
from clipnb.encode._images import fill_store, prepare
from clipnb.encode._ray import encode_with_ray
from clipnb.errors import InputError
from tests.support.shared import TINY


def test_without_ray_it_is_reported(monkeypatch, pictures, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InputError, match=r"^Engine 'ray' needs Ray, which is not installed: pip install 'clipnb\[ray\]'$"
    ):
        encode_with_ray(None, f"folder:{pictures}", tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def cluster(monkeypatch):
    """A local Ray of two workers."""
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a busy machine needs longer than Ray's 30 s
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("ray.data")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=100_000_000
    )
    yield
    ray.shutdown()


def test_a_killed_worker_loses_nothing(cluster, tiny_weights, pictures, tmp_path):
    """Two workers, one of which kills itself in the middle of a shard: the store that one machine writes."""
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    shutil.copy(tiny_weights, tmp_path / "local" / "open_clip_model.safetensors")
    name, driver, died = f"local-dir:{tmp_path / 'local'}", os.getpid(), tmp_path / "died"

    def load():
        model = load_model(name, device="cpu", precision="fp32")

        def die_once(*_):
            if os.getpid() != driver and not died.exists():
                died.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)

        model.module.visual.register_forward_pre_hook(die_once)
        return model

    spec, calm = f"folder:{pictures}", tmp_path / "calm"
    assert encode_with_ray(load, spec, tmp_path / "s", workers=2, shard_size=3) == {}
    assert died.exists()
    data = load_dataset(spec)
    fill_store(prepare(load_model(name, precision="fp32"), data, calm, "stop", shard_size=3), data)
    found = Embeddings.load(calm)
    names = {path.name for path in calm.iterdir()}
    assert {path.name for path in (tmp_path / "s").glob("[!.]*")} == names and len(names) == 5
    assert (tmp_path / "s" / "provenance.json").read_bytes() == (calm / "provenance.json").read_bytes()
    both = Embeddings.load(tmp_path / "s")
    assert both.ids == found.ids and np.array_equal(both.labels, found.labels)
    assert np.allclose(both.vectors, found.vectors, rtol=0, atol=1e-6)
    (pictures / "dog" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"^Cannot read image 'dog/1.png' of folder:"):
        encode_with_ray(load, spec, tmp_path / "t", workers=2, shard_size=3)
    assert [*encode_with_ray(load, spec, tmp_path / "t", "skip", workers=2, shard_size=3)] == ["dog/1.png"]
