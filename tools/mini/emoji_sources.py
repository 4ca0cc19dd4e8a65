"""Read the pinned image packages: classes, vendor drawings, icon names, rendering.

Everything here is offline: it reads an installed `node_modules` folder (see `package.json`), plus
two Debian packages that are unpacked by hand (`openclipart-png`, `fonts-symbola`).
"""

import functools
import io
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 96  # pixels; what the model sees, so nothing is resampled twice
INK = "#222222"  # stands in for `currentColor` in one-colour sets

# Images under these licences may be redistributed and trained on. Share-alike sets are test only.
OPEN = {"MIT", "Apache-2.0", "CC-BY-4.0", "CC-BY-3.0", "CC0-1.0", "ISC", "OFL-1.1"}
SHARE_ALIKE = {"CC-BY-SA-4.0"}


@dataclass(frozen=True)
class Vendor:
    """One drawing family of the emoji, and the split it belongs to."""

    family: str
    role: str  # "test", "validation" or "train"
    mono: bool = False  # one ink colour: colour augmentation has nothing to shift
    home: str = ""


VENDORS = [
    Vendor("fluent-emoji-flat", "test", home="https://github.com/microsoft/fluentui-emoji"),
    Vendor("fluent-emoji-high-contrast", "test", True, "https://github.com/microsoft/fluentui-emoji"),
    Vendor("openmoji", "test", home="https://openmoji.org"),
    Vendor("twemoji", "validation", home="https://github.com/twitter/twemoji"),
    Vendor("noto", "train", home="https://github.com/googlefonts/noto-emoji"),
    Vendor("noto-v1", "train", home="https://github.com/googlefonts/noto-emoji"),
    Vendor("emojione", "train", home="https://github.com/joypixels/emojione"),
    Vendor("emojione-monotone", "train", True, "https://github.com/joypixels/emojione"),
    Vendor("fxemoji", "train", home="https://github.com/mozilla/fxemoji"),
    Vendor("streamline-emojis", "train", home="https://github.com/webalys-hq/streamline-vectors"),
]

# Named icons for training only. Colour sets first; the rest is drawn in one ink.
COLOUR_ICONS = """flat-color-icons streamline-ultimate-color streamline-freehand-color streamline-color
streamline-flex-color streamline-plump-color streamline-kameleon-color streamline-stickies-color
streamline-cyber-color marketeq icon-park meteocons glyphs-poly streamline-sharp-color flat-ui""".split()
MONO_ICONS = """game-icons healthicons maki fa6-solid streamline-plump streamline-flex streamline-ultimate
streamline solar mingcute icon-park-solid ph mdi tabler material-symbols lucide lucide-lab hugeicons uil
guidance fontisto ion icons8 medical-icon
iconmind reicon boxicons glyphs ri keyline-icons griddy-icons icon-park-outline icon-park-twotone dinkie-icons whh
tdesign picon mynaui la bi pixelarticons lets-icons streamline-sharp at-icons pinhead clarity carbon iconoir
teenyicons flowbite f7 ix majesticons stash cil mage octicon jam lineicons qlementine-icons pixel vaadin
streamline-cyber basil eva proicons pepicons-print vadivam gravity-ui zmdi roentgen grommet-icons akar-icons garden
temaki charm memory raphael osmic wi""".split()

STYLE = re.compile(
    r"-(outline-rounded|outline-sharp|outline|rounded|sharp|filled|fill|solid|remix|bold-duotone|line-duotone|duotone"
    r"|linear|line|bold|broken|thin|light|24px|negative|twotone|alt|variant|regular|full|color|\d+)$"
)
# Words of user interfaces: they name a function, not a thing that can be drawn.
ABSTRACT = set(
    """arrow arrows align alignment text layout chart graph file files folder document user users people person man
woman account number letter circle square rectangle off disabled remove delete add plus minus check cancel close edit
setting settings search share filter sort download upload left right up down top bottom center list menu view grid
table column row border brand logo app browser window web website html css code programming data database server
network sync refresh loading button interface module form format bracket cursor click select selection function math
equal percent percentage currency signal wifi status state symbol label badge chat call online offline volume play
pause stop skip rewind forward repeat shuffle diagonal vertical horizontal rotate flip expand collapse zoom page
content marketing business company team management payment pay transaction security password privacy copyright
warning alert question information info help forbidden no not prohibited slash finger gesture face emoji gui ui ux
slider toggle switch input output icon social facebook twitter google microsoft github android windows adobe amazon
angular react vue""".split()
)


