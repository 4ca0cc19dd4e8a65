"""Build the emoji set `clipnb/assets/emoji/` and, beside it, the training cache of clipnb-mini.

    npm ci --prefix tools
    python -m tools.mini.emoji --node-modules tools/mini/node_modules \\
        --openclipart DIR --symbola FILE --cache DIR

`--openclipart` is the unpacked Debian package openclipart-png (1:0.18+dfsg-19), `--symbola` the font
file of fonts-symbola (2.60-1.1). Building twice gives the same bytes. No accuracy is looked at here.
"""

import argparse
import hashlib
import io
import json
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tools.mini.emoji_sources import (
    ABSTRACT,
    COLOUR_ICONS,
    MONO_ICONS,
    OPEN,
    SHARE_ALIKE,
    SIZE,
    VENDORS,
    Packages,
    clipart,
    render,
    render_font,
    singular,
    slug,
    squash,
)

GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
MIN_TRAIN = 5  # training drawings a class must have, over the training families
TWIN = 0.06  # root-mean-square distance of two thumbnails, pixel values in [0, 1]
RULE = f"""A class is an emoji of the CLDR groups {", ".join(GROUPS)} that
(1) is no clock face (names with "o'clock" or "-thirty"),
(2) is no person variant (a joined emoji whose name says man, woman, person, men or women),
(3) is drawn by every test family and by the validation family, and
(4) has at least {MIN_TRAIN} drawings in the training families (monochrome fonts included, icons not).
Accuracy plays no part. Names and keywords are CLDR's."""
FONTS = {
    "noto-emoji-font": {
        "package": "@fontsource/noto-emoji",
        "licence": "OFL-1.1",
        "author": "Google Inc",
        "home": "https://github.com/googlefonts/noto-emoji",
    },
    "symbola": {
        "package": "Debian fonts-symbola",
        "version": "2.60-1.1",
        "author": "George Douros",
        "licence": "free for any use; may be edited and redistributed",
        "home": "https://packages.debian.org/fonts-symbola",
    },
}
CLIPART = {
    "package": "Debian openclipart-png",
    "version": "1:0.18+dfsg-19",
    "licence": "public domain",
    "author": "Open Clip Art Library",
    "home": "https://packages.debian.org/openclipart-png",
}


def in_scope(concept: dict) -> bool:
    """Parts 1 and 2 of the rule, and the group."""
    name = concept["classname"]
    person = "\u200d" in concept["emoji"] and re.search(r"\b(man|woman|person|men|women)\b", name)
    return concept["group"] in GROUPS and not re.search(r"o'clock|-thirty", name) and not person


def on_white(picture: np.ndarray) -> Image.Image:
    """RGBA -> RGB on white, as the shipped images are."""
    image = Image.fromarray(picture)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def webp(picture: np.ndarray) -> bytes:
    """The shipped form of an image."""
    buffer = io.BytesIO()
    on_white(picture).save(buffer, "WEBP", quality=85, method=6)
    return buffer.getvalue()


def thumbnails(pictures) -> np.ndarray:
    """(N, 1728) float32: each image cropped to its ink, on white, at 24 x 24.

    Cropping first makes two drawings meet that differ only by a margin.
    """
    rows = []
    for picture in pictures:
        ink = picture[..., 3] > 40
        if not ink.any():
            rows.append(np.zeros(24 * 24 * 3, np.float32))
            continue
        y, x = np.where(ink.any(1))[0], np.where(ink.any(0))[0]
        crop = on_white(picture[y[0] : y[-1] + 1, x[0] : x[-1] + 1])
        rows.append(np.asarray(crop.resize((24, 24), Image.BOX), np.float32).ravel() / 255)
    return np.stack(rows)


