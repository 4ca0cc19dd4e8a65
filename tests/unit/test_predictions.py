"""Files of predictions: every format gives the same scores, and what is wrong with a file is one clear line."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import csv as pa_csv
from pyarrow import parquet
from sklearn.metrics import balanced_accuracy_score, precision_score, top_k_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

import clipnb
from clipnb.cli import main
from clipnb.intervals import mcnemar
from clipnb.predictions import _read, _source, read_predictions, same_images, write_predictions
from clipnb.report import audit_predictions, compare_predictions, model_card, tabulate

NAMES = ["cat", "dog", "pig", "hen", "cow", "owl"]


@pytest.fixture(scope="module")
def data():
    """60 images of six classes: labels (some unknown), scores of each class, and what the best of them are."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 60)
    scores = rng.random((60, 6)) + 0.7 * np.eye(6)[labels]
    labels[[3, 17]] = -1
    order = np.argsort(-scores, axis=1, kind="stable")
    return {"ids": [f"d/{i:02d}.jpg" for i in range(60)], "labels": labels, "scores": scores, "best": order[:, :5]}


def frame(data, **columns):
    names = np.array([*NAMES, None], dtype=object)
    table = {"id": data["ids"], "label": names[data["labels"]], "prediction": names[data["best"][:, 0]]}
    return pd.DataFrame(table | columns)


def by_class(data, names=NAMES):
    return frame(data).drop(columns="prediction").join(pd.DataFrame(data["scores"], columns=names))


def write_csv(data, path):
    frame(data).to_csv(path, index=False)


def write_shuffled(data, path):
    frame(data).sample(frac=1, random_state=1)[["prediction", "id", "label"]].to_csv(path, index=False, sep="\t")


def write_numbers(data, path):
    frame(data, label=data["labels"], prediction=data["best"][:, 0]).to_csv(path, index=False)


def write_gaps(data, path):  # pandas makes floats of integers with gaps
    frame(data, label=pd.Series(data["labels"]).where(data["labels"] >= 0), prediction=data["best"][:, 0]).to_csv(path)


def write_parquet(data, path):
    frame(data, score=data["scores"].max(axis=1), top5=[[NAMES[c] for c in row] for row in data["best"]]).to_parquet(
        path
    )


def write_categories(data, path):
    frame(data).astype({"label": "category", "prediction": "category"}).to_parquet(path)


def write_columns(data, path):
    by_class(data).to_csv(path, index=False)


def write_columns_parquet(data, path):
    by_class(data).astype(dict.fromkeys(NAMES, np.float32)).to_parquet(path)


def write_lists(data, path):
    frame(data, logits=list(data["scores"])).drop(columns="prediction").to_parquet(path)


def write_lines(data, path):
    frame(data).to_json(path, orient="records", lines=True)


def write_records(data, path):
    frame(data).to_json(path, orient="records")


def write_arrow(data, path):
    table = pa.Table.from_pandas(frame(data))
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=7)


def write_npz(data, path):  # as CLIP_benchmark's run_classification returns them
    np.savez(path, logits=data["scores"], target=data["labels"], classnames=NAMES, id=data["ids"])


def write_compressed(data, path):
    np.savez_compressed(path, predict_proba=data["scores"].astype(np.float32), labels=data["labels"])


def write_samples(data, path):
    """FiftyOne's samples.json, as its FiftyOneDataset exporter writes it."""
    rows = []
    for name, label, prediction in zip(data["ids"], *(frame(data)[key] for key in ("label", "prediction"))):
        row = {"_id": {"$oid": "0" * 24}, "filepath": name, "tags": [], "metadata": None}
        row["ground_truth"] = (
            None
            if pd.isna(label)
            else {
                "_id": {"$oid": "1" * 24},
                "_cls": "Classification",
                "tags": [],
                "label": label,
            }
        )
        row["clip"] = {"_cls": "Classification", "tags": [], "label": prediction, "confidence": 0.5}
        rows.append(row)
    path.write_text(json.dumps({"samples": rows}))


def write_fiftyone_csv(data, path):
    renamed = frame(data).rename(
        columns={"id": "filepath", "label": "ground_truth.label", "prediction": "predictions.label"}
    )
    renamed.to_csv(path, index=False)