def plain_hex(code: str) -> str:
    """Code points without the variation selector, so that vendors' file names agree."""
    return re.sub(r"-?fe0f", "", code.lower())


def slug(name: str) -> str:
    """`Dog Face` -> `dog-face`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("’", "").replace("ñ", "n")).strip("-")


def squash(name: str) -> str:
    """Letters and digits only: the key under which names from different vendors meet."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def singular(word: str) -> str:
    """Good enough for icon names: `apples` -> `apple`, `glass` stays."""
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


@functools.lru_cache(maxsize=2)
def _cached_json(path: Path) -> dict:
    """The last two files, which hold thousands of icons each."""
    return _json(path)


def _json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


class Packages:
    """An installed `node_modules` folder."""

    def __init__(self, root: Path):
        self.root = Path(root)

    def concepts(self) -> list[dict]:
        """All emoji with a CLDR group, skin-tone components left out, in CLDR order."""
        data = _json(self.root / "emojibase-data/en/data.json")
        meta = _json(self.root / "emojibase-data/meta/groups.json")
        keep = [e for e in data if e.get("group", 2) != 2]
        return [
            {
                "classname": e["label"].replace("’", "'"),
                "keywords": [t for t in e.get("tags", []) if t != e["label"]],
                "group": meta["groups"][str(e["group"])],
                "subgroup": meta["subgroups"][str(e["subgroup"])],
                "emoji": e["emoji"],
                "hexcode": e["hexcode"],
            }
            for e in sorted(keep, key=lambda e: e["order"])
        ]

    def names(self, concepts: list[dict]) -> dict[str, int]:
        """Squashed name (CLDR name, shortcode, vendor name) -> index of the concept."""
        index = {plain_hex(c["hexcode"]): i for i, c in enumerate(concepts)}
        table: dict[str, int] = {}
        for i, c in enumerate(concepts):
            table.setdefault(squash(c["classname"]), i)
        for kind in ("emojibase", "github", "iamcal", "joypixels", "cldr"):
            path = self.root / f"emojibase-data/en/shortcodes/{kind}.json"
            for code, value in _json(path).items() if path.exists() else ():
                if (i := index.get(plain_hex(code))) is not None:
                    for name in [value] if isinstance(value, str) else value:
                        table.setdefault(squash(name), i)
        for family in ("noto", "twemoji"):
            for code, name in _json(self.root / f"@iconify-json/{family}/chars.json").items():
                if (i := index.get(plain_hex(code))) is not None:
                    table.setdefault(squash(name), i)
        return table

    def info(self, family: str) -> dict:
        """Package name, version, licence and author as the package states them."""
        package = f"@iconify-json/{family}"
        if (self.root / package).exists():
            info = _json(self.root / package / "info.json")
        else:  # the collection of all sets in one package
            package, info = "@iconify/json", self._icons(family)["info"]
        return {
            "package": package,
            "version": _json(self.root / package / "package.json")["version"],
            "licence": info["license"]["spdx"],
            "author": info["author"]["name"],
        }

    @functools.cached_property
    def collections(self) -> dict[str, dict]:
        """What the collection of all sets says of each: author, licence, `palette` (whether it has colours)."""
        return _json(self.root / "@iconify/json/collections.json")

    def _icons(self, family: str) -> dict:
        alone = self.root / f"@iconify-json/{family}/icons.json"
        return _cached_json(alone if alone.exists() else self.root / f"@iconify/json/json/{family}.json")

    def svg(self, family: str, name: str) -> str | None:
        """One icon as a complete SVG, following at most three aliases; None if there is no such icon."""
        data = self._icons(family)
        for _ in range(3):
            if name in data["icons"]:
                break
            name = data.get("aliases", {}).get(name, {}).get("parent")
        icon = data["icons"].get(name)
        if icon is None:
            return None
        width = icon.get("width", data.get("width", 16))
        height = icon.get("height", data.get("height", 16))
        body = icon["body"].replace("currentColor", INK)
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" '
            f'width="{width}" height="{height}">{body}</svg>'
        )

    def emoji(self, family: str, concepts: list[dict], names: dict[str, int]) -> dict[int, str]:
        """Concept index -> name of the family's drawing of it."""
        index = {plain_hex(c["hexcode"]): i for i, c in enumerate(concepts)}
        chars = self.root / f"@iconify-json/{family}/chars.json"
        found: dict[int, str] = {}
        for code, name in (_json(chars) if chars.exists() else {}).items():
            if (i := index.get(plain_hex(code))) is not None:
                found.setdefault(i, name)
        if not found:  # older sets carry names only
            data = self._icons(family)
            for name in sorted([*data["icons"], *data.get("aliases", {})]):
                if (i := names.get(squash(name))) is not None:
                    found.setdefault(i, name)
        return found

    def icons(self, family: str, styles: int = 3) -> list[tuple[str, str]]:
        """(icon name, plain words) of a set, at most `styles` drawings of the same words."""
        count: dict[str, int] = {}
        chosen = []
        data = self._icons(family)["icons"]
        for name in sorted(data, key=lambda n: (len(n), n)):
            if data[name].get("hidden"):
                continue
            words = icon_words(name)
            if words and len(words.split()) <= 4 and count.get(words, 0) < styles:
                count[words] = count.get(words, 0) + 1
                chosen.append((name, words))
        return chosen


