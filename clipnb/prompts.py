"""Templates and prompts, checked before a model sees them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from clipnb import _wordnet
from clipnb._checks import listed, require_attribute, text_of, whole_number
from clipnb._files import path_of, read_text
from clipnb._moved import redirect
from clipnb.errors import InputError

if TYPE_CHECKING:
    import torch


class TokenizingModel(Protocol):
    """The part of a model from `clipnb.load_model` or `clipnb.wrap_model` that counts tokens."""

    @property
    def tokenizer(self) -> Any:
        """Function of texts and `context_length` that returns (N, L) tokens; None for a model that takes strings."""
        ...


class _CountingModel(TokenizingModel, Protocol):
    """A model with a tokenizer."""

    @property
    def context_length(self) -> int | None:
        """Tokens that every text is filled up to or cut to; None for a model that takes strings."""
        ...

    @property
    def padding_id(self) -> int:
        """The token that fills up short texts."""
        ...

    def prompt_lengths(self, tokens: torch.Tensor) -> torch.Tensor:
        """Number of tokens of each row, without padding."""
        ...


# Our own templates for drawings; the bare name comes first.
DRAWING_TEMPLATES = (
    "{}",
    "a drawing of a {}.",
    "a picture of a {}.",
    "an icon of a {}.",
    "an emoji of a {}.",
    "clip art of a {}.",
    "a cartoon {}.",
    "a simple drawing of a {}.",
    "a black and white drawing of a {}.",
    "a flat icon of a {}.",
)


def check_templates(templates: Sequence[str], name: str = "templates") -> list[str]:
    """Return the templates as a list if each is a non-empty string with exactly one slot "{}" and none occurs twice.

    >>> check_templates(["a photo of a {}."])
    ['a photo of a {}.']
    >>> check_templates(["a photo of a dog."])
    Traceback (most recent call last):
    clipnb.errors.InputError: Expected template 0 to have one slot {}, got 'a photo of a dog.'
    """
    templates = listed(templates, name)
    source = "" if name == "templates" else f", in `{name}`"
    if not templates:
        raise InputError(f"Expected at least one template, got none{source}")
    for position, template in enumerate(templates):
        if not isinstance(template, str) or template.count("{}") != 1:
            raise InputError(f"Expected template {position} to have one slot {{}}, got {template!r}{source}")
        text_of(template, name)
    _check_no_repeats(templates, name)
    return templates


def check_classnames(classnames: Sequence[str], argument: str = "classnames") -> list[str]:
    """Return the classnames as a list if each is a non-empty string; duplicates pass (see `duplicate_classnames`).

    >>> check_classnames(["dog", "cat"])
    ['dog', 'cat']
    """
    classnames = listed(classnames, argument)
    source = "" if argument == "classnames" else f", in `{argument}`"
    if not classnames:
        raise InputError(f"Expected at least one classname, got none{source}")
    for position, name in enumerate(classnames):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"Expected classname {position} to be a non-empty string, got {name!r}{source}")
        text_of(name, argument)
    return classnames


def duplicate_classnames(classnames: Sequence[str]) -> dict[str, list[int]]:
    """Classnames that occur more than once, with their indices; the later ones lose all ties and are never predicted.

    >>> duplicate_classnames(["missile", "dog", "Missile"])
    {'missile': [0, 2]}
    """
    return _groups([_plain(name) for name in check_classnames(classnames)])


def near_duplicate_classnames(classnames: Sequence[str]) -> dict[str, list[int]]:
    """Classnames that differ at most in case, spaces, punctuation or a plural, with their indices.

    Those of `duplicate_classnames` are among them. A name counts as a plural only if its singular is in the list too,
    so "bus" and "glass" are not changed.

    >>> near_duplicate_classnames(["sea-lion", "dog", "Sea lion", "sea lions"])
    {'sea lion': [0, 2, 3]}
    """
    names = [re.sub(r"[\W_]+", " ", _plain(name)).strip() or _plain(name) for name in check_classnames(classnames)]
    known = set(names)
    return _groups([next((singular for singular in _singulars(name) if singular in known), name) for name in names])


def most_frequent_names(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The name of each class that is most frequent in captions: REAL-Prompt (arXiv 2401.12425; code: analysis/laion).

    A class keeps its classname if no synonym is more frequent. A synonym that is a part of the classname counts for
    other things, too ("burrito" for "breakfast burrito"), and is not chosen; nor is it in the authors' lists.

    Args:
        counts: {classname: {name: how many captions contain it}}, names being the classname and its synonyms; in the
            paper, those of LAION.

    Raises:
        InputError: `counts` is no such mapping, or a count is not a whole number of at least 0.

    >>> most_frequent_names({"cup cakes": {"cupcake": 187267, "cup cakes": 2195}, "gyoza": {"potstickers": 1013}})
    ['cupcake', 'potstickers']
    """
    chosen = []
    for classname, names in require_attribute(counts, "counts", "items", "a dict by classname").items():
        own = _plain(classname)
        frequency = {classname: 0, **require_attribute(names, f"counts[{classname!r}]", "items", "a dict of counts")}
        for name, count in frequency.items():
            whole_number(count, f"counts[{classname!r}][{name!r}]", 0)
        eligible = [name for name in frequency if name == classname or f" {_plain(name)} " not in f" {own} "]
        chosen.append(max(eligible, key=frequency.__getitem__))
    return chosen


