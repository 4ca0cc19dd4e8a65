"""The live figures: their numbers by hand, and each of them operated in a real browser."""

import base64
import functools
import http.server
import io
import itertools
import json
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from PIL import Image

from clipnb import intervals, margin, metrics, widgets
from clipnb.errors import InputError
from clipnb.intervals import Score
from clipnb.margin import mean_by_class
from clipnb.paper import tails
from clipnb.widgets._base import HERE
from clipnb.widgets._confusion import _most_confused
from clipnb.widgets._threshold import round_steps
from tools.book import luck_worlds

HOSTILE = ["<script>alert(1)</script>", "say \"cat\" & 'dog'", "$x_1$ <b>bold</b>"]


class Pictures:
    """A labelled set of plain colours."""

    def __init__(self, labels, classnames=("cat", "dog", "car"), noise=False):
        self.labels, self.classnames, self.name = np.asarray(labels), list(classnames), "toy set"
        self.ids = [f"id{i}" for i in range(len(labels))]
        self.noise = noise

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        if self.noise:
            pixels = np.random.default_rng(i).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            return Image.fromarray(pixels), int(self.labels[i])
        colours = ((220, 120, 40), (60, 130, 200), (90, 170, 90), (150, 90, 170))
        return Image.new("RGB", (96, 72), colours[self.labels[i] % 4]), int(self.labels[i])


def evaluated(labels, topk, num_classes):
    labels, topk = np.asarray(labels), np.asarray(topk)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    known = labels >= 0
    np.add.at(confusion, (labels[known], topk[known, 0]), 1)
    totals = confusion.sum(axis=1)
    accuracy = np.where(totals > 0, np.diag(confusion) / np.maximum(totals, 1), np.nan)
    margins = np.where(topk[:, 0] == labels, 0.05, -0.05) - 0.001 * np.arange(len(labels))
    cmm = {
        "image": mean_by_class(margins, labels, num_classes),
        "pseudo_image": mean_by_class(np.abs(margins), topk[:, 0], num_classes),
    }
    return SimpleNamespace(
        labels=labels,
        topk=topk,
        predictions=topk[:, 0],
        num_classes=num_classes,
        confusion=confusion,
        topk_similarity=np.tile(np.linspace(0.3, 0.2, topk.shape[1], dtype=np.float32), (len(labels), 1)),
        per_class_accuracy=accuracy,
        margins=margins,
        cmm=cmm,
    )


LABELS = [0, 0, 0, 1, 1, 1, 2, 2, -1]
TOPK = [[0, 1, 2], [1, 0, 2], [1, 2, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 1, 0], [0, 2, 1], [0, 1, 2]]
TWO_SETS = (
    ([0.30, 0.28, 0.10, 0.25, 0.12, 0.05], [1, 1, 0, 0, 1, 0]),
    ([0.32, 0.22, 0.26, 0.24, 0.08, 0.02, 0.21], [1, 0, 0, 1, 1, 0, 0]),
)
SCORES = [0.30, 0.28, 0.10, 0.25, 0.12, 0.05, 0.22, 0.02, 0.01]


@pytest.fixture
def toy():
    """Eight labelled images and one unlabelled, under names that would break a page which took them for markup."""
    return Pictures(LABELS, HOSTILE), evaluated(LABELS, TOPK, 3)


def ensemble_accuracy(weights):
    value = float(weights @ [0.6, 0.4, 0.5])
    return Score(value, value - 0.1, value + 0.1)


def every_figure(data, result):
    return {
        "recall": widgets.RecallAtKExplorer(data, result),
        "reject": widgets.RejectExplorer(data, SCORES, [1, 1, 0, 1, 0, 0, 1, 0, 0]),
        "confusion": widgets.ConfusionExplorer(data, result),
        "threshold": widgets.ThresholdExplorer(data, SCORES, data.labels == 0, name=data.classnames[0]),
        "paradox": widgets.ParadoxExplorer(rare=data.classnames[0]),
        "atlas": widgets.ClassAtlas(data, result),
        "prompts": widgets.PromptWeightExplorer(
            data.classnames, [0.3, 0.1, 0.2], [0.6, 0.4, 0.5], ensemble=ensemble_accuracy
        ),
        "editor": widgets.ConfusionEditor([[85, 10, 5], [8, 90, 2], [3, 7, 90]], data.classnames),
        "luck": widgets.LuckExplorer(),
        "transfer": widgets.TransferExplorer(*TWO_SETS, name=data.classnames[0], miss_cost=3),
        "number": widgets.NumberGuess(data.classnames[0], Score(0.7, 0.65, 0.75), chance=0.1),
        "curve": widgets.CurveGuess(data.classnames[1], [0.0, 0.5, np.nan, 1.0, 0.25]),
        "shares": widgets.ShareExplorer(share_rows()),
        "tails": widgets.TailExplorer(*published_rows(data.classnames)),
        "names": widgets.NameExplorer(neighbours(data.classnames)),
    }


FIGURES = (
    "recall reject confusion threshold paradox atlas prompts editor luck transfer number curve shares tails names"
).split()


def test_all_figures_are_tested(toy):
    assert list(every_figure(*toy)) == FIGURES and len(FIGURES) == len(widgets.__all__) - 1  # LiveFigure is their base


def share_rows():
    """Two shares, "bare" and one method that breaks at the smaller one."""
    rows = [
        (0.1, 2, 20, "bare", 0.7),
        (0.1, 2, 20, "fix", 0.3),
        (1.0, 20, 200, "bare", 0.6),
        (1.0, 20, 200, "fix", 0.8),
    ]
    table = pd.DataFrame(rows, columns=["share", "classes", "images", "method", "accuracy"])
    return table.assign(
        accuracy_low=table.accuracy - 0.1, accuracy_high=table.accuracy + 0.1, classes_at_zero=[1, 2, 3, 4]
    )


