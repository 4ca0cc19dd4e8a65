"""Slices inside a class: noise shows (almost) none, and a planted one is found, counted and named."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import clipnb
from clipnb.cli import main
from clipnb.report import Report, audit_predictions
from clipnb.similarity import unit_norm
from clipnb.slices import find_slices

WIDTH = 64


def world(seed, classes=10, per_class=60, planted=False):
    """Vectors, labels, halves and rivals, of which nothing depends on who is right; in class 0 a third is moved."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    vectors = rng.normal(size=(len(labels), WIDTH)) / np.sqrt(1 + np.arange(WIDTH))
    vectors += 2 * rng.normal(size=(classes, WIDTH))[labels]
    inside = (labels == 0) & (np.arange(len(labels)) % 3 == 0) & planted
    direction = unit_norm(rng.normal(size=WIDTH))
    vectors[inside] += 4 * direction
    rivals = (labels + rng.integers(1, 4, len(labels))) % classes
    right = rng.random(len(labels)) < np.where(inside, 0.2, 0.7)
    half = np.random.default_rng(seed + 1).random(len(labels)) < 0.5
    words = unit_norm(np.vstack([rng.normal(size=(20, WIDTH)), direction]))
    return np.where(right, labels, rivals), labels, half, rivals, unit_norm(vectors), words, inside


def test_noise_shows_almost_no_slice():
    """One search in twenty may report something where there is nothing: more than six of 40 do once in 300 times."""
    reporting = tried = 0
    for seed in range(40):
        predictions, labels, half, rivals, vectors, words, _ = world(seed)
        search = find_slices(predictions, labels, half, np.arange(10), rivals=rivals, vectors=vectors, words=words)
        reporting += bool(search.slices)
        tried += search.tried
        assert search.classes == list(range(10))
    assert tried > 40 * 10 * 4, "rivals and clusters of every class are tried"
    assert reporting <= 6


def test_without_halves_that_agree_noise_would_show_many():
    """The control: groups by rival, each tested on all images at 5 %, find something in half of the searches."""
    from scipy.stats import fisher_exact

    reporting = 0
    for seed in range(20):
        predictions, labels, _, rivals, *_ = world(seed)
        right = predictions == labels
        p = []
        for c in range(10):
            for rival in np.unique(rivals[labels == c]):
                members, rest = ((labels == c) & ((rivals == rival) == side) for side in (True, False))
                table = [[(rows & right).sum(), (rows & ~right).sum()] for rows in (members, rest)]
                p.append(fisher_exact(table, "less").pvalue)
        reporting += min(p) < 0.05
    assert reporting >= 8


def test_a_planted_slice_is_found_counted_and_named():
    found = 0
    for seed in range(20):
        predictions, labels, half, rivals, vectors, words, inside = world(seed, per_class=120, planted=True)
        search = find_slices(predictions, labels, half, np.arange(10), rivals=rivals, vectors=vectors, words=words)
        for part in search.slices:
            if part.kind == "cluster" and part.label == 0:
                members = np.isin(np.arange(len(labels)), part.members)
                agree = (members & inside).sum() / (members | inside).sum()
                found += agree > 0.8 and part.word == 20
                right = predictions == labels
                assert part.accuracy.value == right[part.members].mean()
                assert part.rest.value == right[(labels == 0) & ~members].mean()
                assert part.accuracy.low <= part.accuracy.value <= part.accuracy.high <= part.rest.high
    assert found >= 15


def test_a_slice_that_one_half_shows_is_none():
    predictions, labels, half, rivals, *_ = world(0, classes=2, per_class=200)
    labels, rivals = np.zeros(400, dtype=int), np.repeat([1, 2], 200)
    wrong = (rivals == 1) & half
    predictions = np.where(wrong, 1, 0)
    assert not find_slices(predictions, labels, half, [0], rivals=rivals).slices
    both = find_slices(np.where(rivals == 1, 1, 0), labels, half, [0], rivals=rivals)
    assert [(part.rival, len(part.members), part.word) for part in both.slices] == [(1, 200, -1)]