def write_hugging_face(data, path):
    """As datasets.Dataset.to_parquet writes a ClassLabel: numbers, and the names in the metadata."""
    table = pa.table({"image_id": data["ids"], "label": data["labels"], "prediction": data["best"][:, 0]})
    kind = {"names": NAMES, "_type": "ClassLabel"}
    content = {"info": {"features": {"label": kind, "prediction": kind, "image_id": {"_type": "Value"}}}}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(content)}), path)


def write_own(data, path):
    result = clipnb.evaluate_predictions(data["best"][:, 0], data["labels"], NAMES, topk=data["best"])
    write_predictions(path, data["ids"], result, NAMES)


FORMATS = {
    "a.csv": write_csv,
    "shuffled.tsv": write_shuffled,
    "numbers.csv": write_numbers,
    "gaps.csv": write_gaps,
    "a.parquet": write_parquet,
    "categories.parquet": write_categories,
    "columns.csv": write_columns,
    "columns.parquet": write_columns_parquet,
    "lists.parquet": write_lists,
    "a.jsonl": write_lines,
    "a.json": write_records,
    "a.arrow": write_arrow,
    "a.npz": write_npz,
    "compressed.npz": write_compressed,
    "samples.json": write_samples,
    "fiftyone.csv": write_fiftyone_csv,
    "huggingface.parquet": write_hugging_face,
    "own.parquet": write_own,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("block", ["whole", "in blocks"])
def test_every_format_gives_the_same_scores(name, block, data, tmp_path, monkeypatch):
    if block == "in blocks":
        monkeypatch.setattr(_source, "BLOCK_BYTES", 2048)
        monkeypatch.setattr(_source, "rows_a_block", lambda columns: 7)
    FORMATS[name](data, tmp_path / name)
    read = read_predictions(tmp_path / name, classnames=NAMES)
    known = data["labels"] >= 0
    labels, best = data["labels"][known], data["best"][known, 0]
    result = read.result()
    assert (result.n, result.num_unlabelled) == (58, 2)
    assert np.array_equal(result.confusion, sklearn_confusion(labels, best, labels=range(6)))
    assert result.accuracy == pytest.approx((labels == best).mean())
    assert result.mean_per_class_accuracy == pytest.approx(balanced_accuracy_score(labels, best))
    assert result.per_class_precision == pytest.approx(precision_score(labels, best, average=None))
    if read.topk.shape[1] == 5:
        wanted = top_k_accuracy_score(labels, data["scores"][known], k=5)
        assert result.recall_at_k[5] == pytest.approx(wanted)
        assert "recall_at_5" in result.summary()
    if read.has_ids:
        assert sorted(read.ids()) == data["ids"]
        place = {text: i for i, text in enumerate(read.ids())}
        rows = [place[text] for text in data["ids"]]
        assert np.array_equal(read.labels[rows], data["labels"])
        assert read.ids([5, 40]) == [read.ids()[5], read.ids()[40]]


def test_scores_of_a_result_equal_those_of_vectors():
    rng = np.random.default_rng(1)
    vectors, classifier = (clipnb.similarity.unit_norm(rng.normal(size=(n, 8))) for n in (300, 12))
    labels = rng.integers(-1, 12, 300)
    whole = clipnb.evaluate(vectors, classifier, labels)
    mine = clipnb.evaluate_predictions(whole.predictions, labels, [f"c{i}" for i in range(12)], topk=whole.topk)
    assert mine.summary() == whole.summary() and mine.recall_at_k == whole.recall_at_k
    assert np.array_equal(mine.confusion, whole.confusion)
    assert np.isnan(mine.margins).all() and not mine.has_similarities and whole.has_similarities
    for name in ("cmm", "class_similarity"):
        with pytest.raises(
            clipnb.InputError, match=r"^Expected a result of `evaluate`, got one of `evaluate_predictions`"
        ):
            getattr(mine, name)


def test_predictions_by_name_number_tensor_and_series():
    import torch

    wanted = clipnb.evaluate_predictions([1, 1, 0], [0, 1, -1], ["cat", "dog"]).summary()
    for predictions, labels in (
        (["dog", "dog", "cat"], ["cat", "dog", None]),
        (pd.Series(["dog", "dog", "cat"]), pd.Series(["cat", "dog", float("nan")], dtype=object)),
        (torch.tensor([1, 1, 0]), torch.tensor([0, 1, -1])),
        (np.array([1, 1, 0], np.int16), ["cat", "dog", -1]),
    ):
        assert clipnb.evaluate_predictions(predictions, labels, ["cat", "dog"]).summary() == wanted


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            {"predictions": ["cat", "cow"]},
            "Expected `predictions` among the 2 classnames, or class indices, got 'cow' at",
        ),
        (
            {"labels": ["cat", "cow"]},
            "Expected `labels` among the 2 classnames, or class indices, got 'cow' at position 1",
        ),
        ({"labels": [0]}, r"Expected `labels` of shape (N,) = (2,), got (1,)"),
        (
            {"classnames": ["cat", "cat"], "labels": ["cat", "cat"]},
            "Expected class indices in `labels`, got names, and 'cat'",
        ),
        (
            {"topk": [[1], [1]]},
            "Expected `topk` to begin with the prediction, got 1 first and the prediction 0 in row 0",
        ),
        ({"topk": [1, 1]}, "Expected `topk` of shape (N, K) = (2, K), K >= 1, got (2,)"),
        ({"scores": [0.5]}, "Expected `scores` of shape (N,) = (2,) or that of `topk`, got (1,)"),
        (
            {"predictions": [0, None]},
            "Expected `predictions` among the 2 classnames, or class indices, got None at position 1",
        ),
    ],
)
def test_what_is_wrong_with_arrays_is_said(arguments, said):
    valid = {"predictions": [0, 1], "labels": [0, 1], "classnames": ["cat", "dog"]}
    with pytest.raises(clipnb.InputError, match="^" + re.escape(said)):
        clipnb.evaluate_predictions(**valid | arguments)