def published_rows(names):
    """Two models with two prompt sets, 12 classes of two images; and their worst classes."""
    keys = [(model, "web", prompts) for model in ("small", "large") for prompts in ("bare", "single")]
    counts = [(6, 3, 3), (4, 4, 4), (2, 5, 5), (0, 6, 6)]
    columns = ["model", "pretrained", "prompts"]
    runs = pd.DataFrame(
        [(*key, *row) for key, row in zip(keys, counts)], columns=[*columns, *map("n_right_{}".format, range(3))]
    )
    worst = pd.DataFrame(
        [(*key, names[i % 3], 0) for i, key in enumerate(keys)], columns=[*columns, "classname", "right"]
    )
    return runs, worst


def neighbours(names):
    rows = [(names[0], names[1], 0.95), (names[1], names[0], 0.95), (names[2], names[0], 0.5)]
    return pd.DataFrame(rows, columns=["name", "nearest", "cosine"])


# The numbers


def test_recall_is_over_labelled_pictures_and_ranks_start_at_one():
    figure = widgets.RecallAtKExplorer(Pictures(LABELS), evaluated(LABELS, TOPK, 3), indices=[1, 2])
    assert figure.content["recall"] == [4 / 8, 6 / 8, 1.0]
    assert figure.content["chance"] == [1 / 3, 2 / 3, 1.0]
    assert [picture["rank"] for picture in figure.content["pictures"]] == [2, 3]
    assert [guess["hit"] for guess in figure.content["pictures"][0]["guesses"]] == [False, True, False]


def test_recall_sample_is_seeded_and_a_missing_label_has_rank_zero():
    data, result = Pictures(LABELS), evaluated(LABELS, [row[:1] for row in TOPK], 3)
    first, again = (widgets.RecallAtKExplorer(data, result, count=4, seed=3).content for _ in range(2))
    assert first == again
    assert widgets.RecallAtKExplorer(data, result, indices=[1]).content["pictures"][0]["rank"] == 0


def test_rejection_numbers_equal_those_of_the_curve_and_ties_are_answered_together():
    rng = np.random.default_rng(0)
    data, confidence, right = Pictures([0] * 250), rng.integers(0, 40, 250) / 40, rng.random(250) < 0.7
    content = widgets.RejectExplorer(data, confidence, right).content
    coverage, risk, thresholds = metrics.risk_coverage_curve(confidence, right)
    for t, threshold in enumerate(content["thresholds"]):
        (place,) = np.flatnonzero(thresholds == threshold)
        assert content["answered"][t] == round(250 * coverage[place]) >= 2.5 * (t + 1) - 1
        assert content["precision"][t] == pytest.approx(1 - risk[place])
        low, high = intervals.proportion(content["right"][t], content["answered"][t])[1:]
        assert (content["low"][t], content["high"][t]) == (low, high)
    assert content["answered"][-1] == 250 and len(content["pictures"]) == 30


def test_confusion_counts_and_scores():
    content = widgets.ConfusionExplorer(Pictures(LABELS), evaluated(LABELS, TOPK, 3), classes=[1, 0]).content
    assert content["counts"] == [[2, 1], [2, 1]]
    assert content["actual_totals"] == [3, 3] and content["predicted_totals"] == [4, 3]
    assert content["precision"] == [2 / 4, 1 / 3] and content["recall"] == [2 / 3, 1 / 3]
    assert {(p["actual"], p["predicted"]) for p in content["pictures"]} == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)}


def test_confusion_starts_from_the_worst_pair_and_follows_its_links():
    confusion = np.diag([9, 9, 9, 9, 9])
    confusion[4, 2], confusion[2, 1], confusion[0, 3] = 5, 3, 4
    assert _most_confused(confusion, 4) == [2, 4, 1, 0]
    assert _most_confused(np.diag([9, 9, 9]), 2) == [0, 1]


def test_class_without_pictures_or_predictions_is_undefined_not_zero():
    data, result = Pictures([0, 0], ["a", "b", "c"]), evaluated([0, 0], [[0, 1], [1, 0]], 3)
    content = widgets.ConfusionExplorer(data, result, classes=[0, 1, 2]).content
    assert content["recall"] == [0.5, None, None] and content["precision"] == [1.0, 0.0, None]


def test_threshold_counts_equal_a_count_by_hand():
    data, scores = Pictures(LABELS), np.array(SCORES)
    positives = data.labels == 0
    content = widgets.ThresholdExplorer(data, scores, positives).content
    for t, threshold in enumerate(content["thresholds"]):
        found = scores >= threshold
        counts = [
            (found & positives).sum(),
            (found & ~positives).sum(),
            (~found & positives).sum(),
            (~found & ~positives).sum(),
        ]
        assert [content[key][t] for key in ("tp", "fp", "fn", "tn")] == counts
    assert content["recall"][0] == 1 and content["precision"][-1] is None and content["f1"][-1] == 0
    assert content["base_rate"] == 3 / 9


@pytest.mark.parametrize(("low", "high"), [(0.121, 0.347), (-3, 40), (0.5, 0.5), (1e-5, 2e-5)])
def test_thresholds_are_round_and_enclose_the_scores(low, high):
    steps, decimals = round_steps(low, high)
    assert steps[0] <= low and steps[-1] > high and len(steps) <= 110
    assert np.array_equal(steps, np.round(steps, decimals)) and (np.diff(steps) > 0).all()


def test_paradox_98_percent_accuracy_with_12_percent_recall():
    numbers = widgets.ParadoxExplorer().numbers()
    assert numbers["accuracy"] == 0.98 and numbers["rare_recall"] == 0.12
    assert numbers["macro"] == (12 / 100 + 4888 / 4900) / 2 and numbers["baseline"] == 0.98


