"""Methods compared on the same images: what differs beyond chance, with one correction for many comparisons.

Each method is held against one baseline. A verdict ("better" or "worse") is given only for a statistic whose rate of
false verdicts holds (`benchmarks/coverage.py`): the accuracy of all images and of classes chosen without these images,
both by McNemar's exact test; the accuracy on the classes that the baseline does worst on, chosen on one half of the
images and compared on the other; and the number of classes at 0 %, by the exact sign test of the classes that only one
of the two leaves at 0 %. The naive worst-k accuracy and the harmonic mean get no verdict: both depend on how unlucky
the other classes are, so they change where no class has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from clipnb import metrics, worst
from clipnb._checks import booleans, class_indices, generator, one_of, require_attribute, whole_number
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.intervals import paired_counts, proportion, sign_test

FLOOR = 0.01  # accuracies are raised to it for the harmonic mean, or one class at 0 % would make it 0 whatever the others do
SIGNIFICANCE = 0.05  # of all comparisons with the baseline together


def compare(
    results: Mapping[str, EvaluationResult],
    k: int = 10,
    flagged: npt.ArrayLike | None = None,
    baseline: str = "bare",
    seed: int = 0,
) -> list[dict]:
    """Methods on the same images, ready for JSON: every score with its interval, and how it differs from the baseline.

    Scores are those of `EvaluationResult.summary`, and the harmonic mean with accuracies raised to FLOOR at least. All
    differences from the baseline are corrected for the number of methods (Bonferroni): with 95 % confidence every
    interval of one statistic holds, and p-values are multiplied likewise.

    Args:
        results: name -> result of `evaluate`, all with the same labels; the baseline among them.
        k: how many worst classes (fewer if fewer classes have images).
        flagged: class indices that were chosen on other images or without labels (`margin.find_worst`); their images
            get an accuracy of their own, a tail without selection bias.
        baseline: its name.
        seed: of the random halves and intervals.

    Returns:
        One row a result, in order: "method", the scores with `_ci`, and, except for the baseline, "difference", as
        `paired_differences` returns it.

    Raises:
        InputError: the baseline is missing, or results have other labels.

    >>> from clipnb import evaluate
    >>> results = {"bare": evaluate(np.eye(2), np.eye(2), [0, 1]), "other": evaluate(np.eye(2), np.eye(2)[::-1], [0,
    1])}
    >>> rows = compare(results, k=1)
    >>> rows[1]["accuracy"], rows[1]["difference"]["accuracy"]["value"], rows[1]["difference"]["accuracy"]["verdict"]
    (0.0, -1.0, 'no')
    """
    one_of(baseline, "baseline", tuple(require_attribute(results, "results", "items", "a dict of name and result")))
    base, others = results[baseline], max(1, len(results) - 1)
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
            row["difference"] = paired_differences(result, base, k, flagged, others, seed)
        rows.append(row)
    return rows


def paired_differences(
    result: EvaluationResult,
    base: EvaluationResult,
    k: int,
    flagged: npt.ArrayLike | None = None,
    comparisons: int = 1,
    seed: int = 0,
) -> dict[str, dict]:
    """How one result differs from another on the same images.

    Args:
        result, base: the difference is `result` minus `base`.
        k, flagged: as in `compare`.
        comparisons: how many differences are looked at; intervals and p-values allow for that (Bonferroni).
        seed: of the halves.

    Returns:
        As `differences_of_predictions`.

    >>> from clipnb import evaluate
    >>> a, b = (evaluate(np.eye(2), classifier, [0, 1]) for classifier in (np.eye(2), np.eye(2)[::-1]))
    >>> paired_differences(a, b, k=1)["accuracy"]["p"]
    0.5
    """
    for name, value in (("result", result), ("base", base)):
        require_attribute(value, name, "predictions", "clipnb.evaluate")
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
) -> dict[str, dict]:
    """How the predictions of one method differ from those of another on the same images.

    Args:
        predictions, before: (N,) class indices; a difference is the first minus the second.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k, flagged, comparisons, seed: as in `paired_differences`.

    Returns:
        {statistic: {"a", "b", "value", "ci", "p", "verdict"}} for "accuracy", "flagged_accuracy" (with `flagged`),
        "worst_k_chosen" (the k classes that the second does worst on by one half of the images, compared on the other),
        "classes_at_zero" (a count) and "harmonic_mean_floored". "a" and "b" are the scores of both, "value" their
        difference. "ci" and "p" are None where there is no interval or test; "verdict" is "better", "worse", "no", or
        None where none can be given.

    Raises:
        InputError: shapes or indices are off, or no image has a label.

    >>> differences_of_predictions([0, 1, 1], [0, 0, 0], [0, 1, 1], num_classes=2, k=1)["classes_at_zero"]["value"]
    -1
    """
    first, second = (class_indices(p, name) for p, name in ((predictions, "predictions"), (before, "before")))
    right_by, images = metrics.correct_and_total(first, labels, num_classes)
    before_by, _ = metrics.correct_and_total(second, labels, num_classes)
    labels = class_indices(labels, "labels", len(first), num_classes, unknown=True)
    known = labels >= 0
    if not known.any():
        raise InputError(f"Expected at least one label in `labels`, got {len(labels)} of -1")
    k = min(whole_number(k, "k", 1), int((images > 0).sum()))
    confidence = 1 - SIGNIFICANCE / whole_number(comparisons, "comparisons", 1, 10**6)
    right, right_before = known & (first == labels), known & (second == labels)

    def entry(
        part: np.ndarray, lower_is_better: bool = False, of: tuple[np.ndarray, np.ndarray] = (right, right_before)
    ) -> dict:
        return _entry(of[0][part], of[1][part], confidence, comparisons, lower_is_better)

    differences = {"accuracy": entry(known)}
    if flagged is not None and (inside := _of_classes(labels, flagged, num_classes)).any():
        differences["flagged_accuracy"] = entry(inside)
    if (chosen := chosen_on_halves(right_before, labels, num_classes, k, seed)).any():
        differences["worst_k_chosen"] = entry(chosen)
    present = images > 0
    zero = entry(present, lower_is_better=True, of=(right_by == 0, before_by == 0))
    count = int(present.sum())
    zero |= {side: round(zero[side] * count) for side in ("a", "b", "value")}
    differences["classes_at_zero"] = zero | {"ci": tuple(end * count for end in zero["ci"])}
    a, b = (worst.harmonic_mean(side[present] / images[present], FLOOR) for side in (right_by, before_by))
    differences["harmonic_mean_floored"] = {"a": a, "b": b, "value": a - b, "ci": None, "p": None, "verdict": None}
    return differences


def chosen_on_halves(
    right: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int, k: int, seed: int = 0
) -> np.ndarray:
    """The images of the k worst classes, chosen without these images: (N,) booleans.

    The images of each class are dealt at random into two halves. The k classes with the lowest accuracy on one half are
    measured on their images of the other half, and the other way round, so that no image helps to choose its own class.

    Args:
        right: (N,) booleans, whether the method that chooses is right.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: how many classes.
        seed: of the halves.

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
    half[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])  # the place within the class
    half %= 2
    measured = np.zeros(len(labels), dtype=bool)
    for side in (0, 1):
        choosing = (half == side) & (labels >= 0)
        images = np.bincount(labels[choosing], minlength=num_classes)
        correct = np.bincount(labels[choosing], right[choosing], num_classes)
        rate = np.divide(correct, images, out=np.full(num_classes, np.inf), where=images > 0)
        # Different accuracies differ by more than this noise, which breaks ties at random.
        ranked = np.argsort(rate + rng.random(num_classes) / (2 * max(images.max(), 1) ** 2), kind="stable")[:k]
        measured |= (half != side) & np.isin(labels, ranked[np.isfinite(rate[ranked])])
    return measured


def _entry(first: np.ndarray, second: np.ndarray, confidence: float, comparisons: int, lower_is_better: bool) -> dict:
    """A difference of two shares of the same things, with its interval, corrected p-value and verdict."""
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
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
    return np.isin(labels, class_indices(classes, "flagged", num_classes=num_classes))