HEAD = "id,label,prediction\n"
WRONG = {
    "no labels": (
        "id,prediction\n1,cat\n",
        "Expected a column of labels in {file} (label, target, ground_truth ...), got the columns id, prediction",
    ),
    "no predictions": (
        "id,label,note\n1,cat,x\n",
        "Expected a column of predictions in {file} (prediction, predicted ...), or one column a class",
    ),
    "a gap": (
        HEAD + "1,cat,cat\n2,cat,\n",
        "Expected a prediction in each row of {file}, got none in row 2 (column 'prediction')",
    ),
    "no id": (HEAD + "1,cat,cat\n,cat,cat\n", "Expected an id in each row of {file}, got none in row 2 (column 'id')"),
    "an id twice": (
        HEAD + "1,cat,cat\n2,dog,cat\n1,cat,dog\n",
        "Expected each id once in {file}, got '1' in rows 1 and 3",
    ),
    "rows only": (HEAD, "Expected rows in {file}, got none below the names of the columns"),
    "empty": ("", "Expected rows in {file}, got an empty file"),
    "a column twice": (
        "id,label,label,prediction\n1,a,b,c\n",
        "Expected columns with different names in {file}, got 'label' twice",
    ),
    "names and numbers": (
        HEAD + "1,cat,0\n2,dog,1\n",
        "Expected labels and predictions in {file} both as names or both as numbers, got 'cat' and '0'; give the "
        "classnames (--classes FILE)",
    ),
    "a row too long": (
        HEAD + "1,cat,cat\n2,cat,cat,cat\n",
        "Cannot read the predictions in {file}: CSV parse error: ",
    ),
    "not a number": ("id,label,cat,dog\n1,cat,0.5,x\n", "Cannot read the predictions in {file}: In CSV column #"),
    "not finite": ("id,label,cat,dog\n1,cat,0.5,inf\n", "Expected finite scores in {file}, got inf in row 1 for 'dog'"),
    "only unknown": (HEAD + "1,,cat\n2,,dog\n", "Expected labels in {file}, got 2 rows without: nothing can be scored"),
    "one class": (
        HEAD + "1,cat,cat\n",
        "Expected at least two classes in {file}, got 'cat' only: every answer is right",
    ),
    "bytes": (b"id,label,prediction\n1,\xff\xfe,cat\n", "Cannot read the predictions in {file}: "),
    "a pickle": (
        b"\x80\x04\x95abc",
        "Expected predictions as CSV, Parquet, JSON lines, .npy or .npz, got {file}: it is packed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_one_line_and_exit_code_2(case, tmp_path):
    content, said = WRONG[case]
    file = tmp_path / "p.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = CliRunner().invoke(main, ["audit", "--predictions", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"clipnb: .*\n", result.stderr), result.stderr
    assert result.stderr.startswith("clipnb: " + said.replace("{file}", str(file)))


@pytest.mark.parametrize(
    "classnames, text, said",
    [
        (
            ["cat", "dog"],
            HEAD + "1,cat,cat\n2,cat,cow\n",
            "to hold 2 classes, by name or as numbers from 0 to 1, got 'cow' in row 2",
        ),
        (
            ["cat", "dog"],
            HEAD + "1,0,0\n2,1,2\n",
            "to hold 2 classes, by name or as numbers from 0 to 1, got '2' in row 2",
        ),
        (["cat", "dog", "cat"], HEAD + "1,cat,dog\n", "got names, and two classes are called 'cat'"),
        (["cat", "dog", "pig"], "id,label,cat,dog\n1,cat,1,0\n", "Expected a column for each of the 3 classes in"),
    ],
)
def test_names_that_do_not_fit_are_said(classnames, text, said, tmp_path):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(clipnb.InputError, match=re.escape(said)):
        read_predictions(tmp_path / "p.csv", classnames)


def test_classes_that_do_not_occur_count_and_labels_by_number_follow_the_classnames(tmp_path):
    (tmp_path / "p.csv").write_text(HEAD + "1,2,0\n2,0,0\n")
    read = read_predictions(tmp_path / "p.csv", ["cat", "dog", "pig"])
    assert read.labels.tolist() == [2, 0] and read.result().summary()["classes"] == 3
    assert read_predictions(tmp_path / "p.csv").classnames == ["0", "2"]  # those that occur
    (tmp_path / "p.csv").write_text(HEAD + "1,10,9\n2,9,9\n3,-1,9\n")
    read = read_predictions(tmp_path / "p.csv")
    assert read.classnames == ["9", "10"] and read.labels.tolist() == [1, 0, -1]


def test_arrays_without_labels_take_them_from_another_file(data, tmp_path):
    np.save(tmp_path / "scores.npy", data["scores"])
    np.save(tmp_path / "labels.npy", data["labels"])
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    with pytest.raises(clipnb.InputError, match=r"give them as `labels` \(--labels FILE.npy\)$"):
        read_predictions(tmp_path / "scores.npy")
    read = read_predictions(tmp_path / "scores.npy", NAMES, tmp_path / "labels.npy")
    assert np.array_equal(read.topk, data["best"]) and np.array_equal(read.labels, data["labels"])
    given = read_predictions(tmp_path / "scores.npy", NAMES, [NAMES[c] if c >= 0 else None for c in data["labels"]])
    assert np.array_equal(given.labels, data["labels"])
    with pytest.raises(
        clipnb.InputError, match=r"^Expected `labels` of shape \(N,\) = \(60,\), as .* has rows, got \(59,\)$"
    ):
        read_predictions(tmp_path / "scores.npy", NAMES, data["labels"][1:])
    options = ["--predictions", "scores.npy", "--labels", "labels.npy", "--classes", "names.txt"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = CliRunner().invoke(main, ["audit", *options, "--json", "-"])
    assert json.loads(result.stdout)["summary"]["n"] == 58


def test_a_file_of_scores_only_says_what_to_save_instead(tmp_path):
    (tmp_path / "clip_benchmark.json").write_text('{"dataset": "x", "model": "y", "metrics": {"acc1": 0.5}}')
    with pytest.raises(clipnb.InputError, match=r"the scores that CLIP_benchmark writes.*numpy.savez\(file, logits"):
        read_predictions(tmp_path / "clip_benchmark.json")
    (tmp_path / "labels.json").write_text('{"classes": null, "labels": {"a": "cat"}}')
    with pytest.raises(clipnb.InputError, match="one field of FiftyOne's classification export"):
        read_predictions(tmp_path / "labels.json")
    np.savez(tmp_path / "o.npz", logits=np.eye(2), labels=[0, 1], classnames=np.array(["a", "b"], dtype=object))
    with pytest.raises(clipnb.InputError, match=r"got Python objects in classnames.npy: save names as .astype\(str\)$"):
        read_predictions(tmp_path / "o.npz")


def test_ids_with_one_hash_are_no_duplicates(data, tmp_path, monkeypatch):
    write_csv(data, tmp_path / "a.csv")
    monkeypatch.setattr(_read, "keys_of", lambda ids: np.zeros(len(ids), np.uint64))
    assert len(read_predictions(tmp_path / "a.csv")) == 60


# Two files ------------------------------------------------------------------------------------------------------------


def test_two_files_are_compared_by_id(data, tmp_path):
    write_csv(data, tmp_path / "a.csv")
    other = frame(data, prediction=np.array(NAMES)[data["best"][:, 1]]).sample(frac=1, random_state=2)
    other.to_csv(tmp_path / "b.csv", index=False)
    upgrade = compare_predictions(tmp_path / "a.csv", tmp_path / "b.csv", made="today")
    known = data["labels"] >= 0
    right = [data["best"][known, place] == data["labels"][known] for place in (0, 1)]
    p, _ = mcnemar(*right)
    accuracy = upgrade.scores.set_index("score").loc["accuracy"]
    assert accuracy["difference"] == pytest.approx(right[1].mean() - right[0].mean()) and accuracy[
        "p"
    ] == pytest.approx(p)
    assert upgrade.classes["images"].sum() == known.sum()
    assert np.array_equal(
        same_images(*(read_predictions(tmp_path / name) for name in ("a.csv", "b.csv"))),
        np.argsort(other.index.to_numpy()),
    )
    result = CliRunner().invoke(
        main,
        [
            "audit",
            "--predictions",
            str(tmp_path / "a.csv"),
            "--compare-predictions",
            str(tmp_path / "b.csv"),
            "--fail-under",
            "accuracy_change=0",
            "--json",
            str(tmp_path / "c.json"),
            "--out",
            str(tmp_path / "c.html"),
        ],
    )
    assert result.exit_code == 3 and "accuracy_change is -" in result.stderr
    assert json.loads((tmp_path / "c.json").read_text())["summary"]["accuracy_change"] == accuracy["difference"]
    assert result.stdout.startswith("A is a.csv; B is b.csv; 58 labelled images.\n") and "nan" not in result.stdout


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda t: t.iloc[1:],
            r"Expected the same images in both files, got 1 only in .*a.csv \(such as 'd/00.jpg'\) and 0 only in",
        ),
        (
            lambda t: t.assign(id=t["id"].replace("d/05.jpg", "x")),
            r"1 only in .*a.csv \(such as 'd/05.jpg'\) and 1 only in .*b.csv \(such as 'x'\)$",
        ),
        (
            lambda t: t.assign(label=t["label"].replace("cat", "dog")),
            r"Expected the same labels in .* differ: 'd/\d\d.jpg' is 'cat' and 'dog'$",
        ),
        (
            lambda t: t.replace("cat", "lion"),
            r"Expected the same classes in .* differ first in 'cat' and 'cow'; give the classnames",
        ),
        (lambda t: t.drop(columns="id"), r"^Expected ids in both files, got none in .*b.csv, while .*a.csv has them$"),
    ],
)
def test_files_on_different_images_are_refused(change, said, data, tmp_path):
    write_csv(data, tmp_path / "a.csv")
    names = NAMES if "labels" in said else None
    change(frame(data)).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(clipnb.InputError, match=said):
        compare_predictions(tmp_path / "a.csv", tmp_path / "b.csv", classnames=names)


