"""Methods compared on the same images: verdicts where the rate of false ones holds, and none elsewhere."""

import re

import numpy as np
import pytest

from clipnb import evaluate, paired, worst
from clipnb.errors import InputError
from clipnb.similarity import unit_norm
from tests.support.shared import unit_rows


def classifiers():
    """Image vectors around twelve classes, and a bare classifier, one with a class lost, and a useless one."""
    rng = np.random.default_rng(0)
    bare = unit_rows(rng, 12, 32)
    labels = np.repeat(np.arange(12), 40)
    vectors = unit_norm(bare[labels] + 0.25 * rng.normal(size=(len(labels), 32))).astype(np.float32)
    lost = bare.copy()
    lost[0] = -lost[0]
    return vectors, labels, {"bare": bare, "same": bare, "one lost": lost, "useless": unit_rows(rng, 12, 32)}


VECTORS, LABELS, CLASSIFIERS = classifiers()
RESULTS = {name: evaluate(VECTORS, classifier, LABELS) for name, classifier in CLASSIFIERS.items()}


def predictions(truth, images, seed, shared=0.0):
    """Predictions of two methods with given true accuracies, and the labels.

    For a part `shared` of the images, an image is as hard for one method as for the other.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(truth[0])), images)
    common = rng.random(len(labels))
    hard = [np.where(rng.random(len(labels)) < shared, common, rng.random(len(labels))) for _ in range(2)]
    return *(np.where(h < t[labels], labels, (labels + 1) % len(t)) for h, t in zip(hard, truth)), labels


def test_a_comparison_tells_a_difference_from_none():
    rows = {row["method"]: row for row in paired.compare(RESULTS, k=3, flagged=[0])}
    assert list(rows) == list(RESULTS) and "difference" not in rows["bare"]
    for row in rows.values():
        for name in (
            "accuracy",
            "mean_per_class_accuracy",
            "classes_at_zero",
            "flagged_accuracy",
        ):
            low, high = row[f"{name}_ci"]
            assert low <= row[name] <= high and low < high, name
        assert row["worst_3_ci"] is row["harmonic_mean_ci"] is row["harmonic_mean_floored_ci"] is None
    verdicts = {name: {what: d["verdict"] for what, d in rows[name]["difference"].items()} for name in list(rows)[1:]}
    assert set(verdicts["same"].values()) == {"no", None}
    assert verdicts["useless"]["accuracy"] == verdicts["useless"]["worst_k_chosen"] == "worse"
    assert verdicts["one lost"]["accuracy"] == verdicts["one lost"]["flagged_accuracy"] == "worse"
    assert rows["one lost"]["flagged_accuracy"] == 0 and rows["one lost"]["classes_at_zero"] == 1
    difference = rows["useless"]["difference"]["accuracy"]
    assert (
        difference["value"]
        == pytest.approx(difference["a"] - difference["b"])
        == pytest.approx(rows["useless"]["accuracy"] - rows["bare"]["accuracy"])
    )
    assert difference["p"] < 1e-9 and difference["ci"][1] < 0
    backwards = paired.compare({"useless": RESULTS["useless"], "bare": RESULTS["bare"]}, k=3, baseline="useless")[1][
        "difference"
    ]
    assert backwards["accuracy"]["verdict"] == backwards["worst_k_chosen"]["verdict"] == "better"


def test_more_comparisons_ask_for_more_evidence():
    one, many = (
        paired.paired_differences(RESULTS["one lost"], RESULTS["bare"], 3, comparisons=n)["accuracy"] for n in (1, 20)
    )
    assert one["value"] == many["value"] and many["p"] == pytest.approx(min(1, 20 * one["p"]))
    assert many["ci"][0] < one["ci"][0] < one["ci"][1] < many["ci"][1]


def test_classes_are_never_chosen_on_the_images_that_measure_them():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 30, 900)
    right = rng.random(900) < 0.6
    measured = paired.chosen_on_halves(right, labels, 30, 5, seed=1)
    assert measured.any() and (labels[measured] >= 0).all()
    for c in np.unique(labels[measured]):
        inside = measured & (labels == c)
        flipped = right.copy()
        flipped[inside] = ~flipped[inside]  # what the measured images say cannot change the choice on the other half
        again = paired.chosen_on_halves(flipped, labels, 30, 5, seed=1)
        if inside.sum() < (labels == c).sum():  # measured on one half only
            assert again[inside].all()


def test_ten_classes_that_did_not_change_are_not_called_better():
    """The other classes improve, fewer of them look bad by chance, and the naive worst-10 rises: it gets no verdict."""
    truth = np.full(100, 0.95), np.full(100, 0.75)
    for side in truth:
        side[:10] = 0.1
    called = rises = 0
    for seed in range(40):
        a, b, labels = predictions(truth, 10, seed)
        differences = paired.differences_of_predictions(a, b, labels, 100, 10)
        assert set(differences) == {"accuracy", "worst_k_chosen", "classes_at_zero", "harmonic_mean_floored"}
        called += differences["worst_k_chosen"]["verdict"] != "no"
        rises += differences["accuracy"]["verdict"] == "better"
        assert differences["harmonic_mean_floored"]["verdict"] is None
    assert rises == 40 and called <= 5  # 5 % aimed at


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_equal_methods_are_called_equal_in_most_worlds(shared):
    rng = np.random.default_rng(0)
    called = {"accuracy": 0, "worst_k_chosen": 0, "classes_at_zero": 0}
    for seed in range(100):
        truth = rng.beta(2, 1, 80)
        a, b, labels = predictions((truth, truth), 8, seed, shared)
        differences = paired.differences_of_predictions(a, b, labels, 80, 10, seed=seed)
        for name in called:
            called[name] += differences[name]["verdict"] != "no"
    assert max(called.values()) <= 11, called  # 5 % aimed at; two and a half standard errors above


def test_a_tail_that_improves_is_called_better():
    weak, strong = np.full(60, 0.8), np.full(60, 0.8)
    weak[:10], strong[:10] = 0.02, 0.4
    a, b, labels = predictions((strong, weak), 20, 0, shared=0.5)
    differences = paired.differences_of_predictions(a, b, labels, 60, 10)
    assert differences["worst_k_chosen"]["verdict"] == differences["classes_at_zero"]["verdict"] == "better"
    assert differences["worst_k_chosen"]["value"] == pytest.approx(0.38, abs=0.08)
    assert differences["classes_at_zero"]["value"] < 0 and differences["classes_at_zero"]["ci"][1] < 0
    per_class = [np.bincount(labels[p == labels], minlength=60) / 20 for p in (a, b)]
    assert differences["harmonic_mean_floored"]["a"] == pytest.approx(worst.harmonic_mean(per_class[0], paired.FLOOR))


def test_labels_of_a_narrow_type_do_not_overflow():
    labels = np.repeat(np.arange(120), 2).astype(np.uint8)
    differences = paired.differences_of_predictions(labels, np.roll(labels, 1), labels, 120, 10)
    assert differences["accuracy"]["a"] == 1 and differences["accuracy"]["b"] == 0.5


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: paired.compare({"cmm": RESULTS["bare"]}), "Expected `baseline` to be one of 'cmm', got 'bare'"),
        (
            lambda: paired.compare(
                {"bare": RESULTS["bare"], "cmm": evaluate(VECTORS, CLASSIFIERS["bare"], LABELS[::-1])}
            ),
            "Expected results on the same images, got other labels in 'cmm' than in 'bare'",
        ),
        (
            lambda: paired.compare({"bare": RESULTS["bare"]}, flagged=[12]),
            "Expected `flagged` < 12 (the number of classes), got 12",
        ),
        (
            lambda: paired.differences_of_predictions([0, 1], [0], [0, 1], 2, 1),
            "Expected `labels` of shape (N,) = (1,), got (2,)",
        ),
        (lambda: paired.differences_of_predictions([0, 1], [0, 1], [0, 1], 2, 0), "Expected `k` >= 1, got 0"),
        (
            lambda: paired.differences_of_predictions([0, 1], [0, 1], [-1, -1], 2, 1),
            "Expected at least one label in `labels`, got 2 of -1",
        ),
    ],
)
def test_wrong_input_is_one_clear_error(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()