def nearest(queries: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and index of, each query's nearest row of the bank; of equally near rows the first.

    In double precision and rounded, so that equal distances are equal on every processor.
    """
    best, where = np.full(len(queries), np.inf), np.zeros(len(queries), int)
    queries = queries.astype(np.float64)
    for start in range(0, len(bank), 1000):
        block = bank[start : start + 1000].astype(np.float64)
        square = (queries**2).sum(1)[:, None] + (block**2).sum(1)[None] - 2 * queries @ block.T
        distance = np.sqrt(np.maximum(square, 0) / queries.shape[1]).round(6)
        index = distance.argmin(1)
        closer = distance[np.arange(len(queries)), index] < best
        best[closer] = distance[closer, index[closer]]
        where[closer] = index[closer] + start
    return best, where


def draw_families(packages: Packages, symbola: Path, concepts, names, pool) -> dict[str, dict[int, np.ndarray]]:
    """Family -> {concept index: image}, for the concepts in scope."""
    drawn = {}
    for vendor in VENDORS:
        found = [(i, n) for i, n in packages.emoji(vendor.family, concepts, names).items() if in_scope(concepts[i])]
        svgs = [packages.svg(vendor.family, name) for _, name in found]
        pictures = pool.map(render, svgs, chunksize=64)
        drawn[vendor.family] = {i: p for (i, _), p in zip(found, pictures) if p is not None}
    drawn["noto-emoji-font"] = {}
    fonts = sorted((packages.root / "@fontsource/noto-emoji/files").glob("noto-emoji-[0-9]*-400-normal.woff"))
    for path in fonts:
        for i, picture in render_font(path, concepts).items():
            drawn["noto-emoji-font"].setdefault(i, picture)
    drawn["symbola"] = render_font(symbola, concepts)
    return drawn


class Matcher:
    """Decides what an icon's words mean: a class, a caption of its own, or nothing to train on."""

    def __init__(self, concepts, names, chosen: list[int]):
        self.names, self.position = names, {c: k for k, c in enumerate(chosen)}
        owners: dict[str, set[int]] = {}
        self.vocabulary = set()
        for c in chosen:
            for keyword in concepts[c]["keywords"]:
                owners.setdefault(squash(keyword), set()).add(c)
            text = " ".join([concepts[c]["classname"], *concepts[c]["keywords"]]).lower()
            self.vocabulary |= {singular(w) for w in re.findall("[a-z]{3,}", text)} - ABSTRACT
        # A keyword that one class alone carries names it ("lorry" would name the delivery truck).
        self.keywords = {
            k: next(iter(o)) for k, o in owners.items() if len(o) == 1 and len(k) > 3 and k not in ABSTRACT
        }
        self.left_out = {
            singular(w)
            for i, c in enumerate(concepts)
            if in_scope(c) and i not in self.position
            for w in [squash(c["classname"])]
        }

    def __call__(self, words: str) -> int | None:
        """Class label, -1 for a caption of its own, None to leave the image out."""
        for key in (squash(words), squash(singular(words))):
            found = self.names.get(key, self.keywords.get(key))
            if found is not None:
                return self.position.get(found)
        parts = [singular(w) for w in words.split()]
        if set(parts) & (ABSTRACT | self.left_out) or squash(words) in self.left_out:
            return None
        return -1 if len(parts) <= 3 and set(parts) & self.vocabulary else None


def training_pictures(packages, drawn, concepts, names, chosen, openclipart: Path, pool):
    """Everything a model may learn from: (images, rows); a row has label, words, source, mono."""
    pictures, rows = [], []

    def add(picture, label, words, source, mono):
        pictures.append(picture)
        rows.append({"label": label, "words": words, "source": source, "mono": mono})

    families = {v.family: v.mono for v in VENDORS if v.role == "train"} | dict.fromkeys(FONTS, True)
    for family, mono in families.items():
        for label, c in enumerate(chosen):
            if c in drawn[family]:
                add(drawn[family][c], label, concepts[c]["classname"], family, mono)
    match = Matcher(concepts, names, chosen)
    for family in COLOUR_ICONS + MONO_ICONS:
        assert packages.info(family)["licence"] in OPEN, f"{family}: licence not open"
        found = [(n, w, label) for n, w in packages.icons(family) if (label := match(w)) is not None]
        svgs = [packages.svg(family, n) for n, _, _ in found]
        for (_, words, label), picture in zip(found, pool.map(render, svgs, chunksize=64)):
            if picture is not None:
                add(picture, label, words, family, family in MONO_ICONS)
    for picture, words in clipart(openclipart):
        parts = words.split()  # an author's name follows the thing's name, so try the first words only
        labels = [match(" ".join(parts[:n])) for n in (2, 1)]
        known = [x for x in labels if x is not None and x >= 0]
        if known or all(x is not None for x in labels):
            add(picture, known[0] if known else -1, " ".join(parts[:2]), "openclipart", False)
    return pictures, rows


def write_parquet(path: Path, rows: list[tuple]) -> None:
    """(family, label, id, image bytes) rows, sorted by family and label."""
    rows = sorted(rows, key=lambda r: (r[0], r[1]))
    table = pa.table(
        {
            "id": pa.array([r[2] for r in rows], pa.string()),
            "label": pa.array([r[1] for r in rows], pa.int64()),
            "family": pa.array([r[0] for r in rows], pa.string()),
            "image": pa.array([r[3] for r in rows], pa.binary()),
        }
    )
    pq.write_table(table, path, compression="zstd")


def dump(path: Path, value) -> None:
    """JSON a person can read and diff."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


LICENCE_URLS = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
    "ISC": "https://opensource.org/license/isc-license-txt",
    "OFL-1.1": "https://openfontlicense.org",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "BSD-3-Clause": "https://opensource.org/license/bsd-3-clause",
    "Unlicense": "https://unlicense.org",
}


def licence_lines(sources: dict) -> list[str]:
    """An entry for each source: author, licence, package and home."""

    def entry(name, s):
        licence = f"[{s['licence']}]({LICENCE_URLS[s['licence']]})" if s["licence"] in LICENCE_URLS else s["licence"]
        return f"- **{name}**, by {s['author']}, {licence}; {s['package']} {s['version']}; <{s['home']}>"

    return [entry(name, source) for name, source in sources.items()]


def licences(sources: dict) -> str:
    """The attribution page: one entry for each source, shipped images first."""
    shipped = {k: s for k, s in sources.items() if s["file"]}
    trained = {k: s for k, s in sources.items() if not s["file"]}
    lines = [
        "# Licences of the emoji set",
        "",
        "What was changed: every drawing was rendered at 96 x 96 pixels, put on white and stored as WebP. "
        "The drawings keep their own licences; this project's licence covers none of them.",
        "",
        "`test-openmoji.parquet` is share-alike and therefore kept in a file of its own: whoever passes it on, "
        "changed or not, does so under CC BY-SA 4.0. No model was trained on it.",
        "",
        "Class names and keywords: Unicode CLDR (Unicode License v3), through emojibase-data (MIT), "
        "<https://emojibase.dev>.",
        "",
        "## Pictures in this folder",
        "",
        *[f"{line}; in `{s['file']}`" for line, s in zip(licence_lines(shipped), shipped.values())],
        "",
        "The MIT licence of the Fluent drawings: Copyright (c) Microsoft Corporation. Permission is hereby "
        "granted, free of "
        "charge, to any person obtaining a copy of this software and associated documentation files (the "
        '"Software"), to deal '
        "in the Software without restriction, including without limitation the rights to use, copy, modify, merge, "
        "publish, "
        "distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is "
        "furnished to "
        "do so, subject to the following conditions: The above copyright notice and this permission notice shall "
        "be included in "
        'all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF '
        "ANY KIND, "
        "EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A "
        "PARTICULAR PURPOSE AND "
        "NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR "
        "OTHER LIABILITY, "
        "WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE "
        "SOFTWARE OR THE USE "
        "OR OTHER DEALINGS IN THE SOFTWARE.",
        "",
        "The text of the Apache licence is in `LICENSE-Apache-2.0.txt`.",
        "",
        "## Drawings that clipnb-mini was trained on (not in this folder, `noto` excepted)",
        "",
        *licence_lines(trained),
    ]
    return "\n".join(lines) + "\n"


def build(args) -> None:
    """Write the emoji set to `args.out` and the training images of clipnb-mini 1 to `args.cache`."""
    args.out.mkdir(parents=True, exist_ok=True)
    args.cache.mkdir(parents=True, exist_ok=True)
    packages = Packages(args.node_modules)
    concepts = packages.concepts()
    names = packages.names(concepts)
    pool = ProcessPoolExecutor(args.workers)
    drawn = draw_families(packages, args.symbola, concepts, names, pool)
    held = [v for v in VENDORS if v.role != "train"]
    trained = [v.family for v in VENDORS if v.role == "train"] + list(FONTS)
    covered = [i for i, c in enumerate(concepts) if in_scope(c) and all(i in drawn[v.family] for v in held)]
    chosen = [i for i in covered if sum(i in drawn[f] for f in trained) >= MIN_TRAIN and i in drawn["noto"]]
    unseen = [i for i in covered if i not in set(chosen)]
    print(f"{len(chosen)} classes, {len(unseen)} concepts left out", flush=True)

    pictures, rows = training_pictures(packages, drawn, concepts, names, chosen, args.openclipart, pool)
    print(f"{len(pictures)} training drawings, {sum(r['label'] >= 0 for r in rows)} of a class", flush=True)

    # Near duplicates: the held-out drawing stays, the training drawing goes; a test drawing that
    # duplicates a validation drawing goes from the test split.
    keys = [(v.family, label) for v in held for label in range(len(chosen))]
    held_thumbs = thumbnails(drawn[f][chosen[label]] for f, label in keys)
    unseen_thumbs = thumbnails(drawn[held[0].family][i] for i in unseen)
    distance, where = nearest(thumbnails(pictures), np.concatenate([held_thumbs, unseen_thumbs]))
    names_of = [f"{f}/{slug(concepts[chosen[label]]['classname'])}" for f, label in keys]
    names_of += [f"unseen/{slug(concepts[i]['classname'])}" for i in unseen]
    twins_train = [
        {
            "training": f"{rows[i]['source']}/{slug(rows[i]['words'])}",
            "held_out": names_of[where[i]],
            "distance": round(float(distance[i]), 3),
        }
        for i in np.flatnonzero(distance < TWIN)
    ]
    keep = np.flatnonzero(distance >= TWIN)
    validation = np.array([f == "twemoji" for f, _ in keys])
    dropped, between = set(), []
    thumbs = dict(zip(keys, held_thumbs))
    for a, first in enumerate(held):
        for second in held[a + 1 :]:
            for label in range(len(chosen)):
                gap = thumbs[first.family, label] - thumbs[second.family, label]
                if (d := float(np.sqrt((gap**2).mean()))) < TWIN:
                    name = slug(concepts[chosen[label]]["classname"])
                    between.append(
                        {"a": f"{first.family}/{name}", "b": f"{second.family}/{name}", "distance": round(d, 3)}
                    )
    distance, where = nearest(held_thumbs[~validation], held_thumbs[validation])
    for (family, label), d in zip([k for k, v in zip(keys, validation) if not v], distance):
        if d < TWIN:
            dropped.add((family, label))

    sources = {v.family: {**packages.info(v.family), "home": v.home, "role": v.role, "file": None} for v in VENDORS}
    version = json.loads((args.node_modules / "@fontsource/noto-emoji/package.json").read_text())["version"]
    for name, font in FONTS.items():
        sources[name] = {"version": version, **font, "role": "train", "file": None}
    for family in COLOUR_ICONS + MONO_ICONS:
        home = f"https://icon-sets.iconify.design/{family}/"
        sources[family] = {**packages.info(family), "home": home, "role": "train", "file": None}
    sources["openclipart"] = {**CLIPART, "role": "train", "file": None}
    files = {
        "fluent-emoji-flat": "test.parquet",
        "fluent-emoji-high-contrast": "test.parquet",
        "openmoji": "test-openmoji.parquet",
        "twemoji": "validation.parquet",
        "noto": "train-sample.parquet",
    }
    tables, hashes = {name: [] for name in files.values()}, {}
    for family, file in files.items():
        licence = sources[family]["licence"]
        assert licence in OPEN or (licence in SHARE_ALIKE and file == "test-openmoji.parquet"), f"{family}: {licence}"
        sources[family]["file"] = file
        for label, c in enumerate(chosen):
            if (family, label) not in dropped:
                identity, data = f"{family}/{slug(concepts[c]['classname'])}", webp(drawn[family][c])
                tables[file].append((family, label, identity, data))
                hashes[identity] = hashlib.sha256(data).hexdigest()
    tables["unseen.parquet"] = []
    for label, c in enumerate(unseen):
        identity, data = f"unseen/{slug(concepts[c]['classname'])}", webp(drawn["fluent-emoji-flat"][c])
        tables["unseen.parquet"].append(("fluent-emoji-flat", label, identity, data))
        hashes[identity] = hashlib.sha256(data).hexdigest()
    sources["fluent-emoji-flat"]["file"] = "test.parquet, unseen.parquet"
    for file, table in tables.items():
        write_parquet(args.out / file, table)
    dump(args.out / "classes.json", [concepts[c] for c in chosen])
    dump(args.out / "unseen-classes.json", [concepts[c] for c in unseen])
    counts = {file: len(table) for file, table in tables.items()}
    dump(
        args.out / "manifest.json",
        {
            "rule": RULE,
            "picture": f"{SIZE} x {SIZE}, RGB on white, WebP quality 85",
            "seed": "none: nothing is drawn by chance",
            "counts": {"classes": len(chosen), **counts, "training drawings": len(keep)},
            "near_twins": {
                "threshold": TWIN,
                "measure": "root-mean-square distance of 24 x 24 thumbnails cropped to their ink",
                "between_held_out_families": between,
                "test_drawings_dropped": sorted(
                    f"{f}/{slug(concepts[chosen[label]]['classname'])}" for f, label in dropped
                ),
                "training_drawings_dropped": twins_train,
            },
            "sources": sources,
            "sha256": hashes,
        },
    )
    (args.out / "LICENSES.md").write_text(licences(sources), encoding="utf-8")
    np.save(args.cache / "pictures.npy", np.stack([pictures[i] for i in keep]))
    dump(args.cache / "rows.json", [rows[i] for i in keep])
    print(
        json.dumps(
            {**counts, "kept": len(keep), "twins": len(twins_train), "between": len(between), "dropped": len(dropped)}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node-modules", type=Path, default=Path(__file__).parent / "node_modules")
    parser.add_argument("--openclipart", type=Path, required=True, help="folder of the unpacked Debian package")
    parser.add_argument("--symbola", type=Path, required=True, help="the font file of fonts-symbola")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "clipnb/assets/emoji")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the training pictures (about 1 GB)")
    parser.add_argument("--workers", type=int, default=2)
    build(parser.parse_args())


if __name__ == "__main__":
    main()
