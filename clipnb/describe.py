"""Texts about single classes: the query for a language model, answers checked, files read, and controls without meaning."""

from __future__ import annotations

import hashlib
import json
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipnb.errors import InputError, class_indices, generator, having, listed, one_of, path_of, read_text, text_of, whole_number
from clipnb.prompts import check_classnames
from clipnb.similarity import check_classifier

SHIPPED_DIR = Path(__file__).parent / "assets" / "descriptions"

# Ours: the paper's own query is not known. The line with {category} is left out where no super-category is known.
QUERY = """\
You describe images for an image search engine. The category is "{classname}".
It belongs to: {category}.
It is often mistaken for: {rivals}.
Write {count} short descriptions of what an image of "{classname}" shows, each a noun phrase of at most 15 words that
names the category, says what is visible (shape, parts, colours) and what tells it apart from those others.
Do not name the others. Answer as a JSON list of strings."""
# The same for sets of drawings, such as the emoji set.
_DRAWN = (('"{classname}".\n', '"{classname}" (a simple drawing, not a photograph).\n'), ("an image of", "a drawing of"))
DRAWING_QUERY = QUERY.replace(*_DRAWN[0]).replace(*_DRAWN[1])
FIELDS = ("classname", "category", "rivals", "count")

MARKUP = set("<>{}[]|\\`")
HOSTILE = re.compile(r"\b(ignore|disregard|forget|override)\s+(all|any|the|these|those|your|previous|everything)\b|system prompt|javascript:|://|"
                     r"www\.|\bas an ai\b|\blanguage model\b", re.IGNORECASE)


@dataclass(frozen=True)
class Descriptions:
    """`by_class` {classname: [text, ...]} and `provenance` (who wrote them, when, answering which query; file, kind, hash)."""

    by_class: dict[str, list[str]]
    provenance: dict


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
        classes: (K,) class indices, for example from `ensemble.find_worst`.
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
        found.append(Question(classnames[c], tuple(classnames[r] for r in nearest), categories[c] if categories is not None else None))
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
    lines = [line for line in text_of(template, "template").splitlines() if category is not None or "{category}" not in line]
    return "\n".join(lines).format(classname=classname, category=category, count=count,
                                   rivals=", ".join(rivals) or "nothing in particular")


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
        raise InputError(f"Expected the query {path} to have fields such as {{classname}}, got {error}; write {{{{ for a brace") from None
    if unknown := sorted(fields - set(FIELDS)):
        raise InputError(f"Unknown field {{{' '.join(unknown[0].split())}}} in the query {path}; known: {', '.join(f'{{{f}}}' for f in FIELDS)}")
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


def check_answer(answer: str, question: Question, count: int = 5, allow_rivals: bool = False, too_long=None) -> list[str]:
    """The descriptions in a language model's raw answer, if it is one that may be used.

    Args:
        answer: raw text; a JSON list of strings, a fence of backticks around it is taken off.
        question: what was asked.
        count: how many descriptions are wanted; more are dropped.
        allow_rivals: whether a description may name a rival.
        too_long: texts -> those that the CLIP model would cut off, for example `prompts.too_long`; None: not checked.

    Raises:
        InputError: what is wrong with it, in words that a second query can repeat.

    >>> check_answer('["a dog with long ears"]', Question("dog", ("cat",)), count=1)
    ['a dog with long ears']
    >>> check_answer('["a dog, unlike a cat"]', Question("dog", ("cat",)), count=1)
    Traceback (most recent call last):
    clipnb.errors.InputError: a description names 'cat'
    """
    count = whole_number(count, "count", 1)
    having(question, "question", "classname", "describe.questions")
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
        rest = _whole(question.classname).sub("", text)
        if rest == text:
            raise InputError(f"a description does not name {question.classname!r}")
        named = None if allow_rivals else next((r for r in question.rivals if _whole(r).search(rest)), None)
        if named:
            raise InputError(f"a description names {named!r}")
    if too_long and (cut := list(too_long(texts))):
        raise InputError(f"a description is too long ({len(cut[0].split())} words)")
    return texts


