"""`clipnb table`."""

from __future__ import annotations

from pathlib import Path

import click

from clipnb.cli._options import (
    check_target,
    examples,
    json_option,
    worst_option,
)
from clipnb.cli._output import write_json

EXAMPLES = examples(
    r"""
  clipnb evaluate --model ViT-B-32 --pretrained openai \
      --json b32.json --predictions-out b32.parquet
  clipnb evaluate --model ViT-L-14 --pretrained openai \
      --json l14.json --predictions-out l14.parquet
  clipnb table b32.json l14.json --latex table.tex
"""
)


@click.command(epilog=EXAMPLES)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN.json...")
@worst_option("How many of the first run's worst classes the tests compare.")
@click.option("--csv", "csv_file", callback=check_target, help="CSV file to write, with every number.")
@click.option("--latex", "latex_file", callback=check_target, help="LaTeX file to write (booktabs).")
@click.option(
    "--html", "html_file", callback=check_target, help="HTML page to write: one file that opens without a network."
)
@json_option
def table(
    runs: tuple[Path, ...],
    worst_k: int,
    csv_file: str | None,
    latex_file: str | None,
    html_file: str | None,
    json_file: str | None,
) -> None:
    """Put runs on the same images into one table, each tested against the first, with one correction."""
    from clipnb import report as reports
    from clipnb._files import write_atomically

    result = reports.tabulate(runs, worst_k)
    if csv_file:
        write_atomically(Path(csv_file), result.runs.to_csv(index=False).encode())
    if latex_file:
        write_atomically(Path(latex_file), result.latex().encode())
    if html_file:
        result.to_html(html_file)
    if json_file and json_file != "-":
        result.to_json(json_file)
    if json_file == "-":
        write_json(result.to_dict(), json_file)
    else:
        click.echo(repr(result))
