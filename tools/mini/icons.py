"""Build the icon set `clipnb/assets/icons/` and the training cache of clipnb-mini.

    npm ci --prefix tools
    python -m tools.mini.icons --node-modules tools/mini/node_modules \\
        --openclipart DIR --symbola FILE --cache DIR

The arguments are those of `emoji.py`, which builds the emoji set; `sets.py` builds both. Building twice
gives the same bytes. No accuracy is looked at here.
"""

import argparse
import hashlib
import io
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tools.mini.emoji import (
    CLIPART,
    FONTS,
    TWIN,
    draw_families,
    dump,
    in_scope,
    licence_lines,
    nearest,
    on_white,
    write_parquet,
)
from tools.mini.emoji_sources import (
    ABSTRACT,
    SHARE_ALIKE,
    SIZE,
    VENDORS,
    Packages,
    clipart,
    render,
    singular,
    slug,
    squash,
)
from tools.mini.icon_classes import COPIES, WRONG, read_classes
from tools.mini.icon_makers import MAKERS, role_of
from tools.mini.icon_sources import OPEN_ICONS, Icon, icons, words_of

MIN_TEST, MIN_TEST_MAKERS, MIN_VALIDATION, MIN_VALIDATION_MAKERS = 12, 5, 3, 2
STYLES_A_MAKER = 2  # most drawings of a class from one held-out maker
TRAIN_FAMILIES = [v.family for v in VENDORS if v.role == "train"] + list(FONTS)
GROUP_WORDS = {
    "animals-nature": "animals and nature",
    "food-drink": "food and drink",
    "travel-places": "travel and places",
    "activities": "activities",
    "objects": "objects",
}
HELD_OUT_FOR = (
    'Models trained on the drawings of the makers with the role "train" alone (tools/mini/train.py). The first\n'
    "clipnb-mini is none of them: it was trained on the packages marked clipnb_mini_1, most test makers' among them."
)
RULE = (
    f"A class is a thing of tools/mini/icon_classes.py that has at least {MIN_TEST} drawings by at least "
    f"{MIN_TEST_MAKERS}\n"
    f"of the test makers and at least {MIN_VALIDATION} by at least {MIN_VALIDATION_MAKERS} of the validation makers, "
    "near\n"
    "copies counted once. A drawing belongs to a class if its name, without words of style and size, is the class's "
    "name or\none of its synonyms. Of one name a set gives at most three drawings, and of one class a held-out maker "
    "at most\n"
    f"{STYLES_A_MAKER}. Drawings that show something else are left out by name."
)


def draw(found: list[Icon], packages: Packages, cache: Path, pool) -> dict[tuple[str, str], np.ndarray]:
    """(set, name) -> (SIZE, SIZE, 4) uint8 of every icon that can be drawn; drawings are kept in `cache`."""
    index_file, pictures_file = cache / "drawings.json", cache / "drawings.npy"
    index = {tuple(key): i for i, key in enumerate(json.loads(index_file.read_text()))} if index_file.exists() else {}
    missing = [icon for icon in found if (icon.family, icon.name) not in index]
    if missing:
        old = np.load(pictures_file, mmap_mode="r") if index else np.zeros((0, SIZE, SIZE, 4), np.uint8)
        new = pool.map(render, [packages.svg(icon.family, icon.name) for icon in missing], chunksize=64)
        empty = np.zeros((SIZE, SIZE, 4), np.uint8)
        drawn = np.stack([empty if picture is None else picture for picture in new])
        np.save(cache / "new.npy", np.concatenate([old, drawn]))
        (cache / "new.npy").replace(pictures_file)
        index |= {(icon.family, icon.name): len(old) + i for i, icon in enumerate(missing)}
        dump(index_file, list(index))
    pictures = np.load(pictures_file, mmap_mode="r")
    drawn = {(icon.family, icon.name): pictures[index[icon.family, icon.name]] for icon in found}
    return {key: picture for key, picture in drawn.items() if picture[..., 3].any()}


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """(576,) float32: darkness on white in [0, 1], cropped to the ink, at 24 x 24."""
    ink = picture[..., 3] > 40
    if not ink.any():
        return np.zeros(24 * 24, np.float32)
    y, x = np.where(ink.any(1))[0], np.where(ink.any(0))[0]
    grey = on_white(picture[y[0] : y[-1] + 1, x[0] : x[-1] + 1]).convert("L")
    return 1 - np.asarray(grey.resize((24, 24), Image.BOX), np.float32).ravel() / 255


