"""Notebooks in plain Markdown, which JupyterLab, Colab and VS Code show as it is meant, and what the page adds.

A quotation that begins with a bold title becomes a box, a term of the glossary in italics becomes a link to its entry,
and "(Radford et al., 2021)" becomes a link to the bibliography. Text that cells show (`clipnb.notebook.say`) is read in
the same way. See `local_extensions` in _config.yml.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from pybtex.database import parse_file

KINDS = {  # the first words of a box's title, and its class; other boxes are notes
    "What you will be able to do": "tip",
    "Careful": "warning",
    "Confirmed": "confirmed",
    "Reported": "reported",
    "Reconstructed": "reconstructed",
    "Unknown": "unknown",
}
SHORT = {"micro": "micro average", "macro": "macro average", "chance": "chance level"}  # terms by another name
QUOTE = re.compile(r"(?m)^> \*\*(?P<title>[^*\n]+?)\.?\*\*(?P<first>[^\n]*)\n(?P<rest>(?:>[^\n]*\n?)*)")
ITALIC = re.compile(r"(?<![*\\\w])\*(?P<text>[^*\s][^*\n]*?[^*\s]|[^*\s])\*(?![*\w])")
CITATION = re.compile(r"\((?P<text>[A-Z][^()\n]*?, \d{4}[a-z]?(?:; [A-Z][^()\n]*?, \d{4}[a-z]?)*)\)")


def to_myst(text: str, terms: dict[str, str], citations: dict[str, str]) -> str:
    """The same text with boxes, links to the glossary and citations in the syntax of MyST; code is left as it is."""
    parts = re.split(r"(?ms)(^```.*?^```[ \t]*$|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|<div class=\"quiz\".*?^</div>)", text)
    return _boxes("".join(part if i % 2 else _inline(part, terms, citations) for i, part in enumerate(parts)))


def _boxes(text: str) -> str:
    def box(match: re.Match) -> str:
        title = match["title"]
        kind = next((kind for start, kind in KINDS.items() if title.startswith(start)), "note")
        rest = re.sub(r"(?m)^> ?", "", match["rest"])
        return f":::{{admonition}} {title}\n:class: {kind}\n{(match['first'] + chr(10) + rest).strip()}\n:::\n"

    return QUOTE.sub(box, text)


def _inline(text: str, terms: dict[str, str], citations: dict[str, str]) -> str:
    def link(match: re.Match) -> str:
        name = match["text"].lower()
        term = next((terms[n] for n in (SHORT.get(name, name), name.removesuffix("s")) if n in terms), None)
        return match[0] if term is None else f"{{term}}`{match['text']} <{term}>`"

    def cite(match: re.Match) -> str:
        keys = [citations.get(label) for label in match["text"].split("; ")]
        return match[0] if None in keys else f"{{cite}}`{','.join(map(str, keys))}`"

    return CITATION.sub(cite, ITALIC.sub(link, text)).replace("](../book/", "](../")


@cache
def glossary_terms(file: Path) -> dict[str, str]:
    """Term in lower case -> the term as the glossary spells it."""
    block = file.read_text("utf-8").partition("```{glossary}\n")[2].partition("\n```")[0]
    return {line.strip().lower(): line.strip() for line in block.splitlines() if line and not line.startswith(" ")}


@cache
def citation_labels(file: Path) -> dict[str, str]:
    """ "Radford et al., 2021" -> key of the entry in the bibliography."""
    labels = {}
    for key, entry in parse_file(str(file)).entries.items():
        people = [" ".join(person.prelast_names + person.last_names) for person in entry.persons.get("author", [])]
        names = people[0] if len(people) == 1 else " and ".join(people) if len(people) == 2 else f"{people[0]} et al."
        labels[f"{names.strip('{}')}, {entry.fields['year']}"] = key
    return labels


def mark_words(html: str) -> str:
    """The same with the class "words" on the columns of pandas' tables that hold text and no numbers."""

    def mark(table: re.Match) -> str:
        rows = [re.split(r"(?=<t[hd])", row) for row in re.split(r"(?=<tr)", table[0])]
        body = [row for row in rows if "<td" in "".join(row)]
        words = [
            column
            for column in range(min(map(len, body), default=0))
            if all(re.match(r"<td>[A-Za-z]", row[column]) for row in body)
        ]
        return "".join(
            re.sub(r"^<(t[hd])", r'<\1 class="words"', cell) if column in words else cell
            for row in rows
            for column, cell in enumerate(row)
        )

    return re.sub(r'(?s)<table border="1" class="dataframe">.*?</table>', mark, html)


def read_notebook(app, docname: str, source: list[str]) -> None:
    """Translate the Markdown of a notebook's cells and of the text that its cells show."""
    if not docname.startswith("notebooks/") or not source[0].lstrip().startswith("{"):
        return
    terms = glossary_terms(Path(app.srcdir, "glossary.md"))
    citations = citation_labels(Path(app.srcdir, "references.bib"))
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = to_myst("".join(cell["source"]), terms, citations)
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output["data"]["text/html"] = mark_words("".join(output["data"]["text/html"]))
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = to_myst("".join(output["data"]["text/markdown"]), terms, citations)
    source[0] = json.dumps(notebook)


def setup(app) -> dict:
    """Connect to Sphinx."""
    app.connect("source-read", read_notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
