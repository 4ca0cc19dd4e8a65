"""The query for a language model, and the checks that its answers must pass."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipnb._checks import class_indices, listed, require_attribute, text_of, whole_number
from clipnb._files import path_of, read_text
from clipnb.errors import InputError
from clipnb.prompts import check_classnames
from clipnb.similarity import check_classifier

# Ours: the paper's own query is not known. The line with {category} is left out where no super-category is known.
QUERY = """\
You describe images for an image search engine. The category is "{classname}".
It belongs to: {category}.
It is often mistaken for: {rivals}.
Write {count} short descriptions of what an image of "{classname}" shows, each a noun phrase of at most 15 words that
names the category, says what is visible (shape, parts, colours) and what tells it apart from those others.
Do not name the others. Answer as a JSON list of strings."""
# The same for sets of drawings, such as the emoji set.
_DRAWN = (
    ('"{classname}".\n', '"{classname}" (a simple drawing, not a photograph).\n'),
    ("an image of", "a drawing of"),
)
DRAWING_QUERY = QUERY.replace(*_DRAWN[0]).replace(*_DRAWN[1])
FIELDS = ("classname", "category", "rivals", "count")
MARKUP = set("<>{}[]|\\`")
HOSTILE = re.compile(
    r"\b(ignore|disregard|forget|override)\s+(all|any|the|these|those|your|previous|everything)\b|system prompt|javascript:|://|"
    r"www\.|\bas an ai\b|\blanguage model\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Question:
    """What a language model is asked about: a class, the classes it is mistaken for, and its super-category if known."""

    classname: str
    rivals: tuple[str, ...] = ()
    category: str | None = None


def questions(classnames, classifier, classes, rivals: int = 3, categories=None) -> list[Question]:
    """One question for each of `classes`; its rivals are the classes whose texts are most similar, so no label is needed.

    Args:
        classnames: C names.
        classifier: (C, D) unit-norm class vectors.
        classes: (K,) class indices, for example from `margin.find_worst`.
        rivals: how many to name.
        categories: C super-categories (strings or None), or None.

    >>> questions(["cat", "dog", "car"], np.array([[1, 0], [.8, .6], [0, 1.]]), [0], rivals=1)
    [Question(classname='cat', rivals=('dog',), category=None)]
    """
    classnames, classifier = check_classnames(classnames), check_classifier(classifier).astype(float)
    if len(classnames) != len(classifier):
        raise InputError(f"Expected `classnames` of length C = {len(classifier)}, got {len(classnames)}")
    rivals, found = whole_number(rivals, "rivals", 0), []
    for c in class_indices(classes, "classes", num_classes=len(classnames)).tolist():
        similar = classifier @ classifier[c]
        similar[c] = -np.inf
        nearest = np.argsort(-similar, kind="stable")[: min(rivals, len(classnames) - 1)]
        found.append(
            Question(
                classnames[c], tuple(classnames[r] for r in nearest), categories[c] if categories is not None else None
            )
        )
    return found


def query(classname: str, rivals, count: int = 5, category: str | None = None, template: str = QUERY) -> str:
    """The text that a language model is asked about one class.

    Args:
        classname: name of the class.
        rivals: names of the classes it is mistaken for.
        count: how many descriptions.
        category: super-category; None: lines of the template with {category} are left out.
        template: text with the fields {classname}, {category}, {rivals} and {count} (`load_query`).

    >>> print(query("sailboat", ["ferry", "motor boat"]).splitlines()[1])
    It is often mistaken for: ferry, motor boat.
    """
    rivals = [text_of(rival, "rivals") for rival in listed(rivals, "rivals")]
    text_of(classname, "classname"), whole_number(count, "count", 1)
    if category is not None:
        text_of(category, "category")
    lines = [
        line for line in text_of(template, "template").splitlines() if category is not None or "{category}" not in line
    ]
    return "\n".join(lines).format(
        classname=classname, category=category, count=count, rivals=", ".join(rivals) or "nothing in particular"
    )


def load_query(path: str | Path) -> str:
    """Read a query of your own: UTF-8 text with the fields of `QUERY`, of which {classname} is a must.

    Raises:
        InputError: the file cannot be read, a field is unknown, or {classname} is missing.
    """
    path = path_of(path, "path")
    try:
        text = read_text(path).strip()
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except OSError as error:
        raise InputError(f"Cannot read the query {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"Expected the query {path} to be text in UTF-8") from None
    except ValueError as error:
        raise InputError(
            f"Expected the query {path} to have fields such as {{classname}}, got {error}; write {{{{ for a brace"
        ) from None
    if unknown := sorted(fields - set(FIELDS)):
        raise InputError(
            f"Unknown field {{{' '.join(unknown[0].split())}}} in the query {path}; known: {', '.join(f'{{{f}}}' for f in FIELDS)}"
        )
    if "classname" not in fields:
        raise InputError(f"Expected the field {{classname}} in the query {path}, got none")
    return text


def refusal(text: str) -> str | None:
    """Why a text may not be shown or used, or None if it is plain: markup, links, control characters, orders to a model.

    >>> refusal("a red fire engine with a ladder"), refusal("a <b>red</b> engine")
    (None, "the character '<'")
    """
    if not isinstance(text, str):
        raise InputError(f"Expected `text` to be a string, got {type(text).__name__}")
    for char in text:
        if char in MARKUP or unicodedata.category(char).startswith("C"):
            return f"the character {char!r}"
    found = HOSTILE.search(text)
    return f"the words {found.group()!r}" if found else None


def check_answer(
    answer: str, question: Question, count: int = 5, allow_rivals: bool = False, too_long=None
) -> list[str]:
    """The descriptions in a language model's raw answer, if it is one that may be used.

    Args:
        answer: raw text; a JSON list of strings, a fence of backticks around it is taken off.
        question: what was asked.
        count: how many descriptions are wanted; more are dropped.
        allow_rivals: whether a description may name a rival.
        too_long: texts -> those that the CLIP model would cut off, for example `prompts.truncated_prompts`; None: not checked.

    Raises:
        InputError: what is wrong with it, in words that a second query can repeat.

    >>> check_answer('["a dog with long ears"]', Question("dog", ("cat",)), count=1)
    ['a dog with long ears']
    >>> check_answer('["a dog, unlike a cat"]', Question("dog", ("cat",)), count=1)
    Traceback (most recent call last):
    clipnb.errors.InputError: a description names 'cat'
    """
    count = whole_number(count, "count", 1)
    require_attribute(question, "question", "classname", "describe.questions")
    if not isinstance(answer, str):
        raise InputError(f"Expected `answer` to be a string, got {type(answer).__name__}")
    fenced = re.fullmatch(r"\s*```\w*\n(.*?)```\s*", answer, re.DOTALL)
    try:
        texts = json.loads(fenced.group(1) if fenced else answer)
    except (json.JSONDecodeError, RecursionError):
        raise InputError("it is no whole JSON list") from None
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError("it is no list of non-empty strings")
    texts = list(dict.fromkeys(" ".join(text.split()) for text in texts))[:count]
    if len(texts) < count:
        raise InputError(f"it has {len(texts)} different descriptions instead of {count}")
    for text in texts:
        if reason := refusal(text):
            raise InputError(f"a description holds {reason}")
        rest = whole_name(question.classname).sub("", text)
        if rest == text:
            raise InputError(f"a description does not name {question.classname!r}")
        named = None if allow_rivals else next((r for r in question.rivals if whole_name(r).search(rest)), None)
        if named:
            raise InputError(f"a description names {named!r}")
    if too_long and (cut := list(too_long(texts))):
        raise InputError(f"a description is too long ({len(cut[0].split())} words)")
    return texts


def whole_name(name: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", re.IGNORECASE)