def without_copies(drawings: list[tuple[Icon, np.ndarray]]) -> tuple[list[int], list[dict]]:
    """Positions of the drawings of one class to keep, in order, and the near copies that were left out."""
    kept, copies = [], []
    for i, (icon, thumb) in enumerate(drawings):
        distances = [float(np.sqrt(((thumb - drawings[k][1]) ** 2).mean())) for k in kept]
        near = int(np.argmin(distances)) if distances else 0
        if distances and distances[near] < TWIN:
            copies.append(
                {
                    "left_out": identity(icon),
                    "copy_of": identity(drawings[kept[near]][0]),
                    "distance": round(distances[near], 3),
                }
            )
        else:
            kept.append(i)
    return kept, copies


def identity(icon: Icon) -> str:
    """The id of a drawing: its set and its name there."""
    return f"{icon.family}/{icon.name}"


def held_out(found: list[Icon], thumbs: dict, classes: list[dict]):
    """{"test": {class: [icons]}, "validation": ...} without near copies, and the copies left out."""
    chosen, copies = {"test": {}, "validation": {}}, []
    order = {name: k for k, name in enumerate(MAKERS)}
    for concept in classes:
        name, earlier = concept["classname"], []
        for role in ("test", "validation"):
            mine = [i for i in found if i.words == name and role_of(i.maker) == role and (i.family, i.name) in thumbs]
            mine.sort(key=lambda i: (order[i.maker], i.family, i.name))
            # A validation drawing that copies a test drawing goes, the test drawing stays.
            pairs = earlier + [(i, thumbs[i.family, i.name]) for i in mine]
            kept, left = without_copies(pairs)
            copies += left
            icons_kept = [pairs[k][0] for k in kept if k >= len(earlier)]
            chosen[role][name] = at_most(icons_kept, STYLES_A_MAKER)
            earlier = [(i, thumbs[i.family, i.name]) for i in icons_kept]
    return chosen, copies


def at_most(found: list[Icon], number: int) -> list[Icon]:
    """The first `number` drawings of each maker."""
    count: Counter = Counter()
    kept = []
    for icon in found:
        count[icon.maker] += 1
        if count[icon.maker] <= number:
            kept.append(icon)
    return kept


def is_class(name: str, chosen: dict) -> bool:
    """Whether enough drawings of enough makers are there."""
    test, validation = chosen["test"][name], chosen["validation"][name]
    return (
        len(test) >= MIN_TEST
        and len({i.maker for i in test}) >= MIN_TEST_MAKERS
        and len(validation) >= MIN_VALIDATION
        and len({i.maker for i in validation}) >= MIN_VALIDATION_MAKERS
    )


def class_keywords(concept: dict, concepts: list[dict], names: dict[str, int]) -> list[str]:
    """CLDR keywords of the emoji that bears the class's name or its first known synonym; empty if there is none."""
    own = [concept["classname"], *concept["synonyms"]]
    emoji = next((names[squash(name)] for name in own if squash(name) in names), None)
    return [] if emoji is None else [word for word in concepts[emoji]["keywords"] if word not in own]


class LeftOut:
    """Names of the concepts that no training drawing may show: those of `emoji:unseen`."""

    def __init__(self, names: list[str]):
        self.whole = {squash(singular(name.lower())) for name in names} | {squash(name) for name in names}
        self.words = {singular(name.lower()) for name in names if " " not in name} | {n for n in names if " " not in n}

    def __contains__(self, text: str) -> bool:
        text = text.lower()
        words = set(text.split()) | {singular(word) for word in text.split()}
        return squash(text) in self.whole or squash(singular(text)) in self.whole or bool(words & self.words)


