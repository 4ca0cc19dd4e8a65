"""`encode_texts` and `encode_images` beside open_clip's and CLIP_benchmark's own code, in one run; growth with the
number of items.

    pip install clipnb[bench]
    python -m benchmarks.encode              # writes benchmarks/results/encode.json and .md; `make bench` calls this
    python -m benchmarks.encode --names 1000 --rounds 1     # every ImageNet name: an hour, most of it the peers

Contenders take turns within a round, so that a busy machine disturbs all of them; a ratio is taken within its round.
The model is ViT-B-32 with random weights (one seed): speed does not depend on the weights, and no download is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["CLIPNB_CACHE"] = ""  # every contender computes

import numpy as np
import open_clip
import torch
from PIL import Image, ImageDraw
from torchvision.transforms import Compose

import clipnb
from benchmarks._harness import (
    cell,
    load,
    machine,
    machine_text,
    own_process,
    publish_beside,
    ratio,
    reset_peak,
    rounds,
    spread,
    status,
)
from clipnb.embeddings import StoreWriter
from clipnb.encode import encode_to_store
from clipnb.models import Model, Preprocess
from clipnb.similarity import unit_norm

CLASSES, WIDTH, SHARD = 1000, 512, 4096
PHOTO_CLASSES = 10
DEVICE = "ours, bf16, decoder device"
REAL, SYNTHETIC = (1_000, 5_000), (1_000, 10_000, 100_000, 1_000_000)


def clip(name: str = "ViT-B-32", device: str = "cpu") -> Model:
    torch.manual_seed(0)
    module, _, preprocess = open_clip.create_model_and_transforms(name)
    return Model(
        name,
        "random",
        module.eval().to(device),
        Preprocess(preprocess.transforms),  # as `load_model` has it
        open_clip.get_tokenizer(name),
        torch.device(device),
        "fp32",
    )


def in_bf16(model: Model) -> Model:
    """The model with its image tower in bf16, without the comparison with fp32 that is made once for a store."""
    return replace(model.cast("bf16"), exact=None)


# ---- texts ----------------------------------------------------------------------------------------------------------


def texts(model: Model, names: int, count: int) -> dict:
    """Class vectors of ImageNet names (evenly spread over the 1,000) in OpenAI's 80 templates."""
    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier as peer

    classnames = open_clip.IMAGENET_CLASSNAMES[:: CLASSES // names][:names]
    templates = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    contenders = {
        "ours": lambda: torch.from_numpy(clipnb.zero_shot_classifier(model, classnames, templates)).T,
        "open_clip": lambda: open_clip.build_zero_shot_classifier(
            model.module, model.tokenizer, classnames, templates, device=model.device
        ),
        "clip_benchmark": lambda: peer(
            model.module,
            model.tokenizer,
            classnames,
            [t.replace("{}", "{c}") for t in templates],
            model.device.type,
            amp=False,
        ),
    }
    kept = {}
    times = rounds(
        {
            name: partial(lambda name, call: kept.update({name: call()}), name, call)
            for name, call in contenders.items()
        },
        (),
        count,
    )
    return {
        "names": names,
        "prompts": names * len(templates),
        "seconds": {name: spread([t[0] for t in values]) for name, values in times.items()},
        "over_ours": {name: ratio(times, name, "ours") for name in ("open_clip", "clip_benchmark")},
        "largest_difference": max(
            float((kept["ours"] - kept[name].cpu()).abs().max()) for name in ("open_clip", "clip_benchmark")
        ),
    }


# ---- images ---------------------------------------------------------------------------------------------------------


def photos(folder: Path, count: int) -> None:
    """JPEG files of about 500 x 375 with the grain of photographs: a tinted gradient, forms, noise. Ten classes
    differ in tint and forms."""
    rng = np.random.default_rng(0)
    for i in range(count):
        label = i % PHOTO_CLASSES
        width, height = 500 + int(rng.integers(-20, 21)), 375 + int(rng.integers(-20, 21))
        slope = np.linspace(0, 1, width)[None, :, None] * rng.uniform(0.5, 1) + np.linspace(0, 1, height)[
            :, None, None
        ] * rng.uniform(0, 0.5)
        tint = np.random.default_rng(label).uniform(60, 255, 3)
        image = Image.fromarray(np.clip(slope * tint + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for _ in range(4 + label):
            x, y, size = rng.integers(0, width), rng.integers(0, height), rng.integers(20, 120)
            (draw.ellipse if label % 2 else draw.rectangle)(
                (x, y, x + size, y + size), fill=tuple(rng.integers(0, 256, 3).tolist())
            )
        path = folder / f"class_{label}" / f"{i:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)


class Pairs(torch.utils.data.Dataset):
    """What CLIP_benchmark's loop is given: (pixels by open_clip's own transforms, label)."""

    def __init__(self, data, preprocess):
        self.data, self.preprocess = data, preprocess

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        image, label = self.data[i]
        return self.preprocess(image), label


def images(model: Model, count: int, count_rounds: int) -> dict:
    """From JPEG files to predictions.

    With random weights a classifier of texts gives every image the same class, so predictions are by class
    prototypes: mean vectors of the classes of these photos in fp32, less their common mean.
    """
    from clip_benchmark.metrics.zeroshot_classification import run_classification

    with TemporaryDirectory() as folder:
        photos(Path(folder, "photos"), count)
        data, half, store = clipnb.load_dataset(f"folder:{folder}/photos"), in_bf16(model), Path(folder, "store")
        first = clipnb.encode_images(model, data, store)
        means = np.stack([first.vectors[first.labels == label].mean(axis=0) for label in range(PHOTO_CLASSES)])
        classifier = unit_norm(means - means.mean(axis=0))
        columns, kept = torch.from_numpy(classifier).T, {}
        for chosen in (half, model):
            assert chosen.fingerprint  # computed once for a model

        def ours(chosen, decoder="pillow"):
            return clipnb.evaluate(
                clipnb.encode_images(chosen, data, decoder=decoder).vectors, classifier, data.labels
            ).predictions

        def from_store():
            return clipnb.evaluate_store(store, classifier).predictions

        def peer(amp):
            loader = torch.utils.data.DataLoader(
                Pairs(data, Compose(model.preprocess.steps)), batch_size=64, num_workers=4
            )  # its defaults
            return run_classification(model.module, columns, loader, "cpu", amp=amp)[0].argmax(dim=1).numpy()

        contenders = {
            "ours, fp32": partial(ours, model),
            "ours, bf16": partial(ours, half),
            DEVICE: partial(ours, half, "device"),
            "clip_benchmark, fp32": partial(peer, False),
            "clip_benchmark, default (bf16 autocast)": partial(peer, True),
            "ours, second time (store)": from_store,
        }
        times = rounds(
            {
                name: partial(lambda name, call: kept.update({name: call()}), name, call)
                for name, call in contenders.items()
            },
            (),
            count_rounds,
        )
    exact, default, again = (
        kept["clip_benchmark, fp32"],
        "clip_benchmark, default (bf16 autocast)",
        "ours, second time (store)",
    )
    return {
        "photos": count,
        "images_per_second": {name: spread([count / t[0] for t in values]) for name, values in times.items()},
        "default_over_ours_bf16": ratio(times, default, "ours, bf16"),
        "fp32_over_ours_bf16": ratio(times, "clip_benchmark, fp32", "ours, bf16"),
        "fp32_over_ours_fp32": ratio(times, "clip_benchmark, fp32", "ours, fp32"),
        "fp32_over_store": ratio(times, "clip_benchmark, fp32", again),
        "changed_predictions": {name: float(np.mean(results != exact)) for name, results in kept.items()},
    }


# ---- growth ---------------------------------------------------------------------------------------------------------


def grow(kind: str, count: int) -> dict:
    """Seconds and peak extra MB of one task in this process; libraries are loaded and warm before."""
    with TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        classifier = unit_norm(rng.standard_normal((CLASSES, WIDTH), dtype=np.float32))
        if kind == "encode":
            model, data = clipnb.load_model(), clipnb.load_dataset("emoji:hard")
            encode_to_store(model, data.take(64), Path(folder, "warm"))
            task = partial(encode_to_store, model, data.take(count), Path(folder, "store"))
        else:
            task = partial(write_and_evaluate, Path(folder, "store"), count, classifier)
            write_and_evaluate(Path(folder, "warm"), 100, classifier)
        before, begin = reset_peak(), time.perf_counter()
        task()
        return {"seconds": round(time.perf_counter() - begin, 2), "peak_mb": round(status("VmHWM") - before)}


def write_and_evaluate(folder: Path, count: int, classifier: np.ndarray) -> None:
    """A store of synthetic vectors, written and scored shard by shard, as encoding and `evaluate_store` do."""
    writer = StoreWriter(folder, {"n": count}, [str(i) for i in range(CLASSES)], SHARD)
    for start in range(0, count, SHARD):
        rng, rows = np.random.default_rng(start), range(start, min(start + SHARD, count))
        labels = rng.integers(0, CLASSES, len(rows))
        vectors = unit_norm(classifier[labels] + rng.standard_normal((len(rows), WIDTH), dtype=np.float32) / 8)
        writer.write(start, clipnb.Embeddings(vectors, labels, [str(i) for i in rows], []))
    assert clipnb.evaluate_store(folder, classifier).n == count


def growth() -> list[dict]:
    tasks = [("encode", count) for count in REAL] + [("store", count) for count in SYNTHETIC]
    return [
        {"kind": kind, "items": count} | json.loads(own_process("encode", "--grow", kind, str(count)))
        for kind, count in tasks
    ]


# ---- the table ------------------------------------------------------------------------------------------------------


def table(results: dict) -> str:
    text, image = results["texts"], results["images"]
    changed = image["changed_predictions"]
    rows = [
        ("texts: open_clip / ours, time", text["over_ours"]["open_clip"], "at least 8"),
        ("texts: CLIP_benchmark / ours, time", text["over_ours"]["clip_benchmark"], "at least 8"),
        ("images: CLIP_benchmark as it comes / ours in bf16, time", image["default_over_ours_bf16"], "at least 1.9"),
        ("images: CLIP_benchmark in fp32 / ours in bf16, time", image["fp32_over_ours_bf16"], "-"),
        ("images: CLIP_benchmark / ours, both in fp32, time", image["fp32_over_ours_fp32"], "at least 1.2"),
        (
            "the same images a second time: CLIP_benchmark in fp32 / ours from the store, time",
            image["fp32_over_store"],
            "at least 50",
        ),
    ]
    lines = [
        f"ViT-B-32, random weights. Texts: {text['names']} ImageNet names spread over the 1,000, 80 templates, "
        f"{text['prompts']} prompts, "
        f"fp32. Images: {image['photos']} JPEG files of about 500 x 375, from file to prediction. Rounds: "
        f"{results['rounds']}; median (lowest "
        "to highest) of the ratio within a round.",
        "",
        "| ratio | measured | wanted |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {cell(value)} | {wanted} |" for name, value, wanted in rows]
    lines += [
        f"| texts: largest difference of a coordinate | {text['largest_difference']:.1e} | below 1e-5 |",
        f"| images: predictions that differ from CLIP_benchmark's in fp32: ours in fp32 | "
        f"{changed['ours, fp32']:.2%} | 0 |",
        f"| the same, ours in bf16 | {changed['ours, bf16']:.2%} | below 0.5 % |",
        f"| the same, ours in bf16 with JPEG files decoded by torchcodec | {changed[DEVICE]:.2%} | - |",
        "",
        "| contender | rate |",
        "|---|---|",
    ]
    lines += [
        f"| texts: {name} | {text['prompts'] / value['median']:.0f} prompts/s |"
        for name, value in text["seconds"].items()
    ]
    lines += [f"| images: {name} | {cell(value)} images/s |" for name, value in image["images_per_second"].items()]
    lines += ["", "| task | items | seconds | peak extra MB |", "|---|---|---|---|"]
    kinds = {
        "encode": "`clipnb-mini` encodes emoji:hard into a store",
        "store": "synthetic vectors (512): written to a store and scored by 1,000 classes",
    }
    lines += [
        f"| {kinds[row['kind']]} | {row['items']:,} | {row['seconds']} | {row['peak_mb']} |"
        for row in results["growth"]
    ]
    lines += [
        "",
        machine_text(results)
        + ". Predictions are by class prototypes, because random weights give every picture one text. "
        "CLIP_benchmark runs its own "
        "functions with its own defaults (batches of 64, 4 workers; on a CPU autocast to bf16, unless told otherwise).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=25)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--grow", nargs=2, metavar=("KIND", "ITEMS"), help="print seconds and peak extra MB of one task"
    )
    options = parser.parse_args()
    if options.grow:
        print(json.dumps(grow(options.grow[0], int(options.grow[1]))))
        return
    try:
        import clip_benchmark  # noqa: F401
    except ImportError:
        sys.exit("benchmarks/encode.py needs the peer it compares with: pip install 'clipnb[bench]'")
    before, model = load(), clip()
    results = {
        "machine": machine(("numpy", "torch", "open_clip_torch", "clip-benchmark")),
        "rounds": options.rounds,
        "texts": texts(model, options.names, options.rounds),
        "images": images(model, options.photos, options.rounds),
        "growth": growth(),
    }
    results["load_average"] = [before, load()]
    publish_beside("encode", results, table)


if __name__ == "__main__":
    main()
