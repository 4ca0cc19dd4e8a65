"""Simulate the worlds of `clipnb.widgets.LuckExplorer` and write clipnb/widgets/luck.json.

The estimates take minutes to compute and depend on no data set, so the file is kept. Run
`python -m tools.book.luck_worlds` after a change of `clipnb.worst`; a test computes one world again and compares.
"""

import json

import numpy as np

from clipnb import worst
from clipnb._format import plain
from clipnb.widgets._luck import NAMES, WORLDS

CLASSES = 200
MEAN = 0.7
HOPELESS = 5  # classes with a true accuracy of 0, in every world with a spread
IMAGES = (3, 5, 10, 20, 50, 200)
SPREADS = (0.0, 0.1, 0.2, 0.3)  # standard deviation of the other classes' true accuracies
KS = (5, 10, 20)
HALVES = 500


def true_accuracies(spread: float) -> np.ndarray:
    """(CLASSES,) true accuracies: all equal without a spread, else a few at 0 and the others from a beta."""
    if not spread:
        return np.full(CLASSES, MEAN)
    mean = MEAN * CLASSES / (CLASSES - HOPELESS)
    size = mean * (1 - mean) / spread**2 - 1
    others = np.random.default_rng(0).beta(mean * size, (1 - mean) * size, CLASSES - HOPELESS)
    return np.append(np.zeros(HOPELESS), others)


def world(images: int, spread: float) -> dict:
    """Counts and truths of the classes, lowest measured accuracy first, and the estimates at each k."""
    truth = true_accuracies(spread)
    rng = np.random.default_rng([images, round(100 * spread)])
    right = rng.binomial(images, truth)
    order = np.argsort(right, kind="stable")
    half = images // 2
    by_half = rng.binomial(half, truth, (HALVES, CLASSES)) + rng.random((HALVES, CLASSES))
    chosen = truth[by_half.argsort(axis=1)]
    reports = worst.reports_of_counts(right, np.full(CLASSES, images), KS)
    scores = []
    for report in reports:
        truly_worst = np.sort(truth)[: report.k].mean()
        truths = {
            "naive": truly_worst,
            "truly_worst": truly_worst,
            "listed": truth[report.classes].mean(),
            "split_half": chosen[:, : report.k].mean(),
        }
        estimates = {name: np.round(getattr(report, name), 4) for name in NAMES}
        scores.append({"truths": {name: round(float(value), 4) for name, value in truths.items()}, **estimates})
    return plain({"right": right[order], "truth": truth[order].round(4), "scores": scores})


def main() -> None:
    content = {
        "images": IMAGES,
        "spreads": SPREADS,
        "ks": KS,
        "mean": MEAN,
        "hopeless": HOPELESS,
        "worlds": [[world(images, spread) for spread in SPREADS] for images in IMAGES],
    }
    WORLDS.write_text(json.dumps(plain(content), separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
