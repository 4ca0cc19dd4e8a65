"""How often every interval and verdict that the package prints holds the truth: simulated worlds whose truth is known.

    python -m benchmarks.coverage [--worlds 300] [--tails 40]   # writes benchmarks/results/coverage.json and .md

A world is a number of classes, images a class, and a shape of the classes' true accuracies. In each world images are
drawn, the interval is computed by the package's own function, and it is counted whether it holds the truth. An
interval that the package does not print in a world (NaN ends) is not counted there. The worst-k scores take a second
a world, so they get fewer worlds (`--tails`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
from scipy.stats import norm

from benchmarks._harness import machine, publish
from clipnb import intervals, margin, paired, worst
from clipnb.similarity import unit_norm

IMAGES = (1, 2, 3, 10, 50)
CLASSES = (3, 20, 100, 628, 1000)
K = 10
SHAPES = {
    "beta(2, 1)": lambda rng, n: rng.beta(2, 1, n),
    "beta(1.4, 0.6), many at 1": lambda rng, n: rng.beta(1.4, 0.6, n),
    "beta(8, 3), narrow": lambda rng, n: rng.beta(8, 3, n),
    "3 % at 0, others beta(5, 2)": lambda rng, n: np.where(rng.random(n) < 0.03, 0, rng.beta(5, 2, n)),
    "two groups": lambda rng, n: np.where(rng.random(n) < 0.1, rng.beta(2, 8, n), rng.beta(18, 2, n)),
    "floor at 25 %": lambda rng, n: 0.25 + 0.74 * rng.beta(1.6, 1.2, n),
    "all at 70 %": lambda rng, n: np.full(n, 0.7),
    "logit normal": lambda rng, n: 1 / (1 + np.exp(-rng.normal(1, 1.5, n))),
}
OUTSIDE = ("two points", "all at 95 %")  # shapes far from the family that three of the worst-k scores rest on
SHAPES |= {
    "two points": lambda rng, n: np.where(rng.random(n) < 0.5, 0.02, 0.98),
    "all at 95 %": lambda rng, n: np.full(n, 0.95),
}


def holds(score, truth: float, grain: float = 1e-9) -> bool | None:
    """Whether the interval of a score holds the truth; None where the package prints no interval."""
    return score.low - grain <= truth <= score.high + grain if score.has_interval else None


def simple_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """Shares of images and classes in one world."""
    truth = SHAPES[shape](rng, classes)
    right = rng.binomial(images, truth)
    zero = ((1 - truth) ** images).mean()  # expected share of classes without a right image
    return {
        "accuracy": holds(intervals.proportion(int(right.sum()), classes * images), truth.mean()),
        "mean per-class accuracy": holds(intervals.mean_over_classes(right, np.full(classes, images)), truth.mean()),
        "classes at 0 %": holds(intervals.proportion(int((right == 0).sum()), classes), zero),
        "accuracy of one class": holds(intervals.proportion(int(right[0]), images), truth[0]),
    }


def tail_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """The worst-k scores in one world."""
    truth = SHAPES[shape](rng, classes)
    right = rng.binomial(images, truth)
    labels = np.repeat(np.arange(classes), images)
    place = np.tile(np.arange(images), classes)
    predictions = np.where(place < np.repeat(right, images), labels, (labels + 1) % classes)
    k = min(K, max(1, classes // 3))
    report = worst.worst_k_report(predictions, labels, classes, k, seed=int(rng.integers(10**6)))
    order = rng.binomial(images // 2, truth, (200, classes)) + rng.random((200, classes))
    half = truth[np.argsort(order, axis=1)[:, :k]].mean()
    lowest = np.sort(truth)[:k].mean()
    return {
        "truly worst k, range" if np.isnan(report.truly_worst.value) else "truly worst k": holds(
            report.truly_worst, lowest, 2e-3
        ),
        "listed k": holds(report.listed, truth[report.classes].mean(), 2e-3),
        "split half": holds(report.split_half, half, 2e-3),
        "possible range": report.possible[0] - 1e-9 <= lowest <= report.possible[1] + 1e-9,
    }


def paired_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """Two methods of equal accuracy in every class: is the difference 0 inside, and is no verdict given?"""
    truth = SHAPES[shape](rng, classes)
    labels = np.repeat(np.arange(classes), images)
    common = rng.random(len(labels))
    shared = rng.random() * 0.9  # how much of what makes an image hard the two methods share
    sides = []
    for _ in range(2):
        hard = np.where(rng.random(len(labels)) < shared, common, rng.random(len(labels)))
        sides.append(np.where(hard < truth[labels], labels, (labels + 1) % classes))
    differences = paired.differences_of_predictions(
        *sides, labels, classes, min(K, classes), seed=int(rng.integers(10**6))
    )
    rows = {}
    for name, difference in differences.items():
        if difference["ci"]:
            rows[f"difference in {name}"] = difference["ci"][0] <= 0 <= difference["ci"][1]
            rows[f"verdict on {name}"] = difference["verdict"] == "no"
    return rows


def margin_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """The matching margin of one class whose images scatter around its text; `shape` only sets how far."""
    spread = {"beta(2, 1)": 0.15, "two groups": 0.3}.get(shape, 0.22)
    texts = unit_norm(np.random.default_rng(classes).normal(size=(6, 16)))

    def draw(count: int) -> np.ndarray:
        return unit_norm(texts[:1] + spread * rng.normal(size=(count, 16))).astype(np.float32)

    key = (classes, spread)
    if key not in MARGINS:
        MARGINS[key] = margin.class_wise_matching_margin(draw(200_000), texts, np.zeros(200_000, int))[0]
    low, high = margin.margin_intervals(draw(images), texts, np.zeros(images, int))[0]
    return {"matching margin": holds(intervals.Score(0.0, low, high), MARGINS[key])}


MARGINS: dict[tuple[int, float], float] = {}


def cluster_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """Images in clusters (`classes` of them) of equal size."""
    truth = SHAPES[shape](np.random.default_rng(0), 100_000)
    rates = rng.choice(truth, classes)
    correct = rng.random((classes, images)) < rates[:, None]
    score = intervals.clustered_accuracy(correct.ravel(), np.repeat(np.arange(classes), images))
    return {"clustered accuracy": holds(score, truth.mean())}


def rank_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """Spearman's correlation of two normal variables over the classes; `images` only sets the correlation."""
    rho = {1: 0.0, 2: 0.3, 3: 0.6, 10: 0.8, 50: 0.95}[images]
    truth = 6 / np.pi * np.arcsin(rho / 2)  # of Spearman's rho for a binormal with Pearson's rho
    x, y = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], classes).T
    return {
        "rank correlation": holds(intervals.rank_correlation(x, y, resamples=300, seed=int(rng.integers(10**6))), truth)
    }


