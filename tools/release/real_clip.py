"""Run `reproduce` with OpenAI's ViT-B/32 and ViT-B/16 on CIFAR-100, Food-101 and Oxford-IIIT Pet, and compare.

    python -m tools.release.real_clip --data DATA --out RESULTS [--download]

It needs the network, or a hub cache and sets that are on disk already; .github/workflows/real-clip.yml runs it. Each
run writes RESULTS/MODEL-SET.json. The accuracy with the published templates is compared with LAION CLIP_benchmark's
(benchmark/benchmark.csv); it has no figure for Food-101, so that set has none here. Exit code 1 if a published accuracy
lies outside the 95 % interval of a run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import clipnb
from clipnb.embeddings import Embeddings
from clipnb.models import Model
from clipnb.paper import reproduce

MODELS = ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu")
SETS = {"CIFAR100": {"train": False}, "Food101": {"split": "test"}, "OxfordIIITPet": {"split": "test"}}
# The templates of CLIP_benchmark for the sets that it publishes: nine phrases, each with "a" and with "the".
PHRASES = (
    *("photo of {} X", "blurry photo of {} X", "black and white photo of {} X", "low contrast photo of {} X"),
    *("high contrast photo of {} X", "bad photo of {} X", "good photo of {} X"),
    *("photo of {} small X", "photo of {} big X"),
)
TEMPLATES = {
    "CIFAR100": [f"a {phrase.format(word)}.".replace("X", "{}") for word in ("a", "the") for phrase in PHRASES],
    "OxfordIIITPet": ["a photo of a {}, a type of pet."],
}
PUBLISHED = {
    ("ViT-B-32-quickgelu", "CIFAR100"): 0.6453,
    ("ViT-B-16-quickgelu", "CIFAR100"): 0.6691,
    ("ViT-B-32-quickgelu", "OxfordIIITPet"): 0.8733,
    ("ViT-B-16-quickgelu", "OxfordIIITPet"): 0.8893,
}


def compare(model: Model, images: Embeddings, templates: list[str], published: float) -> dict:
    """Accuracy with the published templates, its 95 % interval, and whether the published one lies inside."""
    classifier = clipnb.zero_shot_classifier(model, images.classnames, templates)
    score = clipnb.evaluate(images.vectors, classifier, images.labels).scores()["accuracy"]
    # The published figure is rounded to four decimals.
    inside = score.low - 5e-5 <= published <= score.high + 5e-5
    here = {"accuracy": score.value, "accuracy_ci": [score.low, score.high]}
    return here | {"published": published, "verdict": "agrees" if inside else "differs"}


def download(name: str, root: Path) -> None:
    """Let torchvision fetch the test split of a set."""
    from torchvision import datasets

    getattr(datasets, name)(str(root), download=True, **SETS[name])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--download", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name in SETS:
        root = options.data / name
        root.mkdir(parents=True, exist_ok=True)
        if options.download:
            download(name, root)
        for model in MODELS:
            store = options.data / "stores" / f"{model}-{name}"
            spec = f"torchvision:{name}:{root}"
            results = reproduce.run(dataset=spec, model=model, pretrained="openai", store=store)
            if (model, name) in PUBLISHED:
                loaded = clipnb.load_model(model, pretrained="openai")
                comparison = compare(loaded, Embeddings.load(store), TEMPLATES[name], PUBLISHED[model, name])
                results["clip_benchmark"] = comparison
                failures += comparison["verdict"] == "differs"
                print(f"{model} {name}: {comparison}")
            (options.out / f"{model}-{name}.json").write_text(json.dumps(results, indent=1), "utf-8")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
