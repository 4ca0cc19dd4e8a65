"""Captions for training drawings: names, synonyms and keywords in short phrases, with a word on the style.

A web page rarely calls two images of a thing by the same words. The captions vary as much, so that the text
tower has to read a phrase and not only to recognise a name. None says "photo": no training image is one.
"""

from dataclasses import dataclass

import numpy as np

STYLE_WORDS = {
    "colour": ["coloured", "flat", "colourful", "bright"],
    "line": ["line", "outline", "outlined", "thin"],
    "solid": ["solid", "filled", "black", "bold"],
    "two-tone": ["two-tone", "duotone"],
    "": ["simple", "plain", "small", "minimal"],
}
MEDIUM_WORDS = {
    "icon": ["icon", "pictogram", "symbol", "glyph", "sign"],
    "emoji": ["emoji", "emoticon", "cartoon", "sticker"],
    "clip art": ["clip art", "cartoon", "illustration", "drawing"],
}
# {a} is the name with its article, {name} the name alone.
TEMPLATES = """
{a}
the {name}
{name} {medium}
{style} {name}
{style} {name} {medium}
an image of {a}
a drawing of {a}
a drawing of {a}.
a picture of {a}.
a {medium} of {a}.
an illustration of {a}
a {style} {medium} of {a}
a {style} {medium} of {a}.
a {style} drawing of {a}
a {medium} showing {a}
{medium}: {name}
{name}, {style} {medium}
{name}, drawn as a {style} {medium}
this is {a}
a {medium} that stands for {name}
""".strip().splitlines()
WITH_GROUP = ["{name}, {group}", "{a}, one of {group}", "{group}: {name}", "a {medium} of {a}, {group}"]
WITH_WORDS = ["{name}, {words}", "{name} ({words})", "{a}: {words}", "a {medium} of {a}, {words}"]


@dataclass(frozen=True)
class Thing:
    """What captions can say of a drawing."""

    name: str
    synonyms: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    group: str = ""
    style: str = ""
    medium: str = "icon"


def with_article(name: str) -> str:
    """`owl` -> `an owl`."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def caption(thing: Thing, rng: np.random.Generator) -> str:
    """One caption: in a third of the cases the bare name, otherwise a phrase."""
    kind = rng.random()
    name = thing.name
    if thing.synonyms and rng.random() < 0.25:
        name = str(rng.choice(thing.synonyms))
    if kind < 0.33:
        return name
    if kind < 0.43 and len(thing.keywords) > 1:
        return ", ".join(_some(thing.keywords, 2, 4, rng))
    if kind < 0.58 and thing.keywords:
        words = ", ".join(_some(thing.keywords, 1, 4, rng))
        return _fill(str(rng.choice(WITH_WORDS)), thing, name, rng, words)
    if kind < 0.64 and thing.group:
        return _fill(str(rng.choice(WITH_GROUP)), thing, name, rng)
    return _fill(str(rng.choice(TEMPLATES)), thing, name, rng)


def _some(words: tuple[str, ...], least: int, most: int, rng) -> list[str]:
    count = min(len(words), int(rng.integers(least, most + 1)))
    return [str(word) for word in rng.permutation(words)[:count]]


def _fill(template: str, thing: Thing, name: str, rng, words: str = "") -> str:
    return template.format(
        name=name,
        a=with_article(name),
        words=words,
        group=thing.group,
        style=rng.choice(STYLE_WORDS[thing.style]),
        medium=rng.choice(MEDIUM_WORDS[thing.medium]),
    )