# The report -----------------------------------------------------------------------------------------------------------


def test_the_report_holds_every_number_that_needs_no_model(data, tmp_path):
    write_parquet(data, tmp_path / "a.parquet")
    report = audit_predictions(tmp_path / "a.parquet", made="today")
    result = read_predictions(tmp_path / "a.parquet").result()
    assert report.summary["accuracy"] == result.accuracy and report.summary["unlabelled"] == 2
    assert report.classes["accuracy"].is_monotonic_increasing and len(report.classes) == 6
    assert report.confusions["count"].sum() == result.n - np.trace(result.confusion)
    assert len(report.images) == 60 and {"id", "label", "prediction", "score"} <= set(report.images)
    assert report.summary["remarks"]
    page = report.to_html()
    for heading in ("Scores", "The worst classes", "What is taken for what", "All classes"):
        assert f">{heading}<" in page
    assert "margin" not in page.casefold().replace("margin:", "").replace("margin-top", "").replace("and margins", "")


def test_images_of_a_folder_are_shown_and_nothing_outside_it(data, tmp_path, pictures):
    from PIL import Image

    folder = tmp_path / "photos"
    (folder / "d").mkdir(parents=True)
    for name in data["ids"][:40]:
        Image.new("RGB", (40, 30), (200, 10, 10)).save(folder / name)
    write_csv(data, tmp_path / "a.csv")
    report = audit_predictions(tmp_path / "a.csv", images=folder, made="today")
    assert report.to_html().count("data:image/webp") >= 6
    assert any("are not in photos, such as" in line for line in report.summary["remarks"])
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    frame(data, id=["../secret.png#" * 0 + f"../x{i}/../secret.png" for i in range(60)]).to_csv(tmp_path / "b.csv")
    with pytest.raises(
        clipnb.InputError, match=r"^Expected the ids of .* as paths in .*, which is not an image there$"
    ):
        audit_predictions(tmp_path / "b.csv", images=folder)