def _plain(name: str) -> str:
    """A name in lower case with single spaces."""
    return " ".join(name.casefold().split())


def _singulars(name: str) -> list[str]:
    """The words that an English `name` could be the plural of."""
    if not name.endswith("s") or name.endswith("ss"):
        return []
    return [
        name[:-1],
        *([name[:-2]] if name.endswith("es") else []),
        *([name[:-3] + "y"] if name.endswith("ies") else []),
    ]


def _groups(keys: list[str]) -> dict[str, list[int]]:
    """Positions of the keys that occur more than once."""
    positions: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return {key: group for key, group in positions.items() if len(group) > 1}


@dataclass(frozen=True)
class Finding:
    """One problem that `lint` reports; `str(finding)` is one line."""

    what: str
    where: tuple[str, ...]  # the names, templates or prompts that it concerns, worst first
    advice: str

    def __str__(self) -> str:
        more = f" and {len(self.where) - 3} more" if len(self.where) > 3 else ""
        return f"{self.what}: {', '.join(self.where[:3])}{more}; {self.advice}"


def lint(
    classnames: Sequence[str], templates: Sequence[str] = ("{}",), model: TokenizingModel | None = None
) -> list[Finding]:
    """Problems of classnames and templates, reported before anything is encoded.

    Nothing is raised for: empty classnames, duplicates (`duplicate_classnames`), near-duplicates
    (`near_duplicate_classnames`), names that a model cannot read as words (synset ids, numbers, CamelCase, underscores,
    slashes, index prefixes), names of missing values and of splits, ImageNet's names that are known to be wrong;
    templates that are empty, repeated, or do not have one slot; with `model`, prompts longer than its context, which it
    cuts off.

    Args:
        classnames: C names.
        templates: P strings, which should have one slot "{}".
        model: from `clipnb.load_model`, to count tokens; with None, lengths are not checked.

    Returns:
        Findings, classnames first; an empty list if there are none.

    Raises:
        InputError: a single string in place of a list.

    >>> for finding in lint(["missile", "dog", "missile"], ["a photo of a cat"]):
    ...     print(finding)
    duplicate classname: 0 'missile', 2 'missile'; give each a name of its own, or only the first is ever predicted
    template without a slot: 0 'a photo of a cat'; write {} where the classname goes
    """
    classnames = listed(classnames, "classnames")
    templates = listed(templates, "templates")
    named = [i for i, name in enumerate(classnames) if isinstance(name, str) and name.strip()]
    empty = sorted(set(range(len(classnames))) - set(named))
    findings = [Finding("empty classname", _numbered(classnames, empty), "write what the images show")] if empty else []
    names = [classnames[i] for i in named]
    for group in duplicate_classnames(names).values() if names else ():
        findings.append(
            Finding(
                "duplicate classname",
                _numbered(classnames, [named[i] for i in group]),
                "give each a name of its own, or only the first is ever predicted",
            )
        )
    for group in near_duplicate_classnames(names).values() if names else ():
        if len({_plain(names[i]) for i in group}) > 1:
            findings.append(
                Finding(
                    "near-duplicate classname",
                    _numbered(classnames, [named[i] for i in group]),
                    "say what tells them apart if they are different things",
                )
            )
    findings += _unreadable(names, [f"{i} {classnames[i]!r}" for i in named])
    slots = [template.count("{}") if isinstance(template, str) and template.strip() else None for template in templates]
    for what, wrong, advice in (
        ("empty template", lambda n: n is None, "remove it"),
        ("template without a slot", lambda n: n == 0, "write {} where the classname goes"),
        ("template with several slots", lambda n: n is not None and n > 1, "keep one {}"),
    ):
        if positions := [i for i, n in enumerate(slots) if wrong(n)]:
            findings.append(Finding(what, _numbered(templates, positions), advice))
    usable = [i for i, n in enumerate(slots) if n == 1]
    for group in _groups([templates[i] for i in usable]).values():
        findings.append(
            Finding("duplicate template", _numbered(templates, [usable[i] for i in group]), "keep one of them")
        )
    if model is not None:
        cut = truncated_prompts(model, [templates[i].replace("{}", name) for i in usable for name in names])
        if cut:
            findings.append(
                Finding(
                    f"prompt longer than the model's context of {cast('_CountingModel', model).context_length} tokens",
                    tuple(f"{prompt!r} ({length})" for prompt, length in cut.items()),
                    "shorten it: the model does not see the end",
                )
            )
    return findings


