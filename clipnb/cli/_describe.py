"""`clipnb describe`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipnb._checks import text_of
from clipnb._files import write_atomically
from clipnb.cli._options import (
    check_target,
    dataset_option,
    examples,
    fix_names_option,
    json_option,
    model_options,
    store_option,
    worst_option,
)
from clipnb.cli._output import facts_text, note, rows_text, write_result
from clipnb.cli._run import Run, encode_dataset
from clipnb.errors import InputError

if TYPE_CHECKING:
    from clipnb.describe import Descriptions, Question
    from clipnb.describe.llm import LLMSettings


def _parse_price(ctx: click.Context, param: click.Parameter, price: str | None) -> tuple[float, float] | None:
    if price is None:
        return None
    try:
        tokens_in, tokens_out = (float(part) for part in price.split(","))
    except ValueError:
        tokens_in, tokens_out = -1.0, -1.0
    if not (0 <= tokens_in < float("inf") and 0 <= tokens_out < float("inf")):
        raise InputError(f"Expected --price IN,OUT in US dollars per million tokens, such as 0.15,0.60, got {price}")
    return tokens_in, tokens_out


EXAMPLES = examples(
    r"""
  clipnb describe --dataset folder:photos --llm ollama/llama3.1 --dry-run
"""
)


@click.command(epilog=EXAMPLES)
@model_options
@dataset_option
@fix_names_option
@store_option
@worst_option("How many classes to describe: those with the lowest margin of pseudo-labels.", default=60)
@click.option(
    "--rivals",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How many rivals the query names: the classes whose texts are most similar.",
)
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="Descriptions per class.")
@click.option(
    "--llm",
    help="Language model to ask, under its name in litellm (openai/gpt-4o-mini, ollama/llama3.1). Its key is read from "
    "the environment. Without this option, the shipped descriptions are used.",
)
@click.option(
    "--query",
    "query_file",
    type=click.Path(path_type=Path),
    help="Text file with the query. If the file does not exist, the default query is written there for editing.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default="descriptions-cache",
    show_default=True,
    help="Folder of raw answers. A question whose answer is there is not asked again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=lambda ctx, param, value: value and Path(str(check_target(ctx, param, str(value)))),
    help="Write the descriptions to this JSON file, for `ensemble --descriptions`.",
)
@click.option("--api-base", help="URL of your own server that speaks the OpenAI protocol.")
@click.option(
    "--price",
    callback=_parse_price,
    help="US dollars per million tokens, IN,OUT. Needed for models whose price litellm does not know; 0,0 for a local "
    "model.",
)
@click.option("--max-cost", default=1.0, show_default=True, help="Ceiling in US dollars.")
@click.option("--concurrency", default=4, show_default=True, help="How many calls may run at the same time.")
@click.option("--per-minute", type=float, help="How many calls may start in a minute.")
@click.option("--retries", default=5, show_default=True, help="How often a failed call is repeated.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds that one call may take.")
@click.option("--allow-rivals", is_flag=True, help="Accept descriptions that name a rival.")
@click.option("--dry-run", is_flag=True, help="Show the first query and the estimated cost, and make no call.")
@json_option
def describe(
    source: dict,
    dataset: str,
    fix_names: bool,
    store: Path | None,
    worst_k: int,
    rivals: int,
    count: int,
    llm: str | None,
    query_file: Path | None,
    out: Path | None,
    allow_rivals: bool,
    dry_run: bool,
    json_file: str | None,
    **options: Any,
) -> None:
    """Find the worst classes without labels and get descriptions of them: shipped ones, or a language model's."""
    from clipnb import describe as texts
    from clipnb import load_dataset, zero_shot_classifier
    from clipnb import margin as margins

    own = load_dataset(dataset)
    default = texts.DRAWING_QUERY if own.drawings else texts.QUERY
    if query_file and not query_file.exists():
        write_atomically(query_file, f"{default}\n".encode())
        click.echo(f"The default query is in {query_file}: edit it and run again")
        return
    if llm is not None:
        text_of(llm, "--llm")
    template = texts.load_query(query_file) if query_file else default
    settings = _settings(llm, options)
    run = encode_dataset(source, own, store, fix_names)
    names = run.data.classnames
    lint = run.lint(("{}",))
    classifier = zero_shot_classifier(run.model, names)
    flagged = margins.find_worst(run.images.vectors, classifier)[:worst_k]
    groups = [run.data.groups.get(name) for name in names]
    questions = texts.questions(names, classifier, flagged, rivals, groups)
    if settings is None:
        descriptions, facts = _shipped(run, questions)
    elif dry_run:
        _estimate(settings, questions, count, template)
        question = questions[0]
        click.echo(texts.query(question.classname, question.rivals, count, question.category, template))
        return
    else:
        _estimate(settings, questions, count, template)
        descriptions, facts = _asked(settings, run, questions, count, template, allow_rivals)
    written = {"provenance": descriptions.provenance, "classes": descriptions.by_class}
    if out:
        write_atomically(out, (json.dumps(written, ensure_ascii=False, indent=1) + "\n").encode())
    head = {**run.head, "dataset": dataset, "llm": llm}
    described = f"{len(descriptions.by_class)} of {len(questions)} classes"
    rows = [{"classname": name, "first description": group[0]} for name, group in descriptions.by_class.items()]
    worst = [question.classname for question in questions]
    write_result(
        {**head, "lint": lint, **run.facts, "worst": worst, **facts, **written},
        json_file,
        facts_text({**head, **facts, "described": described}),
        rows_text("descriptions", rows),
    )


