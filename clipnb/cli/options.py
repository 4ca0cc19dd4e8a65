"""Options that several commands share."""

from __future__ import annotations

from functools import wraps
from pathlib import Path

import click

from clipnb._files import path_of
from clipnb.errors import InputError


def options(*decorators):
    def wrap(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return wrap


def templates_option(default: str | None):
    shown = default or "drawing for sets of drawings, openai-80 for others"
    return click.option(
        "--templates",
        default=default,
        show_default=shown,
        help="bare, single, drawing, openai-7, openai-80, or a file with one template a line.",
    )


def model_options(command):
    """The options of `load_model`, given to the command as one mapping `source`, in that function's order."""

    @wraps(command)
    def gathered(model, pretrained, device, precision, trust_pickle, like, **others):
        source = {
            "model": model,
            "pretrained": pretrained,
            "device": device,
            "precision": precision,
            "trust_pickle": trust_pickle,
            "like": like,
        }
        return command(source=source, **others)

    return options(
        click.option(
            "--model",
            default="clipnb-mini",
            show_default=True,
            help="clipnb-mini, a name open_clip knows, local-dir:PATH, hf-hub:ORGANISATION/NAME, "
            "transformers:NAME_OR_PATH, or sentence-transformers:NAME_OR_PATH.",
        ),
        click.option("--pretrained", help="A tag open_clip knows for the model, or a checkpoint file."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
        click.option(
            "--precision",
            default="fp32",
            show_default=True,
            help="fp32, bf16 or fp16; the halves say how many predictions they change on a sample.",
        ),
        click.option(
            "--trust-pickle",
            is_flag=True,
            help="Load a checkpoint file that can run any code: only a file of your own.",
        ),
        click.option(
            "--like",
            metavar="TAG",
            help="The tag whose settings (activation, preprocessing) a checkpoint file needs, where the tags of the model disagree.",
        ),
    )(gathered)


dataset_option = click.option(
    "--dataset",
    default="emoji",
    show_default=True,
    help="emoji, emoji:validation, emoji:hard, icons, icons:validation, folder:PATH, imagenet:PATH, "
    "imagenet-partial:PATH, table:FILE, torchvision:NAME:PATH, webdataset:PATTERN.",
)
fix_names_option = click.option(
    "--fix-names",
    is_flag=True,
    help="Repair classnames before they are scored, and list each repair: WordNet ids become "
    "names; numbers before names, underscores, CamelCase and slashes go.",
)
store_option = click.option(
    "--store", type=click.Path(path_type=Path), help="Folder that keeps the image vectors: encode once, ask many."
)


def check_target(ctx, param, value: str | None) -> str | None:
    """Refuse a file that cannot be written before anything is computed."""
    if value and value != "-" and (path_of(value, param.opts[0]).is_dir() or not Path(value).parent.is_dir()):
        raise InputError(f"Expected {param.opts[0]} to name a file in an existing folder, got {value}")
    return value


json_option = click.option(
    "--json", "json_file", callback=check_target, help='Write the result as JSON to this file ("-" = standard output).'
)


def parse_prices(price: str | None) -> tuple[float, float] | None:
    if price is None:
        return None
    try:
        one, other = (float(part) for part in price.split(","))
    except ValueError:
        one, other = -1.0, -1.0
    if not (0 <= one < float("inf") and 0 <= other < float("inf")):
        raise InputError(f"Expected --price IN,OUT in US dollars per million tokens, such as 0.15,0.60, got {price}")
    return one, other


def parse_gates(ctx, param, values) -> list[tuple[str, float]]:
    try:
        return [(name.strip(), float(bound)) for name, _, bound in (value.partition("=") for value in values)]
    except ValueError:
        raise InputError(
            f"Expected --fail-under as NAME=NUMBER, such as worst_10=0.05, got {' '.join(values)}"
        ) from None