def test_small_groups_and_classes_without_images_are_not_tried():
    search = find_slices([0, 1], [0, 0], [0, 1], [0, 5], rivals=[1, 1], vectors=np.eye(2))
    assert (search.slices, search.classes, search.tried) == ([], [], 0)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"words": np.zeros((0, 2)), "vectors": np.eye(2)}, "Expected `words` with at least one row, got shape (0, 2)"),
        ({"words": np.eye(3), "vectors": np.eye(2)}, "Expected `vectors` and `words` of one width D, got 2 and 3"),
        ({"vectors": np.eye(3)}, "Expected `vectors` with N = 2 rows, got 3"),
        ({"vectors": 2 * np.eye(2)}, "Expected `vectors` of unit norm, got norms from 2 to 2"),
        ({"significance": 0}, "Expected `significance` above 0 and below 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, said):
    with pytest.raises(clipnb.InputError, match=re.escape(said)):
        find_slices([0, 1], [0, 0], [0, 1], [0], **changes)


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    """Images of two colours; a third of the red ones are dark, and the model takes these for blue."""
    folder = tmp_path_factory.mktemp("striped")
    rng = np.random.default_rng(0)
    for c, name in enumerate(("blue", "red")):
        (folder / name).mkdir()
        for i in range(60):
            dark = name == "red" and i % 3 == 0
            pixel = rng.normal(0, 4, 3) + (
                np.array([40, 0, 60]) if dark else np.array([[20, 20, 220], [220, 20, 20]])[c]
            )
            Image.fromarray(np.tile(pixel.clip(0, 255).astype(np.uint8), (8, 8, 1))).save(
                folder / name / f"{i:02d}.png"
            )
    return folder


def colours():
    texts = {"red": [1.0, 0, 0], "blue": [0, 0, 1.0], "dark": [-0.5, 0, 0.5]}
    return clipnb.wrap_model(
        lambda images: np.array([np.asarray(image).mean(axis=(0, 1)) for image in images]),
        lambda prompts: np.array([next((v for n, v in texts.items() if n in p), [0.0, 1.0, 0]) for p in prompts]),
        name="colours",
    )


def test_an_audit_shows_the_slice_with_its_images_and_the_nearest_of_the_given_words(striped, tmp_path, monkeypatch):
    (tmp_path / "words.txt").write_text("bright\ndark\n")
    monkeypatch.setattr("clipnb.load_model", lambda name, **options: colours())
    monkeypatch.setattr("clipnb.report._audit.load_model", lambda name, **options: colours())
    arguments = ["audit", "--dataset", f"folder:{striped}", "--words", str(tmp_path / "words.txt")]
    run = CliRunner().invoke(main, [*arguments, "--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "a.html")])
    assert run.exit_code == 0, run.output
    assert (
        "Look inside the class 'red'. 20 of its 60 images are alike (nearest word: 'dark'): 0 % of them" in run.stdout
    )
    report = json.loads((tmp_path / "a.json").read_text())
    (row,) = report["slices"]
    assert (row["classname"], row["kind"], row["images"], row["rest_images"], row["word"]) == (
        ("red", "cluster", 20, 40, "dark")
    )
    assert (row["accuracy"], row["rest_accuracy"]) == (0, 1) and row["accuracy_low"] == 0 < row["accuracy_high"]
    assert all(re.fullmatch(r"red/\d\d\.png", name) for name in row["examples"]) and len(row["examples"]) == 4
    assert report["summary"]["slices"] == 1 and report["summary"]["slice_classes_searched"] == 2
    page = (tmp_path / "a.html").read_text()
    section = page.partition("Inside the classes")[2].partition("<section")[0]
    assert section.count("<img") == 4 and "called blue" in section and "0 % [0," in section
    assert Report.load(tmp_path / "a.json").slices["word"].tolist() == ["dark"]


def test_a_report_says_where_it_looked_when_no_group_passes(striped):
    data = clipnb.load_dataset(f"folder:{striped}")
    report = clipnb.audit(data.take(np.flatnonzero(np.arange(120) % 3 != 0)), colours(), made="today")
    assert report.slices.empty and report.summary["slices"] == 0
    assert "No group passes." in str(report.to_html())


def test_predictions_with_second_answers_are_grouped_by_rival(tmp_path):
    """A file knows no vectors; of two answers for each image, the better one that is not the label is the rival."""
    rows = [f"{i},a,{'b' if i % 3 == 0 else 'a'},{['b', 'a'] if i % 3 == 0 else ['a', 'c']}" for i in range(90)]
    rows += [f"{i},{'bc'[i % 2]},{'bc'[i % 2]},{['b', 'c'] if i % 2 == 0 else ['c', 'b']}" for i in range(90, 120)]
    lines = [dict(zip(("id", "label", "prediction"), row.split(",")[:3])) for row in rows]
    for line, row in zip(lines, rows):
        line["top5"] = re.findall(r"'(\w)'", row)
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = audit_predictions(tmp_path / "p.jsonl", made="today")
    assert report.slices[["classname", "kind", "rival", "images", "rest_images"]].values.tolist() == [
        ["a", "rival", "b", 30, 60]
    ]
    assert report.slices["sentence"][0] == (
        "For 30 of its 90 images the strongest rival is 'b': 0 % of them are right, 100 % of the other 60."
    )
    assert any(step.startswith("Look inside the class 'a'. For 30 of its 90 images") for step in report.advice)
    without = [{key: line[key] for key in ("id", "label", "prediction")} for line in lines]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, without)))
    report = audit_predictions(tmp_path / "q.jsonl", made="today")
    assert report.slices.empty and "slice_groups_tried" not in report.summary