def test_only_names_that_are_alike_matter_to_predictions(tmp_path):
    names = ["building/outdoor", "CamelCase", "fire_truck", "n02084071", "3", "fire truck"]
    pd.DataFrame({"label": names, "prediction": names}).to_csv(tmp_path / "a.csv", index=False)
    report = audit_predictions(tmp_path / "a.csv", made="today")
    assert report.findings["what"].tolist() == ["near-duplicate classname"]
    assert not any("--fix-names" in step for step in report.advice)


def test_images_of_none_that_are_answered_are_for_a_person(tmp_path):
    rng = np.random.default_rng(0)
    label = np.repeat(["cat", "dog", "other"], 40)
    sure = np.where(label == "other", rng.uniform(0.2, 0.4, 120), rng.uniform(0.6, 0.9, 120))
    prediction = np.where(label == "other", "cat", label)
    pd.DataFrame({"label": label, "prediction": prediction, "score": sure}).to_csv(tmp_path / "a.csv", index=False)
    report = audit_predictions(tmp_path / "a.csv", made="today")
    assert report.summary["to_a_person_for_95"] == pytest.approx(1 / 3, abs=0.05)
    assert report.summary["precision_of_the_rest_95"] > 0.9 > report.summary["accuracy"]
    assert report.worst["classname"].iloc[0] == "other"
    assert "for the class with 6 or more images of which none is right" in report.advice[0]


