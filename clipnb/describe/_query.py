"""The query for a language model, and the checks that its answers must pass."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipnb._checks import class_indices, listed, text_of, whole_number
from clipnb._files import path_of, read_text
from clipnb.errors import InputError
from clipnb.prompts import check_classnames
from clipnb.similarity import check_classifier

# Our own wording: the paper's query is not known. The line with {category} is left out if no super-category is known.
QUERY = """\
You describe images for an image search engine. The category is "{classname}".
It belongs to: {category}.
It is often mistaken for: {rivals}.
Write {count} short descriptions of what an image of "{classname}" shows, each a noun phrase of at most 15 words that
names the category, says what is visible (shape, parts, colours) and what tells it apart from those others.
Do not name the others. Answer as a JSON list of strings."""
# The same for sets of drawings, such as the emoji set.
DRAWING_QUERY = QUERY.replace('"{classname}".\n', '"{classname}" (a simple drawing, not a photograph).\n').replace(
    "an image of", "a drawing of"
)
FIELDS = ("classname", "category", "rivals", "count")
MARKUP = set("<>{}[]|\\`")
HOSTILE = re.compile(
    r"\b(ignore|disregard|forget|override)\s+(all|any|the|these|those|your|previous|everything)\b|"
    r"system prompt|javascript:|://|www\.|\bas an ai\b|\blanguage model\b",
    re.IGNORECASE,
)


class AnswerError(ValueError):
    """A language model's answer cannot be used; the text says why, in words that a second query can repeat."""


@dataclass(frozen=True)
class Question:
    """A class to ask a language model about, the classes it is mistaken for, and its super-category if known."""

    classname: str
    rivals: tuple[str, ...] = ()
    category: str | None = None


def questions(
    classnames: Sequence[str],
    classifier: npt.ArrayLike,
    classes: npt.ArrayLike,
    rivals: int = 3,
    categories: Sequence[str | None] | None = None,
) -> list[Question]:
    """One question for each of `classes`; its rivals are the classes with the most similar texts: no label is needed.

    Args:
        classnames: C names.
        classifier: (C, D) unit-norm class vectors.
        classes: (K,) class indices, for example from `margin.find_worst`.
        rivals: how many to name.
        categories: C super-categories (strings or None), or None.

    >>> questions(["cat", "dog", "car"], np.array([[1, 0], [.8, .6], [0, 1.]]), [0], rivals=1)
    [Question(classname='cat', rivals=('dog',), category=None)]
    """
    classnames = check_classnames(classnames)
    vectors = check_classifier(classifier).astype(float)
    if len(classnames) != len(vectors):
        raise InputError(f"Expected `classnames` of length C = {len(vectors)}, got {len(classnames)}")
    count = min(whole_number(rivals, "rivals", 0), len(classnames) - 1)

    def question(c: int) -> Question:
        similarity = vectors @ vectors[c]
        similarity[c] = -np.inf
        nearest = np.argsort(-similarity, kind="stable")[:count]
        category = categories[c] if categories is not None else None
        return Question(classnames[c], tuple(classnames[r] for r in nearest), category)

    return [question(c) for c in class_indices(classes, "classes", num_classes=len(classnames)).tolist()]


def query(
    classname: str, rivals: Sequence[str], count: int = 5, category: str | None = None, template: str = QUERY
) -> str:
    """The text that asks a language model about one class.

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
    text_of(classname, "classname")
    whole_number(count, "count", 1)
    if category is not None:
        text_of(category, "category")
    lines = [
        line for line in text_of(template, "template").splitlines() if category is not None or "{category}" not in line
    ]
    return "\n".join(lines).format(
        classname=classname, category=category, count=count, rivals=", ".join(rivals) or "nothing in particular"
    )


def load_query(path: str | Path) -> str:
    """Read a query of your own: UTF-8 text with the fields of `QUERY`; {classname} is required.

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
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise InputError(f"Unknown field {{{' '.join(unknown[0].split())}}} in the query {path}; known: {known}")
    if "classname" not in fields:
        raise InputError(f"Expected the field {{classname}} in the query {path}, got none")
    return text


def refusal(text: str) -> str | None:
    """Why a text may not be shown or used; None if it is plain.

    Refused are markup, links, control characters and instructions to a language model.

    >>> refusal("a red fire engine with a ladder"), refusal("a <b>red</b> engine")
    (None, "the character '<'")
    """
    if not isinstance(text, str):
        raise InputError(f"Expected `text` to be a string, got {type(text).__name__}")
    for char in text:
        if char in MARKUP or unicodedata.category(char).startswith("C"):
            return f"the character {char!r}"
    match = HOSTILE.search(text)
    return f"the words {match.group()!r}" if match else None


def check_answer(
    answer: str,
    question: Question,
    count: int = 5,
    allow_rivals: bool = False,
    too_long: Callable[[list[str]], Iterable[str]] | None = None,
) -> list[str]:
    """The descriptions in a language model's raw answer.

    Args:
        answer: raw text: a JSON list of strings, perhaps inside a fence of backticks.
        question: the question that it answers.
        count: how many descriptions are needed; further ones are dropped.
        allow_rivals: whether a description may name a rival.
        too_long: texts -> those that the CLIP model would cut off, for example `prompts.truncated_prompts`; None: not
            checked.

    Raises:
        AnswerError: the answer cannot be used.
        InputError: `answer` is not a string, or `count` is not a positive whole number.

    >>> check_answer('["a dog with long ears"]', Question("dog", ("cat",)), count=1)
    ['a dog with long ears']
    >>> check_answer('["a dog, unlike a cat"]', Question("dog", ("cat",)), count=1)
    Traceback (most recent call last):
    clipnb.describe._query.AnswerError: a description names 'cat'
    """
    count = whole_number(count, "count", 1)
    if not isinstance(answer, str):
        raise InputError(f"Expected `answer` to be a string, got {type(answer).__name__}")
    fenced = re.fullmatch(r"\s*```\w*\n(.*?)```\s*", answer, re.DOTALL)
    try:
        texts = json.loads(fenced.group(1) if fenced else answer)
    except (json.JSONDecodeError, RecursionError):
        raise AnswerError("it is not a complete JSON list") from None
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise AnswerError("it is not a list of non-empty strings")
    texts = list(dict.fromkeys(" ".join(text.split()) for text in texts))[:count]
    if len(texts) < count:
        raise AnswerError(f"it has {len(texts)} different descriptions instead of {count}")
    for text in texts:
        if reason := refusal(text):
            raise AnswerError(f"a description contains {reason}")
        rest = whole_name(question.classname).sub("", text)
        if rest == text:
            raise AnswerError(f"a description does not name {question.classname!r}")
        named = None if allow_rivals else next((r for r in question.rivals if whole_name(r).search(rest)), None)
        if named:
            raise AnswerError(f"a description names {named!r}")
    if too_long and (cut := list(too_long(texts))):
        raise AnswerError(f"a description is too long ({len(cut[0].split())} words)")
    return texts


def whole_name(name: str) -> re.Pattern[str]:
    """A pattern that finds a name, or its plural, as whole words."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", re.IGNORECASE)
