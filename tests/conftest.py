"""Fixtures that several test files share: the embedded model, a tiny CLIP of random weights, a folder of images."""

import gc
import json
import os
import signal

import pytest
from hypothesis import settings

from tests.support.shared import TINY, photographs

pytest_plugins = ["tests.support.llm_server"]

gc.set_threshold(10_000)  # as the command line does: searching for cycles takes a tenth of the time of all tests

# A shell starts what runs in the background with Ctrl-C ignored, which the programs under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["CLIPNB_CACHE"] = ""  # nothing is kept outside a test's own folder
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests compute on the CPU on every machine; benchmarks/gpu.py is for a GPU

settings.register_profile("clipnb", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("clipnb")


@pytest.fixture(scope="session")
def model():
    """The embedded default."""
    import torch

    from clipnb import load_model

    torch.set_num_threads(1)  # on busy cores, threads that wait for each other take minutes
    return load_model()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """Registers "tiny-clip" with open_clip; the path of its checkpoint (random weights, one seed)."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    save_file(open_clip.create_model("tiny-clip").state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


@pytest.fixture(scope="session")
def tiny(tiny_weights):
    """A CLIP of open_clip's own kind (ViT and causal text tower), small enough for tests."""
    from clipnb import load_model

    return load_model("tiny-clip", str(tiny_weights), precision="fp32")


@pytest.fixture
def pictures(tmp_path):
    """A folder of three classes with four images each."""
    return photographs(tmp_path / "pictures", ("cat", "fire_truck", "dog"), 4)