@pytest.mark.parametrize(("images", "advised"), [(5, False), (6, True)])
def test_a_class_at_zero_of_few_images_may_be_unlucky(tmp_path, images, advised):
    label = ["cat"] * 40 + ["dog"] * images
    pd.DataFrame({"label": label, "prediction": "cat"}).to_csv(tmp_path / "a.csv", index=False)
    advice = audit_predictions(tmp_path / "a.csv", made="today").advice
    assert any("Do not rely on" in step for step in advice) == advised


def test_many_images_are_not_listed_and_that_is_said(data, tmp_path, monkeypatch):
    from clipnb.report import _predictions

    monkeypatch.setattr(_predictions, "MAX_LISTED", 50)
    write_csv(data, tmp_path / "a.csv")
    report = audit_predictions(tmp_path / "a.csv", made="today")
    assert len(report.images) == 0 and "the 60 images are not listed" in report.summary["remarks"][0]
    assert report.ids == data["ids"]


# Out: files, cards, tables --------------------------------------------------------------------------------------------


def test_predictions_out_keeps_classes_that_share_a_name(tmp_path):
    names = ["crane", "crane", "dog"]
    vectors = clipnb.similarity.unit_norm(np.random.default_rng(0).normal(size=(20, 3)))
    result = clipnb.evaluate(vectors, np.eye(3), np.arange(20) % 3)
    write_predictions(tmp_path / "p.parquet", [f"{i}.jpg" for i in range(20)], result, names, {"model": "m"})
    read = read_predictions(tmp_path / "p.parquet")
    assert read.classnames == names and np.array_equal(read.topk, result.topk)
    assert np.array_equal(read.labels, result.labels) and np.array_equal(read.predictions, result.predictions)
    assert read.scores == pytest.approx(result.topk_similarity[:, 0])
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table["margin"].to_numpy() == pytest.approx(result.margins)
    assert [names[c] for c in result.topk[4]] == table["top5"][4].tolist()