# Names that a model cannot read as words: how each kind is recognised, and the advice that `lint` gives.
_SYNSET = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_CAMEL = re.compile(r"(?!Mac|Mc)[A-Za-z][a-z]+([A-Z][a-z]+)+")
_PREFIX = re.compile(r"\d+\s*[.):_-]+\s*(?=[^\W\d_])|\d+\s+(?=[^\W\d_])")
_CLEAR_PREFIX = re.compile(r"0\d+[.):_-]\s*(?=[^\W\d_])")  # such as 001.Black_footed_Albatross
_SLASH = re.compile(r"\S/\S")  # a slash with blanks around it separates two names of one thing
_PLACES_PREFIX = re.compile(r"/?[a-z]/(?=\w)")  # Places365 sorts its names by their first letter: a/abbey
_MISSING = {"nan", "na", "n/a", "none", "null", "nil", "unknown", "undefined", "true", "false"}
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_SIDES = {"indoor", "outdoor", "interior", "exterior"}  # SUN397 writes building/outdoor for an outdoor building
_SAFE = "--fix-names (`prompts.fix_names`) repairs that"
_ADVICE = {
    "WordNet id instead of a classname": f"a model reads names, not ids; {_SAFE}",
    "number instead of a classname": "a model cannot know what it means; name the class by what its images show",
    "classname that stands for a missing value": "leave the cell empty, or remove the folder, if the label is unknown",
    "classname that is the name of a split": "give the folder of one split, which holds the class folders",
    "number before a classname": _SAFE,
    "slash in a classname": _SAFE,
    "underscore in a classname": _SAFE,
    "CamelCase classname": _SAFE,
    "classname of ImageNet that is known to mislead": "say what its images show",
}

# Misleading names in lists of ImageNet's classes, and our words for what the images show.
_IMAGENET_REPAIRS = {
    "eft": "young newt",
    "maillot": "tights, or a one-piece swimsuit for the second of that name",
    "projectile": "rocket or missile",
    "sunglass": "one lens of sunglasses",
    "drake": "male duck",
}
_SECOND_REPAIRS = {"sunglasses": "dark glasses"}  # used for the second class of that name


