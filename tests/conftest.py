"""Fixtures that several test files share: the embedded model, a tiny CLIP of random weights, pictures, a browser."""

import json
import os
import signal

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from playwright.sync_api import sync_playwright

from tools import chromium

# A shell starts what runs in the background with Ctrl-C ignored, which the programs under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["CLIPNB_CACHE"] = ""  # nothing is kept outside a test's own folder

settings.register_profile("clipnb", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("clipnb")

PATIENCE = 600  # seconds until a test gives up waiting for an event that never comes; no test measures time with it

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


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


def photographs(folder, classes, each):
    """Write that many pictures of noise for each class, and return the folder."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A folder of three classes with four pictures each."""
    return photographs(tmp_path / "pictures", ("cat", "fire_truck", "dog"), 4)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    executable = chromium.find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=chromium.ARGUMENTS)
        yield browser
        browser.close()


def unit_rows(rng, *shape):
    """Random vectors of unit norm, float32."""
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def same_classes(found, expected, scores):
    """Whether two choices of classes (N,) or (N, K) by `scores` (N, C) agree, except where two are nearer than rounding."""
    found, expected = (np.reshape(classes, (len(scores), -1)) for classes in (found, expected))
    differences = np.take_along_axis(scores, found, axis=1) - np.take_along_axis(scores, expected, axis=1)
    return found.shape == expected.shape and (np.abs(differences) < 1e-6).all()
