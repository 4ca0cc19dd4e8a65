"""Tables with text around them, written as one HTML page, as JSON and as CSV."""

from __future__ import annotations

import html
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from clipnb._files import write_atomically
from clipnb._format import percent, plain

FORMAT = "clipnb-report-1"
MAX_ROWS = 1000  # the page shows this many rows of a table; JSON and CSV have all of them
COUNTS = {"classes_at_zero", "classes_at_zero_change"}  # an estimate and the ends of an interval need not be whole
SHARES_FOR = {"to_a_person_for_95", "precision_of_the_rest_95"}  # names that end in a percentage
# Columns of numbers that are no fractions: cosines, correlations, probabilities and counts.
NOT_PERCENT = COUNTS | {
    "margin",
    "margin_no_labels",
    "similarity",
    "rival_cosine",
    "nearest_cosine",
    "word_cosine",
    "rho",
    "rho_low",
    "rho_high",
    "auc",
    "p",
}


@dataclass(frozen=True, repr=False)
class ReportPage(ABC):
    """A summary, advice and tables, written as one HTML page, as JSON and as CSV: what `Report` and `Upgrade` share."""

    summary: dict
    advice: list[str]

    @property
    @abstractmethod
    def title(self) -> str:
        """Heading of the page."""

    @property
    @abstractmethod
    def lead(self) -> str:
        """One sentence below the heading."""

    @property
    @abstractmethod
    def first(self) -> str:
        """Heading of the advice."""

    @abstractmethod
    def sections(self) -> Iterator[dict]:
        """Title, text, table, cards and figure of each section of the page."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """Its DataFrames by name."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, pd.DataFrame)}

    def to_dict(self) -> dict:
        """Everything except the thumbnails, ready for JSON: NaN is None, a table is a list of rows."""
        return {
            "format": FORMAT,
            "kind": type(self).__name__,
            "summary": plain(self.summary),
            "advice": self.advice,
            **{name: plain(table.to_dict("records")) for name, table in self.tables().items()},
        }

    def to_html(self, path: str | Path | None = None) -> str | None:
        """Write one page that needs no script, no other file and no network; without a path, return it."""
        page = Environment(
            loader=PackageLoader("clipnb.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        page.filters["unbroken"] = unbroken
        text = page.get_template("report.html").render(
            title=short(self.title),
            lead=short(self.lead, 300),
            first=self.first,
            advice=[short(step, 400) for step in self.advice],
            sections=list(self.sections()),
            made=self.summary["made"],
        )
        return _written(text, path)

    def to_json(self, path: str | Path | None = None) -> str | None:
        """Write every number, for `Report.load`; without a path, return the JSON."""
        return _written(json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)

    def to_csv(self, folder: str | Path) -> None:
        """Write each table as a CSV file into a folder, which is made if it does not exist."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, table in self.tables().items():
            cells = table.map(lambda v: json.dumps(plain(v), ensure_ascii=False) if isinstance(v, list) else v)
            write_atomically(Path(folder) / f"{name}.csv", cells.to_csv(index=False).encode())

    def html(self) -> str:
        """Deprecated: `to_html` without a path."""
        warnings.warn("html() is now to_html() without a path", DeprecationWarning, stacklevel=2)
        return str(self.to_html())

    def json(self) -> dict:
        """Deprecated: `to_dict`."""
        warnings.warn("json() is now to_dict(), or to_json() for text", DeprecationWarning, stacklevel=2)
        return self.to_dict()

    def _repr_html_(self) -> str:
        # A frame keeps its style and the classnames away from the notebook around it.
        return (
            f'<iframe title="{html.escape(short(self.title))}" sandbox srcdoc="{html.escape(str(self.to_html()))}" '
            'style="width: 100%; height: 44rem; border: 1px solid #8886"></iframe>'
        )


def _written(text: str, path: str | Path | None) -> str | None:
    if path is None:
        return text
    write_atomically(Path(path), text.encode())
    return None


def plain_text(name: str) -> str:
    """Return a file name whose bytes are no UTF-8 (Linux allows that) with these bytes spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()


def short(text: Any, max_length: int = 70) -> Any:
    """Return a string cut to `max_length` characters, and any other value unchanged.

    >>> short("abcdef", 4)
    'abc…'
    """
    return text if not isinstance(text, str) or len(text) <= max_length else text[: max_length - 1] + "…"


def unbroken(text: str) -> str:
    r"""Return a text in which no line ends between a number and its percent sign, or inside "p = 0.02".

    >>> unbroken("right on 76.4 % (p = 0.02)").split(" ")
    ['right', 'on', '76.4\xa0%', '(p\xa0=\xa00.02)']
    """
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace("p = ", "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def first_names(table: pd.DataFrame) -> str:
    """Return the first classnames of a table, and how many more there are."""
    listed = [repr(short(name, 40)) for name in table["classname"].head(3)]
    return ", ".join(listed) + (f" and {len(table) - 3} more" if len(table) > 3 else "")


def cell(column: str, value: Any) -> dict:
    """Return a value as a table shows it ("shown"), and with all digits ("exact")."""
    value = plain(value)
    if isinstance(value, float):
        return {"shown": _number(column, value), "exact": repr(value)}
    if isinstance(value, list):
        return {"shown": short("; ".join(map(str, value)), 200)}
    if isinstance(value, bool):
        return {"shown": "yes" if value else "no"}
    shown = "–" if value is None else short(str(value), 200)
    return {"shown": shown, "exact": value if isinstance(value, int) else None}


def _number(column: str, value: float) -> str:
    if column not in NOT_PERCENT:
        return percent(value)
    if column in COUNTS:
        return f"{value:.0f}" if value.is_integer() else f"{value:.1f}"
    return f"{value:.0f}" if abs(value) > 1 and value.is_integer() else f"{value:.3f}"


def as_table(table: pd.DataFrame) -> dict:
    """Return columns and cells of the first rows, and how many more rows there are, for the template."""
    rows = [[cell(column, row[column]) for column in table] for row in table.head(MAX_ROWS).to_dict("records")]
    more = len(table) - len(rows)
    return {**_columns(table, rows), "more": f"{more} more rows are in the JSON and CSV files." if more > 0 else ""}


def as_score_table(table: pd.DataFrame) -> dict:
    """Return the same for a table of scores: the name in the first column, numbers in the others."""
    rows = [
        [
            {"shown": name.replace("_", " ") + (" %" if name in SHARES_FOR else "")},
            *(
                cell(column if column in NOT_PERCENT else name, value)
                for column, value in zip(table.columns[1:], values)
            ),
        ]
        for name, *values in table.itertuples(index=False)
    ]
    return _columns(table, rows)


def _columns(table: pd.DataFrame, rows: list[list[dict]]) -> dict:
    """Rows with the names of their columns, and which of these hold numbers."""
    numeric = [any(row[i].get("exact") is not None for row in rows) for i in range(table.shape[1])]
    return {"columns": [str(column).replace("_", " ") for column in table], "numeric": numeric, "rows": rows}