def _unreadable(names: list[str], places: list[str]) -> list[Finding]:
    """Findings about names that a model cannot read as words; each name is reported once, for the first that fits."""
    prefix = _prefix(names)
    splits = {_plain(name) for name in names} & _SPLITS
    by_problem: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, place in zip(names, places):
        what = None
        more = ""
        if _SYNSET.fullmatch(name.strip()):
            what = "WordNet id instead of a classname"
            more = (_wordnet.name_of(name.strip()) or "not in ImageNet") if _wordnet.HAS_NAMES else "name not installed"
        elif _NUMBER.fullmatch(name.strip()):
            what = "number instead of a classname"
        elif _plain(name) in _MISSING:
            what = "classname that stands for a missing value"
        elif len(splits) > 1 and _plain(name) in splits:  # "train" alone may be the vehicle
            what = "classname that is the name of a split"
        elif prefix.match(name):
            what = "number before a classname"
        elif _SLASH.search(name) or _PLACES_PREFIX.match(name):
            what = "slash in a classname"
        elif "_" in name:
            what = "underscore in a classname"
        elif _CAMEL.fullmatch(name):
            what = "CamelCase classname"
        elif repair := (_SECOND_REPAIRS if _plain(name) in seen else _IMAGENET_REPAIRS).get(_plain(name)):
            what = "classname of ImageNet that is known to mislead"
            more = repair
        seen.add(_plain(name))
        if what:
            by_problem.setdefault(what, []).append(f"{place} ({more})" if more else place)
    return [Finding(what, tuple(affected), _ADVICE[what]) for what, affected in by_problem.items()]


def _prefix(names: list[str]) -> re.Pattern:
    """The pattern of a list position before a name: lenient if all names have one, else only clear cases."""
    return _PREFIX if len(names) > 1 and all(_PREFIX.match(name) for name in names) else _CLEAR_PREFIX


