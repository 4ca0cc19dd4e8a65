"""What came after the paper: corrections of class bias as rows of the same experiment, and what each of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from clipnb import ensemble, paired, transductive, worst
from clipnb._checks import class_indices, floats, generator, one_of, real_number, texts_of, whole_number
from clipnb._class_bias import check_logit_scale
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.intervals import proportion
from clipnb.similarity import check_bank, check_vectors, unit_rows

HALF = "-half"
NONE, UNLABELLED, ALL = "none", "unlabelled", "all test images"


@dataclass(frozen=True)
class Row:
    """One method: where it is from, what it changes, what it needs, and the assumption that it rests on."""

    name: str
    paper: str
    changes: str
    labels: str  # labelled images
    prior: str  # shares of the classes
    images: str  # NONE, UNLABELLED ones of the task, or ALL of the test set at once
    single_image: str  # whether it classifies one image alone
    assumption: str


def _fitted(name: str, paper: str, changes: str, prior: str, assumption: str) -> Row:
    """A method that is fitted on unlabelled images and then works on any image."""
    return Row(name, paper, changes, "no", prior, UNLABELLED, "once fitted", assumption)


def _transductive(name: str, paper: str, assumption: str) -> Row:
    return Row(name, paper, "memberships", "no", "no", ALL, "no", assumption)


ROWS = (
    Row(
        "real-prompt", "arXiv 2401.12425", "classnames", "no", "no", NONE, "yes", "a frequent name means the same class"
    ),
    _fitted("carprt", "OpenReview AScQDQqVXY", "prompt weights", "no", "the usual predictions of a prompt are right"),
    _fitted("nnn", "arXiv 2410.24114", "offset", "no", "the reference images look like the task's"),
    _fitted("frolic", "arXiv 2410.19294, bias step", "offset", "estimated", "every candidate class occurs"),
    _fitted("sinkhorn", "arXiv 2404.08461 (OTTER)", "offset", "given, else uniform", "the prior is right"),
    _fitted("mlls", "Saerens et al. 2002", "offset", "estimated", "few of the candidate classes occur"),
    _transductive("transclip", "arXiv 2406.01837", "every candidate class has a cluster of images"),
    _transductive("stata", "arXiv 2501.03729", "a class has a cluster of images or stays at its text"),
)
NAMES = tuple(row.name for row in ROWS)
HALVES = tuple(row.name + HALF for row in ROWS if row.images == UNLABELLED)


def corrected(
    method: str,
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    bank: npt.ArrayLike | None = None,
    logit_scale: float = 100.0,
    seed: int = 0,
    reference: npt.ArrayLike | None = None,
    renamed: npt.ArrayLike | None = None,
) -> EvaluationResult:
    """Result of one row: fitted on the images that it is scored on, or with "-half" each half fitted on the other.

    Args:
        method: a name of ROWS, or one with "-half" where the method is fitted on unlabelled images.
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown; None = all unknown. They are only used for the scores.
        bank: (P, C, D) unit-norm text vectors, for "carprt".
        logit_scale: factor of the cosines in the model's softmax, > 0.
        seed: seed of the halves.
        reference: (M, D) unit-norm vectors of images that offsets and weights are fitted on; None: `vectors`. Rows on
            halves and those that need all test images do without it.
        renamed: (C, D) unit-norm vectors of each class's most frequent name (`prompts.most_frequent_names`), for
            "real-prompt".

    Raises:
        InputError: as `ensemble.class_bias` and `evaluate`, or "carprt" has no bank or "real-prompt" no vectors.

    >>> corrected("nnn", np.eye(3), np.eye(3), [0, 1, 2]).accuracy
    1.0
    """
    one_of(method, "method", (*NAMES, *HALVES))
    vectors, classifier = check_vectors(vectors, classifier)
    fit = vectors if reference is None else check_vectors(reference, classifier, "reference")[0]
    check_logit_scale(logit_scale)
    generator(seed)
    kind = method.removesuffix(HALF)
    if kind == "real-prompt":
        if renamed is None:
            raise InputError("Expected `renamed` with method 'real-prompt', got none: it replaces classnames")
        return evaluate(vectors, _check_renamed(renamed, classifier), labels)
    if kind == "carprt":
        if bank is None:
            raise InputError("Expected `bank` with method 'carprt', got none: it weights prompts")
        prompts = check_bank(bank)

        def weigh(images: npt.ArrayLike) -> npt.NDArray[np.float32]:
            weights = ensemble.prompt_weights(images, prompts, method="carprt")
            return ensemble.weighted_classifier(prompts, weights)

        if method.endswith(HALF):
            return ensemble.evaluate_on_halves(vectors, lambda rows: weigh(vectors[rows]), labels, seed=seed)
        return evaluate(vectors, weigh(fit), labels)
    if kind in ("transclip", "stata"):
        memberships = getattr(transductive, kind)(vectors, classifier, logit_scale)
        return evaluate(np.sqrt(memberships), np.eye(len(classifier)), labels)

    def offset(images: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return ensemble.class_bias(images, classifier, cast(Any, kind), logit_scale=logit_scale)

    if method.endswith(HALF):
        return ensemble.evaluate_offset_on_halves(
            vectors, classifier, lambda rows: offset(vectors[rows]), labels, seed=seed
        )
    return evaluate(vectors, classifier, labels, offset=offset(fit))


def few_classes(labels: npt.ArrayLike, num_classes: int, share: float = 0.1, seed: int = 0) -> npt.NDArray[np.int64]:
    """Images of a random share of the classes, while all of them remain candidates: indices into `labels`.

    Args:
        labels: (N,) class indices, -1 = unknown.
        num_classes: C, the number of candidates.
        share: of the classes that occur, in (0, 1].
        seed: seed of the choice.

    Raises:
        InputError: an argument is out of range, or no image has a label.

    >>> few_classes([0, 1, 1, 2], num_classes=3, share=1 / 3)
    array([3])
    """
    labels = class_indices(labels, "labels", num_classes=whole_number(num_classes, "num_classes", 1), unknown=True)
    if not 0 < real_number(share, "share") <= 1:
        raise InputError(f"Expected `share` in (0, 1], got {share}")
    present = np.unique(labels[labels >= 0])
    if not len(present):
        raise InputError(f"Expected at least one label in `labels`, got {len(labels)} of -1")
    chosen = generator(seed).permutation(present)[: max(1, round(share * len(present)))]
    return np.flatnonzero(np.isin(labels, chosen))


def table(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike,
    bank: npt.ArrayLike | None = None,
    logit_scale: float = 100.0,
    k: int = 10,
    halves: bool = True,
    seed: int = 0,
    renamed: npt.ArrayLike | None = None,
    comparisons: int | None = None,
) -> pd.DataFrame:
    """Every row and, with `halves`, its control, each compared with the plain classifier on the same images.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown.
        bank: (P, C, D) unit-norm text vectors; None: "carprt" is left out.
        logit_scale: factor of the cosines in the model's softmax, > 0.
        k: how many worst classes (all, if fewer have images).
        halves: also the rows where each half is fitted on the other.
        seed: seed of the halves.
        renamed: (C, D) unit-norm vectors of the most frequent names; None: "real-prompt" is left out.
        comparisons: number of rows of all tables that are read together, for which intervals and verdicts are
            corrected (Bonferroni); None: the rows of this table.

    Returns:
        One row for each method, "bare" first. Columns: "method"; "accuracy", "classes_at_zero" and their 95 % intervals
        ("_low", "_high"); "worst_k" (naive, so without an interval); and against the plain classifier "difference" of
        the accuracy and "worst_difference", that on the k classes which the plain classifier does worst on, chosen on
        other images (`paired.chosen_on_halves`), both in points with corrected intervals, and "verdict",
        "worst_verdict" and "zero_verdict".

    Raises:
        InputError: as `corrected`, or no image has a label.

    >>> table(np.eye(3), np.eye(3), [0, 1, 2], k=1, halves=False).method.tolist()
    ['bare', 'nnn', 'frolic', 'sinkhorn', 'mlls', 'transclip', 'stata']
    """
    vectors, classifier = check_vectors(vectors, classifier)
    labels = class_indices(labels, "labels", len(vectors), len(classifier), unknown=True)
    names = rows_run(bank is not None, renamed is not None, halves)
    count = len(names) if comparisons is None else whole_number(comparisons, "comparisons", 1)
    bare = evaluate(vectors, classifier, labels)
    rows = [_scores("bare", bare, k)]
    for name in names:
        result = corrected(name, vectors, classifier, labels, bank, logit_scale, seed, renamed=renamed)
        differences = paired.paired_differences(result, bare, k, comparisons=count, seed=seed)
        row = _scores(name, result, k)
        for statistic, prefix in (("accuracy", ""), ("worst_k_chosen", "worst_")):
            if found := differences.get(statistic):
                points = [100 * value for value in (found["value"], *found["ci"])]
                row |= dict(zip((f"{prefix}difference{end}" for end in ("", "_low", "_high")), points))
                row[f"{prefix}verdict"] = found["verdict"]
        row["zero_verdict"] = differences["classes_at_zero"]["verdict"]
        rows.append(row)
    return pd.DataFrame(rows)


def rows_run(bank: bool = True, renamed: bool = True, halves: bool = True) -> list[str]:
    """Names of the rows of a `table` with a bank, with other names, with halves: its number of comparisons.

    >>> rows_run(bank=False, renamed=False, halves=False)
    ['nnn', 'frolic', 'sinkhorn', 'mlls', 'transclip', 'stata']
    """
    names = (*NAMES, *HALVES) if halves else NAMES
    return [name for name in names if (bank or "carprt" not in name) and (renamed or name != "real-prompt")]


def _scores(name: str, result: EvaluationResult, k: int) -> dict[str, Any]:
    if not result.n:
        raise InputError(f"Expected at least one label in `labels`, got {len(result.labels)} of -1")
    accuracy = result.per_class_accuracy
    present = int((~np.isnan(accuracy)).sum())
    zero = [present * end for end in proportion(worst.classes_at_zero(accuracy), present)]
    row: dict[str, Any] = {"method": name, "accuracy": result.accuracy}
    row["accuracy_low"], row["accuracy_high"] = result.accuracy_ci
    row["worst_k"] = worst.worst_k_accuracy(accuracy, min(whole_number(k, "k", 1), present))
    return row | {
        "classes_at_zero": round(zero[0]),
        "classes_at_zero_low": zero[1],
        "classes_at_zero_high": zero[2],
    }


def over_shares(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike,
    shares: npt.ArrayLike = (0.1, 0.25, 0.5, 1),
    methods: Sequence[str] = ("nnn", "frolic", "sinkhorn", "mlls", "stata"),
    logit_scale: float = 100.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy as ever more of the candidate classes occur, while all of them remain candidates.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown.
        shares: of the classes that occur, in (0, 1]; a larger share keeps the classes of a smaller one.
        methods: names of ROWS that need neither a bank nor other names.
        logit_scale: factor of the cosines in the model's softmax, > 0.
        seed: seed of the choice of classes.

    Returns:
        A row for each share with two images or more and each method, "bare" first: "share", "classes" and "images" that
        occur, and the columns "method" to "classes_at_zero_high" of `table`, with k = 10.

    Raises:
        InputError: as `corrected`, or a share or a method is unknown or out of range.

    >>> over_shares(np.eye(4), np.eye(4), [0, 1, 2, 3], [0.5, 1], methods=["nnn"]).images.tolist()
    [2, 2, 4, 4]
    """
    vectors, classifier = check_vectors(vectors, classifier)
    labels = class_indices(labels, "labels", len(vectors), len(classifier), unknown=True)
    for method in texts_of(methods, "methods"):
        one_of(method, "methods", NAMES)
    rows = []
    steps = floats(shares, "shares", 1).tolist()
    if not steps:
        raise InputError("Expected `shares` of at least one share, got none")
    for share in steps:
        part = few_classes(labels, len(classifier), share, seed)
        if len(part) < 2:  # a single image has no neighbours
            continue
        images = (vectors[part], classifier, labels[part])
        results = {"bare": evaluate(*images)}
        results |= {method: corrected(method, *images, logit_scale=logit_scale) for method in methods}
        present = {"share": share, "classes": len(np.unique(labels[part])), "images": len(part)}
        rows += [present | _scores(name, result, 10) for name, result in results.items()]
    return pd.DataFrame(rows)


def _check_renamed(renamed: npt.ArrayLike, classifier: np.ndarray) -> np.ndarray:
    texts = floats(renamed, "renamed", 2, finite=False)
    if texts.shape != classifier.shape:
        raise InputError(f"Expected `renamed` of shape (C, D) = {classifier.shape}, got {texts.shape}")
    return unit_rows(texts, "renamed")
