"""What the commands print and write: tables, JSON, and lines on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np


def worst_sentence(summary: dict) -> str | None:
    """What the worst-k scores of a summary say, in a sentence or two; None where the classes cannot be split."""
    k, count = summary["worst_k"], summary["worst_k_classes"]
    if f"worst_{k}_split_half" not in summary:
        return None
    naive, listed, truly = summary[f"worst_{k}"], summary[f"worst_{k}_listed"], summary[f"worst_{k}_truly_worst"]
    head = (
        f"The {count} worst classes are right on {naive:.1%} of their images, but these images also chose them; "
        f"their true accuracy is about {listed:.1%}."
    )
    if truly is None:
        low, high = summary["worst_k_possible"]
        return f"{head} With so few images a class, the {count} truly worst classes may be anywhere from {low:.1%} to {high:.1%}."
    low, high = summary[f"worst_{k}_truly_worst_ci"]
    fits = (
        ""
        if summary["worst_k_fits"]
        else ", although the counts do not fit the family of distributions that this rests on"
    )
    return f"{head} The {count} truly worst classes, whichever they are, are at about {truly:.1%} ({low:.1%} to {high:.1%}){fits}."


def number_or_none(value) -> float | None:
    return None if np.isnan(value) else float(value)  # JSON has no NaN


def echo_precision(provenance: dict) -> None:
    """Say on stderr how a half precision that was asked for differs from fp32."""
    check, precision = provenance.get("precision_check"), provenance.get("precision")
    if not check:
        return
    changed = check["changed_predictions"]
    text = (
        "could not be compared with fp32: there are no classnames or no readable images"
        if changed is None
        else f"changes an estimated {changed:.2%} of predictions against fp32 ({check['images']} images checked)"
    )
    click.echo(f"clipnb: {precision} {text}", err=True)


def echo_left_out(data, images=None, labelled: bool = False) -> dict:
    """Say in one line what of the source is in no score, and how it was read; the same for JSON."""
    rows = data.left_out_rows(labelled)
    for line in (data.left_out_line(labelled), *data.remarks):
        if line:
            click.echo(f"clipnb: {line}", err=True)
    if images is not None and images.skipped:
        skipped = list(images.skipped)
        rows.append({"reason": "images that cannot be read", "count": len(skipped), "examples": skipped[:3]})
    return {"left_out": rows, "remarks": list(data.remarks), "exif_rotation": data.exif_rotation}


def echo_lint(data, templates, loaded) -> list:
    """What is odd about the classnames that are scored, also said on stderr."""
    from clipnb import prompts

    findings = prompts.lint(data.classnames, templates, loaded)
    for finding in findings:
        click.echo(f"clipnb: {finding}", err=True)
    return findings


def write_result(content: dict, json_file: str | None, shown: dict | None = None) -> None:
    """Write JSON where it is asked for, and print a table of `shown` (default: all of it) unless that is standard output."""
    from clipnb._files import write_atomically

    if json_file == "-":  # in ASCII, which every console can show
        click.echo(json.dumps(content, indent=2, default=float, allow_nan=False))
        return
    text = json.dumps(content, indent=2, ensure_ascii=False, default=float, allow_nan=False)
    if json_file:
        write_atomically(Path(json_file), (text + "\n").encode())
    click.echo(table_text(shown or content))


SAID = {"lint", "left_out", "remarks", "renamed"}


def table_text(content: dict) -> str:
    lines = []
    for key, value in content.items():
        if key.endswith("_ci") or key in SAID:  # stands beside its score; was said on stderr
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            columns = [c for c in value[0] if not c.endswith("_ci") and c != "weights"]
            cells = [columns] + [[cell_text(row.get(c)) for c in columns] for row in value]
            widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
            lines += ["", f"{key}:"] + [
                "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells
            ]
        else:
            interval = content.get(f"{key}_ci")
            lines.append(
                f"{key:28} {cell_text(value)}"
                + (f"   [{cell_text(interval[0])}, {cell_text(interval[1])}]" if interval else "")
            )
    return "\n".join(lines)


def cell_text(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {cell_text(part)}" for name, part in value.items())
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def reproduce_tables(found: dict) -> dict:
    """Results of `reproduce` as tables for people."""
    from clipnb.paper.reproduce import shown, shown_published

    head = {
        key: found[key]
        for key in ("model", "pretrained", "device", "precision", "dataset", "images", "classes", "complete")
    }
    tables = {
        f"names {spelling} (worst-k: naive / chosen on half)": [shown(row) for row in rows]
        for spelling, rows in found["tables"].items()
    }
    not_run = {f"not run: {row}": why for row, why in found["not_run"].items()}
    published = (
        {"published": [shown_published(line) for line in found["published"]]}
        if str(found["dataset"]).startswith("imagenet:")
        else {}
    )
    return (
        head
        | tables
        | published
        | {key: found[key] for key in ("twins", "checks", "steps") if found.get(key)}
        | not_run
    )
