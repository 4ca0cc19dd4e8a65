"""What came after the paper: corrections of class bias as rows of the same experiment, and what each of them needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from clipnb import ensemble, paired, transductive
from clipnb._checks import class_indices, generator, one_of, real_number, whole_number
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.similarity import check_bank, check_vectors

HALF = "-half"


@dataclass(frozen=True)
class Row:
    """One method: where it is from, what it needs (none needs labels), and the assumption that it rests on."""

    name: str
    paper: str
    changes: str
    prior: str
    all_images: bool
    assumption: str


ROWS = (
    Row(
        "carprt", "OpenReview AScQDQqVXY", "prompt weights", "no", False, "the usual predictions of a prompt are right"
    ),
    Row("nnn", "arXiv 2410.24114", "offset", "no", False, "the reference images look like the task's"),
    Row("frolic", "arXiv 2410.19294, bias step", "offset", "estimated", False, "every candidate class occurs"),
    Row("sinkhorn", "arXiv 2404.08461 (OTTER)", "offset", "given, else uniform", False, "the prior is right"),
    Row("mlls", "Saerens et al. 2002", "offset", "estimated", False, "few of the candidate classes occur"),
    Row("transclip", "arXiv 2406.01837", "memberships", "no", True, "every candidate class has a cluster of images"),
    Row("stata", "arXiv 2501.03729", "memberships", "no", True, "a class has a cluster of images or stays at its text"),
)
NAMES = tuple(row.name for row in ROWS)
HALVES = tuple(row.name + HALF for row in ROWS if not row.all_images)


def corrected(
    method: str,
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    bank: npt.ArrayLike | None = None,
    logit_scale: float = 100.0,
    seed: int = 0,
    reference: npt.ArrayLike | None = None,
) -> EvaluationResult:
    """Result of one row: fitted on the images that it is scored on, or with "-half" each half fitted on the other.

    Args:
        method: a name of ROWS, or one with "-half" where the method does not need all images at once.
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown; None = all unknown. They are only used for the scores.
        bank: (P, C, D) unit-norm text vectors, for "carprt".
        logit_scale: factor of the cosines in the model's softmax, > 0.
        seed: seed of the halves.
        reference: (M, D) unit-norm vectors of images that offsets and weights are fitted on; None: `vectors`. Rows on
            halves and those that need all test images do without it.

    Raises:
        InputError: as `ensemble.class_bias` and `evaluate`, or "carprt" has no bank.

    >>> corrected("nnn", np.eye(3), np.eye(3), [0, 1, 2]).accuracy
    1.0
    """
    one_of(method, "method", (*NAMES, *HALVES))
    vectors, classifier = check_vectors(vectors, classifier)
    fit = vectors if reference is None else check_vectors(reference, classifier, "reference")[0]
    kind = method.removesuffix(HALF)
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
) -> pd.DataFrame:
    """Every row and, with `halves`, its control against the plain classifier: `paired.compare` as a table.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown.
        bank: (P, C, D) unit-norm text vectors; None: "carprt" is left out.
        logit_scale: factor of the cosines in the model's softmax, > 0.
        k: how many worst classes.
        halves: also the rows where each half is fitted on the other.
        seed: seed of the halves and intervals.

    Returns:
        "method", "accuracy" with "accuracy_low" and "accuracy_high", "worst_k" (naive), "classes_at_zero" with its
        interval, "difference" of the accuracy from the plain classifier in points with its interval and "verdict", and
        "zero_verdict" for the classes at 0. Intervals of differences and verdicts allow for the number of rows.

    >>> table(np.eye(3), np.eye(3), [0, 1, 2], k=1, halves=False).method.tolist()
    ['bare', 'nnn', 'frolic', 'sinkhorn', 'mlls', 'transclip', 'stata']
    """
    names = [name for name in (*NAMES, *(HALVES if halves else ())) if bank is not None or "carprt" not in name]
    results = {"bare": evaluate(vectors, classifier, labels)}
    results |= {name: corrected(name, vectors, classifier, labels, bank, logit_scale, seed) for name in names}
    rows = []
    for row in paired.compare(results, k, seed=seed):
        cells = {"method": row["method"], "accuracy": row["accuracy"]}
        cells["accuracy_low"], cells["accuracy_high"] = row["accuracy_ci"]
        cells |= {"worst_k": row[f"worst_{row['worst_k']}"], "classes_at_zero": row["classes_at_zero"]}
        cells["classes_at_zero_low"], cells["classes_at_zero_high"] = row["classes_at_zero_ci"]
        if "difference" in row:
            change = row["difference"]["accuracy"]
            cells["difference"] = 100 * change["value"]
            cells["difference_low"], cells["difference_high"] = (100 * end for end in change["ci"])
            cells["verdict"] = change["verdict"]
            cells["zero_verdict"] = row["difference"]["classes_at_zero"]["verdict"]
        rows.append(cells)
    return pd.DataFrame(rows)