def _whole(name: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", re.IGNORECASE)


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
        raise InputError(f"Expected 'emoji', 'icons' or a JSON file of descriptions, got {source}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"Cannot read {path} as JSON: {error}") from None
    ours = isinstance(content, dict) and isinstance(content.get("classes"), dict)
    classes = content["classes"] if ours else content
    if not isinstance(classes, dict) or not classes:
        raise InputError(f'Expected {path} to hold {{"classes": {{classname: [description, ...]}}}} or {{classname: [text, ...]}}')
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
    return Descriptions(by_class, provenance | {"file": path.name, "kind": kind, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]})


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
    return f"{len(others)} of {len(by_class)} keys of the descriptions {verbs}: {', '.join(map(repr, others[:3]))}{more}"


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
        raise InputError(f'Expected "synonyms" or "parents" for class {name!r} in {path}, got {", ".join(found) or "nothing"}')
    lists = {key: _texts(name, value, path) for key, value in found.items()}
    return [*lists.get("synonyms", []), *(f"{name}, a kind of {parent}" for parent in lists.get("parents", []))]


def _kind(by_class: Mapping[str, Sequence[str]]) -> str:
    named = [name.casefold() in text.casefold() for name, texts in by_class.items() for text in texts]
    return "sentences" if 2 * sum(named) > len(named) else "features"


def _feature(name: str, feature: str) -> str:
    verb = "is" if re.match(r"(an?|used|made|found) ", feature, re.IGNORECASE) else "has"
    return f"{name}, which {verb} {feature}"


def shuffled(by_class: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Control: every class gets the descriptions of another class, with its own name put in. Fluent, about the wrong thing.

    >>> shuffled({"dog": ["a dog with long ears"], "car": ["a car with four wheels"]})
    {'dog': ['a dog with four wheels'], 'car': ['a car with long ears']}
    """
    names = list(check_texts(by_class, "by_class"))
    donors = names[len(names) // 2 :] + names[: len(names) // 2]  # half a turn: no class keeps its own, if there are two
    swapped = {}
    for name, donor in zip(names, donors):
        texts = [_whole(donor).sub(lambda _: name, text, count=1) for text in by_class[donor]]
        swapped[name] = [text if _whole(name).search(text) else f"{name}, {text}" for text in texts]
    return swapped


def random_words(by_class: Mapping[str, Sequence[str]], seed: int = 0, words: int = 4, letters: bool = False) -> dict[str, list[str]]:
    """Control as in WaffleCLIP (arXiv 2306.07282): as many texts a class, the name and random words. About nothing.

    Args:
        by_class: {classname: texts}; their words are the vocabulary.
        words: how many in a text.
        letters: random letters instead, as many as the drawn words have.

    >>> random_words({"dog": ["a dog with long ears"]}, words=2)
    {'dog': ['dog, with long']}
    """
    rng = generator(seed)
    words, by_class = whole_number(words, "words", 1, 1000), check_texts(by_class, "by_class")
    own = {word for name in by_class for word in re.findall(r"\w+", name.lower())}
    vocabulary = sorted({word for texts in by_class.values() for text in texts for word in re.findall(r"\w+", text.lower())} - own) or ["thing"]

    def draw() -> str:
        drawn = rng.choice(vocabulary, words)
        return " ".join("".join(rng.choice(list(string.ascii_lowercase), len(word))) if letters else word for word in drawn)

    return {name: [f"{name}, {draw()}" for _ in texts] for name, texts in by_class.items()}


def keyword_texts(keywords: Mapping[str, Sequence[str]], count: int = 5) -> dict[str, list[str]]:
    """Control: the name with one keyword each, at most `count`; the bare name where there are none. No language model.

    >>> keyword_texts({"dog": ["pet", "dog"], "car": []})
    {'dog': ['dog, pet'], 'car': ['car']}
    """
    count = whole_number(count, "count", 1)
    return {name: [f"{name}, {word}" for word in words if word.casefold() != name.casefold()][:count] or [name]
            for name, words in check_texts(keywords, "keywords").items()}


def check_texts(texts, name: str) -> dict[str, list[str]]:
    """Return texts by classname as a dict of lists if each name and text is a non-empty string.

    >>> check_texts({"dog": ("a dog",)}, "descriptions")
    {'dog': ['a dog']}
    """
    given = having(texts, name, "items", "a dict of classname and texts").items()
    return {text_of(key, name): [text_of(text, f"{name}[{key!r}]") for text in listed(group, f"{name}[{key!r}]")] for key, group in given}
