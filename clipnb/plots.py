"""Static figures of results: each takes numbers and an optional `ax`, draws on it and returns it.

Fractions are drawn as percent. No global state is changed: no style, no rcParams. Colours can be distinguished by
colour-blind readers, and no meaning depends on colour alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from clipnb import intervals, metrics
from clipnb._checks import (
    as_numpy,
    floats,
    listed,
    one_of,
    real_number,
    require_attribute,
    texts_of,
    unique_indices,
    whole_number,
)
from clipnb._format import percent
from clipnb.errors import InputError

BLUE = "#0072b2"
ORANGE = "#c4500a"
GREY = "#8a949e"
INK = "#24292f"
MAX_ANNOTATED = 40  # with more classes, a confusion matrix has no names and numbers
MAX_ROWS = 250  # with more classes, blocks of a confusion matrix are drawn as one square


def _axes(ax: Axes | None, width: float = 6.4, height: float = 3.8) -> Axes:
    """The given axes, or those of a new figure, without a frame at the top and on the right."""
    if ax is None:
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _legend(ax: Axes) -> None:
    """Place the legend above the axes, where it covers no data."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.6)


def _percent(axis: XAxis | YAxis, upper: float | None = None) -> None:
    """Label an axis in percent; it ends at 0 and `upper`, if given."""
    axis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))  # labels such as "12.5 %" need room
    if upper and isinstance(axis, XAxis):
        axis.axes.set_xlim(0, upper)
    elif upper:
        axis.axes.set_ylim(0, upper)


def _vector(name: str, values: npt.ArrayLike, like: tuple[str, int] | None = None, finite: bool = False) -> np.ndarray:
    """Check a non-empty vector without infinite values, of the named length in `like` if given."""
    values = floats(values, name, 1, finite).astype(float)
    if np.isinf(values).any():
        raise InputError(f"Expected `{name}` without infinite values, got {np.isinf(values).sum()}")
    letter, length = like or ("C", None)
    if not len(values) or (like and len(values) != length):
        expected = f"({letter},) = ({length},)" if like else f"({letter},)"
        raise InputError(f"Expected `{name}` of shape {expected}, got {values.shape}")
    return values


def _fractions(name: str, values: np.ndarray) -> np.ndarray:
    """Return values if they are in [0, 1] or NaN."""
    if np.nanmin(values, initial=0) < 0 or np.nanmax(values, initial=0) > 1:
        raise InputError(
            f"Expected `{name}` as fractions in [0, 1], got {np.nanmin(values):g} to {np.nanmax(values):g}"
        )
    return values


def _check_number(name: str, value: float | None, low: float = 0) -> None:
    """Raise unless `value` is None or a number in [low, 1]; NaN passes, as the value of an undefined score."""
    if value is not None and (real_number(value, name) < low or value > 1):
        raise InputError(f"Expected `{name}` from {low} to 1, got {value}")