def fix_names(classnames: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Safe repairs of classnames: WordNet ids become names; positions, underscores, CamelCase and slashes are removed.

    Args:
        classnames: C names.

    Returns:
        The C repaired names, and (old, new) of those that changed. A repair can make two names equal, which `lint`
        reports.

    >>> fix_names(["AnnualCrop", "river"])
    (['annual crop', 'river'], [('AnnualCrop', 'annual crop')])
    >>> fix_names(["001.Black_footed_Albatross", "002.Laysan_Albatross"])[0]
    ['Black footed Albatross', 'Laysan Albatross']
    >>> fix_names(["building/outdoor", "n02084071"])[0]
    ['outdoor building', 'dog']
    """
    classnames = check_classnames(classnames)
    prefix = _prefix(classnames)
    fixed = [_fixed(name, prefix) or name for name in classnames]
    return fixed, [(old, new) for old, new in zip(classnames, fixed) if old != new]


def _fixed(name: str, prefix: re.Pattern) -> str:
    """One repaired name; empty if nothing is left of it."""
    if _SYNSET.fullmatch(name.strip()):
        return _wordnet.name_of(name.strip()) or name
    for start in (prefix, _PLACES_PREFIX):
        name = name[match.end() :] if (match := start.match(name)) else name
    parts = [" ".join(part.replace("_", " ").split()) for part in (name.split("/") if _SLASH.search(name) else [name])]
    parts = [part for part in parts if part]
    if len(parts) > 1 and parts[-1].casefold() in _SIDES:
        parts = [parts[-1], *parts[:-1]]
    return " ".join(
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part).lower() if _CAMEL.fullmatch(part) else part for part in parts
    )


def _numbered(strings: Sequence[str], positions: Iterable[int]) -> tuple[str, ...]:
    """Strings at `positions` as "position 'string'"."""
    return tuple(f"{i} {strings[i]!r}" for i in positions)


def truncated_prompts(model: TokenizingModel, prompts: Sequence[str]) -> dict[str, int]:
    """Prompts that the model's tokenizer cuts off, with their number of tokens, longest first.

    Args:
        model: from `clipnb.load_model`.
        prompts: strings.

    >>> from clipnb import load_model
    >>> truncated_prompts(load_model(), ["a dog", 100 * "very " + "long"])
    {'very very ... long': 103}
    """
    model = cast("_CountingModel", model)
    context = model.context_length
    if context is None:  # a wrapped function takes strings, and it is unknown where it cuts them
        return {}
    prompts = [text_of(prompt, "prompts") for prompt in listed(prompts, "prompts")]
    # A token stands for at least one byte, except for a few that mark start and end: most prompts need no counting.
    doubtful = [prompt for prompt in dict.fromkeys(prompts) if len(prompt.encode()) + 4 > context]
    if not doubtful:
        return {}
    room = 2 * max(len(prompt.encode()) for prompt in doubtful) + context
    whole = model.tokenizer(doubtful, context_length=room)
    cut = model.tokenizer(doubtful)
    lost = (whole[:, :context] != cut).any(dim=1) | (whole[:, context:] != model.padding_id).any(dim=1)
    length = model.prompt_lengths(whole).tolist()
    return {doubtful[i]: length[i] for i in sorted(range(len(doubtful)), key=lambda i: -length[i]) if lost[i]}


def _check_no_repeats(strings: Iterable[str], name: str) -> None:
    seen = set()
    for string in strings:
        if string in seen:
            raise InputError(f"Expected `{name}` without repeats, got {string!r} twice")
        seen.add(string)


def template_set(name: str) -> list[str]:
    """A named list of templates: "bare", "single", "drawing", "openai-7" or "openai-80".

    "openai-7" and "openai-80" are read from the installed open_clip (its SIMPLE and full ImageNet templates).

    >>> template_set("single")
    ['a photo of a {}.']
    """
    text_of(name, "name")
    if name == "bare":
        return ["{}"]
    if name == "single":
        return ["a photo of a {}."]
    if name == "drawing":
        return list(DRAWING_TEMPLATES)
    if name in ("openai-7", "openai-80"):
        import open_clip  # slow to import, and only these two sets need it

        functions = open_clip.SIMPLE_IMAGENET_TEMPLATES if name == "openai-7" else open_clip.OPENAI_IMAGENET_TEMPLATES
        return [function("{}") for function in functions]
    raise InputError(f"Unknown template set {name!r}; known: bare, single, drawing, openai-7, openai-80")


def load_templates(source: str | Path) -> list[str]:
    """A named set of templates, or the templates in a UTF-8 file with one on each line; empty lines are left out.

    Raises:
        InputError: neither a known name nor a file, or a template without exactly one slot "{}", or one twice.

    >>> load_templates("bare")
    ['{}']
    """
    path = path_of(source, "source")
    if not path.is_file():
        return template_set(str(source))
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError:
        raise InputError(f"Expected {source} to hold one template a line in UTF-8") from None
    try:
        return check_templates([line for line in lines if line.strip()])
    except InputError as error:
        raise InputError(f"{error}, in {source}") from None


def template_provenance(source: str | Path, templates: Sequence[str]) -> dict[str, str | int]:
    """The source, origin and number of templates, and a hash of the strings (16 hex digits).

    >>> template_provenance("single", template_set("single"))
    {'source': 'single', 'origin': 'clipnb', 'count': 1, 'sha256': 'e8e367e769f86c27'}
    """
    path = Path(source)
    if path.is_file():
        origin = "file"
    elif str(source).startswith("openai"):
        origin = f"open_clip {metadata.version('open_clip_torch')}"
    else:
        origin = "clipnb"
    digest = hashlib.sha256("\n".join(templates).encode()).hexdigest()[:16]
    return {"source": path.name, "origin": origin, "count": len(templates), "sha256": digest}


__getattr__ = redirect(
    __name__,
    {
        "twins": "clipnb.prompts:duplicate_classnames",
        "near_twins": "clipnb.prompts:near_duplicate_classnames",
        "too_long": "clipnb.prompts:truncated_prompts",
    },
)
