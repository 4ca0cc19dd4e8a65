"""Several right answers: against loops, scikit-learn, and the files that ImageNet ReaL and others publish."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import average_precision_score

import clipnb
from clipnb import InputError, metrics
from clipnb.cli import main
from clipnb.datasets import LabeledImages, load_valid_labels
from clipnb.multilabel import score_valid_labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [5, 10**6])
def test_average_precision_is_that_of_scikit_learn(seed, levels):
    rng = np.random.default_rng(seed)
    scores, positives = rng.integers(levels, size=(80, 6)) / levels, rng.random((80, 6)) < 0.2
    positives[:, 4] = False
    found = metrics.per_class_average_precision(scores, positives)
    for c in range(6):
        expected = average_precision_score(positives[:, c], scores[:, c]) if c != 4 else np.nan
        assert found[c] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    others = np.delete(np.arange(6), 4)
    expected = average_precision_score(positives[:, others], scores[:, others], average="macro")
    assert metrics.mean_average_precision(scores, positives) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(metrics.mean_average_precision(scores, np.zeros_like(positives)))


def test_mean_average_precision_is_clip_benchmarks_where_scores_do_not_tie():
    rng = np.random.default_rng(0)
    scores, positives = rng.random((60, 5)), rng.random((60, 5)) < 0.3
    values = []
    for score, truth in zip(scores.T, positives.T):  # its formula, written down again
        truth = truth[np.argsort(-score)]
        values.append((truth.cumsum() / np.arange(1, 61))[truth].sum() / truth.sum())
    assert metrics.mean_average_precision(scores, positives) == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_right_if_any_valid_label(seed):
    rng = np.random.default_rng(seed)
    predictions, labels = rng.integers(0, 6, 200), rng.integers(-1, 6, 200)
    valid = [sorted(set(rng.integers(0, 6, rng.integers(0, 4)).tolist())) for _ in range(200)]
    found = score_valid_labels(predictions, valid, labels, 7)
    scored = [i for i in range(200) if valid[i]]
    right = [predictions[i] in valid[i] for i in scored]
    assert (found.n, found.left_out) == (len(scored), 200 - len(scored))
    assert found.accuracy.value == pytest.approx(np.mean(right)) and found.accuracy.has_interval
    for c in range(7):
        of_class = [r for i, r in zip(scored, right) if labels[i] == c]
        expected = np.mean(of_class) if of_class else np.nan
        assert found.per_class_accuracy[c] == pytest.approx(expected, nan_ok=True)
    known = [i for i in scored if labels[i] >= 0]
    gain = np.mean([predictions[i] in valid[i] for i in known]) - np.mean([predictions[i] == labels[i] for i in known])
    assert found.gain.value == pytest.approx(gain) and found.gain.low < gain < found.gain.high
    assert found.mean_per_class_accuracy.value == pytest.approx(np.nanmean(found.per_class_accuracy))


def test_single_labels_change_nothing():
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 5, 100), rng.integers(0, 5, 100)
    found = score_valid_labels(predictions, labels[:, None], labels, 5)
    assert found.accuracy.value == metrics.accuracy(predictions, labels) and found.gain.value == 0
    confusion = metrics.confusion_matrix(predictions, labels, 5)
    assert np.allclose(found.per_class_accuracy, metrics.per_class_accuracy(confusion))


DATA = LabeledImages(
    "pets", ["cat/a.png", "cat/b.png", "dog/c.png"], np.array([0, 0, 1]), ["cat", "dog", "12"], read=None
)


def table(folder, name, rows, columns=("id", "valid_labels"), **options):
    file = folder / name
    frame = pd.DataFrame(rows, columns=list(columns))
    frame.to_parquet(file) if name.endswith("parquet") else frame.to_csv(file, index=False, **options)
    return file


def document(folder, content, name="valid.json"):
    (folder / name).write_text(json.dumps(content) if not isinstance(content, str) else content)
    return folder / name


SOURCES = {
    "json by id": lambda f: document(f, {"cat/a.png": [0, 1], "dog/c.png": ["dog"]}),
    "json by file name": lambda f: document(f, {"a.png": ["cat", "dog"], "c.png": "dog", "other.png": ["bird"]}),
    "csv with separators": lambda f: table(f, "v.csv", [("cat/a.png", "cat;dog"), ("c.png", "1")]),
    "csv with bars": lambda f: table(
        f, "v.csv", [("cat/a.png", "0|1"), ("c.png", "dog"), ("b.png", "")], ("path", "label")
    ),
    "csv with a row each": lambda f: table(f, "v.csv", [("a.png", "cat"), ("a.png", "dog"), ("c.png", "dog")]),
    "parquet": lambda f: table(f, "v.parquet", [("cat/a.png", [0, 1]), ("dog/c.png", [1])]),
    "json lines": lambda f: document(
        f, '{"id": "a.png", "labels": ["cat", "dog"]}\n{"id": "c.png", "labels": [1]}', "v.jsonl"
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_file_gives_the_same_labels(source, tmp_path):
    assert load_valid_labels(SOURCES[source](tmp_path), DATA) == [[0, 1], [], [1]]


def test_the_list_of_imagenet_real_goes_by_the_number_of_the_image(tmp_path):
    names = [str(c) for c in range(1000)]
    ids = ["n01/ILSVRC2012_val_00000003.JPEG", "n02/ILSVRC2012_val_00000001.JPEG"]
    data = LabeledImages("imagenet:x", ids, np.array([0, 1]), names, read=None)
    file = document(tmp_path, [[5], [], [7, 8]], "real.json")
    assert load_valid_labels(file, data) == [[7, 8], [5]]
    with pytest.raises(InputError, match=r"^Expected images named ILSVRC2012_val_00000001 to 00000003"):
        load_valid_labels(file, DATA)


@pytest.mark.parametrize(
    "content, text",
    [
        ("{", "Cannot read valid labels from"),
        ('"x"', "Expected lists of labels by image in"),
        ('{"z.png": [0]}', "Expected valid labels of images of pets in"),
        ("{}", "Expected valid labels of images of pets in"),
        ('{"a.png": ["bird"]}', "Expected class indices or names of the set's classes in"),
        ('{"a.png": [0.5]}', "Expected class indices or names of the set's classes in"),
        ('{"a.png": [null]}', "Expected class indices or names of the set's classes in"),
        ('{"a.png": {"b": 1}}', "Expected class indices or names of the set's classes in"),
    ],
)
def test_a_file_that_holds_something_else_is_one_line(content, text, tmp_path):
    with pytest.raises(InputError, match="^" + re.escape(text)) as caught:
        load_valid_labels(document(tmp_path, content), DATA)
    assert "\n" not in str(caught.value)


def test_the_command_adds_the_accuracy_by_valid_labels(tmp_path, monkeypatch):
    colours = {"crimson": (255, 0, 0), "red": (250, 0, 0), "blue": (0, 0, 255)}
    for name, colour in colours.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), colour).save(tmp_path / "images" / name / f"{name}{i}.png")
    model = clipnb.wrap_model(
        lambda images: np.array([np.asarray(image).mean(axis=(0, 1)) for image in images]),
        lambda texts: np.array([[0, 0.1, 1] if "blue" in text else [1, 0.1 * ("red" in text), 0] for text in texts]),
    )
    monkeypatch.setattr("clipnb.load_model", lambda name, **options: model)
    reds = {f"{name}{i}.png": ["crimson", "red"] for name in ("crimson", "red") for i in range(4)}
    file = document(tmp_path, reds | {f"blue{i}.png": ["blue"] for i in range(3)})
    arguments = ["evaluate", "--dataset", f"folder:{tmp_path / 'images'}", "--valid-labels", str(file), "--json"]
    run = CliRunner().invoke(main, [*arguments, str(tmp_path / "r.json")])
    assert run.exit_code == 0, run.output
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["accuracy"] == pytest.approx(8 / 12) and found["valid_label_accuracy"] == 1
    assert (found["valid_label_n"], found["valid_label_left_out"]) == (11, 1)
    assert found["valid_label_gain"] == pytest.approx(4 / 11) and found["valid_label_gain_ci"][0] > 0
    assert found["valid_label_classes"] == [{"classname": "red", "accuracy": 0.0, "with_valid_labels": 1.0}]
