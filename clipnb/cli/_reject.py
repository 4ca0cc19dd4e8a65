"""`--reject-at`: the reject option of `clipnb evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import numpy as np

from clipnb.cli._output import facts_text
from clipnb.cli._run import Run
from clipnb.errors import InputError

if TYPE_CHECKING:
    from clipnb.evaluation import EvaluationResult


def parse_reject(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """The wanted precision: `precision=0.95`, or the same as `risk=0.05`."""
    if value is None:
        return None
    name, _, number = value.partition("=")
    try:
        wanted = float(number)
    except ValueError:
        wanted = float("nan")
    precision = {"precision": wanted, "risk": 1 - wanted}.get(name.strip(), float("nan"))
    if not 0 < precision <= 1:
        raise InputError(f"Expected --reject-at precision=NUMBER or risk=NUMBER, such as precision=0.95, got {value!r}")
    return precision


reject_option = click.option(
    "--reject-at",
    callback=parse_reject,
    metavar="precision=0.95",
    help="Also choose a confidence below which an image goes to a person, so that the answers have this precision "
    "(or risk=0.05). It is chosen on the validation split of the shipped sets, on every second image of others, and "
    "confirmed on the rest.",
)


def rejection_summary(precision: float, run: Run, classifier: np.ndarray, result: EvaluationResult) -> dict[str, Any]:
    """What `--reject-at` adds to the results of `evaluate`: the threshold, where it was chosen, and what it does."""
    from clipnb import encode_images, evaluate, load_dataset, reject
    from clipnb.datasets import every_second
    from clipnb.margin import prediction_confidence

    data, images, model = run.data, run.images, run.model

    def confidence(vectors: np.ndarray) -> np.ndarray:
        return prediction_confidence(vectors, classifier, model.logit_scale, model.logit_bias)

    known = result.labels >= 0
    sure, labels, predictions = confidence(images.vectors)[known], result.labels[known], result.predictions[known]
    right = predictions == labels
    if data.validation is not None:
        other = load_dataset(data.validation)
        vectors = encode_images(model, other).vectors
        chosen_right = evaluate(vectors, classifier, other.labels).predictions == other.labels
        threshold = reject.choose_threshold(confidence(vectors), chosen_right, precision)
        chosen_on, rest = f"{data.validation}, {len(other)} images", np.ones(len(labels), dtype=bool)
    else:
        half = every_second(labels)
        if not half.any():
            raise InputError(f"Expected two labelled images of a class in {data.name} for --reject-at, got one of each")
        threshold, rest = reject.choose_threshold(sure[half], right[half], precision), ~half
        chosen_on = f"every second image of each class, {int(half.sum())} images; confirmed on the others"
    found = reject.confirm(sure[rest], right[rest], threshold, precision)
    classes = reject.accepted_by_class(sure[rest], predictions[rest], labels[rest], len(data.classnames), threshold)
    present = classes.loc[classes["images"] > 0]
    rows = [
        {"classname": data.classnames[row["class"]]} | {str(key): _number(row[key]) for key in row if key != "class"}
        for row in present.sort_values(by="coverage", kind="stable").to_dict(orient="records")
    ]
    return {
        "reject_wanted_precision": precision,
        "reject_threshold": threshold if np.isfinite(threshold) else None,
        "reject_chosen_on": chosen_on,
        "reject_n": found.n,
        "reject_answered": found.coverage,
        "reject_precision": found.precision if found.answered else None,
        "reject_verdict": found.verdict,
        "reject_classes_never_answered": int((present["answered"] == 0).sum()),
        "reject_classes": rows,
    }


def rejection_text(rejected: dict[str, Any]) -> str:
    """The same for people, without the table of classes."""
    from clipnb.intervals import Score

    shown = {name: value for name, value in rejected.items() if name != "reject_classes"}
    shares = {name: f"{value:.1%}" for name, value in shown.items() if isinstance(value, Score)}
    return facts_text(shown | shares)


def _number(value: float) -> float | int | None:
    return None if isinstance(value, float) and np.isnan(value) else value