def _settings(llm: str | None, options: Mapping[str, Any]) -> LLMSettings | None:
    """Return the settings of the language model, or None without one."""
    from clipnb.describe.llm import LLMSettings

    return LLMSettings(llm, **options) if llm else None


def _estimate(settings: LLMSettings, questions: list[Question], count: int, template: str) -> None:
    """Report the estimated cost on stderr before anything is asked."""
    from clipnb.describe.llm import estimate

    cost = estimate(settings, questions, count, template)
    click.echo(f"{settings.model}: {cost}; ceiling ${settings.max_cost:.4f}", err=True)


def _shipped(run: Run, questions: list[Question]) -> tuple[Descriptions, dict[str, Any]]:
    """Return the shipped descriptions of these classes, and what the JSON says of them."""
    from clipnb import describe as texts

    names = [question.classname for question in questions]
    if not run.data.descriptions:
        note(f"no descriptions are shipped for {run.data.name}; --llm MODEL asks a language model for them")
        return texts.Descriptions({}, {}), {"source": None, "without": names}
    shipped = texts.load_descriptions(run.data.descriptions)
    by_class = {name: shipped.by_class[name] for name in names if name in shipped.by_class}
    facts = {"source": "shipped", "without": [name for name in names if name not in by_class]}
    return texts.Descriptions(by_class, shipped.provenance), facts


def _asked(
    settings: LLMSettings, run: Run, questions: list[Question], count: int, template: str, allow_rivals: bool
) -> tuple[Descriptions, dict[str, Any]]:
    """Ask the language model; exit with code 1 if a class has no answer, so that no file looks finished."""
    from clipnb.describe.llm import ask
    from clipnb.prompts import truncated_prompts

    answers = ask(
        settings,
        questions,
        count,
        template,
        allow_rivals,
        lambda lines: truncated_prompts(run.model, lines),
        lambda line: click.echo(line, err=True),
    )
    if answers.missing:
        name, reason = next(iter(answers.missing.items()))
        missing = f"{len(answers.missing)} of {len(questions)} classes got no answer ({name!r}: {reason})"
        note(f"{missing}; run again to ask for these only")
        sys.exit(1)
    descriptions = answers.descriptions(settings, template)
    if not descriptions.by_class:
        note(f"none of {len(questions)} classes got an answer that can be used; the answers are in {settings.cache}")
        sys.exit(1)
    facts = {"source": "asked", "calls": answers.calls, "cost": answers.cost}
    return descriptions, facts | {"refused": answers.refused, "missing": answers.missing}
