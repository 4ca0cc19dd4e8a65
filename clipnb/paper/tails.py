"""The tail of real CLIP models on ImageNet: published per-class results of 21 models with three prompt sets each.

The numbers are computed from the results that Udandarao et al. (arXiv 2404.04125) publish under the MIT licence,
github.com/bethgelab/frequency_determines_performance, by `tools/release/imagenet_tails.py`; their files are not
shipped. The models are open_clip's; OpenAI's are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt
import pandas as pd

from clipnb import worst
from clipnb._checks import class_indices, generator, one_of, require_attribute, whole_number
from clipnb.errors import InputError
from clipnb.intervals import Score, proportion

IMAGES = 50
CLASSES = 1000
COUNTS = [f"n_right_{right}" for right in range(IMAGES + 1)]
PROMPTS = ("bare", "single", "openai-80")
# Trained on 400 million pairs or more; the others are small experiments with up to 200 million pairs.
LARGE_SETS = ("laion400m", "laion2b", "datacomp")


def load(large: bool = False) -> pd.DataFrame:
    """How many of ImageNet's 1,000 classes have 0, 1, ... 50 of their 50 validation images right: one row for 63 runs.

    Args:
        large: only the 12 models that were trained on LAION-400M, LAION-2B or DataComp.

    Returns:
        Columns "model", "pretrained", "prompts" (bare, single = "A photo of a {}.", openai-80), "n_right_0" to
        "n_right_50" (they sum to 1,000), and "accuracy_published" in percent.

    >>> tails = load()
    >>> tails.shape, tails.loc[0, ["model", "pretrained", "prompts"]].tolist()
    ((63, 55), ['RN101', 'yfcc15m', 'bare'])
    """
    tails = _read("imagenet_tails.csv")
    return tails.loc[tails.pretrained.isin(LARGE_SETS)].reset_index(drop=True) if large else tails


def right_by_class(row: pd.Series) -> npt.NDArray[np.int64]:
    """The number of right images of each class, worst class first: (1000,), from a row of `load`.

    >>> right_by_class(load().iloc[0])[[0, -1]]
    array([ 0, 50])
    """
    row = require_attribute(row, "row", "to_frame", "clipnb.paper.tails.load")
    missing = [name for name in COUNTS if name not in row.index]
    if missing:
        raise InputError(f"Expected `row` of clipnb.paper.tails.load, got one without {missing[0]!r}")
    return np.repeat(np.arange(IMAGES + 1), np.asarray(row[COUNTS], dtype=np.int64))


def scores(right: npt.ArrayLike, k: int = 10, estimates: bool = True, seed: int = 0) -> dict[str, Score]:
    """Scores with their 95 % intervals, from the number of right images of each class, as `EvaluationResult.scores`.

    The naive worst-k accuracy and both means have no interval: noise pulls them down by an amount that depends on all
    classes, so no interval around them holds a truth.

    Args:
        right: (C,) from `right_by_class`.
        k: how many worst classes.
        estimates: also worst_k_truly_worst, worst_k_listed and worst_k_split_half, which take some seconds.
        seed: of the random halves and of the posterior sample.

    Returns:
        Score by name; all but "classes_at_zero" are fractions.

    >>> found = scores(right_by_class(load().iloc[0]), estimates=False)
    >>> f"{found['accuracy']:.1%}"
    '28.4 % [28.0, 28.8]'
    """
    right = class_indices(right, "right", num_classes=IMAGES + 1)
    if not len(right):
        raise InputError("Expected `right` of at least one class, got none")
    k = whole_number(k, "k", 1, len(right))
    generator(seed)
    per_class, count = right / IMAGES, len(right)
    found = {
        "accuracy": proportion(int(right.sum()), IMAGES * count),
        "worst_k": Score(worst.worst_k_accuracy(per_class, k)),
    }
    if estimates:
        labels = np.repeat(np.arange(count), IMAGES)
        wrong = np.tile(np.arange(IMAGES), count) >= right[labels]
        report = worst.worst_k_report((labels + wrong) % max(count, 2), labels, max(count, 2), k, seed=seed)
        found |= {f"worst_k_{name}": getattr(report, name) for name in ("truly_worst", "listed", "split_half")}
    at_zero = proportion(worst.classes_at_zero(per_class), count)
    found["classes_at_zero"] = Score(*(count * end for end in at_zero))
    found["harmonic_mean"] = Score(worst.harmonic_mean(per_class))
    found["geometric_mean"] = Score(worst.geometric_mean(per_class))
    found["harmonic_mean_floored"] = Score(worst.harmonic_mean(per_class, floor=0.01))
    return found


def table(tails: pd.DataFrame, k: int = 10, estimates: bool = False) -> pd.DataFrame:
    """`scores` of every row of `load`: model, pretrained, prompts, then a column for each score's value, low and high.

    Args:
        tails: rows of `load`.
        k: how many worst classes.
        estimates: as in `scores`.

    >>> table(load().head(1)).classes_at_zero.tolist()
    [164.0]
    """
    require_attribute(tails, "tails", "iterrows", "clipnb.paper.tails.load")
    rows = []
    for _, row in tails.iterrows():
        columns: dict[str, object] = {name: row[name] for name in ("model", "pretrained", "prompts")}
        for name, score in scores(right_by_class(row), k, estimates).items():
            columns[name] = score.value
            if score.has_interval:
                columns |= {f"{name}_low": score.low, f"{name}_high": score.high}
        rows.append(columns)
    return pd.DataFrame(rows)


def zeros() -> pd.DataFrame:
    """Classes at 0 % for at least one of the 12 large models: "classname", and for each prompt set how many models.

    >>> zeros().head(1).values.tolist()
    [['tights', 12, 12, 11]]
    """
    return _read("imagenet_zeros.csv")


def worst_named() -> pd.DataFrame:
    """The ten worst classes of each run: "model", "pretrained", "prompts", "classname", and "right" of 50, worst first.

    >>> worst_named().head(1).values.tolist()
    [['RN101', 'yfcc15m', 'bare', 'Affenpinscher', 0]]
    """
    return _read("imagenet_worst.csv")


def nearest_of_each() -> pd.DataFrame:
    """For each of ImageNet's names the one with the nearest text for OpenAI's CLIP: "name", "nearest", "cosine".

    The source is that of `nearest_names`.

    >>> nearest_of_each().set_index("name").nearest["tights"]
    'hay'
    """
    return _read("imagenet_nearest_of_each.csv")


def nearest_names(count: int = 10, of: Sequence[str] | None = None) -> pd.DataFrame:
    """Pairs of ImageNet names whose texts are nearest for OpenAI's CLIP ViT-B/32: "a", "b", "cosine", nearest first.

    Computed from the text vectors of "a {name}" that Wen et al. (arXiv 2405.21070) publish under the MIT licence,
    github.com/CVMI-Lab/clip-beyond-tail.

    Args:
        count: how many pairs, at most as many as are shipped.
        of: only pairs with one of these names; None: all.

    >>> nearest_names(1).a.tolist()
    ['sunglass']
    """
    pairs = _read("imagenet_nearest_names.csv")
    if of is not None:
        pairs = pairs.loc[pairs.a.isin(list(of)) | pairs.b.isin(list(of))]
    return pairs.head(whole_number(count, "count", 1)).reset_index(drop=True)


def compare_prompts(tails: pd.DataFrame, before: str, after: str, k: int = 10) -> pd.DataFrame:
    """How another prompt set changes accuracy, naive worst-k and classes at 0 of each model: in points, and a count.

    Args:
        tails: rows of `load`.
        before: one of PROMPTS.
        after: one of PROMPTS.
        k: how many worst classes.

    Returns:
        "model", "pretrained", "accuracy", "worst_k", "classes_at_zero": `after` minus `before`.

    >>> compare_prompts(load(large=True), "bare", "single").worst_k.gt(0).sum()
    np.int64(11)
    """
    require_attribute(tails, "tails", "iterrows", "clipnb.paper.tails.load")
    both = {}
    for name, prompts in (("before", before), ("after", after)):
        one_of(prompts, name, PROMPTS)
        rows = table(tails.loc[tails.prompts == prompts], k)
        both[name] = rows.set_index(["model", "pretrained"])[["accuracy", "worst_k", "classes_at_zero"]]
    change = both["after"] - both["before"]
    change[["accuracy", "worst_k"]] *= 100
    return change.loc[both["before"].index].round(9).reset_index()


def _read(name: str) -> pd.DataFrame:
    with (resources.files("clipnb.paper") / "published" / name).open("r", encoding="utf-8") as file:
        return pd.read_csv(file)