def per_class_accuracy(
    per_class: npt.ArrayLike, ax: Axes | None = None, chance: float | None = None, mean: float | None = None
) -> Axes:
    """Draw the accuracy of every class, worst first, with the classes at zero marked.

    Args:
        per_class: (C,) fractions in [0, 1]; NaN = the class has no images: left out and counted in the axis label.
        ax: axes to draw on; a new figure if None.
        chance: accuracy of guessing, drawn as a line.
        mean: mean accuracy, drawn as a line.

    Raises:
        InputError: `per_class` is not (C,), has values outside [0, 1], or is all NaN.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = per_class_accuracy([0.9, 0.0, 0.4, float("nan")], ax=Figure().subplots(), chance=0.25)
        >>> ax.get_xlabel()
        'class, worst first (3 classes; 1 without images left out)'
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['chance 25.0 %', '1 class at 0 %']
    """
    per_class = _fractions("per_class", _vector("per_class", per_class))
    values = np.sort(per_class[~np.isnan(per_class)])
    _check_number("chance", chance)
    _check_number("mean", mean)
    if not len(values):
        raise InputError("Expected `per_class` with at least one class that has images, got only NaN")
    ax = _axes(ax)
    places = np.arange(1, len(values) + 1)
    if len(values) <= 60:
        ax.bar(places, values, color=BLUE, width=0.8)
    else:
        ax.fill_between(places, values, step="mid", color=BLUE, linewidth=0)
    if mean is not None:
        ax.axhline(mean, color=INK, linestyle=":", label=f"mean {percent(mean)}")
    if chance is not None:
        ax.axhline(chance, color=ORANGE, linestyle="--", label=f"chance {percent(chance)}")
    zero = int((values == 0).sum())
    if zero:
        ax.plot(
            places[:zero],
            np.zeros(zero),
            "X",
            color=ORANGE,
            markersize=6 if zero <= 60 else 3,
            clip_on=False,
            linestyle="none",
            label=f"{zero} class{'es' if zero > 1 else ''} at 0 %",
        )
    empty = len(per_class) - len(values)
    ax.set(
        xlabel=f"class, worst first ({len(values)} classes{f'; {empty} without images left out' if empty else ''})",
        ylabel="accuracy of the class",
        xlim=(0.4, len(values) + 0.6),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _percent(ax.yaxis, upper=1)
    _legend(ax)
    return ax


def confusion(
    confusion: npt.ArrayLike, classnames: Sequence[str], classes: Sequence[int] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a confusion matrix: colour is the share of the actual class, numbers are images.

    Up to 40 classes are named and annotated. Above 250 rows, blocks of neighbouring classes are drawn as one square in
    the colour of the largest share in the block, so that a single confusion stays visible among 1,000 classes. The
    order of `cluster_order` suits many classes, and `with_rivals` selects the worst classes with their rivals.

    Args:
        confusion: (C, C) counts, [actual, predicted].
        classnames: C names.
        classes: indices to show, in this order; predictions outside them are added up in a column "other".
        ax: axes to draw on; a new figure if None.

    Raises:
        InputError: `confusion` is not square, `classnames` has another length, or a class is out of range.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = confusion([[85, 10, 5], [8, 90, 2], [3, 7, 90]], ["cat", "dog", "car"], [0, 1], ax=Figure().subplots())
        >>> [tick.get_text() for tick in ax.get_xticklabels()]
        ['cat', 'dog', 'other']
        >>> [text.get_text() for text in ax.texts]
        ['85', '10', '5', '8', '90', '2']
    """
    counts, chosen = _counts(confusion, classes)
    classnames = texts_of(classnames, "classnames", len(counts))
    rows = counts[chosen]
    names = columns = [classnames[c] for c in chosen]
    cells = rows[:, chosen]
    if len(chosen) < len(counts):
        cells = np.column_stack([cells, rows.sum(axis=1) - cells.sum(axis=1)])
        columns = [*names, "other"]
    share = cells / np.maximum(rows.sum(axis=1, keepdims=True), 1)

    named = len(chosen) <= MAX_ANNOTATED
    side = min(9.0, 2.6 + 0.55 * len(chosen)) if named else 6.4
    ax = _axes(ax, side + 1.6, side)
    block = -(-len(chosen) // MAX_ROWS)
    grid = sns.heatmap(
        _largest_in_blocks(share, block),
        ax=ax,
        cmap="Blues",
        square=True,
        norm=PowerNorm(1 if named else 0.5, 0, 1),  # without numbers, only the colour shows small shares
        linewidths=0.5 if named else 0,
        annot=np.where(cells, np.vectorize("{:.12g}".format)(cells), "·") if named else None,
        fmt="",
        annot_kws={"size": 9 if len(chosen) <= 20 else 6},
        xticklabels=False,
        yticklabels=False,
        rasterized=not named,
        cbar_kws={
            "label": "share of the actual class",
            "shrink": 0.7,
            "aspect": 25,
            "format": PercentFormatter(1, decimals=0, symbol=" %"),
        },
    )
    if named:
        grid.set_xticks(
            np.arange(len(columns)) + 0.5, columns, rotation=45, ha="right", rotation_mode="anchor", parse_math=False
        )
        grid.set_yticks(np.arange(len(names)) + 0.5, names, rotation=0, parse_math=False)
    note = "" if named else f" ({len(chosen)} classes{f', largest of {block} × {block}' if block > 1 else ''})"
    ax.set(xlabel=f"predicted class{note}", ylabel="actual class")
    return ax


def _counts(confusion: npt.ArrayLike, classes: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Check a confusion matrix and the classes to show; None shows all."""
    counts = metrics.check_counts(confusion)
    return counts, np.arange(len(counts)) if classes is None else unique_indices(classes, "classes", len(counts))


def _largest_in_blocks(values: np.ndarray, block: int) -> np.ndarray:
    """Shrink a matrix by taking the largest value of each block x block square."""
    rows, columns = (-(-size // block) * block for size in values.shape)
    padded = np.zeros((rows, columns))
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(rows // block, block, columns // block, block).max(axis=(1, 3))


def cluster_order(confusion: npt.ArrayLike, classes: Sequence[int] | None = None) -> npt.NDArray[np.int64]:
    """Order classes so that those which are confused with each other are neighbours, as `classes` of `confusion`.

    Hierarchical clustering (average linkage); two classes are close if large shares of their images are predicted as
    the other.

    Args:
        confusion: (C, C) counts, [actual, predicted].
        classes: (K,) indices to order; None = all.

    Raises:
        InputError: `confusion` is not square, or a class is out of range.

    Example:
        >>> cluster_order([[5, 0, 5, 0], [0, 9, 0, 1], [4, 0, 6, 0], [0, 2, 0, 8]]).tolist()
        [0, 2, 1, 3]
    """
    counts, chosen = _counts(confusion, classes)
    if len(chosen) < 3:
        return chosen
    share = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(chosen, chosen)]
    distance = 1 - (share + share.T) / 2
    np.fill_diagonal(distance, 0)
    return chosen[leaves_list(linkage(squareform(distance, checks=False), "average"))]


def with_rivals(confusion: npt.ArrayLike, classes: Sequence[int], most: int = 2) -> npt.NDArray[np.int64]:
    """`classes` followed by their most frequent wrong answers, each once, to show in `confusion`.

    Args:
        confusion: (C, C) counts, [actual, predicted].
        classes: (K,) indices, for example the worst.
        most: largest number of wrong answers of each class.

    Raises:
        InputError: `confusion` is not square, or a class is out of range.

    Example:
        >>> with_rivals([[5, 0, 5], [0, 9, 1], [1, 3, 6]], [0], most=1).tolist()
        [0, 2]
    """
    counts, chosen = _counts(confusion, classes)
    rows = counts[chosen]
    rows[np.arange(len(chosen)), chosen] = 0
    best = np.argsort(-rows, axis=1, kind="stable")[:, : whole_number(most, "most", 0)]
    named = best[np.take_along_axis(rows, best, axis=1) > 0]
    return np.array(list(dict.fromkeys([*chosen.tolist(), *named.tolist()])))


def recall_curve(recall_at_k: Mapping[int, float], num_classes: int, ax: Axes | None = None) -> Axes:
    """Draw Recall@K against K, with the chance level K / C.

    Args:
        recall_at_k: K -> fraction in [0, 1].
        num_classes: C, the number of classes.
        ax: axes to draw on; a new figure if None.

    Raises:
        InputError: `recall_at_k` is empty or has values outside [0, 1], or a K is not from 1 to C.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = recall_curve({1: 0.6, 5: 0.9}, num_classes=10, ax=Figure().subplots())
        >>> [(line.get_label(), line.get_ydata().tolist()) for line in ax.lines]
        [('Recall@K', [0.6, 0.9]), ('chance, K / 10', [0.1, 0.5])]
    """
    whole_number(num_classes, "num_classes", 1)
    require_attribute(recall_at_k, "recall_at_k", "keys", "EvaluationResult.recall_at_k")
    ks = sorted(whole_number(k, "recall_at_k", 1) for k in recall_at_k)
    if not ks or ks[0] < 1 or ks[-1] > num_classes:
        raise InputError(f"Expected `recall_at_k` with K from 1 to `num_classes` = {num_classes}, got K = {ks}")
    recall = _fractions("recall_at_k", _vector("recall_at_k", [recall_at_k[k] for k in ks]))
    ax = _axes(ax)
    ax.plot(ks, recall, "o-", color=BLUE, label="Recall@K")
    ax.plot(ks, np.array(ks) / num_classes, "s--", color=ORANGE, markersize=4, label=f"chance, K / {num_classes}")
    ax.set(xlabel="K, the number of guesses counted", ylabel="Recall@K")
    ax.set_xticks(ks if len(ks) <= 12 else np.unique(np.linspace(ks[0], ks[-1], 8).astype(int)))
    _percent(ax.yaxis, upper=1.02)
    _legend(ax)
    return ax


def precision_recall(
    precision: npt.ArrayLike,
    recall: npt.ArrayLike,
    ax: Axes | None = None,
    average_precision: float | None = None,
    base_rate: float | None = None,
) -> Axes:
    """Draw precision against recall as the step curve that average precision adds up.

    Args:
        precision: (T,) fractions in [0, 1], one for each threshold, as `metrics.precision_recall_curve` returns them.
        recall: (T,) fractions in [0, 1], for the same thresholds.
        ax: axes to draw on; a new figure if None.
        average_precision: written in the legend.
        base_rate: share of positives, which is the precision of guessing, drawn as a line.

    Raises:
        InputError: the two differ in shape or have values outside [0, 1].

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = precision_recall([0.5, 1.0, 1.0], [1.0, 0.5, 0.0], ax=Figure().subplots(), average_precision=0.75)
        >>> ax.lines[0].get_label()
        'average precision 0.750'
    """
    precision = _fractions("precision", _vector("precision", precision, finite=True))
    recall = _fractions("recall", _vector("recall", recall, ("T", len(precision)), finite=True))
    _check_number("average_precision", average_precision)
    _check_number("base_rate", base_rate)
    ax = _axes(ax)
    label = "model" if average_precision is None else f"average precision {average_precision:.3f}"
    ax.plot(recall, precision, color=BLUE, drawstyle="steps-post", label=label)
    if base_rate is not None:
        ax.axhline(base_rate, color=ORANGE, linestyle="--", label=f"chance {percent(base_rate)}")
    ax.set(xlabel="recall: share of the positives found", ylabel="precision: share of the retrieved that is positive")
    _percent(ax.xaxis, upper=1.02)
    _percent(ax.yaxis, upper=1.02)
    _legend(ax)
    return ax


def margin_accuracy(
    margin: npt.ArrayLike, per_class: npt.ArrayLike, ax: Axes | None = None, spearman: float | None = None
) -> Axes:
    """Scatter the accuracy of each class against its class-wise matching margin.

    Args:
        margin: (C,) difference of cosine similarities; NaN = no images.
        per_class: (C,) fractions in [0, 1]; NaN = no images. A class with a NaN in either is left out and counted.
        ax: axes to draw on; a new figure if None.
        spearman: rank correlation in [-1, 1], written in the figure; NaN = undefined.

    Raises:
        InputError: the two differ in shape, or `per_class` has values outside [0, 1].

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = margin_accuracy([0.1, -0.2, float("nan")], [0.9, 0.2, 0.5], ax=Figure().subplots(), spearman=1)
        >>> ax.get_title(loc="left")
        '2 classes, 1 left out (no images); Spearman ρ = 1.00'
    """
    per_class = _fractions("per_class", _vector("per_class", per_class))
    margin = _vector("margin", margin, ("C", len(per_class)))
    _check_number("spearman", spearman, -1)
    keep = ~(np.isnan(margin) | np.isnan(per_class))
    ax = _axes(ax)
    ax.axvline(0, color=GREY, linewidth=1)
    ax.scatter(margin[keep], per_class[keep], s=30 if keep.sum() <= 200 else 12, color=BLUE, alpha=0.7, linewidths=0)
    zero = keep & (per_class == 0)
    ax.scatter(margin[zero], per_class[zero], marker="X", s=45, color=ORANGE, clip_on=False, zorder=3)
    at_zero = f", {zero.sum()} at 0 % (crosses)" if zero.any() else ""
    left_out = "" if keep.all() else f", {(~keep).sum()} left out (no images)"
    rho = ""
    if spearman is not None:
        rho = "; Spearman ρ undefined" if np.isnan(spearman) else f"; Spearman ρ = {spearman:.2f}"
    ax.set_title(f"{keep.sum()} classes{at_zero}{left_out}{rho}", loc="left", fontsize="medium")
    ax.set(xlabel="class-wise matching margin (cosine)", ylabel="accuracy of the class")
    _percent(ax.yaxis, upper=1.02)
    return ax


def calibration(confidence: npt.ArrayLike, correct: npt.ArrayLike, ax: Axes | None = None, bins: int = 10) -> Axes:
    r"""Draw a reliability diagram: accuracy against confidence, with how many images each point stands for.

    A point below the diagonal is overconfident. Lines are 95 % intervals (`intervals.proportion`); bars are the share
    of images in the bin.

    Args:
        confidence: (N,) probability of the prediction, fractions in [0, 1].
        correct: (N,) booleans.
        ax: axes to draw on; a new figure if None.
        bins: number of bins of equal width over [0, 1].

    Raises:
        InputError: there are no images, the two differ in shape, or a confidence is outside [0, 1].

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = calibration([0.2, 0.7, 0.9], [False, True, False], ax=Figure().subplots(), bins=2)
        >>> ax.get_title(loc="left")
        '3 images, 33.3 % right at 60.0 % mean confidence\nexpected calibration error 26.7 %'
    """
    confidence = floats(confidence, "confidence", 1)
    mean, accuracies, images = metrics.calibration_bins(confidence, correct, bins)
    if not images.any():
        raise InputError("Expected at least one image in `confidence`, got none")
    error = metrics.expected_calibration_error(confidence, correct, bins)
    accuracy = float(np.nansum(accuracies * images) / images.sum())
    used = np.flatnonzero(images)
    scores = [intervals.proportion(round(accuracies[b] * images[b]), int(images[b])) for b in used]
    ax = _axes(ax, 5.2, 4.6)
    ax.bar(
        (np.arange(bins) + 0.5) / bins,
        images / images.sum(),
        width=0.92 / bins,
        color=GREY,
        alpha=0.3,
        label="share of the images",
    )
    ax.plot([0, 1], [0, 1], color=INK, linestyle=":", label="calibrated")
    ax.vlines(mean[used], [s.low for s in scores], [s.high for s in scores], color=BLUE, linewidth=1.6)
    ax.plot(mean[used], accuracies[used], "o-", color=BLUE, markersize=5, label="model")
    ax.set_title(
        f"{len(confidence)} images, {percent(accuracy)} right at {percent(confidence.mean())} "
        f"mean confidence\nexpected calibration error {percent(error)}",
        loc="left",
        fontsize="medium",
        pad=24,  # leaves room for the legend
    )
    ax.set(xlabel="confidence (mean of the bin)", ylabel="accuracy of the bin")
    _percent(ax.xaxis, upper=1)
    _percent(ax.yaxis, upper=1.02)
    _legend(ax)
    return ax


def bars_with_intervals(
    table: pd.DataFrame,
    value: str,
    low: str,
    high: str,
    label: str,
    ax: Axes | None = None,
    baseline: float | None = None,
) -> Axes:
    """Draw one bar for each method with its interval, best on top.

    Args:
        table: one row for each method.
        value: column of the score, a fraction in [0, 1].
        low: column of the interval's lower end.
        high: column of the interval's upper end.
        label: column of the method's name.
        ax: axes to draw on; a new figure if None.
        baseline: a score to compare with, drawn as a line.

    Raises:
        InputError: `table` is empty or lacks a column.

    Example:
        >>> from matplotlib.figure import Figure
        >>> table = pd.DataFrame({"method": ["bare", "cmm"], "worst": [0.1, 0.3], "low": [0, 0.2], "high": [0.2, 0.4]})
        >>> ax = bars_with_intervals(table, "worst", "low", "high", "method", ax=Figure().subplots(), baseline=0.1)
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['cmm', 'bare']
    """
    if table.empty:
        raise InputError(f"Expected `table` with rows, got none, and the columns {list(table.columns)}")
    for name, column in (("value", value), ("low", low), ("high", high), ("label", label)):
        one_of(column, name, tuple(table.columns))
    for column in (value, low, high):
        floats(table[column], column, 1, finite=False)
    _check_number("baseline", baseline)
    table = table.sort_values(value, ascending=False, kind="stable", na_position="last")
    ax = _axes(ax, height=1.2 + 0.38 * len(table))
    places = np.arange(len(table))
    ax.barh(places, table[value], color=BLUE, height=0.68, alpha=0.85)
    ax.hlines(places, table[low], table[high], color=INK, linewidth=1.6)
    for place, number, end in zip(places, table[value], table[[value, high]].max(axis=1), strict=True):
        ax.annotate(
            percent(number),
            (end, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=INK,
            bbox={"boxstyle": "square,pad=0.1", "color": ax.get_facecolor()},
        )
    if baseline is not None:
        ax.axvline(baseline, color=ORANGE, linestyle="--", label=f"baseline {percent(baseline)}")
    ax.set_yticks(places, [str(name) for name in table[label]], parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(f"{value.replace('_', ' ')} (line: interval)")
    ax.margins(x=0.15)
    ax.set_xlim(left=0)
    _percent(ax.xaxis)
    _legend(ax)
    return ax


def image_strip(images: Sequence, titles: Sequence[str], ax: Axes | None = None, columns: int = 6) -> Axes:
    """Lay images out in rows, each with its title below.

    Args:
        images: PIL images or (H, W, 3) arrays; each is fitted into a square of its own.
        titles: one text for each image; may have line breaks, and long lines are wrapped.
        ax: axes to draw on; a new figure if None.
        columns: number of images in a row.

    Raises:
        InputError: there are no images, or not one title for each.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = image_strip([np.zeros((8, 8, 3))] * 3, ["cat", "dog", "car"], ax=Figure().subplots(), columns=2)
        >>> [text.get_text() for text in ax.texts], len(ax.images)
        (['cat', 'dog', 'car'], 3)
    """
    arrays = [as_numpy(image, "images") for image in listed(images, "images", "images")]
    wrong = [
        pixels.shape
        for pixels in arrays
        if not pixels.size or (pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)))
    ]
    if wrong or not arrays:
        raise InputError(f"Expected `images` of shape (H, W, 3), got {wrong[0] if wrong else 'none'}")
    titles = [
        "\n".join(textwrap.fill(line, 17) for line in title.splitlines())
        for title in texts_of(titles, "titles", len(arrays))
    ]
    columns = min(whole_number(columns, "columns", 1), len(arrays))
    rows = -(-len(arrays) // columns)
    lines = 1 + max(title.count("\n") for title in titles)
    pitch = 1.06 + 0.17 * lines
    ax = _axes(ax, width=1.35 * columns, height=1.35 * pitch * rows)
    for i, (pixels, title) in enumerate(zip(arrays, titles, strict=True)):
        height, width = np.array(pixels.shape[:2]) / max(pixels.shape[:2])
        x, y = (i % columns) * 1.1, (i // columns) * pitch
        left, top = x + (1 - width) / 2, y + (1 - height) / 2
        ax.imshow(pixels, extent=(left, left + width, top + height, top), interpolation="antialiased")
        ax.text(
            x + 0.5, y + 1.03, title, ha="center", va="top", fontsize=8, color=INK, linespacing=1.15, parse_math=False
        )
    ax.set(xlim=(-0.05, columns * 1.1 - 0.05), ylim=(rows * pitch, -0.03), aspect="equal")
    ax.set_axis_off()
    return ax


def weights(weights: npt.ArrayLike, labels: Sequence[str], ax: Axes | None = None, top: int = 12) -> Axes:
    """Draw the weights of the heaviest prompts beside the uniform weight 1 / P.

    Args:
        weights: (P,) fractions that add up to one.
        labels: P texts.
        ax: axes to draw on; a new figure if None.
        top: number of prompts to draw; the axis label states the weight of the others.

    Raises:
        InputError: `weights` is not (P,), has values outside [0, 1], or `labels` has another length.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = weights([0.2, 0.5, 0.3], ["a {}", "a photo of a {}", "art of a {}"], ax=Figure().subplots(), top=2)
        >>> [tick.get_text() for tick in ax.get_yticklabels()], ax.get_xlabel()
        (['a photo of a {}', 'art of a {}'], 'weight (the other 1: 20.0 % together)')
    """
    weights = _fractions("weights", _vector("weights", weights, finite=True))
    labels = texts_of(labels, "labels", len(weights))
    top = whole_number(top, "top", 1)
    order = np.argsort(-weights, kind="stable")
    heaviest = order[:top]
    rest = order[top:]
    ax = _axes(ax, height=1.2 + 0.3 * len(heaviest))
    ax.barh(np.arange(len(heaviest)), weights[heaviest], color=BLUE, height=0.7)
    ax.axvline(1 / len(weights), color=ORANGE, linestyle="--", label=f"uniform, 1 / {len(weights)}")
    ax.set_yticks(np.arange(len(heaviest)), [labels[i] for i in heaviest], parse_math=False)
    ax.invert_yaxis()
    together = f" (the other {len(rest)}: {percent(weights[rest].sum())} together)" if len(rest) else ""
    ax.set_xlabel(f"weight{together}")
    _percent(ax.xaxis)
    _legend(ax)
    return ax
