"""What several test files share: a tiny model's configuration, random vectors, folders of images."""

from pathlib import Path

import numpy as np
from PIL import Image

BOOK_CACHE = str(Path(__file__).resolve().parents[2] / ".cache/clipnb")  # where `make book` keeps vectors

PATIENCE = 600  # seconds until a test gives up waiting for an event that never comes; no test measures time with it

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def photographs(folder, classes, each):
    """Write that many images of noise for each class, and return the folder."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


def unit_rows(rng, *shape):
    """Random vectors of unit norm, float32."""
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def same_classes(found, expected, scores):
    """Whether two choices of classes (N,) or (N, K) by `scores` (N, C) agree, except where two are nearer than
    rounding."""
    found, expected = (np.reshape(classes, (len(scores), -1)) for classes in (found, expected))
    differences = np.take_along_axis(scores, found, axis=1) - np.take_along_axis(scores, expected, axis=1)
    return found.shape == expected.shape and (np.abs(differences) < 1e-6).all()
