"""The reject option against formulas, brute force over orders of ties, and scikit-learn."""

import json
from itertools import permutations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_auc_score

import clipnb
from clipnb import InputError, intervals, margin, metrics, reject
from clipnb.cli import main


def example(seed, n=60, levels=12):
    """Confidences with many ties, higher where the answer is right more often."""
    rng = np.random.default_rng(seed)
    confidence = rng.integers(levels, size=n) / levels
    return confidence, rng.random(n) < 0.3 + 0.6 * confidence


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_one_minus_the_precision_of_scikit_learn(seed):
    confidence, right = example(seed)
    coverage, risk, thresholds = metrics.risk_coverage_curve(confidence, right)
    precision, _, at = precision_recall_curve(right, confidence)
    assert np.allclose(thresholds[::-1], at) and np.allclose(1 - risk[::-1], precision[:-1])
    assert np.allclose(coverage, [(confidence >= threshold).mean() for threshold in thresholds])
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(1 - right.mean())


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_mean_over_all_orders_of_ties(seed):
    rng = np.random.default_rng(seed)
    confidence, right = rng.integers(3, size=6) / 3, rng.random(6) < 0.5
    areas = []
    for order in map(list, permutations(range(6))):
        ranked = sorted(order, key=lambda i: -confidence[i])  # sorted is stable: ties stay in this order
        areas.append(np.mean(np.cumsum(~right[ranked]) / np.arange(1, 7)))
    assert metrics.area_under_risk_coverage(confidence, right) == pytest.approx(np.mean(areas), abs=1e-12)


def test_the_area_of_known_cases():
    n = 1000
    right = np.arange(n) < 700
    area = metrics.area_under_risk_coverage
    best = np.mean(np.maximum(np.arange(1, n + 1) - 700, 0) / np.arange(1, n + 1))
    assert area(-np.arange(n), right) == pytest.approx(best)
    assert area(np.zeros(n), right) == pytest.approx(0.3)
    assert area(np.arange(n), right) > 0.3
    confidence = np.random.default_rng(0).random(n)
    assert area(confidence, right) == pytest.approx(area(10 * confidence - 3, right))  # only the order counts


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("wanted", [0.5, 0.75, 0.9, 1.0])
def test_the_threshold_answers_the_most_images_at_the_wanted_precision(seed, wanted):
    confidence, right = example(seed)
    threshold = reject.choose_threshold(confidence, right, wanted)
    fitting = [t for t in np.unique(confidence) if right[confidence >= t].mean() >= wanted - 1e-12]
    assert threshold == (min(fitting) if fitting else np.inf)


def test_a_threshold_is_confirmed_on_other_images():
    confidence, right = example(0, 4000, 200)
    threshold = reject.choose_threshold(*example(1, 4000, 200), 0.8)
    found = reject.confirm(confidence, right, threshold, 0.8)
    kept = confidence >= threshold
    assert (found.n, found.answered) == (4000, kept.sum())
    assert found.coverage.value == pytest.approx(kept.mean()) and found.precision.value == pytest.approx(
        right[kept].mean()
    )
    assert found.rejected.value == pytest.approx(1 - kept.mean())
    assert found.rejected.low < found.rejected.value < found.rejected.high
    assert abs(found.precision.value - 0.8) < 0.03  # the truth is known: 0.3 + 0.6 x confidence


def test_the_verdict_follows_from_the_interval():
    sure = np.ones(400)

    def verdict(right, threshold=0.5):
        return reject.confirm(sure, np.arange(400) < right, threshold, 0.9).verdict

    assert [verdict(390), verdict(362), verdict(300)] == ["kept", "open", "missed"]
    assert verdict(400, np.inf) == "nothing answered"


def test_halves_answer_each_other():
    confidence, right = example(3, 400, 50)
    half = np.arange(400) % 2 == 1
    found = reject.confirm_on_halves(confidence, right, half, 0.7)
    first, second = (reject.choose_threshold(confidence[~side], right[~side], 0.7) for side in (half, ~half))
    kept = np.where(half, confidence >= first, confidence >= second)
    assert found.answered == kept.sum() and found.precision.value == pytest.approx(right[kept].mean())
    swapped = reject.confirm_on_halves(confidence, right, ~half, 0.7)
    assert swapped.answered == found.answered


