"""The icon set: counts, licences, makers in one split only, near copies, classes with groups."""

import hashlib
import io
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipnb
from clipnb.errors import InputError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clipnb" / "assets" / "icons"
FILES = {"test.parquet": "test", "test-sharealike.parquet": "test", "validation.parquet": "validation"}
OPEN = {"MIT", "Apache-2.0", "CC-BY-4.0", "CC-BY-3.0", "CC0-1.0", "ISC", "OFL-1.1", "BSD-3-Clause", "Unlicense"}


@pytest.fixture(scope="module")
def manifest():
    return json.loads((FOLDER / "manifest.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def classes():
    return json.loads((FOLDER / "classes.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tables():
    return {name: pq.read_table(FOLDER / name) for name in FILES}


def rows_of(tables, role):
    """(family, label, id) of the drawings of a split."""
    return [
        row
        for name, table in tables.items()
        if FILES[name] == role
        for row in zip(*(table[column].to_pylist() for column in ("family", "label", "id")))
    ]


def test_every_class_has_enough_drawings_by_enough_makers(tables, manifest, classes):
    assert len(classes) >= 200
    for role, least, least_makers in (("test", 12, 5), ("validation", 3, 2)):
        count, makers = Counter(), defaultdict(set)
        for family, label, _ in rows_of(tables, role):
            count[label] += 1
            makers[label].add(manifest["sources"][family]["maker"])
        assert set(count) == set(range(len(classes)))
        assert min(count.values()) >= least
        assert min(map(len, makers.values())) >= least_makers
    assert len(rows_of(tables, "test")) >= 5000


def test_no_maker_has_drawings_in_two_splits(tables, manifest):
    roles = defaultdict(set)
    for source in manifest["sources"].values():
        roles[source["maker"]].add(source["role"])
    assert all(len(found) == 1 for found in roles.values()), {m: r for m, r in roles.items() if len(r) > 1}
    for name, role in FILES.items():
        assert all(manifest["sources"][family]["role"] == role for family in set(tables[name]["family"].to_pylist()))


def test_the_emoji_set_agrees_on_who_is_held_out(manifest):
    """A vendor of the emoji set's test or validation drawings is trained on under no other name."""
    emoji = json.loads((FOLDER.parent / "emoji/manifest.json").read_text("utf-8"))["sources"]
    held_out = {name for name, source in emoji.items() if source["role"] != "train"}
    assert not held_out & {name for name, source in manifest["sources"].items() if source["role"] == "train"}


def test_licences_are_open_and_share_alike_is_apart(tables, manifest):
    licence = {name: source["licence"] for name, source in manifest["sources"].items()}
    for name, table in tables.items():
        found = {licence[family] for family in set(table["family"].to_pylist())}
        assert found == {"CC-BY-SA-4.0"} if name == "test-sharealike.parquet" else found <= OPEN
    trained = {s["licence"] for s in manifest["sources"].values() if s["role"] == "train"}
    assert not any("SA" in licence.split("-") for licence in trained)
    page = (FOLDER / "LICENSES.md").read_text("utf-8")
    assert all(f"**{name}**" in page for name in manifest["sources"])


def test_the_manifest_counts_and_hashes_what_is_there(tables, manifest, classes):
    assert manifest["counts"]["classes"] == len(classes)
    for name, table in tables.items():
        assert manifest["counts"][name] == len(table)
        for identity, data in zip(table["id"].to_pylist(), table["image"].to_pylist()):
            assert manifest["sha256"][identity] == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_near_copies_are_counted_once(tables, manifest):
    """Within a class no two held-out drawings are nearer than the threshold, and none that was listed is there."""
    sys.path.insert(0, str(ROOT / "tools"))
    from tools.mini.icons import thumbnail

    threshold = manifest["near_copies"]["threshold"]
    thumbs = defaultdict(list)
    for table in tables.values():
        for label, data in zip(table["label"].to_pylist(), table["image"].to_pylist()):
            picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).copy()
            picture[..., 3] = np.where((picture[..., :3] > 250).all(-1), 0, 255)
            thumbs[label].append(thumbnail(picture))
    nearest = []
    for rows in map(np.stack, thumbs.values()):
        square = (rows**2).sum(1)
        distance = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * rows @ rows.T, 0) / rows.shape[1])
        np.fill_diagonal(distance, np.inf)
        nearest.append(distance.min())
    # The stored form and the white ground move the crop by a pixel now and then.
    assert np.quantile(nearest, 0.1) > threshold - 0.02
    there = {identity for table in tables.values() for identity in table["id"].to_pylist()}
    assert not there & {copy["left_out"] for copy in manifest["near_copies"]["within_a_class"]}
    assert not there & {*manifest["left_out_by_name"], *manifest["near_copies"]["listed_by_name"]}


def test_no_training_drawing_is_a_near_copy_of_a_held_out_one(manifest):
    copies = manifest["near_copies"]
    assert copies["smallest_distance_left"] >= copies["threshold"]
    assert all(copy["distance"] <= copies["threshold"] for copy in copies["training_drawings_dropped"])
    assert len(copies["training_drawings_dropped"]) > 0


def test_classes_have_plain_names_groups_and_training_counts(classes):
    names = [c["classname"] for c in classes]
    assert names == sorted(names) and len(set(names)) == len(names)
    spoken = [name for c in classes for name in (c["classname"], *c["synonyms"])]
    assert len(set(spoken)) == len(spoken), "a synonym names two classes"
    assert len({c["group"] for c in classes}) >= 8
    assert all(isinstance(c["training_drawings"], int) and c["training_drawings"] >= 0 for c in classes)
    assert any(c["training_drawings"] == 0 for c in classes)


def test_splits_open_like_any_other_set():
    for spec in ("icons", "icons:validation"):
        data = clipnb.load_dataset(spec)
        image, label = data[0]
        assert image.mode == "RGB" and image.size == (96, 96)
        assert data.classnames[label] == data.notes["classes"][label]["classname"]
        assert set(data.notes["family"]) <= set(data.notes["makers"])
    with pytest.raises(InputError, match="validation"):
        clipnb.load_dataset("icons:train")


def test_names_are_counted_in_the_file_names_of_validation_drawings_only():
    data = clipnb.load_dataset("icons")
    files = [name.partition("/")[2].replace("-", " ") for name in clipnb.load_dataset("icons:validation").ids]
    assert data.name_counts["smartphone"]["mobile"] == sum(" mobile " in f" {name} " for name in files) > 0
    assert list(data.name_counts) == data.classnames and all(c in n for c, n in data.name_counts.items())
    chosen = dict(zip(data.classnames, clipnb.prompts.most_frequent_names(data.name_counts)))
    assert chosen["sofa"] == "couch" and chosen["sock" if "sock" in chosen else "socks"] == "sock"
    assert chosen["id card"] != "id"
