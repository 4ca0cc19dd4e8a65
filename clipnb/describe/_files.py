"""Files of descriptions: reading them, and matching them with classnames."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipnb._checks import listed, one_of, require_attribute, text_of
from clipnb._files import path_of, read_text
from clipnb.describe._query import refusal
from clipnb.errors import InputError
from clipnb.prompts import check_classnames

SHIPPED_DIR = Path(__file__).parents[1] / "assets" / "descriptions"


@dataclass(frozen=True)
class Descriptions:
    """`by_class` {classname: [text, ...]} and `provenance` (who wrote them, when, answering which query; file, kind, hash)."""

    by_class: dict[str, list[str]]
    provenance: dict


def load_descriptions(source: str | Path = "emoji", kind: str | None = None) -> Descriptions:
    """Read texts about classes: the shipped descriptions ("emoji" or "icons"), or a JSON file in one of these forms.

    - {"provenance": {...}, "classes": {...}}, with any of the following as "classes"; or one of the following by itself
    - {classname: [sentence, ...]} as CuPL has them (arXiv 2209.03320): used as they are
    - {classname: [feature, ...]} as descriptors (arXiv 2210.07183): "name, which has feature"
    - {classname: {"synonyms": [...], "parents": [...]}}: synonyms as they are, "name, a kind of parent"

    Args:
        source: "emoji", "icons" or a path.
        kind: of the lists, "sentences" or "features"; None: sentences if most texts name their class.

    Returns:
        `Descriptions`; its provenance is the file's own with "file", "kind" and "sha256" (16 hex digits) of what was read.

    Raises:
        InputError: the file is missing or of none of these forms, names a class twice, or a text holds markup.

    >>> found = load_descriptions()
    >>> min(len(texts) for texts in found.by_class.values()) >= 5
    True
    """
    shipped = isinstance(source, str) and source in ("emoji", "icons")
    path = SHIPPED_DIR / f"{source}.json" if shipped else path_of(source, "source")
    try:
        text = read_text(path)
        content = json.loads(text, object_pairs_hook=lambda pairs: _no_twins(pairs, path))
    except OSError as error:
        raise InputError(
            f"Expected 'emoji', 'icons' or a JSON file of descriptions, got {source}: {error.strerror}"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"Cannot read {path} as JSON: {error}") from None
    ours = isinstance(content, dict) and isinstance(content.get("classes"), dict)
    classes = content["classes"] if ours else content
    if not isinstance(classes, dict) or not classes:
        raise InputError(
            f'Expected {path} to hold {{"classes": {{classname: [description, ...]}}}} or {{classname: [text, ...]}}'
        )
    if all(isinstance(value, dict) for value in classes.values()):
        by_class, kind = {name: _names(name, value, path) for name, value in classes.items()}, "names"
    else:
        by_class = {name: _texts(name, value, path) for name, value in classes.items()}
        kind = _kind(by_class) if kind is None else one_of(kind, "kind", ("sentences", "features"))
        if kind == "features":
            by_class = {name: [_feature(name, text) for text in texts] for name, texts in by_class.items()}
    for name, texts in by_class.items():
        for text in texts:
            if reason := refusal(text):
                raise InputError(f"Expected plain texts in {path}, got {reason} in one of class {name!r}")
    provenance = content.get("provenance") if ours else None
    provenance = provenance if isinstance(provenance, dict) else {}
    return Descriptions(
        by_class,
        provenance | {"file": path.name, "kind": kind, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]},
    )


def unmatched(by_class: Mapping[str, Sequence[str]], classnames: Sequence[str]) -> str | None:
    """One line about the descriptions of no class, which are not used; None if each is of one.

    >>> unmatched({"dog": ["a dog"], "Cat": ["a cat"]}, ["dog", "cat"])
    "1 of 2 keys of the descriptions is no classname and is not used: 'Cat'"
    """
    known = set(check_classnames(classnames))
    others = [key for key in check_texts(by_class, "by_class") if key not in known]
    if not others:
        return None
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    verbs = ("is no classname and is" if len(others) == 1 else "are no classnames and are") + " not used"
    return (
        f"{len(others)} of {len(by_class)} keys of the descriptions {verbs}: {', '.join(map(repr, others[:3]))}{more}"
    )


def _no_twins(pairs, path: Path) -> dict:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        twin = next(key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1)
        raise InputError(f"Expected each name once in {path}, got {twin!r} twice")
    return seen


def _texts(name: str, texts, path: Path) -> list[str]:
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise InputError(f"Expected a list of non-empty strings for class {name!r} in {path}")
    return texts


def _names(name: str, found: dict, path: Path) -> list[str]:
    if not found or set(found) - {"synonyms", "parents"}:
        raise InputError(
            f'Expected "synonyms" or "parents" for class {name!r} in {path}, got {", ".join(found) or "nothing"}'
        )
    lists = {key: _texts(name, value, path) for key, value in found.items()}
    return [*lists.get("synonyms", []), *(f"{name}, a kind of {parent}" for parent in lists.get("parents", []))]


def _kind(by_class: Mapping[str, Sequence[str]]) -> str:
    named = [name.casefold() in text.casefold() for name, texts in by_class.items() for text in texts]
    return "sentences" if 2 * sum(named) > len(named) else "features"


def _feature(name: str, feature: str) -> str:
    verb = "is" if re.match(r"(an?|used|made|found) ", feature, re.IGNORECASE) else "has"
    return f"{name}, which {verb} {feature}"


def check_texts(texts, name: str) -> dict[str, list[str]]:
    """Return texts by classname as a dict of lists if each name and text is a non-empty string.

    >>> check_texts({"dog": ("a dog",)}, "descriptions")
    {'dog': ['a dog']}
    """
    given = require_attribute(texts, name, "items", "a dict of classname and texts").items()
    return {
        text_of(key, name): [text_of(text, f"{name}[{key!r}]") for text in listed(group, f"{name}[{key!r}]")]
        for key, group in given
    }