def roc_scores(rng: np.random.Generator, classes: int, images: int, shape: str) -> dict[str, bool | None]:
    """Normal scores of `classes` positives and a quarter as many negatives; `images` only sets how far they part."""
    truth = {1: 0.5, 2: 0.6, 3: 0.75, 10: 0.9, 50: 0.98}[images]
    negatives = max(3, classes // 4)
    scores = np.append(rng.normal(np.sqrt(2) * norm.ppf(truth), 1, classes), rng.normal(0, 1, negatives))
    score = intervals.area_under_roc(scores, np.arange(classes + negatives) < classes)
    return {"area under ROC": holds(score, truth)}


def run_cell(task) -> tuple[tuple, dict[str, list[bool]]]:
    """All worlds of one cell: which scores held."""
    kind, classes, images, shape, worlds = task
    rng = np.random.default_rng([classes, images, sum(map(ord, shape + kind))])
    held = defaultdict(list)
    for _ in range(worlds):
        for name, value in KINDS[kind](rng, classes, images, shape).items():
            if value is not None:
                held[name].append(bool(value))
    return task, dict(held)


KINDS = {
    "simple": simple_scores,
    "tail": tail_scores,
    "paired": paired_scores,
    "margin": margin_scores,
    "cluster": cluster_scores,
    "rank": rank_scores,
    "roc": roc_scores,
}


def tasks(worlds: int, tails: int):
    for classes, images, shape in product(CLASSES, IMAGES, SHAPES):
        yield "simple", classes, images, shape, worlds
        if classes * images <= 31_400:
            yield "paired", classes, images, shape, worlds
        if images >= 2 and classes in (20, 100, 628):
            yield "tail", classes, images, shape, tails
        if images >= 2 and classes == 3 and shape in ("beta(2, 1)", "two groups", "beta(8, 3), narrow"):
            yield "margin", classes, images, shape, worlds
        if images in (2, 10) and classes <= 100:
            yield "cluster", classes, images, shape, worlds
        if shape == "beta(2, 1)" and 10 <= classes <= 628:
            yield "rank", classes, images, shape, worlds
        if shape == "beta(2, 1)":
            yield "roc", classes, images, shape, worlds


def run(worlds: int, tails: int, processes: int) -> dict:
    cells = []
    with ProcessPoolExecutor(processes) as pool:
        for (_, classes, images, shape, _), held in pool.map(run_cell, list(tasks(worlds, tails)), chunksize=2):
            for name, values in held.items():
                cells.append(
                    {
                        "score": name,
                        "classes": classes,
                        "images": images,
                        "shape": shape,
                        "held": sum(values),
                        "worlds": len(values),
                    }
                )
    return {"machine": machine(), "worlds": worlds, "tails": tails, "cells": cells, "rows": summarise(cells)}


def summarise(cells: list[dict]) -> list[dict]:
    """For each score the lowest coverage of a setting (classes and images, all shapes together) and of a cell, and
    where."""
    rows = []
    for name in dict.fromkeys(cell["score"] for cell in cells):
        own = [cell for cell in cells if cell["score"] == name]
        inside = [cell for cell in own if cell["shape"] not in OUTSIDE]
        row = {
            "score": name,
            "cells": len(own),
            "coverage": share(own),
            "inside": share(inside),
            "outside": share([c for c in own if c not in inside]),
        }
        settings = defaultdict(list)
        for cell in inside:
            settings[cell["classes"], cell["images"]].append(cell)
        worst_setting = min(settings, key=lambda key: share(settings[key]))
        row["lowest setting"] = {
            "classes": worst_setting[0],
            "images": worst_setting[1],
            "coverage": share(settings[worst_setting]),
            "worlds": sum(cell["worlds"] for cell in settings[worst_setting]),
        }
        row["lowest cell"] = min(own, key=lambda cell: cell["held"] / cell["worlds"])
        rows.append(row)
    return rows


def share(cells: list[dict]) -> float | None:
    worlds = sum(cell["worlds"] for cell in cells)
    return sum(cell["held"] for cell in cells) / worlds if worlds else None


def text(result: dict) -> str:
    lines = [
        "| score | cells | held, all shapes | shapes outside the family | lowest setting | lowest single cell |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        low, cell = row["lowest setting"], row["lowest cell"]
        error = 196 * np.sqrt(max(low["coverage"] * (1 - low["coverage"]), 1e-4) / low["worlds"])
        outside = "" if row["outside"] is None else f"{100 * row['outside']:.1f} %"
        lines.append(
            f"| {row['score']} | {row['cells']} | {100 * row['inside']:.1f} % | {outside} "
            f"| {100 * low['coverage']:.1f} ± {error:.1f} % ({low['classes']} classes x {low['images']} images) "
            f"| {100 * cell['held'] / cell['worlds']:.0f} % of {cell['worlds']} ({cell['classes']} x "
            f"{cell['images']}, {cell['shape']}) |"
        )
    note = (
        f"95 % is aimed at. {result['worlds']} worlds a cell, {result['tails']} for the worst-k scores; a setting "
        f"takes all shapes of the "
        f"accuracies together except for {' and '.join(OUTSIDE)}, which stand apart. Verdicts: the share of worlds "
        f"of two equally good "
        "methods in which none is called better. A range is wider than an interval by design."
    )
    return "\n".join([*lines, "", note, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=300)
    parser.add_argument("--tails", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    results = run(options.worlds, options.tails, options.processes)
    publish("coverage", results, text(results))


if __name__ == "__main__":
    main()
