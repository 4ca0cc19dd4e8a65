"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from clipnb._files import path_of
from clipnb.errors import InputError

Decorator = Callable[[Callable], Callable]
MODEL_OPTIONS = ("model", "pretrained", "device", "precision", "trust_pickle", "like")


def options(*decorators: Decorator) -> Decorator:
    """Join several options to one decorator, in the order of the help text."""

    def wrap(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return wrap


def examples(lines: str) -> str:
    """Return the end of a help text: command lines that click does not wrap."""
    return "\b\nExamples:\n" + lines.strip("\n")


def templates_option(default: str | None) -> Decorator:
    """Return the option --templates; without a default, the data set's own templates are used."""
    return click.option(
        "--templates",
        default=default,
        show_default=default or "drawing for sets of drawings, openai-80 for others",
        help="Prompt templates: bare, single, drawing, openai-7, openai-80, or a file with one template a line.",
    )


def worst_option(text: str, default: int = 10) -> Decorator:
    """Return the option --worst, a number of classes."""
    return click.option("--worst", "worst_k", type=click.IntRange(min=1), default=default, show_default=True, help=text)


def model_options(command: Callable) -> Callable:
    """Add the options of `load_model`, which the command receives as one mapping `source`."""

    @wraps(command)
    def gathered(**arguments: Any) -> Any:
        source = {name: arguments.pop(name) for name in MODEL_OPTIONS}
        if sys.stderr.isatty() and not arguments.get("predictions"):  # importing what models need takes seconds
            click.echo(f"Loading {source['model']} ...", err=True)
        return command(source=source, **arguments)

    return options(
        click.option(
            "--model",
            default="clipnb-mini",
            show_default=True,
            help="clipnb-mini, a model name of open_clip, local-dir:PATH, hf-hub:ORGANISATION/NAME, "
            "transformers:NAME_OR_PATH, or sentence-transformers:NAME_OR_PATH.",
        ),
        click.option("--pretrained", help="Name of the weights in open_clip (openai, ...), or a checkpoint file."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
        click.option(
            "--precision",
            default="fp32",
            show_default=True,
            help="fp32, bf16 or fp16. With bf16 or fp16, the share of predictions that differ from fp32 is estimated "
            "on a sample and reported.",
        ),
        click.option(
            "--trust-pickle",
            is_flag=True,
            help="Also load checkpoint files that can run any code. Use this for your own files only.",
        ),
        click.option(
            "--like",
            metavar="NAME",
            help="For a checkpoint file of a model whose known weights need different settings: name of the weights in "
            "open_clip whose settings (activation, preprocessing) the file needs.",
        ),
    )(gathered)


dataset_option = click.option(
    "--dataset",
    default="icons",
    show_default=True,
    help="icons, icons:validation, emoji, emoji:validation, emoji:hard, folder:PATH, imagenet:PATH, "
    "imagenet-partial:PATH, table:FILE, torchvision:NAME:PATH, webdataset:PATTERN.",
)
fix_names_option = click.option(
    "--fix-names",
    is_flag=True,
    help="Repair the classnames before scoring, and list every repair: WordNet ids become names; leading numbers, "
    "underscores, CamelCase and slashes are removed.",
)
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Folder that keeps the image embeddings, so that later runs need not encode the images again.",
)


def check_target(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that cannot be written before anything is computed."""
    if value and value != "-" and (path_of(value, param.opts[0]).is_dir() or not Path(value).parent.is_dir()):
        raise InputError(f"Expected {param.opts[0]} to name a file in an existing folder, got {value}")
    return value


json_option = click.option(
    "--json", "json_file", callback=check_target, help='Write the result as JSON to this file ("-" = standard output).'
)
