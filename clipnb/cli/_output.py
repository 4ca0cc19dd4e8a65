"""What the commands print and write: tables, JSON, and lines on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipnb._files import write_atomically
from clipnb._format import percent, plain

if TYPE_CHECKING:  # a help text needs neither
    import pandas as pd

    from clipnb.intervals import Score


def note(line: object) -> None:
    """Print a line on stderr, which holds errors and findings."""
    click.echo(f"clipnb: {line}", err=True)


def write_json(content: Mapping, json_file: str | None) -> None:
    """Write JSON to a file, or to standard output for "-"; a `Score` becomes a value `x` and an interval `x_ci`."""
    from clipnb.intervals import Score

    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Score):
            flat |= {name: value.value, f"{name}_ci": (value.low, value.high) if value.has_interval else None}
        else:
            flat[name] = value
    if json_file == "-":  # ASCII, which every console can show
        click.echo(json.dumps(plain(flat), indent=2, allow_nan=False))
    elif json_file:
        text = json.dumps(plain(flat), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(Path(json_file), f"{text}\n".encode())


def write_result(content: Mapping, json_file: str | None, *tables: str | None) -> None:
    """Write `content` as JSON where it is requested, and print the tables unless standard output holds the JSON."""
    write_json(content, json_file)
    if json_file != "-":
        click.echo("\n\n".join(table for table in tables if table))


def facts_text(facts: Mapping[str, Any]) -> str:
    """Return facts, one a line: name and value."""
    import pandas as pd

    return _left(pd.DataFrame({"name": list(facts), "value": [_cell(value) for value in facts.values()]}), header=False)


def scores_text(scores: Mapping[str, Score], k: int) -> str:
    """Return the scores of `EvaluationResult.scores`, one a line, each with its interval."""
    rows = {
        name.replace("worst_k", f"worst_{k}"): f"{score:.0f}" if name == "classes_at_zero" else f"{score:.1%}"
        for name, score in scores.items()
    }
    return facts_text(rows)


def rows_text(title: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return rows as a table under a title; None without rows."""
    if not rows:
        return None
    import pandas as pd

    table = pd.DataFrame([{name: _cell(value) for name, value in row.items()} for row in rows]).fillna("-")
    return "\n".join([f"{title}:", *(f"  {line}" for line in _left(table).splitlines())])


def _left(table: pd.DataFrame, header: bool = True) -> str:
    """A table of texts, aligned to the left."""
    if table.empty:
        return ""
    import pandas as pd

    padded = pd.DataFrame({name: cells.str.ljust(cells.str.len().max()) for name, cells in table.items()})
    text = padded.to_string(index=False, justify="left", header=header)
    return "\n".join(line.rstrip().removeprefix(" ") for line in text.splitlines())


def _cell(value: Any) -> str:
    from clipnb.intervals import Score

    if isinstance(value, (float, Score)):
        return format(value, ".4f")
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_cell(part)}" for name, part in value.items())
    return "-" if value is None else str(value)


def worst_sentence(summary: Mapping[str, Any], k: int) -> str | None:
    """Return what the worst-k scores of a summary mean, in a sentence or two; None where the classes cannot be
    split.
    """
    count = summary["worst_k_classes"]
    if f"worst_{k}_split_half" not in summary:
        return None
    naive, listed, truly = summary[f"worst_{k}"], summary[f"worst_{k}_listed"], summary[f"worst_{k}_truly_worst"]
    head = (
        f"The {count} worst classes are right on {percent(naive)} of their images, but these images also chose them; "
        f"their true accuracy is about {percent(listed)}."
    )
    if truly is None:
        low, high = map(percent, summary["worst_k_possible"])
        return (
            f"{head} With so few images a class, the {count} truly worst classes may be anywhere from {low} to {high}."
        )
    low, high = map(percent, summary[f"worst_{k}_truly_worst_ci"])
    doubt = "" if summary["worst_k_fits"] else ", although the counts do not fit the family of distributions behind it"
    return (
        f"{head} The {count} truly worst classes, whichever they are, are at about {percent(truly)} "
        f"({low} to {high}){doubt}."
    )


def report_precision(provenance: Mapping[str, Any]) -> None:
    """Report on stderr how predictions in half precision differ from fp32."""
    check, precision = provenance.get("precision_check"), provenance.get("precision")
    if not check:
        return
    changed = check["changed_predictions"]
    if changed is None:
        note(f"{precision} could not be compared with fp32: there are no classnames or no readable images")
    else:
        share, images = percent(changed, 2), check["images"]
        note(f"{precision} changes an estimated {share} of predictions against fp32 ({images} images checked)")