def test_atlas_has_the_counts_orders_and_images_of_every_class():
    result = evaluated(LABELS, TOPK, 3)
    content = widgets.ClassAtlas(Pictures(LABELS), result, per_class=2).content
    assert content["classes"] == [0, 1, 2] and content["right"] == [1, 2, 1] and content["count"] == [3, 3, 2]
    assert content["predicted"] == [3, 4, 1]  # the unlabelled image is not counted
    assert content["answers"] == [[[1, 2]], [[0, 1]], [[0, 1]]]
    assert content["orders"]["accuracy"] == [0, 2, 1]
    assert content["orders"]["margin without labels"] == margin.worst_first(result.cmm["pseudo_image"]).tolist()
    assert content["flagged_mean"][-1] == pytest.approx(1 / 2) == content["mean"] and content["found"][-1] == 3
    assert content["images"] == [
        [0, 1, -0.052],
        [2, 0, -0.057],
        [1, 0, -0.055],
        [0, 1, -0.051],
        [2, 2, 0.044],
        [1, 1, 0.046],
    ]


def test_atlas_flags_a_class_that_is_never_predicted_and_leaves_out_one_without_images():
    data = Pictures([0, 0, 1], ["a", "b", "c"])
    figure = widgets.ClassAtlas(data, evaluated([0, 0, 1], [[0, 1], [0, 1], [0, 1]], 3), labels=False)
    assert figure.content["classes"] == [0, 1] and figure.content["label_free"][1] is None
    assert figure.content["orders"]["margin without labels"] == [1, 0] and figure.shares() == [1.0, 0.0]


def test_atlas_keeps_as_many_images_as_fit_and_one_of_every_class_first():
    labels = np.arange(900) % 100
    data = Pictures(labels, [f"class {c}" for c in range(100)], noise=True)
    content = widgets.ClassAtlas(data, evaluated(labels, np.tile([0, 1], (900, 1)), 100), per_class=9).content
    shown = [c for c, *_ in content["images"]]
    assert 100 <= len(shown) < 900 and set(shown[:100]) == set(range(100))


def test_the_old_name_of_the_atlas_warns():
    with pytest.warns(DeprecationWarning, match="WorstStrip is now clipnb.widgets.ClassAtlas"):
        assert widgets.WorstStrip is widgets.ClassAtlas


def test_editor_numbers_follow_the_mix():
    figure = widgets.ConfusionEditor([[85, 10, 5], [8, 90, 2], [3, 7, 90]], ["cat", "dog", "car"])
    assert figure.numbers()["recall"] == [0.85, 0.9, 0.9] and figure.numbers()["precision"][0] == 85 / 96
    macro = figure.numbers()["macro"]
    figure.factor = 20
    numbers = figure.numbers()
    assert (
        numbers["macro"] == macro and numbers["micro"] == (20 * 85 + 180) / 2200 and numbers["baseline"] == 2000 / 2200
    )
    figure.counts = [[0, 0, 0], [8, 90, 2], [3, 7, 90]]
    assert figure.numbers()["recall"][0] is None and figure.numbers()["macro"] == pytest.approx(0.9)


def test_one_world_of_luck_is_what_is_computed_now():
    content = widgets.LuckExplorer().content
    at, spread = content["images"].index(20), content["spreads"].index(0.3)
    kept, now = content["worlds"][at][spread], luck_worlds.world(20, 0.3)
    assert kept["right"] == now["right"] and kept["truth"] == now["truth"]
    for a, b in zip(kept["scores"], now["scores"], strict=True):
        for name, values in b.items():
            if name != "truths":
                assert a[name] == [value if value is None else pytest.approx(value, abs=0.02) for value in values]
        assert a["truths"] == pytest.approx(b["truths"])


def test_costs_of_a_threshold_equal_a_count_by_hand():
    figure = widgets.TransferExplorer(*TWO_SETS, miss_cost=3)
    for threshold in figure.content["thresholds"][::9]:
        figure.threshold = threshold
        for part, (scores, wanted) in zip(("validation", "test"), TWO_SETS, strict=True):
            shown, positive = np.array(scores) >= threshold, np.array(wanted, dtype=bool)
            cost = 3 * (positive & ~shown).sum() + (shown & ~positive).sum()
            assert figure.costs()[part] == cost and cost >= min(figure._costs(part))
    assert figure.content["thresholds"][-1] > 0.32


def test_a_curve_guess_sorts_and_leaves_out_classes_without_images():
    content = widgets.CurveGuess("?", [0.0, 0.5, np.nan, 1.0, 0.25]).content
    assert content["curve"] == [0, 0.25, 0.5, 1] and content["classes"] == 4 and content["zero"] == 1
    assert len(widgets.CurveGuess("?", np.linspace(0, 1, 5000)).content["curve"]) <= 400


def test_prompt_weights_keep_the_order_of_the_prompts():
    figure = widgets.PromptWeightExplorer(["a", "b", "c"], [1.0, 3.0, 2.0])
    expected = np.exp([1.0, 3.0, 2.0]) / np.exp([1.0, 3.0, 2.0]).sum()
    assert figure.weights(1.0) == pytest.approx(expected)
    assert figure.effective_number(1e6) == pytest.approx(3) and figure.effective_number(1e-3) == pytest.approx(1)


def test_tails_are_counted_as_the_tables_are():
    figure = widgets.TailExplorer(*published_rows(["a", "b", "c"]))
    assert figure.numbers() == {"accuracy": 9 / 24, "worst_10": 5 / 20, "classes_at_zero": 6}
    figure.run, figure.prompts = 1, 1
    assert figure.numbers() == {"accuracy": 18 / 24, "worst_10": 14 / 20, "classes_at_zero": 0}
    real = widgets.TailExplorer(tails.load(), tails.worst_named())
    row = tails.table(tails.load().head(1)).iloc[0]
    assert real.numbers() == pytest.approx(
        {"accuracy": row.accuracy, "worst_10": row.worst_k, "classes_at_zero": row.classes_at_zero}
    )


def test_names_collide_from_a_cosine_on():
    figure = widgets.NameExplorer(neighbours(["a", "b", "c"]))
    assert [figure.colliding(cosine) for cosine in (0.4, 0.9, 0.96)] == [3, 2, 0]
    assert widgets.NameExplorer(tails.nearest_of_each()).content["rows"][0][2] == tails.nearest_names(1).cosine[0]


