"""Methods compared on the same images, with one correction for many comparisons.

Each method is compared with one baseline. A verdict ("better" or "worse") is given only for a statistic whose rate of
false verdicts is controlled (`benchmarks/coverage.py`): the accuracy on all images and on classes chosen without these
images, both by McNemar's exact test; the accuracy on the classes that the baseline does worst on, chosen on one half of
the images and compared on the other; and the number of classes at 0 %, by the exact sign test of the classes that only
one of the two leaves at 0 %. The naive worst-k accuracy and the harmonic mean get no verdict: noise in the other
classes changes both even where no class has truly changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipnb import metrics, worst
from clipnb._checks import booleans, class_indices, generator, one_of, whole_number
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.intervals import paired_counts, proportion, sign_test

FLOOR = 0.01  # accuracies are raised to it for the harmonic mean, since one class at 0 % would make the mean 0
SIGNIFICANCE = 0.05  # level of all comparisons with the baseline together


def compare(
    results: Mapping[str, EvaluationResult],
    k: int = 10,
    flagged: npt.ArrayLike | None = None,
    baseline: str = "bare",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Methods on the same images, ready for JSON: every score with its interval and its difference from the baseline.

    Scores are those of `EvaluationResult.summary`, and the harmonic mean of accuracies raised to FLOOR. All differences
    from the baseline are corrected for the number of methods (Bonferroni): with 95 % confidence, all intervals of one
    statistic cover the true differences, and p-values are multiplied by the number of comparisons.

    Args:
        results: name -> result of `evaluate`, all with the same labels; the baseline among them.
        k: number of worst classes (fewer if fewer classes have images).
        flagged: class indices that were chosen on other images or without labels (`margin.find_worst`); the accuracy on
            their images is reported, a tail without selection bias.
        baseline: name of the baseline in `results`.
        seed: seed of the random halves and intervals.

    Returns:
        One row for each result, in order: "method", the scores with `_ci`, and, except for the baseline, "difference",
        as `paired_differences` returns it.

    Raises:
        InputError: the baseline is missing, or results have different labels.

    >>> from clipnb import evaluate
    >>> results = {"bare": evaluate(np.eye(2), np.eye(2), [0, 1])}
    >>> results["other"] = evaluate(np.eye(2), np.eye(2)[::-1], [0, 1])
    >>> rows = compare(results, k=1)
    >>> rows[1]["accuracy"], rows[1]["difference"]["accuracy"]["value"], rows[1]["difference"]["accuracy"]["verdict"]
    (0.0, -1.0, 'no')
    """
    one_of(baseline, "baseline", tuple(results))
    base = results[baseline]
    comparisons = max(1, len(results) - 1)
    k = min(whole_number(k, "k", 1), int((base.confusion.sum(axis=1) > 0).sum()))
    inside = None if flagged is None else _of_classes(base.labels, flagged, base.num_classes)
    rows = []
    for name, result in results.items():
        if not np.array_equal(result.labels, base.labels):
            raise InputError(f"Expected results on the same images, got other labels in {name!r} than in {baseline!r}")
        floored = worst.harmonic_mean(result.per_class_accuracy, FLOOR)
        row = {
            "method": name,
            **result.summary(k, seed=seed),
            "harmonic_mean_floored": floored,
            "harmonic_mean_floored_ci": None,
        }
        if inside is not None and inside.any():
            score = proportion(int((result.predictions == result.labels)[inside].sum()), int(inside.sum()))
            row |= {"flagged_accuracy": score.value, "flagged_accuracy_ci": (score.low, score.high)}
        if name != baseline:
            row["difference"] = paired_differences(result, base, k, flagged, comparisons, seed)
        rows.append(row)
    return rows


