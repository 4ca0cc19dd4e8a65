"""Static figures: what they say, what they refuse, and that they leave nothing behind."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from clipnb import plots

NAMES = ["<b>cat</b>", "$x_{dog$", 'a "car"']
COUNTS = np.array([[85, 10, 5], [8, 90, 2], [0, 7, 93]])
TABLE = pd.DataFrame({"method": NAMES, "score": [0.2, 0.5, 0.3], "low": [0.1, 0.4, 0.2], "high": [0.3, 0.6, 0.4]})
PICTURES = [np.zeros((8, 12, 3)), np.ones((12, 8, 3)), np.zeros((8, 8, 3))]

DRAWINGS = {
    "per_class_accuracy": lambda **k: plots.per_class_accuracy([0.9, 0, 0.5, np.nan], chance=0.25, mean=0.47, **k),
    "confusion": lambda **k: plots.confusion(COUNTS, NAMES, **k),
    "recall_curve": lambda **k: plots.recall_curve({1: 0.5, 3: 1.0}, 3, **k),
    "precision_recall": lambda **k: plots.precision_recall([0.5, 1, 1], [1, 0.5, 0], base_rate=0.5, **k),
    "margin_accuracy": lambda **k: plots.margin_accuracy([0.1, -0.1, 0.2], [0.5, 0, np.nan], spearman=0.9, **k),
    "calibration": lambda **k: plots.calibration([0.2, 0.7, 0.9], [False, True, False], **k),
    "bars_with_intervals": lambda **k: plots.bars_with_intervals(
        TABLE, "score", "low", "high", "method", baseline=0.2, **k
    ),
    "image_strip": lambda **k: plots.image_strip(PICTURES, NAMES, **k),
    "weights": lambda **k: plots.weights([0.2, 0.5, 0.3], NAMES, **k),
}


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_on_the_given_axes_with_hostile_names_and_changes_nothing_global(name, ax):
    settings, open_figures = dict(mpl.rcParams), plt.get_fignums()
    assert DRAWINGS[name](ax=ax) is ax
    ax.figure.canvas.draw()
    assert dict(mpl.rcParams) == settings and plt.get_fignums() == open_figures


@pytest.mark.parametrize("name", DRAWINGS)
def test_makes_a_figure_of_its_own(name):
    made = DRAWINGS[name]()
    made.figure.canvas.draw()
    plt.close(made.figure)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_per_class_is_sorted_and_zero_is_marked_and_nan_counted(ax):
    plots.per_class_accuracy([0.9, 0, 0.5, np.nan], ax=ax, chance=0.25, mean=0.4666)
    assert [bar.get_height() for bar in ax.patches] == [0, 0.5, 0.9]
    assert legend(ax) == ["mean 46.7 %", "chance 25.0 %", "1 class at 0 %"]
    assert ax.get_xlabel() == "class, worst first (3 classes; 1 without images left out)"


def test_confusion_of_some_classes_adds_up_the_others(ax):
    plots.confusion(COUNTS, NAMES, classes=[2, 0], ax=ax)
    assert [text.get_text() for text in ax.texts] == ["93", "·", "7", "5", "85", "10"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [NAMES[2], NAMES[0], "other"]
    assert np.ravel(ax.collections[0].get_array()).tolist() == pytest.approx([0.93, 0, 0.07, 0.05, 0.85, 0.10])


def test_confusion_of_a_thousand_classes_keeps_a_single_confusion_visible(ax):
    counts = np.diag(np.full(1000, 50))
    counts[10, 900] = 50
    plots.confusion(counts, [str(c) for c in range(1000)], ax=ax)
    drawn = ax.collections[0].get_array().reshape(250, 250)
    assert drawn[2, 225] == 0.5 and not ax.texts
    assert ax.get_xlabel() == "predicted class (1000 classes, largest of 4 × 4)"


def test_recall_curve_has_chance_beside_it(ax):
    plots.recall_curve({5: 0.9, 1: 0.6}, 20, ax=ax)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.6, 0.9], [0.05, 0.25]]


def test_margin_leaves_out_and_counts_classes_without_images(ax):
    plots.margin_accuracy([0.1, -0.1, 0.2, np.nan], [0.5, 0, np.nan, 1], ax=ax, spearman=-0.5)
    assert ax.get_title(loc="left") == "2 classes, 1 at 0 % (crosses), 2 left out (no images); Spearman ρ = -0.50"
    assert ax.collections[0].get_offsets().tolist() == [[0.1, 0.5], [-0.1, 0]]


def test_bars_are_best_on_top_with_their_interval(ax):
    plots.bars_with_intervals(TABLE, "score", "low", "high", "method", ax=ax, baseline=0.2)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [NAMES[1], NAMES[2], NAMES[0]] and ax.yaxis_inverted()
    assert [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()] == [
        [0.4, 0.6],
        [0.2, 0.4],
        [0.1, 0.3],
    ]
    assert legend(ax) == ["baseline 20.0 %"]


def test_image_strip_fits_each_picture_into_a_square(ax):
    plots.image_strip(PICTURES, ["a", "a title that is far too long for a line", "c"], ax=ax, columns=2)
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        assert max(right - left, bottom - top) == pytest.approx(1)
    assert ax.texts[1].get_text() == "a title that is\nfar too long for\na line"


def test_weights_are_heaviest_first_and_the_label_states_the_rest(ax):
    plots.weights([0.2, 0.5, 0.3], ["a", "b", "c"], ax=ax, top=1)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["b"]
    assert ax.get_xlabel() == "weight (the other 2: 50.0 % together)"


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (
            lambda ax: plots.per_class_accuracy([1.2], ax=ax),
            r"Expected `per_class` as fractions in \[0, 1\], got 1.2 to 1.2",
        ),
        (
            lambda ax: plots.per_class_accuracy([[1]], ax=ax),
            r"Expected `per_class` to have 1 dimension\(s\), got shape \(1, 1\)",
        ),
        (lambda ax: plots.per_class_accuracy([np.nan], ax=ax), "`per_class` with at least one class that has images"),
        (lambda ax: plots.confusion([[1, 2]], ["a"], ax=ax), r"Expected `confusion` to be square, got shape \(1, 2\)"),
        (lambda ax: plots.confusion(COUNTS, ["a"], ax=ax), "Expected `classnames` to hold 3 texts, got 1"),
        (
            lambda ax: plots.confusion(COUNTS, NAMES, classes=[3], ax=ax),
            r"Expected `classes` as indices from 0 to 2, each once, got \[3\]",
        ),
        (lambda ax: plots.recall_curve({4: 0.1}, 3, ax=ax), "K from 1 to `num_classes` = 3, got K = "),
        (
            lambda ax: plots.precision_recall([1, 1], [1], ax=ax),
            r"Expected `recall` of shape \(T,\) = \(2,\), got \(1,\)",
        ),
        (
            lambda ax: plots.margin_accuracy(np.zeros(9), np.zeros(10), ax=ax),
            r"Expected `margin` of shape \(C,\) = \(10,\), got \(9,\)",
        ),
        (
            lambda ax: plots.bars_with_intervals(TABLE, "score", "lo", "high", "method", ax=ax),
            "Expected `low` to be one of .*, got 'lo'",
        ),
        (lambda ax: plots.image_strip(PICTURES, ["a"], ax=ax), "Expected `titles` to hold 3 texts, got 1"),
        (lambda ax: plots.weights([0.5, 0.5], ["a"], ax=ax), "Expected `labels` to hold 2 texts, got 1"),
    ],
)
def test_wrong_input_is_named(draw, text, ax):
    with pytest.raises(ValueError, match=text):
        draw(ax)


# Many classes


def test_cluster_order_puts_the_confused_side_by_side():
    rng = np.random.default_rng(0)
    family = rng.permutation(60) // 4  # fifteen families of four, scattered over the list
    counts = np.where(family[:, None] == family, 10, 0) + np.diag(np.full(60, 20))
    order = plots.cluster_order(counts)
    assert sorted(order) == list(range(60)) and (np.diff(family[order]) != 0).sum() == 14
    some = plots.cluster_order(counts, [5, 9, 2])
    assert sorted(some) == [2, 5, 9] and plots.cluster_order(counts, [7]).tolist() == [7]
    assert sorted(plots.cluster_order(np.zeros((5, 5)))) == list(range(5))  # no images at all


def test_with_rivals_adds_each_wrong_answer_once():
    counts = [[5, 0, 5, 1], [0, 9, 0, 0], [1, 3, 6, 0], [0, 0, 4, 1]]
    assert plots.with_rivals(counts, [3, 0], most=1).tolist() == [3, 0, 2]
    assert plots.with_rivals(counts, [0]).tolist() == [0, 2, 3] and plots.with_rivals(counts, [1]).tolist() == [1]
    assert np.asarray(counts)[0, 0] == 5  # the counts are not changed


def test_calibration_shows_accuracy_against_confidence_with_intervals(ax):
    plots.calibration([0.1, 0.15, 0.9, 0.95], [0, 1, 1, 1], ax=ax, bins=2)
    line = next(line for line in ax.lines if line.get_label() == "model")
    assert line.get_xdata().tolist() == pytest.approx([0.125, 0.925]) and line.get_ydata().tolist() == [0.5, 1]
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.5] and len(ax.collections[0].get_segments()) == 2
    assert ax.get_title(loc="left").startswith("4 images, 75.0 % right at 52.5 % mean confidence\n")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: plots.cluster_order([[1, 2]]), r"Expected `confusion` to be square, got shape \(1, 2\)"),
        (lambda: plots.with_rivals(COUNTS, [3]), r"Expected `classes` as indices from 0 to 2, each once, got \[3\]"),
        (lambda: plots.calibration([], []), "Expected at least one image in `confidence`, got none"),
        (lambda: plots.calibration([1.5], [True]), r"Expected `confidence` in \[0, 1\], got 1.5 to 1.5"),
        (lambda: plots.calibration([0.5], [True, False]), r"Expected `correct` of shape \(1,\), got \(2,\)"),
    ],
)
def test_wrong_input_of_the_helpers_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