class Describer:
    """Turns a drawing's name into the row of the training cache that its captions are made of."""

    def __init__(self, classes, concepts, names, unseen):
        self.classes = {c["classname"]: c for c in classes}
        self.meaning = {squash(n): c["classname"] for c in classes for n in (c["classname"], *c["synonyms"])}
        self.concepts, self.names, self.unseen = concepts, names, unseen
        self.taken = set(self.classes) | {c["classname"] for c in concepts}

    def keywords(self, concept: dict | None) -> list[str]:
        """CLDR keywords that name no other class and nothing left out."""
        if concept is None or not in_scope(concept):
            return []
        return [w for w in concept["keywords"] if w not in self.taken and w not in self.unseen]

    def __call__(self, words: str, style: str, medium: str, source: str, concept: int | None = None) -> dict:
        name = words if concept is None else self.concepts[concept]["classname"]
        found = self.names.get(squash(words)) if concept is None else concept
        concept = None if found is None else self.concepts[found]
        own = self.classes.get(self.meaning.get(squash(words), ""))
        group = own["group"] if own else GROUP_WORDS.get(concept["group"], "") if concept else ""
        synonyms = [s for s in own["synonyms"] if s not in self.unseen and s != name] if own else []
        return {
            "key": own["classname"] if own else words,
            "name": name,
            "synonyms": synonyms,
            "keywords": self.keywords(concept),
            "group": group,
            "style": style,
            "medium": medium,
            "source": source,
            "mono": style not in ("colour",),
        }


def trains(icon: Icon, names: set[str], unseen: LeftOut) -> bool:
    """Whether an icon of a training maker has a name to learn from."""
    parts = icon.words.split()
    if icon.family in TRAIN_FAMILIES or any(reading in unseen for reading in (icon.words, *words_of(icon.name))):
        return False
    plain = len(parts) <= 3 and all(p.isalpha() for p in parts) and any(len(p) > 2 for p in parts)
    return icon.words in names or (plain and not {singular(p) for p in parts} & ABSTRACT)


def training(args, packages, found, drawn, pool, classes, concepts, names, emoji_classes, unseen):
    """(images, rows) of all that a model may learn from, near copies not yet left out."""
    describe = Describer(classes, concepts, names, unseen)
    pictures, rows = [], []
    families = draw_families(packages, args.symbola, concepts, names, pool)
    mono = {v.family: v.mono for v in VENDORS} | dict.fromkeys(FONTS, True)
    index = {c["classname"]: i for i, c in enumerate(concepts)}
    for family in TRAIN_FAMILIES:
        for concept in (index[c["classname"]] for c in emoji_classes):
            if concept in families[family]:
                words = concepts[concept]["classname"]
                pictures.append(families[family][concept])
                rows.append(describe(words, "solid" if mono[family] else "colour", "emoji", family, concept))
    for icon in found:
        if (icon.family, icon.name) in drawn:
            pictures.append(drawn[icon.family, icon.name])
            rows.append(describe(icon.words, icon.style, "icon", icon.family))
    makers: dict[str, set[str]] = {}
    for icon in found:
        makers.setdefault(squash(icon.words), set()).add(icon.maker)
    known = {squash(c["classname"]): c["classname"] for c in emoji_classes}
    known |= {key: icon.words for icon in found if len(makers[key := squash(icon.words)]) > 1}
    known |= {squash(n): c["classname"] for c in classes for n in (c["classname"], *c["synonyms"])}
    for picture, words in clipart(args.openclipart):
        parts = words.split()  # an author's name follows the thing's name
        for n in (3, 2, 1):
            phrase = known.get(squash("".join(parts[:n])))
            if phrase and not any(" ".join(parts[:k]) in unseen for k in (1, 2, 3)) and phrase not in unseen:
                pictures.append(picture)
                rows.append(describe(phrase, "colour", "clip art", "openclipart"))
                break
    return pictures, rows


def held_out_emoji(assets: Path) -> list[np.ndarray]:
    """Thumbnails of the emoji set's test, validation and left-out drawings."""
    import pyarrow.parquet as pq

    thumbs = []
    for name in ("test", "test-openmoji", "validation", "unseen"):
        for image in pq.read_table(assets / f"{name}.parquet")["image"]:
            picture = np.asarray(Image.open(io.BytesIO(image.as_py())).convert("RGBA")).copy()
            picture[..., 3] = np.where((picture[..., :3] > 250).all(-1), 0, 255)  # the white ground
            thumbs.append(thumbnail(picture))
    return thumbs


