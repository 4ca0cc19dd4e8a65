"""Read the icon packages: every named drawing of every maker, with plain words and style.

Offline, like `emoji_sources`: it reads an installed `node_modules` folder (see `package.json`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.mini.emoji_sources import OPEN, SHARE_ALIKE, STYLE, Packages, squash
from tools.mini.icon_makers import MAKERS

# Licences that allow a drawing to be passed on and trained on; those of SHARE_ALIKE are for testing only.
OPEN_ICONS = OPEN | {"BSD-3-Clause", "Unlicense"}
PREFIX = re.compile(r"^(animal-products|interface|food|travel|nature|pet|sport|transportation|shopping|health)--?")
# Pixel sizes at the end of a name: the same drawing, made for another size.
SIZES = re.compile(r"-(10|12|15|16|20|24|28|32|36|40|48)(px)?(?=-|$)")
# Words of style beyond STYLE's, at the end of a name, and Google's at its beginning.
STYLE_TOO = re.compile(r"-(outlined|flat|duo|expressive|ltr|rtl|glyph|shape)$")
FIRST_STYLE = {"ic": re.compile(r"^(baseline|outline|round|sharp|twotone)-")}
NOT_PLAIN = re.compile(r"skin-tone|^emoji-u|^keycap|^flag-for|^flag-\w\w$")
SOLID = re.compile(r"-(filled|fill|solid|bold|sharp-filled|s)$")
LINE = re.compile(r"-(outline|outlined|outline-rounded|outline-sharp|line|linear|thin|light|regular|o|broken|stroke)$")
TWO_TONE = re.compile(r"-(duotone|bold-duotone|line-duotone|twotone|two-tone)$")
STYLES = 3  # most drawings of the same words that one set contributes


@dataclass(frozen=True)
class Icon:
    """One drawing: who made it, where it lies, what it is called."""

    maker: str
    family: str
    name: str
    words: str
    style: str  # "colour", "solid", "line", "two-tone" or "" where the name does not say

    @property
    def mono(self) -> bool:
        """Whether it is drawn in one ink."""
        return self.style != "colour"


def words_of(name: str) -> Iterator[str]:
    """What an icon's name may say, from the whole name to the name without words of style.

    >>> list(words_of("traffic-light-filled"))
    ['traffic light filled', 'traffic light', 'traffic']
    """
    previous = None
    while previous != name:
        for part in dict.fromkeys([name, PREFIX.sub("", name)]):
            words = re.sub(r"\s+", " ", re.sub(r"\b\d+\b", " ", part.replace("-", " "))).strip()
            if words:
                yield words
        previous, name = name, STYLE_TOO.sub("", STYLE.sub("", name))


def style_of(name: str, colour: bool) -> str:
    """The style that a name states at its end, in Google's set at its beginning."""
    if colour:
        return "colour"
    if name.startswith(("baseline-", "outline-", "twotone-")):
        return {"b": "solid", "o": "line", "t": "two-tone"}[name[0]]
    for pattern, style in ((TWO_TONE, "two-tone"), (LINE, "line"), (SOLID, "solid")):
        if pattern.search(name):
            return style
    return ""


def icons(packages: Packages, meanings: dict[str, str]) -> list[Icon]:
    """All drawings, in the order of makers, sets and names.

    `meanings` maps squashed names to the words they stand for; the longest reading of a name that is among
    them decides, otherwise the name without its words of style. Of equal words and style a set gives one
    drawing for each number in the name; of equal words it gives at most `STYLES`.
    """
    found = []
    for maker, families in sorted(MAKERS.items()):
        for family in families:
            info = packages.info(family)
            assert info["licence"] in OPEN_ICONS | SHARE_ALIKE, f"{family}: {info['licence']} is not open"
            data = packages._icons(family)
            colour = packages.collections[family]["palette"]
            largest: dict[str, tuple[int, str]] = {}
            for name, icon in data["icons"].items():
                if icon.get("hidden") or NOT_PLAIN.search(name):
                    continue
                size = max([int(s) for s, _ in SIZES.findall(name)], default=0)
                key = SIZES.sub("", name)
                largest[key] = max(largest.get(key, (0, "")), (size, name))
            count: dict[str, int] = {}
            for key in sorted(largest, key=lambda k: (len(k), k)):
                readings = list(words_of(FIRST_STYLE[family].sub("", key) if family in FIRST_STYLE else key))
                if not readings:
                    continue
                words = next((meanings[squash(r)] for r in readings if squash(r) in meanings), readings[-1])
                if len(words.split()) > 4 or count.get(words, 0) >= STYLES:
                    continue
                count[words] = count.get(words, 0) + 1
                found.append(Icon(maker, family, largest[key][1], words, style_of(key, colour)))
    return found