def test_classes_under_a_threshold():
    rng = np.random.default_rng(0)
    labels, predictions, confidence = rng.integers(-1, 4, 200), rng.integers(0, 4, 200), rng.random(200)
    table = reject.accepted_by_class(confidence, predictions, labels, 5, 0.6)
    for c in range(4):
        mine, named = labels == c, (predictions == c) & (confidence >= 0.6) & (labels >= 0)
        row = table.iloc[c]
        assert (row["images"], row["answered"]) == (mine.sum(), (mine & (confidence >= 0.6)).sum())
        assert row["named"] == named.sum() and row["precision"] == pytest.approx((labels[named] == c).mean())
        assert row["precision_low"] < row["precision"] < row["precision_high"]
    assert np.isnan(table.iloc[4][["coverage", "precision"]].astype(float)).all()


def test_images_of_none_lower_the_precision_of_the_classes_they_are_taken_for():
    confidence, predictions = [0.9, 0.8, 0.7, 0.9, 0.2], [0, 0, 1, 0, 1]
    none = [False, False, False, True, True]
    table = reject.accepted_by_class(confidence, predictions, [0, 1, 1, -1, -1], 2, 0.5, none)
    assert table["fit_none"].tolist() == [1, 0] and table["named"].tolist() == [3, 1]
    assert table["precision"].tolist() == pytest.approx([1 / 3, 1]) and table["images"].tolist() == [1, 2]
    same = reject.accepted_by_class(confidence, predictions, [0, 1, 1, 0, 1], 2, 0.5, none)  # their label is not read
    assert same.equals(table)
    plain = reject.accepted_by_class(confidence, predictions, [0, 1, 1, -1, -1], 2, 0.5)
    assert plain.equals(
        reject.accepted_by_class(confidence, predictions, [0, 1, 1, -1, -1], 2, 0.5, np.zeros(5, bool)).drop(
            columns="fit_none"
        )
    )


def test_shares_of_none_and_of_the_others_are_counted_apart():
    rng = np.random.default_rng(0)
    confidence, none = rng.integers(9, size=300) / 9, rng.random(300) < 0.3
    found = reject.none_of_these(confidence, none, 0.5)
    assert found.n == none.sum()
    assert found.rejected == intervals.proportion(int((confidence[none] < 0.5).sum()), int(none.sum()))
    assert found.others_rejected == intervals.proportion(int((confidence[~none] < 0.5).sum()), int((~none).sum()))
    assert found.auroc.value == pytest.approx(roc_auc_score(~none, confidence))
    assert found.auroc.low < found.auroc.value < found.auroc.high
    alone = reject.none_of_these(confidence[none], none[none], 0.5)
    assert alone.rejected == found.rejected and np.isnan(alone.others_rejected.value) and np.isnan(alone.auroc.value)


def test_classes_are_set_aside():
    labels, names, none = reject.set_aside([3, 0, 1, 2, -1, 1], ["a", "b", "c", "b"], ["b"])
    assert labels.tolist() == [-1, 0, -1, 1, -1, -1] and names == ["a", "c"]
    assert none.tolist() == [True, False, True, False, False, True]


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: reject.set_aside([0], ["a", "b"], ["x"]),
            r"Expected `names` among the 2 classnames \['a', 'b'\], got 'x'",
        ),
        (lambda: reject.set_aside([0], ["a", "b"], ["b", "a"]), "leave a class with a prompt, got all 2 classes"),
        (lambda: reject.set_aside([0], ["a", "b"], []), "Expected `names` to hold at least one text"),
        (lambda: reject.none_of_these([0.5], [False], 0.5), "Expected `none` to mark an image that fits no class"),
        (lambda: reject.none_of_these([0.5], [True, True], 0.5), r"Expected `none` of shape \(1,\), got \(2,\)"),
    ],
)
def test_wrong_input_of_none_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("precision", [0, -0.1, 1.01, float("nan"), "0.9", None])
def test_a_wrong_precision_is_refused(precision):
    with pytest.raises(InputError, match=r"^Expected `precision`"):
        reject.choose_threshold([0.5], [True], precision)


