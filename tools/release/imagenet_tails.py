"""Compute the tables of `clipnb/paper/published` from public per-class results; their files are not shipped.

    python -m tools.release.imagenet_tails SOURCE [--texts VECTORS.pt] [--check]

SOURCE is a checkout of github.com/bethgelab/frequency_determines_performance (arXiv 2404.04125, MIT licence), or a
folder with its three files zero_shot_evaluations/imagenet_{class,simple,ensemble}_results.json. VECTORS.pt is
metadata/heads/in1k_clip_vitb32_wit400m_a+cname.pt of github.com/CVMI-Lab/clip-beyond-tail (arXiv 2405.21070, MIT
licence): the text vectors of the 1,000 names, in the order of SOURCE. With --check nothing is written, and a difference
from the committed tables ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from clipnb.paper.tails import CLASSES, COUNTS, IMAGES, LARGE_SETS, PROMPTS

PUBLISHED = Path(__file__).parents[2] / "clipnb" / "paper" / "published"
FILES = dict(zip(PROMPTS, ("class", "simple", "ensemble"), strict=True))
PAIRS = 100
WORST = 10


def read(source: Path) -> dict[tuple[str, str, str], dict]:
    """{(model, pretrained, prompts): {"full": accuracy in percent, "classwise": {name: accuracy in percent}}}."""
    runs = {}
    for prompts, name in FILES.items():
        file = f"imagenet_{name}_results.json"
        places = [folder / file for folder in (source, source / "zero_shot_evaluations") if (folder / file).is_file()]
        if not places:
            sys.exit(f"Expected {file} in {source} or its folder zero_shot_evaluations, got no such file")
        for key, run in json.loads(places[0].read_text("utf-8")).items():
            model, _, pretrained = key.removeprefix("backbone").partition("_pretrained")
            runs[model, pretrained, prompts] = run
    return runs


def counts(run: dict) -> np.ndarray:
    """(1000,) numbers of right images, from percent of 50."""
    right = np.array(list(run["classwise"].values())) * IMAGES / 100
    if len(right) != CLASSES or np.abs(right - right.round()).max() > 1e-6:
        sys.exit(f"Expected {CLASSES} classes of {IMAGES} images each, got {len(right)} or other shares")
    return right.round().astype(int)


def tails(runs: dict) -> pd.DataFrame:
    """The table that `clipnb.paper.tails.load` reads."""
    rows = []
    for key in sorted(runs, key=lambda key: (key[0], key[1], PROMPTS.index(key[2]))):
        histogram = np.bincount(counts(runs[key]), minlength=IMAGES + 1)
        rows.append([*key, *histogram, round(runs[key]["full"], 3)])
    return pd.DataFrame(rows, columns=["model", "pretrained", "prompts", *COUNTS, "accuracy_published"])


def zeros(runs: dict) -> pd.DataFrame:
    """For each class how many of the large models have it at 0 %; classes without any are left out."""
    names = list(next(iter(runs.values()))["classwise"])
    table = pd.DataFrame({"classname": names})
    for prompts in PROMPTS:
        large = [counts(run) for key, run in runs.items() if key[1] in LARGE_SETS and key[2] == prompts]
        table[prompts] = (np.stack(large) == 0).sum(axis=0)
    table = table.loc[table[list(PROMPTS)].any(axis=1)]
    return table.sort_values([*PROMPTS, "classname"], ascending=[False, False, False, True])


def worst_named(runs: dict) -> pd.DataFrame:
    """The WORST classes of each run with the number of right images, worst first, ties in the order of the names."""
    rows = []
    for key in sorted(runs, key=lambda key: (key[0], key[1], PROMPTS.index(key[2]))):
        names, right = list(runs[key]["classwise"]), counts(runs[key])
        for c in sorted(range(len(names)), key=lambda c: (right[c], names[c]))[:WORST]:
            rows.append([*key, names[c], right[c]])
    return pd.DataFrame(rows, columns=["model", "pretrained", "prompts", "classname", "right"])


def cosines(vectors: Path) -> np.ndarray:
    """(1000, 1000) cosines of the names' texts."""
    import torch

    texts = torch.load(vectors, weights_only=True).float()
    texts = texts / texts.norm(dim=1, keepdim=True)
    return (texts @ texts.T).numpy()


def nearest_names(names: list[str], cosine: np.ndarray) -> pd.DataFrame:
    """The PAIRS pairs of names with the highest cosine."""
    first, second = np.triu_indices(len(names), 1)
    best = np.argsort(-cosine[first, second], kind="stable")[:PAIRS]
    pairs = [(names[first[i]], names[second[i]], round(float(cosine[first[i], second[i]]), 3)) for i in best]
    return pd.DataFrame(pairs, columns=["a", "b", "cosine"])


def nearest_of_each(names: list[str], cosine: np.ndarray) -> pd.DataFrame:
    """For each name the one whose text is nearest."""
    others = np.where(np.eye(len(names), dtype=bool), -np.inf, cosine)
    nearest = others.argmax(axis=1)
    best = others.max(axis=1).astype(float).round(3)
    return pd.DataFrame({"name": names, "nearest": [names[c] for c in nearest], "cosine": best})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    runs = read(options.source)
    made = {
        "imagenet_tails.csv": tails(runs),
        "imagenet_zeros.csv": zeros(runs),
        "imagenet_worst.csv": worst_named(runs),
    }
    if options.texts:
        names, cosine = list(next(iter(runs.values()))["classwise"]), cosines(options.texts)
        made["imagenet_nearest_names.csv"] = nearest_names(names, cosine)
        made["imagenet_nearest_of_each.csv"] = nearest_of_each(names, cosine)
    for name, table in made.items():
        text = table.to_csv(index=False, lineterminator="\n")
        if not options.check:
            (PUBLISHED / name).write_text(text, "utf-8")
        elif (PUBLISHED / name).read_text("utf-8") != text:
            sys.exit(f"{name} differs from what {options.source} gives")
        print(f"{name}: {len(table)} rows")


if __name__ == "__main__":
    main()
