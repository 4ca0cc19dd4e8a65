"""The book's own rules, held by its pages: intervals, bands, undefined scores, one number for one quantity."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipnb.notebook import show

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
NUMBER = r"[-−+]?\d+(?:\.\d+)?"
BRACKETS = re.compile(rf"\[({NUMBER}), ({NUMBER})\]")
ENDS = re.compile(rf"(?:interval|between|from) ({NUMBER}) ?%? to ({NUMBER})")
# the same quantity in several chapters
SAME = [
    ("ch1-accuracy", "ch2-accuracy", "ch5-accuracy"),
    ("ch1-classes", "ch2-classes", "ch5-classes"),
    ("ch1-n", "ch5-n", "ch3-n"),
    ("ch4-zero", "ch5-zero"),
]


class Text(HTMLParser):
    """Words of a page outside its code, and the cells of its tables, row by row."""

    def __init__(self, page):
        super().__init__()
        self.code, self.cell, self.words, self.rows = 0, False, [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.code += tag in ("script", "style")
        if tag == "div" and (self.code or "cell_input" in (dict(attributes).get("class") or "")):
            self.code += 1
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.code -= tag in ("div", "script", "style") and self.code > 0
        self.cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if not self.code:
            self.words.append(data)
            if self.cell:
                self.rows[-1][-1] += data.strip().replace("\u00a0", " ")


def zero_width(text):
    """Intervals whose two ends are the same number."""
    pairs = [match.groups() for match in (*BRACKETS.finditer(text), *ENDS.finditer(text))]
    return [pair for pair in pairs if pair[0] == pair[1]]


def zero_of_zero(text):
    """A share of nothing that is shown as 0."""
    return re.findall(r"\b0(?:\.0+)? ?% ?\[0(?:\.0)?, 100(?:\.0)?\]", text)


def wrong_bands(rows):
    """Rows of (score, value with interval, limit, side) whose side does not follow from the interval."""
    wrong = []
    for row in rows:
        interval = BRACKETS.search(row[-3]) if len(row) > 3 else None
        if interval and row[-1] in ("above", "below", "cannot tell"):
            low, high = map(float, interval.groups())
            limit = float(row[-2].rstrip(" %"))
            side = "above" if low > limit else "below" if high < limit else "cannot tell"
            wrong += [row] if side != row[-1] else []
    return wrong


@pytest.fixture(scope="module", params=SOURCES, ids=lambda path: path.stem)
def page(request):
    file = ROOT / f"_build/html/notebooks/{request.param.stem}.html"
    if not file.is_file():
        pytest.fail("there is no _build/html: run `make book` first")
    return Text(file.read_text("utf-8"))


def test_no_interval_has_the_width_zero(page):
    assert not zero_width(" ".join("".join(page.words).split()))


def test_a_share_of_nothing_is_not_zero(page):
    assert not zero_of_zero(" ".join("".join(page.words).split()))


def test_a_band_is_named_only_where_the_interval_lies_in_it(page):
    assert not wrong_bands(page.rows)


def test_the_first_chapter_names_bands():
    text = Text((ROOT / f"_build/html/notebooks/{SOURCES[0].stem}.html").read_text("utf-8"))
    assert len([row for row in text.rows if row and row[-1] in ("above", "below", "cannot tell")]) == 3


def test_one_quantity_has_one_number():
    numbers = {}
    for source in SOURCES:
        executed = json.loads((ROOT / "book/notebooks" / source.name).read_text("utf-8"))
        for cell in executed["cells"]:
            for output in cell.get("outputs", []):
                numbers |= output.get("data", {}).get("application/json", {})
    for names in SAME:
        assert len({numbers[name] for name in names}) == 1, {name: numbers[name] for name in names}


def test_the_checks_see_what_they_look_for():
    assert zero_width("worst_10 0.0 [0.0, 0.0]") == [("0.0", "0.0")]
    assert zero_width("interval 5.1 to 5.1 %") and not zero_width("69.9 % [67.7, 71.9], from 3 to 4")
    assert zero_of_zero("shop 0.0 % [0.0, 100.0]") and not zero_of_zero("10 % [0, 100]")
    row = ["Recall@5", "90.2 % [88.8, 91.4]", "90%"]
    assert wrong_bands([[*row, "above"]]) and not wrong_bands([[*row, "cannot tell"]])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_chapter_has_the_parts_of_every_chapter(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    opening = text.partition("\n> ")[0]
    assert opening.startswith("# ") and "?" in opening, "a chapter opens with its question"
    parts = [
        "> **What you will be able to do**",
        "> **Before this:** ",
        "\n## Check yourself\n",
        "\n## What to take away\n",
        "\n## Exercises\n",
        "\n## Where to go next\n",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert re.search(r"\*\*Time:\*\* \d+ minutes to read, \d+ with the exercises, \d+ in class\.", text)


def test_columns_of_words_are_marked_in_a_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book/_ext"))
    from plain_markdown import mark_words

    table = show(pd.DataFrame({"class": ["cat", "dog"], "recall": [0.5, np.nan], "taken for": ["dog", "fox"]}))
    marked = mark_words(table.to_html())
    assert marked.count('class="words"') == 3 and '<td class="words">fox</td>' in marked
    assert table.to_html() == marked.replace(' class="words"', "")
