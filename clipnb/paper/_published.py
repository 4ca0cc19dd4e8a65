"""Published figures on ImageNet, and whether a run agrees with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clipnb._files import path_of, read_text
from clipnb._format import first_line, score_text
from clipnb.errors import InputError
from clipnb.prompts import template_set

FORMAT = "clipnb-reproduce-1"
THE_PAPER = "arXiv 2310.03324"
PER_CLASS = 50  # images of a class in ImageNet's validation set
IMAGES = 50_000  # images of the whole set


@dataclass(frozen=True)
class Published:
    """One figure of a paper: a score of a row as it was printed, rounded to `unit`."""

    row: str
    score: str
    value: float
    unit: float
    model: str  # or this name with "-quickgelu", with OpenAI's weights
    source: str


@cache
def published_figures() -> tuple[Published, ...]:
    """Read `published/methods.csv`, which lists the figures with their sources.

    The paper does not name its model; its accuracy is that of ViT-B/16.

    >>> figure = published_figures()[0]
    >>> figure.row, figure.score, figure.value, figure.source
    ('bare', 'accuracy', 0.641, 'arXiv 2310.03324, abstract')
    """
    with (Path(__file__).parent / "published/methods.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(**{**line, "value": float(line["value"]), "unit": float(line["unit"])})
            for line in csv.DictReader(file)
        )


def compare_published(results: Mapping[str, Any]) -> list[dict]:
    """Compare published figures on ImageNet with a run: they agree if the printed value lies in the run's interval.

    The value's rounding is allowed for.

    Args:
        results: from `reproduce`.

    Returns:
        For each figure "row", "score", "published", "here", "ci" and "difference" (None where the row was not run),
        "source" and "verdict": "agrees", "differs", "not run", "no interval" (for a score without one), or "not
        comparable" (other images or templates, or another model).

    >>> row = {"method": "bare", "accuracy": 0.6425, "accuracy_ci": (0.638, 0.647)}
    >>> run = {"dataset": "imagenet:x", "complete": True, "model": "ViT-B-16", "pretrained": "openai", "templates": [],
    ...        "images": 50_000, "images_per_class": 1000 * [50], "tables": {"as named": [row]}}
    >>> [(line["published"], line["verdict"]) for line in compare_published(run)][:2]
    [(0.641, 'agrees'), (10.0, 'not run')]
    """
    if not isinstance(results, Mapping):
        raise InputError(f"Expected `results` of `reproduce`, got {type(results).__name__}")
    rows = {row["method"]: row for row in results["tables"]["as named"]}
    model = str(results["model"]).removesuffix("-quickgelu")  # with OpenAI's weights, both names mean the same model
    lines = []
    for figure in published_figures():
        if figure.model != model and not figure.source.startswith(THE_PAPER):
            continue
        row = rows.get(figure.row, {})
        value, ci = row.get(figure.score), row.get(f"{figure.score}_ci")
        lines.append(
            {
                "row": figure.row,
                "score": figure.score,
                "published": figure.value,
                "here": value,
                "ci": ci,
                "difference": None if value is None else value - figure.value,
                "verdict": _verdict(
                    figure, value, ci, comparable=figure.model == model and _comparable(results, figure)
                ),
                "source": figure.source,
            }
        )
    return lines


def _comparable(results: Mapping[str, Any], figure: Published) -> bool:
    """Whether a run used the images, weights and templates of the figure: all 50 images of each of 1,000 classes."""
    whole = results["complete"] and results.get("images") == IMAGES
    whole = whole and set(results.get("images_per_class", [])) == {PER_CLASS}
    imagenet = str(results["dataset"]).startswith("imagenet:") and results["pretrained"] == "openai"
    return whole and imagenet and (figure.row != "uniform" or results["templates"] == template_set("openai-80"))


def _verdict(figure: Published, value: float | None, ci: tuple[float, float] | None, comparable: bool) -> str:
    if value is None:
        return "not run"
    if not comparable:
        return "not comparable"
    if ci is None:
        return "no interval"
    inside = ci[0] - figure.unit / 2 <= figure.value <= ci[1] + figure.unit / 2
    return "agrees" if inside else "differs"


def check_results(path: str | Path) -> tuple[dict, list[dict]]:
    """Read a file of results and compare it with the published figures again: (results, lines of `compare_published`).

    Raises:
        InputError: there is no such file, it is not the JSON of `reproduce`, or its scores do not follow from its
            counts.

    >>> check_results("nowhere.json")
    Traceback (most recent call last):
    clipnb.errors.InputError: Cannot read results of `clipnb reproduce` in nowhere.json: FileNotFoundError: ...
    """
    path = path_of(path, "path")
    try:
        results = json.loads(read_text(path))
        if results["format"] != FORMAT:
            raise ValueError(f"format {results['format']!r}, expected {FORMAT!r}")
        images = np.array(results["images_per_class"])
        if not images.sum() > 0:
            raise ValueError("it counts no images")
        for row in (row for rows in results["tables"].values() for row in rows):
            accuracy, per_class = _from_counts(np.array(row["right"]), images)
            if not np.isclose(accuracy, row["accuracy"]) or int((per_class == 0).sum()) != row["classes_at_zero"]:
                raise ValueError(f"the scores of row {row['method']!r} do not follow from its counts")
        return results, compare_published(results)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"Cannot read results of `clipnb reproduce` in {path}: {type(error).__name__}: {first_line(error)}"
        ) from None


def check_agreement(path: str | Path) -> dict:
    """Return whether a file of results agrees with the published figures, with the lines of `compare_published`.

    Args:
        path: JSON file of `clipnb reproduce`.

    Returns:
        A dict ready for JSON: "model", "pretrained", "dataset", "images", "agrees" (some figure agrees and none
        differs) and "published".

    Raises:
        InputError: as `check_results`.

    >>> check_agreement("nowhere.json")
    Traceback (most recent call last):
    clipnb.errors.InputError: Cannot read results of `clipnb reproduce` in nowhere.json: FileNotFoundError: ...
    """
    results, lines = check_results(path)
    verdicts = {line["verdict"] for line in lines}
    about = {name: results[name] for name in ("model", "pretrained", "dataset", "images")}
    return {**about, "agrees": "agrees" in verdicts and "differs" not in verdicts, "published": lines}


def _from_counts(right: np.ndarray, images: np.ndarray) -> tuple[float, np.ndarray]:
    present = images > 0
    return float(right.sum() / images.sum()), right[present] / images[present]


def shown_published(line: dict) -> dict[str, str]:
    """Return a line of `compare_published` as text for people.

    >>> shown_published({"row": "bare", "score": "accuracy", "published": .641, "here": .645, "ci": (.64, .65),
    ...                  "difference": .004, "verdict": "agrees", "source": "a paper"})
    {'figure': 'accuracy of bare', 'published': '64.1 %', 'here': '64.5 % [64.0, 65.0]', 'difference': '+0.4',
    'verdict': 'agrees', 'source': 'a paper'}
    """
    if line["score"] == "classes_at_zero":
        scale, unit, spec = 1, "", ".0f"
    else:
        # Figures that were printed with two decimals are shown with two.
        value = 100 * line["published"]
        scale, unit, spec = 100, " %", ".1f" if round(value, 1) == round(value, 2) else ".2f"
    low, high = (scale * end for end in line["ci"]) if line["ci"] else (None, None)
    here = None if line["here"] is None else scale * line["here"]
    return {
        "figure": f"{line['score']} of {line['row']}",
        "published": f"{scale * line['published']:{spec}}{unit}",
        "here": score_text(here, low, high, spec, unit),
        "difference": "-" if line["difference"] is None else f"{scale * line['difference']:+{spec}}",
        "verdict": line["verdict"],
        "source": line["source"],
    }