# Wrong input


def test_data_over_the_limit_is_refused():
    labels = np.arange(400) % 3
    data, result = Pictures(labels, noise=True), evaluated(labels, np.tile([0, 1], (400, 1)), 3)
    with pytest.raises(
        InputError, match=r"Expected at most 300 kB of data for RecallAtKExplorer, got \d+ kB: show fewer"
    ):
        widgets.RecallAtKExplorer(data, result, count=400)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda d, r: widgets.RecallAtKExplorer(d, evaluated([0], [[0]], 3)),
            r"`result.labels` of shape \(N,\) = \(9,\), got \(1,\)",
        ),
        (
            lambda d, r: widgets.RecallAtKExplorer(d, r, indices=[9]),
            r"`indices` as indices from 0 to 8, each once, got \[9\]",
        ),
        (lambda d, r: widgets.RecallAtKExplorer(d, r, indices=[8]), "`indices` of labelled images"),
        (lambda d, r: setattr(widgets.RecallAtKExplorer(d, r), "k", 4), "`k` from 1 to 3, got 4"),
        (lambda d, r: widgets.RejectExplorer(d, SCORES[:3], [True] * 9), r"`confidence` of shape \(N,\) = \(9,\), got"),
        (lambda d, r: widgets.RejectExplorer(d, SCORES, [True] * 3), r"`right` of shape \(9,\), got \(3,\)"),
        (lambda d, r: widgets.RejectExplorer(d, SCORES, [True] * 9, precision=2), "`precision` above 0 and at most 1"),
        (
            lambda d, r: setattr(widgets.RejectExplorer(d, SCORES, [True] * 9), "answered", 0),
            "`answered` from 1 to 100",
        ),
        (lambda d, r: widgets.ConfusionExplorer(d, r, classes=[1]), "`classes` with at least two different classes"),
        (
            lambda d, r: widgets.ThresholdExplorer(d, SCORES[:3], [True] * 9),
            r"`scores` of shape \(N,\) = \(9,\), got \(3,\)",
        ),
        (lambda d, r: widgets.ThresholdExplorer(d, SCORES, [False] * 9), "`positives` with at least one True"),
        (lambda d, r: widgets.ThresholdExplorer(d, [np.nan] * 9, [True] * 9), "`scores` to be finite"),
        (lambda d, r: widgets.ParadoxExplorer(rare_share=0.7), "`rare_share` from 0 to 0.5, got 0.7"),
        (lambda d, r: widgets.ClassAtlas(d, r, classes=[7]), "`classes` as indices from 0 to 2"),
        (lambda d, r: widgets.ClassAtlas(d, r, sort="name"), "`sort`"),
        (lambda d, r: setattr(widgets.ClassAtlas(d, r), "flagged", 4), "`flagged` from 1 to 3, got 4"),
        (lambda d, r: widgets.ConfusionEditor([[1, 2]], ["a", "b"]), r"`confusion` of shape \(C, C\)"),
        (
            lambda d, r: widgets.ConfusionEditor([[1, 2], [0.5, 1]], ["a", "b"]),
            "`confusion` of whole numbers from 0 to 9999, got 0.5 to 2",
        ),
        (lambda d, r: setattr(widgets.LuckExplorer(), "images", 9), "`images` from 0 to 5, got 9"),
        (lambda d, r: widgets.TransferExplorer([0.1], TWO_SETS[1]), r"`chosen_on` as a pair \(scores, positives\)"),
        (lambda d, r: widgets.TransferExplorer(([0.1], [1]), TWO_SETS[1]), "positives and others in `chosen_on`"),
        (lambda d, r: widgets.NumberGuess("", 0.5), "`question`"),
        (lambda d, r: widgets.NumberGuess("?", 50), "`answer` from 0 to 1, got 50"),
        (lambda d, r: widgets.CurveGuess("?", [0.5]), "`per_class` of at least two classes"),
        (lambda d, r: widgets.PromptWeightExplorer(["a"], [1, 2]), r"`scores` of shape \(N,\) = \(1,\), got \(2,\)"),
        (lambda d, r: widgets.PromptWeightExplorer(["a"], [1], temperature=0), "`temperature` above 0, got 0"),
        (
            lambda d, r: widgets.ShareExplorer(share_rows().drop(columns="share")),
            "`table` of .*over_shares.* without share",
        ),
        (lambda d, r: setattr(widgets.ShareExplorer(share_rows()), "position", 2), "`position` between 0 and 1, got 2"),
        (lambda d, r: widgets.TailExplorer(share_rows(), share_rows()), "`runs` of clipnb.paper.tails.load"),
        (lambda d, r: widgets.NameExplorer(share_rows()), "`neighbours` with rows of name, nearest, cosine"),
    ],
)
def test_wrong_input_is_named(make, text):
    with pytest.raises(ValueError, match=text):
        make(Pictures(LABELS), evaluated(LABELS, TOPK, 3))


def test_viewers_without_script_get_a_still_picture(toy):
    for figure in every_figure(*toy).values():
        bundle, _ = figure._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).width > 200


# In a browser

PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>figures</title><link rel="icon" href="data:,">
<style>body {{ margin: 8px }} html[data-theme="dark"] body {{ background: #14181d }} section \
{{ margin-bottom: 16px }}</style>
<link rel="stylesheet" href="figure.css"><main></main><script type="module">
const states = await (await fetch("states.json")).json();
window.models = {{}};
for (const [name, state] of Object.entries(states)) {{
  const listeners = {{}};
  const model = {{
    saved: 0,
    get: (key) => state[key],
    set(key, value) {{ state[key] = value; (listeners[`change:${{key}}`] ?? []).forEach((listener) => listener()); }},
    save_changes() {{ this.saved += 1; }},
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: (event, listener) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener)),
  }};
  window.models[name] = model;
  const el = document.createElement("section");
  document.querySelector("main").append(el);
  (await import(`./${{name}}.js`)).default.render({{ model, el }});
}}
document.body.dataset.ready = "yes";
</script></html>"""


SERIOUS = """async () => (await axe.run({preload: false})).violations
  .filter(({ impact }) => ["serious", "critical"].includes(impact))
  .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)} (${node.failureSummary})`))"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def write_page(folder, figures):
    """The page of these figures, fed by nothing but their synced state."""
    for theme in ("light", "dark"):
        (folder / f"{theme}.html").write_text(PAGE.format(theme=theme), encoding="utf-8")
    (folder / "figure.css").write_text(str(widgets.LiveFigure._css), encoding="utf-8")
    states = {}
    for name, figure in figures.items():
        state = figure.get_state()
        (folder / f"{name}.js").write_text(state.pop("_esm"), encoding="utf-8")
        states[name] = {key: value for key, value in state.items() if not key.startswith("_") and key != "layout"}
    # a notebook that was saved has its keys in order of the alphabet
    (folder / "states.json").write_text(json.dumps(states, default=str, sort_keys=True), encoding="utf-8")


class Opened:
    """The page of all figures, and what went wrong in it."""

    def __init__(self, browser, address, width, theme):
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.errors.append("dialog"), dialog.dismiss()))
        self.page.goto(f"{address}/{theme}.html")
        self.page.wait_for_selector("body[data-ready]")

    def figure(self, name):
        return self.page.locator(f'[data-figure="{name}"]')

    def state(self, name):
        return self.figure(name).get_attribute("data-state")

    def value(self, name, number):
        return float(self.figure(name).locator(f'[data-name="{number}"]').first.get_attribute("data-value"))

    def serious(self):
        """What axe calls a serious or critical violation."""
        self.page.evaluate(AXE_SCRIPT)
        return self.page.evaluate(SERIOUS)

    def trait(self, name, trait):
        return self.page.evaluate("([name, trait]) => window.models[name].get(trait)", [name, trait])


@pytest.fixture
def opened(toy, browser, tmp_path):
    """Open the figures of `toy`: opened(width, theme) -> (figures, Opened)."""
    figures = every_figure(*toy)
    write_page(tmp_path, figures)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    views = []

    def open_page(width=1000, theme="light"):
        views.append(Opened(browser, f"http://127.0.0.1:{server.server_port}", width, theme))
        return figures, views[-1]

    yield open_page
    errors = [error for view in views for error in view.errors]
    for view in views:
        view.page.close()
    server.shutdown()
    server.server_close()
    assert not errors


def test_names_stay_data(opened, toy):
    _, view = opened()
    data, _ = toy
    text = view.page.inner_text("main")
    assert all(name in text for name in data.classnames)
    assert view.page.locator("main script, main b:not(.clipnb-track b)").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000])
def test_page_fits_and_follows_the_theme(opened, width, theme):
    _, view = opened(width, theme)
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    assert not view.serious()
    backgrounds = {
        view.page.evaluate("node => getComputedStyle(node).backgroundColor", figure.element_handle())
        for figure in view.page.locator(".clipnb-figure").all()
    }
    assert backgrounds == {"rgb(255, 255, 255)" if theme == "light" else "rgb(20, 24, 29)"}
    assert all(image.get_attribute("alt") for image in view.page.locator("img").all())


def test_every_figure_and_every_image_has_a_name(opened, toy):
    _, view = opened()
    labels = view.page.locator(".clipnb-figure").evaluate_all("nodes => nodes.map((node) => node.ariaLabel)")
    assert all(label.startswith("Live figure: ") for label in labels) and len(set(labels)) == len(labels)
    charts = view.page.locator("svg[role=img]").evaluate_all("nodes => nodes.map((node) => node.ariaLabel)")
    assert all(len(label) > 10 for label in charts)
    images = view.page.locator("img").evaluate_all("nodes => nodes.map((node) => node.alt)")
    names = [*toy[0].classnames, "unknown"]
    assert set(images) <= {f"an image of the class “{name}”" for name in names} and len(set(images)) == len(names)


SMALLEST = 9  # pixels of a letter's size on the screen
SMALL_WORDS = """(smallest) => [...document.querySelectorAll(".clipnb-figure *")].filter((node) =>
  [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim())
  && parseFloat(getComputedStyle(node).fontSize) * (node.ownerSVGElement?.getScreenCTM().a ?? 1) < smallest)
  .map((node) => node.textContent)"""
# words of a chart that leave it, or lie on one another, and boxes that are too narrow for what is in them
COLLISIONS = """() => {
  const found = [];
  for (const chart of document.querySelectorAll(".clipnb-chart")) {
    const { left, right, top, bottom } = chart.getBoundingClientRect();
    const words = [...chart.querySelectorAll("text")].map((node) => [node.textContent, node.getBoundingClientRect()]);
    for (const [text, box] of words)
      if (box.left < left - 1 || box.right > right + 1 || box.top < top - 1 || box.bottom > bottom + 1)
        found.push(`${text} leaves its chart`);
    words.forEach(([text, a], i) => words.slice(0, i).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 0.3 * a.height) found.push(`${text} lies on ${other}`);
    }));
  }
  for (const node of document.querySelectorAll(".clipnb-figure :is(div, p, li, dd, dt, td, table, label, button)"))
    if (node.scrollWidth > node.clientWidth + 1) found.push(`${node.className} ${node.textContent} is too wide`);
  return found;
}"""


@pytest.mark.parametrize("width", [390, 720, 1000])
def test_words_are_large_enough_and_have_room(opened, width):
    _, view = opened(width)
    assert not view.page.evaluate(SMALL_WORDS, SMALLEST)
    assert not view.page.evaluate(COLLISIONS)


def test_theme_change_needs_no_reload(opened):
    _, view = opened()
    colour = "() => getComputedStyle(document.querySelector('.clipnb-chart .line')).stroke"
    before = view.page.evaluate(colour)
    view.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert view.page.evaluate(colour) != before


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "tails"])  # it has no slider
def test_every_slider_moves_by_keyboard_and_mouse(opened, name):
    _, view = opened()
    for slider in view.figure(name).locator('input[type="range"]').all():
        start = view.state(name)
        saved = view.page.evaluate("name => window.models[name].saved", name)
        slider.focus()
        view.page.keyboard.press("Home")
        home, home_text = view.state(name), slider.get_attribute("aria-valuetext")
        view.page.keyboard.press("End")
        assert view.state(name) != home and slider.get_attribute("aria-valuetext") != home_text
        assert view.page.evaluate("name => window.models[name].saved", name) > saved, f"{start} was not sent to Python"
        end = view.state(name)
        box = slider.bounding_box()
        view.page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
        assert view.state(name) != end


REACHED = """(name) => {
  const node = document.activeElement;
  if (node.closest(".clipnb-figure")?.dataset.figure !== name) return null;
  node.dataset.reached = "";
  const words = node.ariaLabel ?? node.labels?.[0]?.textContent ?? node.textContent;
  return { type: node.type, pressed: node.ariaPressed === "true", words };
}"""
KEYS = ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "Space", "Enter"]


@pytest.mark.parametrize("name", FIGURES)
def test_every_control_is_reached_and_does_something_by_keyboard(opened, name):
    _, view = opened()
    figure, keyboard = view.figure(name), view.page.keyboard
    figure.evaluate("(node) => { node.tabIndex = -1; node.focus(); }")
    idle, last = [], view.state(name)
    for typed in itertools.count(7):
        keyboard.press("Tab")
        if not (control := view.page.evaluate(REACHED, name)):
            break
        if control["type"] in ("number", "text"):
            keyboard.press("ControlOrMeta+a")
            keyboard.type(str(typed))
        for key in KEYS:
            if view.state(name) != last:
                break
            keyboard.press(key)
        view.page.evaluate(REACHED, name)  # arrow keys lead to another cell of a table
        idle += [control] if view.state(name) == last and not control["pressed"] else []
        last = view.state(name)
    assert not idle
    left = figure.locator(':is(input, select, button):not([tabindex="-1"], :disabled, [data-reached])')
    assert not left.count(), left.evaluate_all("nodes => nodes.map((node) => node.outerHTML)")


def test_recall_numbers_agree_at_every_k(opened):
    figures, view = opened()
    content = figures["recall"].content
    view.figure("recall").locator("input").focus()
    for k in (1, 2, 3):
        assert view.trait("recall", "k") == k
        assert view.value("recall", "recall") == content["recall"][k - 1]
        lit = sum(0 < picture["rank"] <= k for picture in content["pictures"])
        assert view.value("recall", "lit") == lit == view.figure("recall").locator('[data-tone="yes"]').count()
        view.page.keyboard.press("ArrowRight")


def test_rejection_numbers_agree_along_the_slider(opened):
    figures, view = opened()
    content = figures["reject"].content
    assert view.trait("reject", "answered") == 100
    slider = view.figure("reject").locator("input")
    for t in (0, 33, 60, 99):
        slider.evaluate("(node, t) => { node.value = t; node.dispatchEvent(new Event('input')); }", t + 1)
        for number in ("answered", "right", "precision"):
            assert view.value("reject", number) == content[number][t]
        ends = f"[{100 * content['low'][t]:.1f}, {100 * content['high'][t]:.1f}]"
        assert ends in view.figure("reject").locator('[data-name="precision"]').inner_text()
        assert view.value("reject", "person") == content["total"] - content["answered"][t]
        kept = sum(picture["confidence"] >= content["thresholds"][t] for picture in content["pictures"])
        assert view.figure("reject").locator(".clipnb-group").first.locator("img").count() == kept


def test_recall_picture_tells_its_guesses_on_focus(opened):
    figures, view = opened()
    view.figure("recall").locator("input").press("End")
    view.figure("recall").locator("button").nth(2).focus()
    guesses = figures["recall"].content["pictures"][2]["guesses"]
    items = view.figure("recall").locator("li").all_inner_texts()
    assert len(items) == len(guesses) and all(guess["name"] in item for guess, item in zip(guesses, items, strict=True))
    assert view.state("recall") == "k=3;picture=2"


def test_confusion_cells_open_their_pictures(opened, toy):
    figures, view = opened()
    confusion, names = toy[1].confusion, figures["confusion"].content["names"]
    order = [toy[0].classnames.index(name) for name in names]
    for cell in view.figure("confusion").locator("button").all():
        row, column = map(int, cell.get_attribute("data-cell").split(","))
        cell.click()
        if row < 3 and column < 3:
            expected = confusion[order[row], order[column]]
            assert view.value("confusion", "count") == expected
            assert view.figure("confusion").locator("img").count() == expected
            assert view.value("confusion", "recall") == confusion[order[row], order[row]] / confusion[order[row]].sum()
    assert view.trait("confusion", "cell") == [3, 2]


def test_confusion_arrow_keys_walk_and_fewer_classes_join_other(opened):
    _, view = opened()
    view.figure("confusion").locator('[data-cell="0,1"]').focus()
    view.page.keyboard.press("ArrowDown")
    assert view.state("confusion") == "shown=3;cell=1,1"
    assert view.page.evaluate("document.activeElement.dataset.cell") == "1,1"
    total = "nodes => nodes.reduce((sum, node) => sum + (Number(node.textContent) || 0), 0)"
    everything = view.figure("confusion").locator("td button").evaluate_all(total)
    view.figure("confusion").locator("input").press("Home")
    shown = view.figure("confusion").locator("td button").evaluate_all(total)
    assert everything == 8 and shown == 8 - 1  # the third class read as itself falls out


def test_threshold_numbers_agree_along_the_slider(opened):
    figures, view = opened()
    content = figures["threshold"].content
    assert view.trait("threshold", "threshold") == figures["threshold"].threshold
    slider = view.figure("threshold").locator("input")
    slider.press("Home")
    for t in range(0, len(content["thresholds"]), 7):
        slider.evaluate("(node, t) => { node.value = t; node.dispatchEvent(new Event('input')); }", t)
        for number in ("tp", "fp", "fn", "tn", "recall", "f1"):
            assert view.value("threshold", number) == content[number][t]
        if content["precision"][t] is not None:
            assert view.value("threshold", "precision") == content["precision"][t]
        found = sum(picture["score"] >= content["thresholds"][t] for picture in content["pictures"])
        assert view.figure("threshold").locator(".clipnb-group").first.locator("img").count() == found
    slider.press("End")
    assert "undefined" in view.figure("threshold").locator('[data-name="precision"]').inner_text()


def test_paradox_numbers_agree_with_python(opened):
    figures, view = opened()
    share, recall = view.figure("paradox").locator("input").all()
    for keys in ([], ["PageUp"], ["ArrowRight", "ArrowRight"], ["End"]):
        for key in keys:
            share.press(key)
            recall.press(key)
        figures["paradox"].rare_share = view.trait("paradox", "rare_share")
        figures["paradox"].rare_recall = view.trait("paradox", "rare_recall")
        expected = figures["paradox"].numbers()
        for number in ("accuracy", "rare_recall", "macro", "baseline"):
            assert view.value("paradox", number) == expected[number]


def test_prompt_weights_agree_with_python(opened):
    figures, view = opened()
    figure, slider = figures["prompts"], view.figure("prompts").locator("input")
    for key in ("Home", "PageUp", "ArrowRight", "End"):
        slider.press(key)
        temperature = view.trait("prompts", "temperature")
        shown = (
            view.figure("prompts")
            .locator('[data-name="weight"]')
            .evaluate_all("nodes => nodes.map((n) => +n.dataset.value)")
        )
        assert shown == pytest.approx(sorted(figure.weights(temperature), reverse=True))
        assert view.value("prompts", "effective") == pytest.approx(figure.effective_number(temperature))
        weighted = figure.weights(temperature) @ [0.6, 0.4, 0.5]
        assert view.value("prompts", "ensemble") == pytest.approx(weighted)
        assert view.value("prompts", "uniform") == pytest.approx(0.5)


def test_a_fix_breaks_when_its_slider_moves(opened):
    _, view = opened()
    slider = view.figure("shares").locator("input")
    assert view.value("shares", "fix") == 0.8 and view.value("shares", "bare") == 0.6
    assert view.figure("shares").locator('[data-tone="no"]').count() == 0
    slider.press("Home")
    assert view.trait("shares", "position") == 0
    assert view.value("shares", "fix") == 0.3 and view.value("shares", "bare") == 0.7
    assert view.figure("shares").locator('[data-tone="no"]').count() == 1
    assert "interval 20.0 to 40.0" in view.figure("shares").locator('[data-name="fix"]').inner_text()


def test_tails_of_a_chosen_run_agree_with_python(opened, toy):
    figures, view = opened()
    model, prompts = view.figure("tails").locator("select").all()
    for run in ("0", "1"):
        for position in ("0", "1"):
            model.select_option(run)
            prompts.select_option(position)
            figures["tails"].run, figures["tails"].prompts = int(run), int(position)
            for number, expected in figures["tails"].numbers().items():
                assert view.value("tails", number) == pytest.approx(expected)
    named = view.figure("tails").locator('[data-name="worst"]').inner_text()
    assert toy[0].classnames[0] in named


def test_names_are_counted_and_looked_up(opened, toy):
    figures, view = opened()
    data, _ = toy
    assert "undefined" not in view.figure("names").inner_text()
    slider, text = view.figure("names").locator("input").all()
    for key in ("Home", "ArrowRight", "End"):
        slider.press(key)
        threshold = view.trait("names", "threshold")
        assert view.value("names", "colliding") == figures["names"].colliding(threshold)
    answer = view.figure("names").locator('[data-name="answer"]')
    text.fill(data.classnames[2])
    text.press("Enter")
    assert f"nearest is “{data.classnames[0]}”, cosine 0.500; 2 names have a nearer one" in answer.inner_text()
    text.fill("no such name")
    text.press("Enter")
    assert "No class is called" in answer.inner_text()


def test_python_moves_the_figure(opened):
    _, view = opened()
    view.page.evaluate("window.models.recall.set('k', 2)")
    assert view.state("recall").startswith("k=2") and view.value("recall", "recall") == 6 / 8


def test_numbers_are_rounded_as_python_rounds(opened, tmp_path):
    _, view = opened()
    (tmp_path / "rounding.js").write_text(
        (HERE / "figure.js").read_text(encoding="utf-8") + "\nexport { fixed };", encoding="utf-8"
    )
    values = [0.25, 0.35, 6.25, 6.75, 12.5, 0.125, 0.375, 1 / 3, 2.675, -0.25, 100.0, 0.05]
    shown = view.page.evaluate(
        "async (values) => { const { fixed } = await import('./rounding.js');"
        " return values.map((x) => [fixed(x, 1), fixed(x, 2)]); }",
        values,
    )
    assert shown == [[f"{x:.1f}", f"{x:.2f}"] for x in values]


def test_atlas_numbers_agree_with_python_and_keys_walk_the_squares(opened):
    figures, view = opened()
    figure, atlas = figures["atlas"], view.figure("atlas")
    content = figure.content
    slider = atlas.locator('input[type="range"]')
    for key, depth in (("Home", 1), ("ArrowRight", 2), ("End", 3)):
        slider.press(key)
        assert view.value("atlas", "found") == content["found"][depth - 1]
        assert view.value("atlas", "flagged_mean") == content["flagged_mean"][depth - 1]
        assert atlas.locator("[data-flagged]").count() == depth
    order = content["orders"]["accuracy"]
    squares = atlas.locator(".clipnb-square")
    assert squares.evaluate_all("nodes => nodes.map((node) => +node.dataset.class)") == order
    squares.first.focus()
    view.page.keyboard.press("ArrowRight")
    assert view.trait("atlas", "chosen") == order[1]
    assert view.page.evaluate("+document.activeElement.dataset.class") == order[1]
    assert atlas.locator(".clipnb-details svg").count() == sum(c == order[1] for c, *_ in content["images"])
    fills = "nodes => nodes.map((node) => parseFloat(node.style.getPropertyValue('--fill')) / 100)"
    for labels in (True, False):
        figure.labels = labels
        atlas.locator('input[type="checkbox"]').set_checked(labels)
        assert squares.evaluate_all(fills) == pytest.approx([figure.shares()[p] for p in order])
    assert "need labels" in atlas.locator(".clipnb-details").inner_text()
    atlas.locator("select").select_option("times predicted")
    assert (
        squares.evaluate_all("nodes => nodes.map((node) => +node.dataset.class)")
        == content["orders"]["times predicted"]
    )


def test_editor_numbers_agree_with_python_after_typing_mixing_and_transposing(opened):
    figures, view = opened()
    figure, editor = figures["editor"], view.figure("editor")

    def agree(row, column):
        figure.counts, figure.factor = view.trait("editor", "counts"), view.trait("editor", "factor")
        numbers = figure.numbers()
        for name in ("micro", "macro", "baseline"):
            assert view.value("editor", name) == pytest.approx(numbers[name])
        assert view.value("editor", "recall") == numbers["recall"][row]
        assert view.value("editor", "precision") == numbers["precision"][column]

    editor.locator('[data-cell="1,2"]').fill("40")
    agree(1, 2)
    assert view.trait("editor", "counts")[1] == [8, 90, 40]
    editor.locator('input[type="range"]').press("End")
    agree(1, 2)
    editor.get_by_role("button", name="Transpose").click()
    assert view.trait("editor", "counts")[2] == [5, 40, 90]
    editor.locator('[data-cell="1,2"]').fill("-3")
    assert view.trait("editor", "counts")[1] == [10, 90, 7], "a negative count was taken"
    assert editor.locator('[data-cell="1,2"]').get_attribute("aria-invalid") == "true"
    editor.get_by_role("button", name="Start again").click()
    assert view.trait("editor", "counts") == figure.content["counts"] and view.trait("editor", "factor") == 1


def test_luck_shows_the_kept_estimates_beside_their_truths(opened):
    figures, view = opened()
    content = figures["luck"].content
    images, spread, k = view.figure("luck").locator('input[type="range"]').all()
    for keys in ([], ["ArrowRight"], ["End"]):
        for key in keys:
            for slider in (images, spread, k):
                slider.press(key)
        at, wide, depth = (view.trait("luck", name) for name in ("images", "spread", "k"))
        world = content["worlds"][at][wide]
        zero = [c for c, right in enumerate(world["right"]) if right == 0]
        assert view.value("luck", "zero") == len(zero)
        assert view.value("luck", "bad") == sum(world["truth"][c] == 0 for c in zero)
        for name in ("naive", "split_half", "listed"):
            assert view.value("luck", name) == world["scores"][depth][name][0]


def test_transfer_costs_agree_with_python_by_slider_and_by_dragging(opened):
    figures, view = opened()
    figure, transfer = figures["transfer"], view.figure("transfer")
    line, miss, false = transfer.locator('input[type="range"]').all()

    def agree():
        for name in ("threshold", "miss_cost", "false_cost"):
            setattr(figure, name, view.trait("transfer", name))
        assert {part: view.value("transfer", part) for part in ("validation", "test")} == figure.costs()
        assert view.value("transfer", "best") == min(figure._costs("test"))

    agree()
    parts = transfer.locator("svg").evaluate_all("nodes => nodes.map((node) => node.ariaLabel)")
    assert "validation" in parts[0] and "test" in parts[1]
    for slider, key in ((line, "PageUp"), (miss, "End"), (false, "ArrowRight"), (line, "Home")):
        slider.press(key)
        agree()
    transfer.locator("svg").last.scroll_into_view_if_needed()
    box = transfer.locator("svg").last.bounding_box()
    view.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    view.page.mouse.up()
    steps = figure.content["thresholds"]
    assert steps[0] + 0.6 * (steps[-1] - steps[0]) < view.trait("transfer", "threshold") < steps[-1]
    agree()
    transfer.get_by_text("Cheapest on test").click()
    assert view.trait("transfer", "threshold") == figure.cheapest("test")


def test_a_guess_stays_when_the_answer_is_shown(opened):
    _, view = opened()
    number = view.figure("number")
    number.locator('input[type="range"]').press("Home")
    assert number.locator('[data-name="answer"]').count() == 0, "the answer is shown before the guess"
    number.get_by_text("Show the answer").click()
    assert view.value("number", "guess") == 0 and view.value("number", "answer") == 0.7
    assert "[65.0, 75.0]" in number.inner_text()

    curve = view.figure("curve")
    assert curve.locator("path.line").get_attribute("d") == ""
    for slider in curve.locator('input[type="range"]').all():
        slider.press("Home")
    curve.locator("button").press("Enter")
    assert view.value("curve", "guess_mean") == 0 and view.value("curve", "mean") == 1.75 / 4
    assert view.value("curve", "gap") == pytest.approx(1.75 / 4) and view.value("curve", "zero") == 1
    assert curve.locator("path.line").get_attribute("d") and curve.locator("path.guess").get_attribute("d")


def test_every_figure_says_how_its_numbers_are_computed(opened):
    _, view = opened()
    for name in (
        "recall",
        "confusion",
        "threshold",
        "reject",
        "paradox",
        "atlas",
        "prompts",
        "editor",
        "luck",
        "transfer",
    ):
        lines = view.figure(name).locator(".clipnb-formulas p").all_inner_texts()
        assert lines and all("=" in line for line in lines), name
        slider = view.figure(name).locator('input[type="range"]').first
        slider.press("Home")
        slider.press("ArrowRight")
        if name != "confusion":  # its slider adds classes, and the formulas are those of the open cell
            assert view.figure(name).locator(".clipnb-formulas p").all_inner_texts() != lines, name
