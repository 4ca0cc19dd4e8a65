"""`clipnb check`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import click

from clipnb._format import first_line
from clipnb.cli._group import INSTALL_MODELS
from clipnb.cli._options import json_option
from clipnb.cli._output import write_json

PACKAGES = ("clipnb", "numpy", "pyarrow")
MODEL_PACKAGES = ("torch", "torchvision", "open_clip_torch", "transformers")


@click.command()
@json_option
def check(json_file: str | None) -> None:
    """Check this installation: versions, device, embedded model and embedded images, one OK or FAIL line each.

    Exit code 1 if anything fails.
    """
    lines: list[dict] = []

    def probe(name: str, measure: Callable[[], str]) -> None:
        try:
            line = {"name": name, "ok": True, "text": measure()}
        except Exception as error:
            line = {"name": name, "ok": False, "text": f"{type(error).__name__}: {first_line(error)}"}
        lines.append(line)
        if json_file != "-":
            click.echo(f"{'OK  ' if line['ok'] else 'FAIL'} {name}: {line['text']}")

    def model() -> str:
        from clipnb import load_model

        model: Any = load_model()
        probe("device", lambda: f"{model.device}, {model.precision}")
        dimensions = model.encode_tokens(model.tokenizer(["a dog"])).shape[1]  # which opens the network
        return f"{model.name}, fingerprint {model.fingerprint}, {dimensions} dimensions"

    def images() -> str:
        from clipnb import load_dataset

        data = load_dataset()
        counts = f"{len(data)} test images in {len(data.classnames)} classes"
        return f"the icon set, {counts}, the first is {data[0][0].size}"

    probe("python", platform.python_version)
    with_models = find_spec("torch") is not None
    for package in (*PACKAGES, *(MODEL_PACKAGES if with_models else ())):
        probe(package, lambda package=package: metadata.version(package))
    if with_models:
        probe("model", model)
    else:
        probe("no model", lambda: f"predictions and arrays need none; to install what models need: {INSTALL_MODELS}")
    probe("images", images)
    good = all(line["ok"] for line in lines)
    write_json({"ok": good, "checks": lines}, json_file)
    sys.exit(0 if good else 1)
