"""Descriptions of classes written by a large language model: the query, and reviewed answers read from JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clipnb.errors import InputError

SHIPPED_DIR = Path(__file__).parent / "assets" / "descriptions"

# Ours: the paper's own query is not known.
QUERY = """\
You describe pictures for an image search engine. The category is "{classname}" (a simple drawing, not a photograph).
It is often mistaken for: {rivals}.
Write {count} short descriptions of what a drawing of "{classname}" shows, each a noun phrase of at most 15 words that
names the category, says what is visible (shape, parts, colours) and what tells it apart from those others.
Do not name the others. Answer as a JSON list of strings."""


@dataclass(frozen=True)
class Descriptions:
    """`by_class` {classname: [description, ...]} and `provenance` (who wrote them, when, answering which query)."""

    by_class: dict[str, list[str]]
    provenance: dict


def query(classname: str, rivals, count: int = 5) -> str:
    """The question that a language model is asked about one class.

    >>> print(query("sailboat", ["ferry", "motor boat"]).splitlines()[1])
    It is often mistaken for: ferry, motor boat.
    """
    return QUERY.format(classname=classname, rivals=", ".join(rivals) or "nothing in particular", count=count)


def load_descriptions(source: str | Path = "emoji") -> Descriptions:
    """Read reviewed descriptions: the shipped ones ("emoji") or a JSON file of the same form.

    The file holds {"provenance": {...}, "classes": {classname: [description, ...]}}.

    Raises:
        InputError: the file is missing or not of that form.

    >>> found = load_descriptions()
    >>> min(len(texts) for texts in found.by_class.values()) >= 5
    True
    """
    path = SHIPPED_DIR / "emoji.json" if source == "emoji" else Path(source)
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"Expected 'emoji' or a JSON file of descriptions, got {source}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path} as JSON: {error}") from None
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, dict) or not classes:
        raise InputError(f'Expected {path} to hold {{"classes": {{classname: [description, ...]}}}}')
    for name, texts in classes.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise InputError(f"Expected a list of non-empty strings for class {name!r} in {path}")
    return Descriptions(classes, content.get("provenance", {}))