def test_a_model_card_is_what_hugging_face_reads(data, tmp_path):
    from huggingface_hub import ModelCard

    write_csv(data, tmp_path / "a.csv")
    options = ["--json", str(tmp_path / "a.json"), "--model-card", str(tmp_path / "README.md")]
    result = CliRunner().invoke(main, ["audit", "--predictions", str(tmp_path / "a.csv"), *options])
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "a.json").read_text())["summary"]
    card = ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False)
    found = {one.metric_type: one for one in card.data.eval_results}
    assert found["accuracy"].metric_value == summary["accuracy"]
    assert found["accuracy"].metric_args == {"interval_95": summary["accuracy_ci"]}
    assert found["accuracy"].task_type == "zero-shot-image-classification" and card.data.model_name == "a.csv"
    odd = ModelCard(model_card(summary | {"dataset": 'folder:a "b"\n: #x', "model": "- é 猫"}))
    assert odd.data.eval_results[0].dataset_name == 'folder:a "b"\n: #x' and odd.data.model_name == "- é 猫"
    with pytest.raises(clipnb.InputError, match=r"^Expected `summary` with an accuracy, got none"):
        model_card({"dataset": "x"})


def test_runs_make_one_table_with_one_correction(data, tmp_path):
    for place, name in enumerate("abc"):
        frame(data, prediction=np.array(NAMES)[data["best"][:, place]]).to_csv(tmp_path / f"{name}.csv", index=False)
        CliRunner().invoke(
            main, ["audit", "--predictions", str(tmp_path / f"{name}.csv"), "--json", str(tmp_path / f"{name}.json")]
        )
    table = tabulate([tmp_path / f"{name}.json" for name in "abc"], made="today")
    known = data["labels"] >= 0
    right = [data["best"][known, place] == data["labels"][known] for place in range(3)]
    for row, place in ((1, 1), (2, 2)):
        p, _ = mcnemar(right[place], right[0])
        assert table.runs.loc[row, "accuracy_p"] == pytest.approx(min(1, 2 * p))  # two runs held against the first
        assert table.runs.loc[row, "accuracy_change"] == pytest.approx(right[place].mean() - right[0].mean())
    assert table.runs["accuracy"].tolist() == pytest.approx([r.mean() for r in right])
    assert table.runs.loc[0, ["accuracy_low", "accuracy_high"]].tolist() == pytest.approx(
        list(clipnb.intervals.proportion(int(right[0].sum()), 58))[1:]
    )
    files = {flag: tmp_path / f"t{flag}" for flag in ("--csv", "--latex", "--html", "--json")}
    options = [part for flag, path in files.items() for part in (flag, str(path))]
    result = CliRunner().invoke(main, ["table", *(str(tmp_path / f"{name}.json") for name in "abc"), *options])
    assert result.exit_code == 0 and "corrected for 2 comparisons" in result.stdout
    assert pd.read_csv(files["--csv"])["run"].tolist() == ["a", "b", "c"]
    assert files["--latex"].read_text().count(r" \\") == 4 and "\\%" in files["--latex"].read_text()
    assert (
        "worse (p = " in files["--html"].read_text()
        and json.loads(files["--json"].read_text())["runs"][2]["run"] == "c"
    )


