"""The page "What is promised" is current, its limits are those of the code, and the same inputs give the same bytes."""

import importlib
import re

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import clipnb
from clipnb import _files, datasets, plots
from tools.release import promises

ROOT = datasets.ASSETS.parents[1]


def test_the_page_is_current_and_in_the_book():
    page = re.sub(r"\n{3,}", "\n\n", promises.page())
    assert (ROOT / "book" / "promises.md").read_text("utf-8") == page, "run: python -m tools.release.promises"
    assert "- file: promises" in (ROOT / "book" / "_toc.yml").read_text()
    for name in re.findall(r"`(test_\w+\.py)::(\w+)`", page):
        assert f"def {name[1]}(" in next((ROOT / "tests").rglob(name[0])).read_text("utf-8"), name


def test_the_limits_are_those_of_the_code():
    said = {name: int(re.search(r"[\d,]+", limit)[0].replace(",", "")) for _, limit, name in promises.LIMITS}
    assert said.pop("PIL.Image.MAX_IMAGE_PIXELS") == round(2 * Image.MAX_IMAGE_PIXELS / 1e6)
    assert said.pop("_files.MAX_TEXT_BYTES") * 2**20 == _files.MAX_TEXT_BYTES
    assert said.pop("encode._textcache.MAX_BYTES") * 2**30 == 2**30
    for name, value in said.items():
        module, _, constant = name.rpartition(".")
        assert getattr(importlib.import_module(f"clipnb.{module}"), constant) == value, name


def test_the_same_images_give_the_same_store_bytes(tiny, pictures, tmp_path):
    for name in "ab":
        clipnb.encode_images(tiny, clipnb.load_dataset(f"folder:{pictures}"), tmp_path / name, batch_size=4, workers=0)
    left, right = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in "ab")
    assert left == right and len(left) == 2


def test_the_same_numbers_give_the_same_figure_bytes(tmp_path):
    def draw(file):
        ax = plots.per_class_accuracy(np.linspace(0, 1, 30), ax=Figure().subplots(), chance=0.1)
        with matplotlib.rc_context({"svg.hashsalt": "clipnb"}):
            ax.figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        return file.read_bytes()

    for suffix in ("png", "svg"):
        assert draw(tmp_path / f"a.{suffix}") == draw(tmp_path / f"b.{suffix}")


def test_seeded_intervals_are_the_same_again():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 9, 400), rng.integers(0, 9, 400)
    for ask in (
        lambda: clipnb.worst.worst_k_report(predictions, labels, 9, 3),
        lambda: clipnb.intervals.paired_difference(labels == 0, predictions == 0),
    ):
        assert repr(ask()) == repr(ask())
