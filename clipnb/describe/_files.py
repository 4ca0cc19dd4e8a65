"""Files of descriptions: reading them, and matching them with classnames."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clipnb._checks import format_value, listed, one_of, text_of
from clipnb._files import path_of, read_text
from clipnb.describe._query import refusal
from clipnb.errors import InputError
from clipnb.prompts import check_classnames

SHIPPED_DIR = Path(__file__).parents[1] / "assets" / "descriptions"


@dataclass(frozen=True)
class Descriptions:
    """Texts by classname, and their provenance: who wrote them, when, answering which query; file, kind, hash."""

    by_class: dict[str, list[str]]
    provenance: dict[str, Any]


def load_descriptions(
    source: str | Path = "emoji", kind: Literal["sentences", "features"] | None = None
) -> Descriptions:
    """Read texts about classes: the shipped descriptions ("emoji" or "icons"), or a JSON file in one of these forms.

    - {"provenance": {...}, "classes": {...}}, with any of the following as "classes"; or one of the following alone
    - {classname: [sentence, ...]} as in CuPL (arXiv 2209.03320): used as they are
    - {classname: [feature, ...]} as descriptors (arXiv 2210.07183): "name, which has feature"
    - {classname: {"synonyms": [...], "parents": [...]}}: synonyms as they are, "name, a kind of parent"

    Args:
        source: "emoji", "icons" or a path.
        kind: what the lists hold, "sentences" or "features"; None: sentences if most texts name their class.

    Returns:
        `Descriptions`; its provenance is the file's own with "file", "kind" and "sha256" (16 hex digits) of the file.

    Raises:
        InputError: the file is missing or of none of these forms, names a class twice, or a text holds markup.

    >>> descriptions = load_descriptions()
    >>> min(len(texts) for texts in descriptions.by_class.values()) >= 5
    True
    """
    shipped = isinstance(source, str) and source in ("emoji", "icons")
    path = SHIPPED_DIR / f"{source}.json" if shipped else path_of(source, "source")
    try:
        text = read_text(path)
        content = json.loads(text, object_pairs_hook=lambda pairs: _no_duplicates(pairs, path))
    except OSError as error:
        raise InputError(
            f"Expected 'emoji', 'icons' or a JSON file of descriptions, got {source}: {error.strerror}"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"Cannot read {path} as JSON: {error}") from None
    wrapped = isinstance(content, dict) and isinstance(content.get("classes"), dict)
    classes = content["classes"] if wrapped else content
    if not isinstance(classes, dict) or not classes:
        raise InputError(
            f'Expected {path} to hold {{"classes": {{classname: [description, ...]}}}} or {{classname: [text, ...]}}'
        )
    if all(isinstance(value, dict) for value in classes.values()):
        by_class = {name: _names(name, value, path) for name, value in classes.items()}
        form = "names"
    else:
        by_class = {name: _texts(name, value, path) for name, value in classes.items()}
        form = _kind(by_class) if kind is None else one_of(kind, "kind", ("sentences", "features"))
        if form == "features":
            by_class = {name: [_feature(name, text) for text in texts] for name, texts in by_class.items()}
    for name, texts in by_class.items():
        for text in texts:
            if reason := refusal(text):
                raise InputError(f"Expected plain texts in {path}, got {reason} in one of class {name!r}")
    provenance = content.get("provenance") if wrapped else None
    provenance = provenance if isinstance(provenance, dict) else {}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Descriptions(by_class, provenance | {"file": path.name, "kind": form, "sha256": digest})


def unmatched(by_class: Mapping[str, Sequence[str]], classnames: Sequence[str]) -> str | None:
    """One line about the descriptions that belong to no class and are not used; None if there are none.

    >>> unmatched({"dog": ["a dog"], "Cat": ["a cat"]}, ["dog", "cat"])
    "1 of 2 keys of the descriptions is not a classname and is not used: 'Cat'"
    """
    known = set(check_classnames(classnames))
    others = [key for key in check_texts(by_class, "by_class") if key not in known]
    if not others:
        return None
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    verbs = ("is not a classname and is" if len(others) == 1 else "are not classnames and are") + " not used"
    return (
        f"{len(others)} of {len(by_class)} keys of the descriptions {verbs}: {', '.join(map(repr, others[:3]))}{more}"
    )


def _no_duplicates(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        duplicate = next(key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1)
        raise InputError(f"Expected each name once in {path}, got {duplicate!r} twice")
    return content


def _texts(name: str, texts: object, path: Path) -> list[str]:
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise InputError(f"Expected a list of non-empty strings for class {name!r} in {path}")
    return texts


def _names(name: str, entry: dict[str, Any], path: Path) -> list[str]:
    if not entry or set(entry) - {"synonyms", "parents"}:
        raise InputError(
            f'Expected "synonyms" or "parents" for class {name!r} in {path}, got {", ".join(entry) or "nothing"}'
        )
    lists = {key: _texts(name, value, path) for key, value in entry.items()}
    return [*lists.get("synonyms", []), *(f"{name}, a kind of {parent}" for parent in lists.get("parents", []))]


def _kind(by_class: Mapping[str, Sequence[str]]) -> Literal["sentences", "features"]:
    named = [name.casefold() in text.casefold() for name, texts in by_class.items() for text in texts]
    return "sentences" if 2 * sum(named) > len(named) else "features"


def _feature(name: str, feature: str) -> str:
    verb = "is" if re.match(r"(an?|used|made|found) ", feature, re.IGNORECASE) else "has"
    return f"{name}, which {verb} {feature}"


def check_texts(texts: Mapping[str, Sequence[str]], name: str) -> dict[str, list[str]]:
    """Return texts by classname as a dict of lists if each name and text is a non-empty string.

    >>> check_texts({"dog": ("a dog",)}, "descriptions")
    {'dog': ['a dog']}
    """
    if not isinstance(texts, Mapping):
        raise InputError(f"Expected `{name}` to be a dict of classname and texts, got {format_value(texts)}")
    return {
        text_of(key, name): [text_of(text, f"{name}[{key!r}]") for text in listed(group, f"{name}[{key!r}]")]
        for key, group in texts.items()
    }
