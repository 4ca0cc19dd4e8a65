"""Why a class has a low accuracy: a verdict from its rivals, its name and its number of images, with the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy

from clipnb._checks import class_indices, floats, real_number, whole_number
from clipnb.errors import InputError
from clipnb.intervals import proportion
from clipnb.margin import nearest_text
from clipnb.metrics import check_counts, confusion_matrix, per_class_accuracy
from clipnb.prompts import Finding, check_classnames, near_duplicate_classnames
from clipnb.similarity import check_classifier

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = (
    "name collision",
    "near-synonym",
    "visual confusion",
    "too few images",
    "unclear",
)  # the first that applies is given
NEAR_CHANCE = 0.1  # an accuracy above this and twice the chance level is no sign of permuted labels
CLEARLY_BETTER = 0.2  # the least gain in accuracy for which another order of the classes is reported
SAME_TEXT = 1e-5  # vectors whose cosine is this near to 1 are equal within the precision of float32


def explain_classes(
    classes: npt.ArrayLike,
    confusion: npt.ArrayLike,
    cmm: npt.ArrayLike | None,
    classifier: npt.ArrayLike | None,
    classnames: Sequence[str],
    *,
    min_images: int | None = None,
    synonym_cosine: float | None = None,
    majority: float = 0.5,
    significance: float = 0.05,
    rivals: int = 3,
) -> pd.DataFrame:
    """Why each of `classes` has a low accuracy, as far as the numbers tell.

    The first verdict that applies is given:

    1. "name collision": at least `majority` of its wrong answers are classes with (nearly) the same name
       (`prompts.near_duplicate_classnames`) or with the same text vector.
    2. "near-synonym": at least `majority` of them are such classes, or classes whose text has a cosine above
       `synonym_cosine` to its own.
    3. "visual confusion": one rival takes more wrong answers than chance explains. Under chance, each wrong answer is
       drawn from those of all other classes, so that a class which attracts all kinds of images is no evidence; the
       probability that some rival is as strong (binomial, Bonferroni over the rivals) is below `significance`.
    4. "too few images": it has fewer than `min_images`.
    5. "unclear": none of these.

    Args:
        classes: (K,) class indices, for example `worst.worst_classes(per_class, 10)`.
        confusion: (C, C) counts, [actual, predicted].
        cmm: (C,) class-wise matching margins, cosines; NaN without images. None: not known.
        classifier: (C, D) unit-norm class vectors. None: not known, and then verdict 1 looks at names only and 2 is
            never given.
        classnames: C names.
        min_images: with fewer images, even a class at 0 % cannot be distinguished from an average one. Default: the
            smallest n for which the 95 % interval of 0 correct of n (`intervals.proportion`) lies below the overall
            accuracy.
        synonym_cosine: default: the 0.9 quantile, over all classes, of the cosine to the nearest other text.
        majority: share of the wrong answers, in (0, 1].
        significance: in (0, 1).
        rivals: number of the most frequent wrong answers to list.

    Returns:
        DataFrame, one row for each class in the order of `classes`, with classname, verdict, sentence, and the
        evidence: images, accuracy, margin, wrong (number of wrong answers), rivals (the most frequent: list of
        (classname, count)), rival, rival_count, rival_p and rival_cosine (the rival that chance explains least, the
        probability in 3, the cosine of the texts), same_name (list of (class, classname)), to_same_name and to_synonyms
        (wrong answers that count in 1 and in 2), nearest_text (classname) and nearest_cosine. The thresholds are in its
        `attrs`.

    Raises:
        InputError: shapes differ, or an index or a threshold is out of range.

    >>> confusion = np.array([[9, 1, 0], [0, 10, 0], [9, 0, 1]])
    >>> texts = np.array([[1., 0.], [0., 1.], [1., 0.]])
    >>> table = explain_classes([2], confusion, [.1, .2, -.1], texts, ["missile", "dog", "missile"])
    >>> print(table.loc[2, "verdict"], "-", table.loc[2, "sentence"])
    name collision - 9 of 9 wrong answers go to the same name or text: 'missile' (class 0).
    """
    import pandas as pd  # slow to import, and only tables need it

    confusion = check_counts(confusion)
    accuracy = per_class_accuracy(confusion)
    classnames = check_classnames(classnames)
    num_classes = len(confusion)
    classifier = None if classifier is None else check_classifier(classifier)
    cmm = np.full(num_classes, np.nan) if cmm is None else floats(cmm, "cmm", 1, finite=False)
    texts = num_classes if classifier is None else len(classifier)
    for name, length in (("classnames", len(classnames)), ("classifier", texts), ("cmm", len(cmm))):
        if length != num_classes:
            raise InputError(f"Expected `{name}` of length C = {num_classes}, got {length}")
    classes = class_indices(classes, "classes", num_classes=num_classes)
    if not 0 < real_number(majority, "majority") <= 1:
        raise InputError(f"Expected `majority` above 0 and at most 1, got {majority}")
    if not 0 < real_number(significance, "significance") < 1:
        raise InputError(f"Expected `significance` above 0 and below 1, got {significance}")
    rivals = whole_number(rivals, "rivals", 1)
    unknown = np.full(num_classes, np.nan)
    nearest, cosine = (None, unknown) if classifier is None else nearest_text(classifier)
    if synonym_cosine is None:
        synonym_cosine = float(np.nanquantile(cosine, 0.9)) if num_classes > 1 and classifier is not None else 1.0
    elif not -1 <= real_number(synonym_cosine, "synonym_cosine") <= 1:
        raise InputError(f"Expected `synonym_cosine` in [-1, 1], got {synonym_cosine}")
    fewest: float
    if min_images is None:
        fewest = _fewest_images(np.trace(confusion) / max(1, confusion.sum()))
    else:
        fewest = whole_number(min_images, "min_images", 0)
    thresholds: dict[str, float] = {
        "min_images": fewest,
        "synonym_cosine": synonym_cosine,
        "majority": majority,
        "significance": significance,
    }
    namesakes = {c: group for group in near_duplicate_classnames(classnames).values() for c in group}
    wrong = confusion - np.diag(np.diag(confusion))
    pull = wrong.sum(axis=0)  # number of wrong answers that each class attracts
    rows = []
    for c in classes:
        # Rounded as in `nearest_text`; NaN is neither the same text nor near.
        to_text = unknown.copy() if classifier is None else (classifier @ classifier[c]).astype(float).round(6)
        same = to_text > 1 - SAME_TEXT
        same[namesakes.get(c, [])] = True
        near = same | (to_text > synonym_cosine)  # not >=: if all texts are equally far apart, none is a synonym
        same[c] = near[c] = False
        row = wrong[c]
        images = int(confusion[c].sum())
        rival, rival_p = _strongest_rival(row, pull - row, c)
        facts = {
            "images": images,
            "accuracy": accuracy[c],
            "margin": float(cmm[c]),
            "wrong": int(row.sum()),
            "rivals": [(classnames[j], int(row[j])) for j in np.argsort(-row, kind="stable")[:rivals] if row[j]],
            "rival": classnames[rival] if rival >= 0 else None,
            "rival_count": int(row[rival]) if rival >= 0 else 0,
            "rival_p": rival_p,
            "rival_cosine": to_text[rival] if rival >= 0 else np.nan,
            "same_name": [(int(j), classnames[j]) for j in np.flatnonzero(same)],
            "to_same_name": int(row[same].sum()),
            "to_synonyms": int(row[near].sum()),
            "nearest_text": classnames[nearest[c]] if num_classes > 1 and nearest is not None else None,
            "nearest_cosine": cosine[c],
        }
        verdict, sentence = _verdict(facts, **thresholds)
        rows.append({"classname": classnames[c], "verdict": verdict, "sentence": sentence, **facts})
    table = pd.DataFrame(rows, index=pd.Index(classes, name="class"))
    table.attrs.update(thresholds)
    return table


def _verdict(
    facts: dict[str, Any], min_images: float, synonym_cosine: float, majority: float, significance: float
) -> tuple[str, str]:
    """The first verdict of `VERDICTS` that applies, and a sentence with the reason."""
    wrong = facts["wrong"]
    images = facts["images"]
    answers = f"{wrong} wrong answer{'s' if wrong != 1 else ''}"
    enough = max(1, majority * wrong)
    if facts["to_same_name"] >= enough:
        names = ", ".join(f"{name!r} (class {j})" for j, name in facts["same_name"])
        return "name collision", f"{facts['to_same_name']} of {answers} go to the same name or text: {names}."
    if facts["to_synonyms"] >= enough:
        return "near-synonym", (
            f"{facts['to_synonyms']} of {answers} go to texts with a cosine above {synonym_cosine:.2f} to its own; "
            f"the nearest is {facts['nearest_text']!r} ({facts['nearest_cosine']:.2f})."
        )
    if facts["rival_p"] < significance:
        return "visual confusion", (
            f"{facts['rival_count']} of {answers} are {facts['rival']!r}, more than chance explains "
            f"(p = {facts['rival_p']:.2g})"
            + (
                "."
                if np.isnan(facts["rival_cosine"])
                else f"; the cosine of the two texts is {facts['rival_cosine']:.2f}."
            )
        )
    if images < min_images:
        return "too few images", (
            f"{images} image{'s' if images != 1 else ''}: with fewer than {min_images}, even a class at 0 % "
            "cannot be distinguished from an average one."
        )
    if not wrong:
        return "unclear", f"No wrong answer among {images} images."
    name, count = facts["rivals"][0]
    return "unclear", f"The most frequent of {answers} is {name!r} ({count}): no more than chance explains."


def _fewest_images(overall: float) -> float:
    """Smallest n for which 1 - 0.025 ** (1 / n), the upper end of the exact interval of 0 of n, is below `overall`."""
    if overall <= 0:
        return float("inf")
    return int(np.floor(np.log(0.025) / np.log1p(-overall))) + 1 if overall < 1 else 1


def _strongest_rival(wrong: np.ndarray, pull: np.ndarray, own: int) -> tuple[int, float]:
    """The rival that chance explains least and the probability of one as strong; (-1, 1.0) without wrong answers.

    `pull` counts the wrong answers that other classes give; one is added to each, so that "never seen" is not
    "impossible".
    """
    others = np.arange(len(wrong)) != own
    if not wrong.any():
        return -1, 1.0
    chance = np.where(others, pull + 1, 0) / (pull + 1)[others].sum()
    p = np.where(wrong > 0, scipy.stats.binom.sf(wrong - 1, wrong.sum(), chance), 1.0)
    rival = int(p.argmin())
    return rival, float(min(1.0, p[rival] * others.sum()))


def label_order(
    predictions: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int
) -> tuple[float, npt.NDArray[np.int64]] | None:
    """Whether labels and classnames seem to be in different orders: a clean confusion matrix, but permuted.

    This is only tested where the accuracy is near chance. The order that fits best is chosen on one half of the images
    and measured on the other, so that a matrix of noise yields None.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices, -1 = unknown.
        num_classes: C.

    Returns:
        The accuracy under the order that fits best, a fraction in [0, 1], and that order (C,): the class that the
        images labelled c are predicted as. None if the accuracy is not near chance, or no other order is better by at
        least 20 points.

    >>> labels = np.repeat(np.arange(5), 20)
    >>> share, order = label_order((labels + 1) % 5, labels, 5)
    >>> share, order.tolist()
    (1.0, [1, 2, 3, 4, 0])
    >>> label_order(labels, labels, 5) is None
    True
    """
    num_classes = whole_number(num_classes, "num_classes", 1)
    predictions = class_indices(predictions, "predictions", num_classes=num_classes)
    labels = class_indices(labels, "labels", len(predictions), num_classes, unknown=True)
    known = labels >= 0
    predictions = predictions[known]
    labels = labels[known]
    if not len(labels):
        return None
    accuracy = proportion(int((predictions == labels).sum()), len(labels))
    if accuracy.low > max(2 / num_classes, NEAR_CHANCE):
        return None
    first = np.zeros(len(labels), dtype=bool)
    first[np.argsort(labels, kind="stable")[::2]] = True  # every other image of each class
    order = scipy.optimize.linear_sum_assignment(
        confusion_matrix(predictions[first], labels[first], num_classes), maximize=True
    )[1]
    rest = order[labels[~first]] == predictions[~first]
    if not len(rest) or proportion(int(rest.sum()), len(rest)).low < accuracy.high + CLEARLY_BETTER:
        return None
    return float(rest.mean()), order


def order_finding(predictions: npt.ArrayLike, labels: npt.ArrayLike, classnames: Sequence[str]) -> Finding | None:
    """The result of `label_order` as a finding of `prompts.lint`; None if labels and names seem to be in one order.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices, -1 = unknown.
        classnames: C names.

    >>> labels = np.repeat(np.arange(3), 20)
    >>> print(order_finding((labels + 1) % 3, labels, ["cat", "dog", "pig"]))
    labels and names seem to be in different orders:
    'cat' is taken for 'dog', 'dog' is taken for 'pig', 'pig' is taken for 'cat';
    in the order that fits best, 100.0 % would be right: check which classname belongs to which label
    """
    classnames = check_classnames(classnames)
    result = label_order(predictions, labels, len(classnames))
    if result is None:
        return None
    share, order = result
    moved = tuple(
        f"{classnames[c]!r} is taken for {classnames[other]!r}" for c, other in enumerate(order) if c != other
    )
    advice = (
        f"in the order that fits best, {100 * share:.1f} % would be right: check which classname belongs to which label"
    )
    return Finding("labels and names seem to be in different orders", moved, advice)