def webp(picture: np.ndarray) -> bytes:
    """The shipped form of a drawing: without loss and grey where it has one ink, as that takes less room."""
    image = on_white(picture)
    pixels = np.asarray(image, np.int16)
    grey = (np.ptp(pixels, axis=-1) == 0).all()
    buffer = io.BytesIO()
    if grey:
        image.save(buffer, "WEBP", lossless=True, quality=50, method=4)
    else:
        image.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()


def licences(sources: dict) -> str:
    """The attribution page: one entry for each set."""
    shipped = {k: s for k, s in sources.items() if s["role"] != "train"}
    trained = {k: s for k, s in sources.items() if s["role"] == "train"}
    lines = [
        "# Licences of the icon set",
        "",
        "What was changed: every drawing was rendered at 96 x 96 pixels, `currentColor` as dark grey, put on white and "
        "stored as WebP. The drawings keep their own licences; this project's licence covers none of them.",
        "",
        "`test-sharealike.parquet` is share-alike and therefore kept in a file of its own: whoever passes it on, "
        "changed or not, does so under CC BY-SA 4.0. No model was trained on it.",
        "",
        "Keywords: Unicode CLDR (Unicode License v3), through emojibase-data (MIT), <https://emojibase.dev>. "
        "The text of the Apache licence is in `../emoji/LICENSE-Apache-2.0.txt`, and so is that of the MIT licence in "
        "`../emoji/LICENSES.md`; both apply to each set named under them, with the copyright of its author.",
        "",
        "## Drawings in this folder",
        "",
        *licence_lines(shipped),
        "",
        "## Drawings that a model may be trained on (not in this folder)",
        "",
        *licence_lines(trained),
    ]
    return "\n".join(lines) + "\n"


def sources_of(packages: Packages, node_modules: Path, emoji: Path) -> dict[str, dict]:
    """Licence, author, version and role of every set, font and clip art.

    `clipnb_mini_1` says whether the first clipnb-mini was trained on it: for that model the icon set is not held out.
    """
    sources = {}
    for maker, families in sorted(MAKERS.items()):
        for family in families:
            home = f"https://icon-sets.iconify.design/{family}/"
            sources[family] = {**packages.info(family), "maker": maker, "home": home, "role": role_of(maker)}
    version = json.loads((node_modules / "@fontsource/noto-emoji/package.json").read_text())["version"]
    for name, font in FONTS.items():
        sources[name] = {"version": version, **font, "maker": font["author"], "role": "train"}
    sources["openclipart"] = {**CLIPART, "maker": CLIPART["author"], "role": "train"}
    earlier = json.loads((emoji / "manifest.json").read_text())["sources"]
    for name, source in sources.items():
        source["clipnb_mini_1"] = earlier.get(name, {}).get("role") == "train"
    return sources