def paired_differences(
    result: EvaluationResult,
    base: EvaluationResult,
    k: int,
    flagged: npt.ArrayLike | None = None,
    comparisons: int = 1,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """How one result differs from another on the same images.

    Args:
        result: a result of `evaluate`; the differences are `result` minus `base`.
        base: another result on the same images.
        k: number of worst classes.
        flagged: class indices that were chosen on other images or without labels; None for none.
        comparisons: number of differences that are tested; intervals and p-values are corrected for it (Bonferroni).
        seed: seed of the random halves.

    Returns:
        As `differences_of_predictions`.

    >>> from clipnb import evaluate
    >>> a, b = (evaluate(np.eye(2), classifier, [0, 1]) for classifier in (np.eye(2), np.eye(2)[::-1]))
    >>> paired_differences(a, b, k=1)["accuracy"]["p"]
    0.5
    """
    return differences_of_predictions(
        result.predictions, base.predictions, base.labels, base.num_classes, k, flagged, comparisons, seed
    )


def differences_of_predictions(
    predictions: npt.ArrayLike,
    before: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int,
    k: int,
    flagged: npt.ArrayLike | None = None,
    comparisons: int = 1,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """How the predictions of one method differ from those of another on the same images.

    Args:
        predictions: (N,) class indices; the differences are the scores of `predictions` minus those of `before`.
        before: (N,) class indices that the other method predicts.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: number of worst classes.
        flagged: class indices that were chosen on other images or without labels; None for none.
        comparisons: number of differences that are tested; intervals and p-values are corrected for it (Bonferroni).
        seed: seed of the random halves.

    Returns:
        {statistic: {"a", "b", "value", "ci", "p", "verdict"}} for "accuracy", "flagged_accuracy" (with `flagged`),
        "worst_k_chosen" (the k classes with the lowest accuracy of `before` on one half of the images, compared on the
        other half), "classes_at_zero" (a count) and "harmonic_mean_floored". "a" and "b" are the scores of both,
        "value" is their difference. "ci" and "p" are None where there is no interval or test; "verdict" is "better",
        "worse", "no", or None where none can be given.

    Raises:
        InputError: shapes differ, an index is out of range, or no image has a label.

    >>> differences_of_predictions([0, 1, 1], [0, 0, 0], [0, 1, 1], num_classes=2, k=1)["classes_at_zero"]["value"]
    -1
    """
    first = class_indices(predictions, "predictions")
    second = class_indices(before, "before")
    correct_a, images = metrics.correct_and_total(first, labels, num_classes)
    correct_b, _ = metrics.correct_and_total(second, labels, num_classes)
    labels = class_indices(labels, "labels", len(first), num_classes, unknown=True)
    known = labels >= 0
    if not known.any():
        raise InputError(f"Expected at least one label in `labels`, got {len(labels)} of -1")
    present = images > 0
    count = int(present.sum())
    k = min(whole_number(k, "k", 1), count)
    confidence = 1 - SIGNIFICANCE / whole_number(comparisons, "comparisons", 1, 10**6)
    right_a = known & (first == labels)
    right_b = known & (second == labels)

    def on_images(part: np.ndarray) -> dict[str, Any]:
        return _difference(right_a[part], right_b[part], confidence, comparisons)

    differences = {"accuracy": on_images(known)}
    if flagged is not None and (inside := _of_classes(labels, flagged, num_classes)).any():
        differences["flagged_accuracy"] = on_images(inside)
    if (chosen := chosen_on_halves(right_b, labels, num_classes, k, seed)).any():
        differences["worst_k_chosen"] = on_images(chosen)
    zero = _difference(correct_a[present] == 0, correct_b[present] == 0, confidence, comparisons, lower_is_better=True)
    zero |= {name: round(zero[name] * count) for name in ("a", "b", "value")}
    differences["classes_at_zero"] = zero | {"ci": tuple(end * count for end in zero["ci"])}
    a, b = (worst.harmonic_mean(correct[present] / images[present], FLOOR) for correct in (correct_a, correct_b))
    differences["harmonic_mean_floored"] = {"a": a, "b": b, "value": a - b, "ci": None, "p": None, "verdict": None}
    return differences


def chosen_on_halves(
    right: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int, k: int, seed: int = 0
) -> npt.NDArray[np.bool_]:
    """The images of the k worst classes, chosen without these images: (N,) booleans.

    The images of each class are split at random into two halves. The k classes with the lowest accuracy on one half are
    measured on their images of the other half, and vice versa, so that no image helps to choose its own class.

    Args:
        right: (N,) booleans, whether the method by which classes are chosen is right.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: number of classes.
        seed: seed of the random halves.

    >>> labels = np.repeat([0, 1], 4)
    >>> chosen_on_halves(labels == 1, labels, num_classes=2, k=1).tolist()
    [True, True, True, True, False, False, False, False]
    """
    num_classes = whole_number(num_classes, "num_classes", 1, metrics.MAX_CLASSES)
    labels = class_indices(labels, "labels", None, num_classes, unknown=True)
    right = booleans(right, "right", labels.shape)
    k = whole_number(k, "k", 1)
    rng = generator(seed)
    order = np.lexsort((rng.random(len(labels)), labels))  # by class, and at random within it
    half = np.empty(len(labels), dtype=np.int64)
    half[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])  # position within the class
    half %= 2
    measured = np.zeros(len(labels), dtype=bool)
    for side in (0, 1):
        choosing = (half == side) & (labels >= 0)
        images = np.bincount(labels[choosing], minlength=num_classes)
        correct = np.bincount(labels[choosing], right[choosing], num_classes)
        rate = np.divide(correct, images, out=np.full(num_classes, np.inf), where=images > 0)
        # The noise is smaller than any difference of two accuracies, so it only breaks ties, at random.
        ranked = np.argsort(rate + rng.random(num_classes) / (2 * max(images.max(), 1) ** 2), kind="stable")[:k]
        measured |= (half != side) & np.isin(labels, ranked[np.isfinite(rate[ranked])])
    return measured


def _difference(
    first: np.ndarray, second: np.ndarray, confidence: float, comparisons: int, lower_is_better: bool = False
) -> dict[str, Any]:
    """The difference of two shares of the same items, with its interval, corrected p-value and verdict."""
    only_a = int((first & ~second).sum())
    only_b = int((second & ~first).sum())
    score = paired_counts(only_a, only_b, len(first), confidence)
    p = min(1.0, sign_test(only_a, only_b) * comparisons)
    better = (only_a > only_b) != lower_is_better
    return {
        "a": float(first.mean()),
        "b": float(second.mean()),
        "value": score.value,
        "ci": (score.low, score.high),
        "p": p,
        "verdict": "no" if p >= SIGNIFICANCE else "better" if better else "worse",
    }


def _of_classes(labels: np.ndarray, classes: npt.ArrayLike, num_classes: int) -> np.ndarray:
    """(N,) booleans, whether an image's label is one of the flagged classes."""
    return np.isin(labels, class_indices(classes, "flagged", num_classes=num_classes))