@pytest.fixture
def noisy(tmp_path):
    """A set of three colours; where the colour is faint, half of the images show the next one."""
    rng = np.random.default_rng(0)
    for c, name in enumerate(("blue", "green", "red")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(40):
            lead = rng.uniform(5, 150)
            pixel = np.full(3, 60.0)
            pixel[2 - (c + (lead < 50 and i % 4 < 2)) % 3] += lead
            Image.fromarray(np.tile(pixel.astype(np.uint8), (8, 8, 1))).save(tmp_path / "images" / name / f"{i}.png")
    return f"folder:{tmp_path / 'images'}"


def colours():
    channels = {"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
    return clipnb.wrap_model(
        lambda images: np.array([np.asarray(image).mean(axis=(0, 1)) for image in images]),
        lambda texts: np.array([next((v for n, v in channels.items() if n in text), [1, 1, 0]) for text in texts]),
        name="colours",
        logit_scale=5.0,
    )


def test_the_command_confirms_on_images_that_did_not_choose(noisy, monkeypatch, tmp_path):
    monkeypatch.setattr("clipnb.load_model", lambda name, **options: colours())
    arguments = ["evaluate", "--dataset", noisy, "--json", str(tmp_path / "r.json"), "--reject-at"]
    results = []
    for wanted in ("precision=0.95", "risk=0.05"):
        run = CliRunner().invoke(main, [*arguments, wanted])
        assert run.exit_code == 0, run.output
        assert "reject_verdict" in run.stdout and "reject_classes " not in run.stdout
        results.append(json.loads((tmp_path / "r.json").read_text()))
    assert results[0]["reject_threshold"] == results[1]["reject_threshold"]
    found, data, model = results[0], clipnb.load_dataset(noisy), colours()
    vectors, classifier = clipnb.encode_images(model, data).vectors, clipnb.zero_shot_classifier(model, data.classnames)
    sure = margin.softmax_confidence(vectors, classifier, 5.0)
    right, half = (vectors @ classifier.T).argmax(axis=1) == data.labels, np.arange(120) % 2 == 1
    threshold = reject.choose_threshold(sure[half], right[half], 0.95)
    kept = ~half & (sure >= threshold)
    assert found["reject_threshold"] == pytest.approx(threshold)
    assert found["reject_chosen_on"].startswith("every second image of each class, 60 images")
    assert found["reject_n"] == 60 and found["reject_answered"] == pytest.approx(kept.sum() / 60)
    assert found["reject_precision"] == pytest.approx(right[kept].mean())
    low, high = found["reject_precision_ci"]
    assert low <= found["reject_precision"] <= high and 0 < kept.sum() < 60
    assert [row["images"] for row in found["reject_classes"]] == [20] * 3


def none_run(tmp_path, *arguments):
    run = CliRunner().invoke(main, ["evaluate", *arguments, "--json", str(tmp_path / "none.json")])
    assert run.exit_code == 0, run.output
    return run, json.loads((tmp_path / "none.json").read_text())


def test_classes_of_the_icon_set_that_are_left_out_are_none_of_the_others(model, monkeypatch, tmp_path):
    left_out = ["dog", "cat", "bell"]
    load_dataset = clipnb.load_dataset

    def some(spec):  # images of a few classes; the prompts name all
        data = load_dataset(spec)
        return data.take(np.isin(data.labels, data.classes(*left_out, "horse", "pig", "rabbit", "cookie", "star")))

    monkeypatch.setattr("clipnb.load_dataset", some)
    options = [part for name in left_out for part in ("--none-class", name)]
    run, found = none_run(tmp_path, "--dataset", "icons", "--reject-at", "precision=0.9", *options)
    assert "none_rejected" in run.stdout and "classes that images of none are taken for:" in run.stdout
    test, other = some("icons"), some("icons:validation")
    names = [name for name in test.classnames if name not in left_out]
    classifier = clipnb.zero_shot_classifier(model, names)

    def answers(data):  # by names, not by numbers
        vectors = clipnb.encode_images(model, data).vectors
        named = [names[c] for c in clipnb.evaluate(vectors, classifier).predictions]
        truth = [data.classnames[c] for c in data.labels]
        sure = margin.prediction_confidence(vectors, classifier, model.logit_scale, model.logit_bias)
        return sure, np.array(named), np.array(truth)

    sure, named, truth = answers(other)
    threshold = reject.choose_threshold(sure, named == truth, 0.9)
    assert found["reject_threshold"] == pytest.approx(threshold, abs=1e-6)
    sure, named, truth = answers(test)
    none, answered = np.isin(truth, left_out), sure >= threshold
    assert (found["n"], found["classes"], found["unlabelled"]) == ((~none).sum(), len(names), 0)
    assert found["accuracy"] == pytest.approx((named == truth)[~none].mean())
    assert (found["reject_n"], found["none_n"]) == (len(test), none.sum()) and none.sum() > 50
    assert found["reject_precision"] == pytest.approx((named == truth)[answered].mean(), abs=1e-3)
    assert found["none_rejected"] == pytest.approx((~answered)[none].mean(), abs=0.03)
    assert found["none_others_rejected"] == pytest.approx((~answered)[~none].mean(), abs=1e-3)
    assert found["none_auroc"] == pytest.approx(roc_auc_score(~none, sure), abs=1e-3)
    for name in ("rejected", "others_rejected", "auroc"):
        low, high = found[f"none_{name}_ci"]
        assert low < found[f"none_{name}"] < high
    taken = {row["classname"]: row["images"] for row in found["none_taken_for"]}
    assert sum(taken.values()) == round(found["none_n"] * (1 - found["none_rejected"]))
    assert set(taken) <= set(named[none]) and list(taken.values()) == sorted(taken.values(), reverse=True)
    assert sum(row["fit_none"] for row in found["reject_classes"]) == sum(taken.values())


def test_none_is_halved_like_every_class_where_there_is_no_validation_split(noisy, monkeypatch, tmp_path):
    folder = tmp_path / "images" / "none of these"
    folder.mkdir()
    for i in range(20):  # grey, which is as near to each colour; every second is nearly red
        Image.new("RGB", (8, 8), (200, 60, 60) if i % 4 == 0 else (90, 90, 90)).save(folder / f"{i:02}.png")
    monkeypatch.setattr("clipnb.load_model", lambda name, **options: colours())
    arguments = ["--dataset", noisy, "--reject-at", "precision=0.9"]
    _, found = none_run(tmp_path, *arguments, "--none-class", "none of these")
    assert found["reject_chosen_on"].startswith("every second image of each class, 70 images")
    assert (found["n"], found["reject_n"], found["none_n"]) == (120, 70, 10)
    assert found["none_rejected"] == pytest.approx(0.5)
    assert found["none_taken_for"] == [{"classname": "red", "images": 5}]
    as_a_class = none_run(tmp_path, *arguments)[1]
    assert as_a_class["n"] == 140 and "none_n" not in as_a_class
    for i in range(1, 20):
        (folder / f"{i:02}.png").unlink()
    lone = CliRunner().invoke(main, ["evaluate", *arguments, "--none-class", "none of these"])
    assert lone.exit_code == 2 and "Expected images of --none-class in the half of" in lone.stderr


def test_none_classes_that_cannot_be_scored_are_refused(noisy, monkeypatch, tmp_path):
    monkeypatch.setattr("clipnb.load_model", lambda name, **options: colours())
    rejected = ["--reject-at", "precision=0.9"]
    for arguments, message in (
        (["--none-class", "red"], "Expected --reject-at with --none-class"),
        ([*rejected, "--none-class", "none"], "Expected a class of folder:"),
        (
            [*rejected, "--none-class", "red", "--none-class", "blue"],
            "Expected --none-class to leave two of the 3 classes",
        ),
        ([*rejected, "--none-class", "red", "--valid-labels", "x.json"], "without --hard and --valid-labels"),
    ):
        json_file = tmp_path / "none.json"
        run = CliRunner().invoke(main, ["evaluate", "--dataset", noisy, "--json", str(json_file), *arguments])
        assert run.exit_code == 2 and message in run.stderr and not json_file.exists(), (arguments, run.stderr)
        assert len(run.stderr.strip().splitlines()) == 1 or "Usage" in run.stderr


def test_an_audit_says_what_to_send_to_a_person(noisy):
    report = clipnb.audit(noisy, colours(), made="today")
    share, kept = report.summary["to_a_person_for_95"], report.summary["precision_of_the_rest_95"]
    assert 0 < share < 1 and kept > report.summary["accuracy"]
    assert any(line.startswith(f"Send the {100 * share:.0f} % [") for line in report.advice)
    assert {"to_a_person_for_95", "precision_of_the_rest_95"} <= set(report.scores["score"])
