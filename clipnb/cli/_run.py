"""What most commands begin with: a data set opened, a model loaded, the images encoded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipnb.cli._output import note, report_precision

if TYPE_CHECKING:
    from clipnb.datasets import LabeledImages
    from clipnb.embeddings import Embeddings
    from clipnb.models import Model, WrappedModel

RUN_AS = ("model_fingerprint", "model_settings", "precision", "precision_check")


@dataclass(frozen=True)
class Run:
    """A data set encoded by a model, under the classnames that are scored."""

    model: Model | WrappedModel
    data: LabeledImages
    images: Embeddings
    facts: dict[str, Any]  # what the JSON says about the source: images left out, remarks, repaired classnames

    @property
    def head(self) -> dict[str, Any]:
        """The model and how it was run, for the JSON."""
        settings = {key: self.images.provenance[key] for key in RUN_AS if key in self.images.provenance}
        return {"model": self.model.name, "pretrained": self.model.pretrained, **settings}

    def lint(self, templates: Sequence[str]) -> list[dict]:
        """Report problems of the classnames and templates on stderr, and return them for the JSON."""
        from clipnb import prompts

        findings = prompts.lint(self.data.classnames, templates, self.model)
        for finding in findings:
            note(finding)
        return [asdict(finding) for finding in findings]


def load(source: Mapping[str, Any]) -> Model | WrappedModel:
    """Load the model that the options name."""
    from clipnb import load_model

    settings = dict(source)
    return load_model(settings.pop("model"), **settings)


def announce(source: Mapping[str, Any], model: Model | WrappedModel, data: LabeledImages) -> bool:
    """Print on a terminal what is going to be encoded; return whether stderr is one, where progress bars are shown."""
    watched = sys.stderr.isatty()
    if watched:
        fallback = " (there is no CUDA device)" if source["device"] == "auto" and model.device.type == "cpu" else ""
        weights = f"{model.name} ({model.pretrained})"
        click.echo(f"{weights} on {model.device}{fallback}: {data.name}, {len(data)} images", err=True)
    return watched


def report_left_out(data: LabeledImages, skipped: Mapping[str, str], labelled: bool = False) -> dict[str, Any]:
    """Report on stderr which items of the source no score counts and how it was read; return the same for the JSON."""
    rows = data.left_out_rows(labelled)
    for line in (data.left_out_line(labelled), *data.remarks):
        if line:
            note(line)
    if skipped:
        row = {"reason": "images that cannot be read", "count": len(skipped), "examples": list(skipped)[:3]}
        rows.append(row)
    return {"left_out": rows, "remarks": list(data.remarks), "exif_rotation": data.exif_rotation}


def encode_dataset(
    source: Mapping[str, Any],
    dataset: str | LabeledImages,
    store: Path | None,
    fix_names: bool = False,
    labelled: bool = False,
    model: Model | WrappedModel | None = None,
) -> Run:
    """Open a data set, load the model (unless it is given) and encode the images."""
    from clipnb import encode_images, load_dataset, prompts
    from clipnb.datasets import scored_classnames

    # The data set comes first, so that a wrong path is reported before weights are loaded.
    data = load_dataset(dataset) if isinstance(dataset, str) else dataset
    scored_classnames(data)
    model = model or load(source)
    images = encode_images(model, data, store, progress=announce(source, model, data))
    report_precision(images.provenance)
    for reason in images.skipped.values():  # of a store that was made with --bad-images skip
        note(f"skipped: {reason}")
    facts = report_left_out(data, images.skipped, labelled)
    if fix_names:  # after encoding, so that one store serves with and without
        names, changes = prompts.fix_names(data.classnames)
        data = replace(data, classnames=names)
        for old, new in changes:
            note(f"classname {old!r} is repaired to {new!r}")
        facts["renamed"] = [{"from": old, "to": new} for old, new in changes]
    return Run(model, data, images, facts)