def icon_words(name: str) -> str:
    """`fire-truck-filled` -> `fire truck`."""
    previous = None
    while previous != name:
        previous, name = name, STYLE.sub("", name)
    name = re.sub(
        r"^(animal-products|interface|food|travel|nature|pet|sport|transportation|shopping|health)--?", "", name
    )
    return re.sub(r"\s+", " ", re.sub(r"\b\d+\b", " ", name.replace("-", " "))).strip()


def fit(image: Image.Image, size: int = SIZE) -> np.ndarray:
    """Any image -> (size, size, 4) uint8, aspect kept, centred on nothing."""
    image = image.convert("RGBA")
    if image.size != (size, size):
        image.thumbnail((size, size), Image.LANCZOS)
        canvas = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = canvas
    return np.asarray(image)


def render(svg: str | None) -> np.ndarray | None:
    """An SVG -> (SIZE, SIZE, 4) uint8; None when it cannot be drawn or is empty."""
    import resvg_py  # here, so that tests need no renderer

    if svg is None:
        return None
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    except ValueError:
        return None
    picture = fit(Image.open(io.BytesIO(png)))
    return picture if picture[..., 3].any() else None


def render_font(path: Path, concepts: list[dict]) -> dict[int, np.ndarray]:
    """Glyphs of a monochrome font, concept index -> image; single code points only."""
    from fontTools.ttLib import TTFont

    font = TTFont(path)
    font.flavor = None  # Pillow reads no compressed web font
    buffer = io.BytesIO()
    font.save(buffer)
    buffer.seek(0)
    known, face = set(font.getBestCmap()), ImageFont.truetype(buffer, 76)
    drawn = {}
    for i, concept in enumerate(concepts):
        code = plain_hex(concept["hexcode"])
        if "-" in code or int(code, 16) not in known:
            continue
        ink = Image.new("L", (SIZE, SIZE), 0)
        ImageDraw.Draw(ink).text((SIZE // 2, SIZE // 2), chr(int(code, 16)), font=face, fill=255, anchor="mm")
        picture = np.full((SIZE, SIZE, 4), int(INK[1:3], 16), np.uint8)
        picture[..., 3] = np.asarray(ink)
        if picture[..., 3].any():
            drawn[i] = picture
    return drawn


def clipart(root: Path) -> list[tuple[np.ndarray, str]]:
    """Debian's openclipart: (image, words of the file name)."""
    # Generated shapes, flags and maps: thousands of near copies without a picturable name.
    skip = re.compile(r"shapes/(stars|jigsaw)|special/|computer/buttons|flowchart|cards/|/flags/|/maps?/")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # some posters are large, and harmless
    found = []
    for path in sorted(root.rglob("*.png")):
        words = [w for w in re.split(r"[_\-.\s]+", path.stem.lower()) if w.isalpha() and len(w) > 1]
        if skip.search(path.as_posix()) or not words:
            continue
        try:
            picture = fit(Image.open(path))
        except (OSError, SyntaxError, Image.DecompressionBombError):  # a few files are broken or huge
            continue
        if picture[..., 3].any():
            found.append((picture, " ".join(words[:3])))
    return found
