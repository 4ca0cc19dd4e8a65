"""Tables with a text around them, written as one HTML page, as JSON and as CSV: what `report` makes its documents from."""

from __future__ import annotations

import html
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader

from clipnb._files import write_atomically

FORMAT = "clipnb-report-1"
MAX_ROWS = 1000  # of a table in the page; JSON and CSV have all
NOT_PERCENT = {
    "margin",
    "margin_no_labels",
    "similarity",
    "rival_cosine",
    "nearest_cosine",
    "rho",
    "rho_low",
    "rho_high",
    "auc",
    "p",
    "classes_at_zero",
    "classes_at_zero_change",
}


class Page:
    """What `Report` and `Upgrade` share: fields that are DataFrames, and how they become HTML, JSON and CSV."""

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, list) and name != "advice":
                object.__setattr__(
                    self, name, pd.DataFrame([dict(row) for row in value])
                )  # pandas would take other rows, too

    def tables(self) -> dict[str, pd.DataFrame]:
        """Its DataFrames by name."""
        return {
            part.name: getattr(self, part.name)
            for part in fields(self)
            if isinstance(getattr(self, part.name), pd.DataFrame)
        }

    def json(self) -> dict:
        """Everything but the pictures, ready for JSON: NaN is None, a table is a list of rows."""
        return {
            "format": FORMAT,
            "kind": type(self).__name__,
            "summary": plain(self.summary),
            "advice": self.advice,
            **{name: plain(table.to_dict("records")) for name, table in self.tables().items()},
        }

    def html(self) -> str:
        """One page that needs no script, no other file and no network."""
        page = Environment(
            loader=PackageLoader("clipnb.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        advice = [short(text, 400) for text in self.advice]
        return page.get_template("report.html").render(
            title=short(self.title),
            lead=short(self.lead, 300),
            first=self.first,
            advice=advice,
            sections=list(self.sections()),
            made=self.summary["made"],
        )

    def _repr_html_(self) -> str:
        # In a frame, so that neither its style nor the name of a class reaches the notebook around it.
        return (
            f'<iframe title="{html.escape(short(self.title))}" sandbox srcdoc="{html.escape(self.html())}" '
            'style="width: 100%; height: 44rem; border: 1px solid #8886"></iframe>'
        )

    def to_html(self, path: str | Path) -> None:
        """Write the page."""
        write_atomically(Path(path), self.html().encode())

    def to_json(self, path: str | Path) -> None:
        """Write every number; `Report.load` reads it."""
        text = json.dumps(self.json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(Path(path), (text + "\n").encode())

    def to_csv(self, folder: str | Path) -> None:
        """Write each table as a CSV file into a folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, table in self.tables().items():
            text = table.map(lambda v: json.dumps(plain(v), ensure_ascii=False) if isinstance(v, list) else v).to_csv(
                index=False
            )
            write_atomically(Path(folder) / f"{name}.csv", text.encode())


def plain(value):
    """`value` as JSON knows it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def plain_text(name: str) -> str:
    """A file name that is no UTF-8 (Linux allows it) cannot be written: its odd bytes are spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()


def short(text, most: int = 70):
    """A string cut to `most` characters; anything else as it is.

    >>> short("abcdef", 4)
    'abc…'
    """
    return text if not isinstance(text, str) or len(text) <= most else text[: most - 1] + "…"


def first_names(table: pd.DataFrame) -> str:
    """The first classnames of a table, and how many more there are."""
    listed = [repr(short(name, 40)) for name in table["classname"].head(3)]
    return ", ".join(listed) + (f" and {len(table) - 3} more" if len(table) > 3 else "")


def cell(column: str, value) -> dict:
    """What a table shows of a value, and the value to the last digit."""
    value = plain(value)
    if isinstance(value, float):
        whole = column in NOT_PERCENT and abs(value) > 1 and value.is_integer()
        shown = (
            f"{value:.0f}" if whole else f"{value:.3f}" if column in NOT_PERCENT else f"{value:.1%}".replace("%", " %")
        )
        return {"shown": shown, "exact": repr(value)}
    if isinstance(value, list):
        return {"shown": short("; ".join(map(str, value)), 200)}
    if isinstance(value, bool):
        return {"shown": "yes" if value else "no"}
    return {
        "shown": "–" if value is None else short(str(value), 200),
        "exact": value if isinstance(value, int) else None,
    }


def as_table(table: pd.DataFrame) -> dict:
    """Columns and cells of the first rows, and how many rows there are besides: what the template makes a table from."""
    rows = [[cell(column, row[column]) for column in table] for row in table.head(MAX_ROWS).to_dict("records")]
    more = len(table) - len(rows)
    return {
        "columns": [column.replace("_", " ") for column in table],
        "rows": rows,
        "more": f"{more} more rows are in the JSON and CSV files." if more > 0 else "",
    }


def as_score_table(table: pd.DataFrame) -> dict:
    """As `as_table`, where a row is a score: its name in the first column, numbers in the others."""
    rows = [
        [{"shown": name.replace("_", " ")}, *(cell(name, value) for value in values)]
        for name, *values in table.itertuples(index=False)
    ]
    return {"columns": [column.replace("_", " ") for column in table], "rows": rows}
