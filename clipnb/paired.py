"""Methods compared on the same images: what differs beyond chance, with one correction for many comparisons.

Each method is held against one baseline. A verdict ("better" or "worse") is given only for a statistic whose rate of false verdicts
holds (`benchmarks/coverage.py`): the accuracy of all images and of classes chosen without these images, both by McNemar's exact test;
the accuracy on the classes that the baseline does worst on, chosen on one half of the images and compared on the other; and the number
of classes at 0 %, by the exact sign test of the classes that only one of the two leaves at 0 %. The naive worst-k accuracy and the
harmonic mean get no verdict: both depend on how unlucky the other classes are, so they change where no class has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clipnb import metrics, worst
from clipnb.errors import InputError, class_indices, generator, having, one_of, whole_number
from clipnb.intervals import NAN, Score, paired_counts, proportion, sign_test
from clipnb.zeroshot import EvaluationResult

FLOOR = 0.01  # accuracies are raised to it for the harmonic mean, or one class at 0 % would make it 0 whatever the others do
SIGNIFICANCE = 0.05  # of all comparisons with the baseline together


def compare(
    results: Mapping[str, EvaluationResult], k: int = 10, flagged=None, baseline: str = "bare", seed: int = 0
) -> list[dict]:
    """Methods on the same images, ready for JSON: every score with its interval, and how it differs from the baseline.

    Scores are those of `EvaluationResult.summary`, and the harmonic mean with accuracies raised to FLOOR at least. All differences
    from the baseline are corrected for the number of methods (Bonferroni): with 95 % confidence every interval of one statistic holds,
    and p-values are multiplied likewise.

    Args:
        results: name -> result of `evaluate`, all with the same labels; the baseline among them.
        k: how many worst classes (fewer if fewer classes have images).
        flagged: class indices that were chosen on other images or without labels (`margin.find_worst`); their images get an
            accuracy of their own, a tail without selection bias.
        baseline: its name.
        seed: of the random halves and intervals.

    Returns:
        One row a result, in order: "method", the scores with `_ci`, and, except for the baseline, "difference", as
        `paired_differences` returns it.

    Raises:
        InputError: the baseline is missing, or results have other labels.

    >>> from clipnb import evaluate
    >>> results = {"bare": evaluate(np.eye(2), np.eye(2), [0, 1]), "other": evaluate(np.eye(2), np.eye(2)[::-1], [0, 1])}
    >>> rows = compare(results, k=1)
    >>> rows[1]["accuracy"], rows[1]["difference"]["accuracy"]["value"], rows[1]["difference"]["accuracy"]["verdict"]
    (0.0, -1.0, 'no')
    """
    one_of(baseline, "baseline", tuple(having(results, "results", "items", "a dict of name and result")))
    base, others = results[baseline], max(1, len(results) - 1)
    k = min(whole_number(k, "k", 1), int((base.confusion.sum(axis=1) > 0).sum()))
    inside = None if flagged is None else _of_classes(base.labels, flagged, base.num_classes)
    rows = []
    for name, result in results.items():
        if not np.array_equal(result.labels, base.labels):
            raise InputError(
                f"Expected results on the same images, got other labels in {name!r} than in {baseline!r}"
            )
        floored = worst.harmonic_mean(result.per_class_accuracy, FLOOR)
        row = {"method": name, **result.summary(k, seed=seed), "harmonic_mean_floored": floored, "harmonic_mean_floored_ci": None}
        if inside is not None and inside.any():
            score = proportion(int((result.predictions == result.labels)[inside].sum()), int(inside.sum()))
            row |= {"flagged_accuracy": score.value, "flagged_accuracy_ci": (score.low, score.high)}
        if name != baseline:
            row["difference"] = paired_differences(result, base, k, flagged, others, seed)
        rows.append(row)
    return rows


def paired_differences(
    result: EvaluationResult, base: EvaluationResult, k: int, flagged=None, comparisons: int = 1, seed: int = 0
) -> dict[str, dict]:
    """How one result differs from another on the same images.

    Args:
        result, base: the difference is `result` minus `base`.
        k, flagged: as in `compare`.
        comparisons: how many differences are looked at; intervals and p-values allow for that (Bonferroni).
        seed: of the halves.

    Returns:
        {statistic: {"value", "ci", "p", "verdict"}} for "accuracy", "flagged_accuracy" (with `flagged`), "worst_k_chosen" (the k
        classes that `base` does worst on by one half of the images, compared on the other), "classes_at_zero" (a count) and
        "harmonic_mean_floored". "ci" and "p" are None where there is no interval or test; "verdict" is "better", "worse", "no", or None
        where none can be given.

    >>> from clipnb import evaluate
    >>> a, b = (evaluate(np.eye(2), classifier, [0, 1]) for classifier in (np.eye(2), np.eye(2)[::-1]))
    >>> paired_differences(a, b, k=1)["accuracy"]["p"]
    0.5
    """
    k = min(whole_number(k, "k", 1), int((base.confusion.sum(axis=1) > 0).sum()))
    confidence = 1 - SIGNIFICANCE / comparisons
    known = base.labels >= 0
    right, before = (known & (r.predictions == r.labels) for r in (result, base))
    parts = {"accuracy": known}
    if flagged is not None:
        parts["flagged_accuracy"] = _of_classes(base.labels, flagged, base.num_classes)
    differences = {}
    for name, part in parts.items():
        if part.any():
            counts = int((right & ~before)[part].sum()), int((before & ~right)[part].sum())
            differences[name] = _entry(*counts, int(part.sum()), confidence, comparisons)
    only_a, only_b, n = chosen_on_halves(right[known], before[known], base.labels[known], base.num_classes, k, seed)
    if n:
        differences["worst_k_chosen"] = _entry(only_a, only_b, n, confidence, comparisons)
    zero, zero_before = (r.per_class_accuracy == 0 for r in (result, base))
    fewer, more = int((zero_before & ~zero).sum()), int((zero & ~zero_before).sum())
    classes = int((base.confusion.sum(axis=1) > 0).sum())
    entry = _entry(more, fewer, classes, confidence, comparisons, lower_is_better=True)
    low, high = entry["ci"]
    differences["classes_at_zero"] = entry | {"value": more - fewer, "ci": (low * classes, high * classes)}
    change = worst.harmonic_mean(result.per_class_accuracy, FLOOR) - worst.harmonic_mean(base.per_class_accuracy, FLOOR)
    differences["harmonic_mean_floored"] = {"value": change, "ci": None, "p": None, "verdict": None}
    return differences


def chosen_on_halves(
    right: np.ndarray, before: np.ndarray, labels: np.ndarray, num_classes: int, k: int, seed: int = 0
) -> tuple[int, int, int]:
    """Images that only one of two methods gets right, in the classes that the second does worst on.

    The images of each class are dealt at random into two halves. The k classes with the lowest accuracy of the second method are
    chosen on one half and both methods are compared on the other half, and then the other way round, so that every image is compared at
    most once and never helps to choose its own class.

    Args:
        right, before: (N,) booleans, whether each method is right.
        labels: (N,) class indices.
        num_classes: C.
        k: how many classes.
        seed: of the halves.

    Returns:
        Number of images that only the first has right, that only the second has right, and of all images compared.

    >>> labels = np.repeat([0, 1], 4)
    >>> chosen_on_halves(np.ones(8, bool), labels == 1, labels, num_classes=2, k=1)
    (4, 0, 4)
    """
    rng = generator(seed)
    order = np.lexsort((rng.random(len(labels)), labels))  # by class, and at random within it
    place = np.empty(len(labels), dtype=np.int64)
    starts = np.searchsorted(labels[order], np.arange(num_classes))
    place[order] = np.arange(len(labels)) - starts[labels[order]]
    half = place % 2
    counts = np.zeros(3, dtype=np.int64)
    for side in (0, 1):
        choosing = half == side
        images = np.bincount(labels[choosing], minlength=num_classes)
        correct = np.bincount(labels[choosing], before[choosing], num_classes)
        rate = np.divide(correct, images, out=np.full(num_classes, np.inf), where=images > 0)
        # Different accuracies differ by more than this noise, which breaks ties at random.
        chosen = np.argsort(rate + rng.random(num_classes) / (2 * max(images.max(), 1) ** 2), kind="stable")[:k]
        measured = ~choosing & np.isin(labels, chosen[np.isfinite(rate[chosen])])
        counts += [(right & ~before)[measured].sum(), (before & ~right)[measured].sum(), measured.sum()]
    return tuple(int(count) for count in counts)


def _entry(only_a: int, only_b: int, n: int, confidence: float, comparisons: int, lower_is_better: bool = False) -> dict:
    """A difference with its interval, corrected p-value and verdict, from the pairs in which only one of the two succeeds."""
    score: Score = paired_counts(only_a, only_b, n, confidence)
    p = min(1.0, sign_test(only_a, only_b) * comparisons)
    better = (only_a > only_b) != lower_is_better
    verdict = "no" if p >= SIGNIFICANCE else "better" if better else "worse"
    return {"value": score.value, "ci": (score.low, score.high), "p": p, "verdict": verdict}


def _of_classes(labels: np.ndarray, classes, num_classes: int) -> np.ndarray:
    return np.isin(labels, class_indices(classes, "flagged", num_classes=num_classes))
