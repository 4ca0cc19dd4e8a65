"""`--reject-at` and `--none-class`: the reject option of `clipnb evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from clipnb._checks import format_value
from clipnb.cli._options import options
from clipnb.cli._output import facts_text, rows_text
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


def reject_options(command: Callable) -> Callable:
    """Add --reject-at and --none-class."""
    return options(
        click.option(
            "--reject-at",
            callback=parse_reject,
            metavar="precision=0.95",
            help="Also choose a confidence below which an image goes to a person, so that the answers have this "
            "precision (or risk=0.05). It is chosen on the validation split of the shipped sets, on every second image "
            "of others, and confirmed on the rest.",
        ),
        click.option(
            "--none-class",
            "none_classes",
            multiple=True,
            metavar="NAME",
            help="Class whose images are none of the others, with --reject-at: it gets no prompt, no score counts its "
            "images, and they are right only where they are rejected. May be repeated.",
        ),
    )(command)


def without_none(run: Run, none_classes: tuple[str, ...]) -> tuple[Run, np.ndarray]:
    """The run under the names of the other classes, and which images (N,) belong to the none classes."""
    from clipnb import reject

    data, images = run.data, run.images
    if missing := [name for name in none_classes if name not in data.classnames]:
        raise InputError(f"Expected a class of {data.name} for --none-class, got {format_value(missing[0])}")
    if len(set(none_classes)) > len(data.classnames) - 2:
        raise InputError(f"Expected --none-class to leave two of the {len(data.classnames)} classes of {data.name}")
    labels, classnames, none = reject.set_aside(images.labels, data.classnames, none_classes)
    return replace(run, data=replace(data, classnames=classnames), images=replace(images, labels=labels)), none


def rejection_summary(
    precision: float,
    run: Run,
    classifier: np.ndarray,
    result: EvaluationResult,
    none_classes: tuple[str, ...] = (),
    none: np.ndarray | None = None,
) -> dict[str, Any]:
    """What `--reject-at` adds to the results of `evaluate`: the threshold, where it was chosen, and what it does.

    With `none_classes`, the images marked in `none` are wrong wherever they are answered, and counted on their own.
    """
    from clipnb import encode_images, evaluate, load_dataset, reject
    from clipnb.datasets import every_second
    from clipnb.margin import prediction_confidence

    data, images, model = run.data, run.images, run.model

    def confidence(vectors: np.ndarray) -> np.ndarray:
        return prediction_confidence(vectors, classifier, model.logit_scale, model.logit_bias)

    none = np.zeros(len(result.labels), dtype=bool) if none is None else none
    known = none | (result.labels >= 0)
    sure, labels, predictions = confidence(images.vectors)[known], result.labels[known], result.predictions[known]
    none = none[known]
    right = predictions == labels
    if data.validation is not None:
        other = load_dataset(data.validation)
        vectors = encode_images(model, other).vectors
        chosen_labels = other.labels
        if none_classes:
            chosen_labels, _, chosen_none = reject.set_aside(other.labels, other.classnames, none_classes)
            _require_none(chosen_none, other.name)
        chosen_right = evaluate(vectors, classifier, chosen_labels).predictions == chosen_labels
        threshold = reject.choose_threshold(confidence(vectors), chosen_right, precision)
        chosen_on, rest = f"{data.validation}, {len(other)} images", np.ones(len(labels), dtype=bool)
    else:
        half = every_second(labels)
        if not half.any():
            raise InputError(f"Expected two labelled images of a class in {data.name} for --reject-at, got one of each")
        if none_classes:
            _require_none(none[half], f"the half of {data.name} that chooses the threshold")
        threshold, rest = reject.choose_threshold(sure[half], right[half], precision), ~half
        chosen_on = f"every second image of each class, {int(half.sum())} images; confirmed on the others"
    found = reject.confirm(sure[rest], right[rest], threshold, precision)
    classes = reject.accepted_by_class(
        sure[rest],
        predictions[rest],
        labels[rest],
        len(data.classnames),
        threshold,
        none[rest] if none_classes else None,
    )
    present = classes.loc[classes["images"] > 0]
    rows = [
        {"classname": data.classnames[row["class"]]} | {str(key): _number(row[key]) for key in row if key != "class"}
        for row in present.sort_values(by="coverage", kind="stable").to_dict(orient="records")
    ]
    of_none: dict[str, Any] = {}
    if none_classes:
        _require_none(none[rest], f"the images of {data.name} that confirm the threshold")
        rejected = reject.none_of_these(sure[rest], none[rest], threshold)
        taken = classes.loc[classes["fit_none"] > 0].sort_values(by="fit_none", ascending=False, kind="stable")
        of_none = {
            "none_classes": list(none_classes),
            "none_n": rejected.n,
            "none_rejected": rejected.rejected,
            "none_others_rejected": rejected.others_rejected,
            "none_auroc": rejected.auroc,
            "none_taken_for": [
                {"classname": data.classnames[row["class"]], "images": row["fit_none"]}
                for row in taken.to_dict(orient="records")
            ],
        }
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
        **of_none,
    }


def _require_none(none: np.ndarray, where: str) -> None:
    if not none.any():
        raise InputError(f"Expected images of --none-class in {where}, got none")


def rejection_text(rejected: dict[str, Any], most: int = 10) -> str:
    """The same for people: without the table of classes, and the `most` classes that none-images are taken for."""
    from clipnb.intervals import Score

    shown = {name: value for name, value in rejected.items() if name not in ("reject_classes", "none_taken_for")}
    shares = {name: f"{value:.1%}" for name, value in shown.items() if isinstance(value, Score)}
    if "none_classes" in shown:
        shares |= {"none_classes": ", ".join(shown["none_classes"]), "none_auroc": f"{shown['none_auroc']:.3f}"}
    taken = rows_text("classes that images of none are taken for", rejected.get("none_taken_for", [])[:most])
    return "\n\n".join(text for text in (facts_text(shown | shares), taken) if text)


def _number(value: float) -> float | int | None:
    return None if isinstance(value, float) and np.isnan(value) else value