def build(args) -> None:
    """Write the icon set to `args.out` and the training drawings to `args.cache`."""
    args.out.mkdir(parents=True, exist_ok=True)
    args.cache.mkdir(parents=True, exist_ok=True)
    packages = Packages(args.node_modules)
    concepts = packages.concepts()
    names = packages.names(concepts)
    emoji = args.out.parent / "emoji"
    emoji_classes = json.loads((emoji / "classes.json").read_text())
    unseen = LeftOut([c["classname"] for c in json.loads((emoji / "unseen-classes.json").read_text())])
    classes = read_classes()
    meaning = {squash(n): c["classname"] for c in classes for n in (c["classname"], *c["names"])}
    everything = icons(packages, meaning)
    classnames = {c["classname"] for c in classes}
    wrong = set(WRONG) | set(COPIES)
    everything = [i for i in everything if identity(i) not in wrong]
    candidates = [i for i in everything if role_of(i.maker) != "train" and i.words in classnames]
    trainable = [i for i in everything if role_of(i.maker) == "train" and trains(i, classnames, unseen)]
    with ProcessPoolExecutor(args.workers) as pool:
        drawn = draw(candidates + trainable, packages, args.cache, pool)
        there = [(i.family, i.name) for i in candidates if (i.family, i.name) in drawn]
        thumbs = {key: thumbnail(drawn[key]) for key in there}
        chosen, copies = held_out(candidates, thumbs, classes)
        classes = [c for c in classes if is_class(c["classname"], chosen)]
        print(f"{len(classes)} classes", flush=True)
        pictures, rows = training(
            args, packages, trainable, drawn, pool, read_classes(), concepts, names, emoji_classes, unseen
        )
        training_thumbs = np.stack([thumbnail(picture) for picture in pictures])
        shown = [i for role in chosen.values() for c in classes for i in role[c["classname"]]]
        stored = pool.map(webp, [np.asarray(drawn[i.family, i.name]) for i in shown], chunksize=64)
        stored = {identity(i): data for i, data in zip(shown, stored)}
    held_names = [identity(i) for i in candidates if (i.family, i.name) in thumbs]
    bank = np.stack([*thumbs.values(), *held_out_emoji(emoji)])
    distance, where = nearest(training_thumbs, bank)
    keep = np.flatnonzero(distance >= TWIN)
    left_out = [
        {
            "training": f"{rows[i]['source']}/{slug(rows[i]['name'])}",
            "distance": round(float(distance[i]), 3),
            "held_out": held_names[where[i]] if where[i] < len(held_names) else "emoji",
        }
        for i in np.flatnonzero(distance < TWIN)
    ]
    per_key = Counter(rows[i]["key"] for i in keep)
    print(f"{len(keep)} training drawings, {len(per_key)} names, {len(left_out)} near copies left out", flush=True)

    sources = sources_of(packages, args.node_modules, emoji)
    tables, hashes = {"test.parquet": [], "test-sharealike.parquet": [], "validation.parquet": []}, {}
    for role in ("test", "validation"):
        for label, concept in enumerate(classes):
            for icon in chosen[role][concept["classname"]]:
                licence = sources[icon.family]["licence"]
                assert licence in OPEN_ICONS | SHARE_ALIKE
                file = "test-sharealike.parquet" if licence in SHARE_ALIKE else f"{role}.parquet"
                assert role == "test" or licence in OPEN_ICONS, f"{icon.family}: share-alike is for testing only"
                data = stored[identity(icon)]
                tables[file].append((icon.family, label, identity(icon), data))
                hashes[identity(icon)] = hashlib.sha256(data).hexdigest()
    for file, table in tables.items():
        write_parquet(args.out / file, table)
    used = {row[0] for table in tables.values() for row in table} | {rows[i]["source"] for i in keep}
    sources = {name: source for name, source in sources.items() if name in used}
    dump(
        args.out / "classes.json",
        [
            {
                "classname": c["classname"],
                "synonyms": c["synonyms"],
                "keywords": class_keywords(c, concepts, names),
                "group": c["group"],
                "subgroup": c["group"],
                "training_drawings": per_key.get(c["classname"], 0),
            }
            for c in classes
        ],
    )
    counts = {file: len(table) for file, table in tables.items()}
    dump(
        args.out / "manifest.json",
        {
            "rule": RULE,
            "held_out_for": HELD_OUT_FOR,
            "picture": f"{SIZE} x {SIZE}, RGB on white, WebP: lossless in one ink, else quality 85",
            "seed": "none: nothing is drawn by chance",
            "counts": {
                "classes": len(classes),
                **counts,
                "training drawings": len(keep),
                "training names": len(per_key),
            },
            "near_copies": {
                "threshold": TWIN,
                "measure": "root-mean-square distance of grey 24 x 24 thumbnails cropped to their ink",
                "within_a_class": copies,
                "listed_by_name": sorted(COPIES),
                "training_drawings_dropped": left_out,
                "smallest_distance_left": round(float(distance[keep].min()), 4),
            },
            "left_out_by_name": sorted(WRONG),
            "sources": sources,
            "sha256": dict(sorted(hashes.items())),
        },
    )
    (args.out / "LICENSES.md").write_text(licences(sources), encoding="utf-8")
    np.save(args.cache / "pictures.npy", np.stack([pictures[i] for i in keep]))
    dump(args.cache / "rows.json", [rows[i] for i in keep])
    print(json.dumps({**counts, "copies": len(copies)}), flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that both builders take."""
    parser.add_argument("--node-modules", type=Path, default=Path(__file__).parent / "node_modules")
    parser.add_argument("--openclipart", type=Path, required=True, help="folder of the unpacked Debian package")
    parser.add_argument("--symbola", type=Path, required=True, help="the font file of fonts-symbola")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the training drawings (about 6 GB)")
    parser.add_argument("--workers", type=int, default=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "clipnb/assets/icons")
    build(parser.parse_args())


if __name__ == "__main__":
    main()