def test_a_run_finds_the_file_of_predictions_beside_it(data, tmp_path):
    write_own(data, tmp_path / "a.parquet")
    run = {"model": "a_b&c", "dataset": "x", "n": 58, "classes": 6, "accuracy": 0.5, "accuracy_ci": [0.4, 0.6]}
    (tmp_path / "a.json").write_text(json.dumps(run | {"predictions_file": "a.parquet"}))
    (tmp_path / "b.json").write_text(json.dumps(run | {"predictions_file": "a.parquet", "dataset": "y"}))
    table = tabulate([tmp_path / "a.json", tmp_path / "b.json"])
    assert table.runs.loc[1, "accuracy_verdict"] == "no" and table.runs.loc[1, "accuracy_p"] == 1
    (tmp_path / "c.json").write_text(json.dumps(run | {"predictions_file": "gone.parquet"}))
    table = tabulate([tmp_path / "a.json", tmp_path / "c.json"])
    assert "accuracy_p" not in table.runs and any("gone.parquet, which is not there" in line for line in table.advice)


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"dataset": "icons"},
            "Expected runs on the same images, got dataset emoji in .*a.json and icons in .*b.json$",
        ),
        ({"n": 5}, "Expected runs on the same images, got n 4 in .*a.json and 5 in"),
        ({"dataset_fingerprint": "2"}, "Expected runs on the same images, got dataset_fingerprint 1 in"),
        ({"accuracy": None}, "which holds no scores of labelled images$"),
    ],
)
def test_runs_on_different_images_are_refused_with_the_reason(changes, said, tmp_path):
    run = {
        "dataset": "emoji",
        "dataset_fingerprint": "1",
        "n": 4,
        "classes": 2,
        "accuracy": 0.5,
        "accuracy_ci": [0.1, 0.9],
    }
    (tmp_path / "a.json").write_text(json.dumps(run))
    (tmp_path / "b.json").write_text(json.dumps(run | changes))
    with pytest.raises(clipnb.InputError, match=said):
        tabulate([tmp_path / "a.json", tmp_path / "b.json"])
    result = CliRunner().invoke(main, ["table", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and result.stdout == ""


@pytest.mark.parametrize(
    "options, said",
    [
        (["--predictions", "a.csv", "--model", "x"], "Expected --predictions without --model: no model is run"),
        (["--images", "."], "Expected --predictions with --images"),
        (["--compare-predictions", "b.csv"], "Expected --predictions with --compare-predictions"),
        (["--predictions", "a.csv", "--compare-predictions", "a.csv", "--images", "."], "Expected --images without"),
        (["--predictions", "a.csv", "--images", "none"], "Expected `images` to be a folder, got none"),
        (["--predictions", "a.csv", "--classes", "a.csv"], "Expected a list of classnames in a.csv, got a mapping"),
        (["--predictions", "a.csv", "--fail-under", "margin=1"], "Expected --fail-under to name a score"),
        (
            ["--predictions", "a.csv", "--compare-predictions", "a.csv", "--model-card", "x.md"],
            "Expected --predictions-out and",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_exit_code_2(options, said, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(data, Path("a.csv"))
    result = CliRunner().invoke(main, ["audit", *options])
    assert (result.exit_code, result.stdout) == (2, "") and result.stderr.splitlines()[-1].startswith("clipnb: " + said)


def test_a_command_that_needs_a_model_says_how_to_install_one(monkeypatch):
    import click

    @click.command("needs-a-model")
    def command():
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    monkeypatch.setitem(main.commands, "needs-a-model", command)
    result = CliRunner().invoke(main, ["needs-a-model"])
    assert result.exit_code == 2
    assert (
        result.stderr
        == "clipnb: this command needs a model, and torch.nn is not installed: pip install 'clipnb[model]'\n"
    )


def test_csv_of_arrow_is_read_by_block_without_a_second_header(data, tmp_path):
    table = pa.Table.from_pandas(frame(data), preserve_index=False)
    pa_csv.write_csv(table, tmp_path / "quoted.csv")
    assert np.array_equal(read_predictions(tmp_path / "quoted.csv").labels >= 0, data["labels"] >= 0)


# Recipes --------------------------------------------------------------------------------------------------------------

RECIPES = (Path(__file__).resolve().parents[2] / "book/recipes.md").read_text("utf-8")
RECIPES = RECIPES.partition("(recipes-out)=")[2].partition("\n## Many runs")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", RECIPES, re.DOTALL)
PACKAGES = ("duckdb", "cleanlab", "wandb")


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_recipes_for_other_tools_run(block, data, tmp_path, monkeypatch):
    """On the real package where it is installed."""
    for package in PACKAGES:
        if re.search(rf"^(import|from) {package}\b", BLOCKS[block], re.MULTILINE):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    vectors = clipnb.similarity.unit_norm(data["scores"])
    result = clipnb.evaluate(vectors, np.eye(6), data["labels"])
    write_predictions("predictions.parquet", data["ids"], result, NAMES)
    names: dict = {}
    exec(BLOCKS[block], names)
    wrong = {name for name, p, y in zip(data["ids"], result.predictions, data["labels"]) if p != y and y >= 0}
    if "suspects" in names:
        assert set(names["suspects"]["id"]) <= wrong and names["suspects"]["margin"].is_monotonic_increasing
    if "worst" in names:
        assert [row[1] for row in names["worst"]] == pytest.approx(sorted(result.per_class_accuracy))
    if "issues" in names:
        assert names["issues"].shape == (58,) and 0 < names["issues"].sum() < 58
    if "folder" in names:
        labels, places = (json.loads(Path("fiftyone", name).read_text()) for name in ("labels.json", "data.json"))
        assert labels["labels"].keys() == places.keys() and len(places) == 60
        assert {row["label"] for row in labels["labels"].values()} <= set(labels["classes"])
    if "run" in names:
        assert list(tmp_path.glob("wandb/offline-run-*"))


def test_every_package_of_the_recipes_has_its_recipe():
    assert len(BLOCKS) == 5 and all(
        f"import {package}" in RECIPES or f"from {package}" in RECIPES for package in PACKAGES
    )
