"""On a GPU: images from JPEG files to vectors beside the network alone, texts beside the peers, `evaluate` beside the
bare product, and the training of clipnb-mini.

    pip install clipnb[bench,gpu]
    python -m benchmarks.gpu                 # writes benchmarks/results/gpu.json and .md; `make bench` calls this

Without a GPU nothing is written: the results that are there stay. The models have random weights (one seed).
"""

from __future__ import annotations

import argparse
import os

os.environ["CLIPNB_CACHE"] = ""  # every contender computes

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import clipnb
from benchmarks import evaluate
from benchmarks._harness import cell, machine, machine_text, publish, rounds, spread
from benchmarks.encode import clip, in_bf16, photos, texts
from clipnb.models import Model
from tools.mini import model as mini_model
from tools.mini import train

DECODERS = ("pillow", "device")
DIFFERENT, COPIES = 300, 40  # photos, and how often each is read: what starts the workers takes a second
BATCH = 256


def images(model: Model, folder: str, count: int) -> dict:
    """Rates of the network alone, and from the JPEG files of a folder to vectors, in bf16."""
    half, data = in_bf16(model), clipnb.load_dataset(f"folder:{folder}")
    pixels = torch.stack([half.preprocess(data[i][0]) for i in range(BATCH)]).cuda()
    batches = len(data) // BATCH

    def forward() -> None:
        for _ in range(batches):
            half.encode_pixels(pixels)  # ends with a copy to the processor's memory, so the time is whole

    contenders = {"forward": forward} | {
        decoder: partial(clipnb.encode_images, half, data, decoder=decoder) for decoder in DECODERS
    }
    for decoder in DECODERS:
        clipnb.encode_images(half, data.take(5 * BATCH), decoder=decoder)  # warm
    times = rounds(contenders, (), count)
    alone = [batches * BATCH / t[0] for t in times["forward"]]
    rates = {decoder: [len(data) / t[0] for t in times[decoder]] for decoder in DECODERS}
    return {
        "model": model.name,
        "photos": len(data),
        "forward_images_per_second": spread(alone),
        "images_per_second": {decoder: spread(values) for decoder, values in rates.items()},
        "share": {decoder: spread([a / b for a, b in zip(values, alone)]) for decoder, values in rates.items()},
    }


def scores(count: int) -> dict:
    """`evaluate` on the GPU and on the processor, beside the bare product on the GPU, vectors in main memory."""
    vectors, classifier, labels = evaluate.inputs(evaluate.IMAGES)

    def product() -> None:
        columns = torch.from_numpy(classifier).cuda().T
        for block in torch.from_numpy(vectors).split(8192):
            (block.cuda() @ columns).max().item()

    contenders = {
        "product on the GPU": product,
        "evaluate on the GPU": partial(clipnb.evaluate, vectors, classifier, labels, device="cuda"),
        "evaluate on the processor": partial(clipnb.evaluate, vectors, classifier, labels),
    }
    rounds(contenders, (), 1)  # warm
    times = rounds(contenders, (), count)
    there, here = (clipnb.evaluate(vectors, classifier, labels, device=device) for device in ("cuda", "cpu"))
    return {
        "seconds": {name: spread([t[0] for t in values]) for name, values in times.items()},
        "changed_predictions": int((there.predictions != here.predictions).sum()),
    }


def training(steps: int) -> dict:
    """Drawings a second of a training step of clipnb-mini, with augmentation and captions, on shipped drawings."""
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    options = parser.parse_args(["--bf16", "--warm-steps", "0"])
    names = clipnb.load_dataset("icons").classnames
    drawings, labels, _ = train.decode(train.ASSETS / "icons/test.parquet")
    rgb = (drawings.permute(0, 2, 3, 1) * 255).byte()
    rows = [
        {"key": names[i], "name": names[i], "synonyms": [], "keywords": [], "group": "", "style": "", "medium": "icon"}
        | {"mono": False}
        for i in labels
    ]
    data = (torch.cat([rgb, torch.full_like(rgb[..., :1], 255)], -1).numpy(), *train.describe_rows(rows))
    model, _, tokenizer = mini_model.open_shell(train.ASSETS / "clipnb-mini", weights=True)
    trainer = train.Trainer(model, tokenizer, data, options)
    rates = {}
    for size in (options.small, mini_model.SIZE):
        trainer.o.small, trainer.o.switch = size, 1
        rounds({size: trainer.step}, (), 5)  # warm
        times = rounds({size: trainer.step}, (), steps)[size]
        rates[f"{size} x {size}"] = spread([options.batch / t[0] for t in times])
    return {"batch": options.batch, "drawings_per_second": rates}


def run(count: int) -> dict:
    large = clip("ViT-L-14", "cuda")
    clipnb.encode_texts(large, ["warm", "warmer"])
    results = {
        "machine": machine(("numpy", "torch", "torchvision", "open_clip_torch", "torchcodec", "clip-benchmark"))
        | {"device": torch.cuda.get_device_name()},
        "rounds": count,
        "texts": {"model": large.name, **texts(large, 50, count)},
        "evaluate": scores(count),
        "training": training(40),
        "images": [],
    }
    with TemporaryDirectory() as folder:
        photos(Path(folder), DIFFERENT)
        for path in list(Path(folder).glob("*/*.jpg")):
            for copy in range(1, COPIES):
                os.link(path, path.with_stem(f"{path.stem}-{copy}"))
        for model in (large, clip("ViT-B-32", "cuda")):
            results["images"].append(images(model, folder, count))
    return results


def table(results: dict) -> str:
    text, scored = results["texts"], results["evaluate"]
    rows = [
        *(
            (
                f"{part['model']} in bf16, {part['photos']:,} JPEG files of about 500 x 375, to vectors, decoder "
                f"{decoder}: share of the rate of the network alone",
                f"{cell(part['share'][decoder])}; {part['images_per_second'][decoder]['median']:.0f} images/s",
                "at least 0.8",
            )
            for part in results["images"]
            for decoder in DECODERS
        ),
        *(
            (
                f"texts, {text['model']} in fp32, {text['prompts']:,} prompts: {name} / ours, time",
                cell(value),
                "at least 8",
            )
            for name, value in text["over_ours"].items()
        ),
        ("texts: largest difference of a coordinate from the peers", f"{text['largest_difference']:.1e}", "below 1e-5"),
        *(
            (f"{name}, {evaluate.IMAGES:,} images, {evaluate.CLASSES:,} classes", f"{cell(value)} s", "-")
            for name, value in scored["seconds"].items()
        ),
        ("`evaluate`: predictions that differ from the processor's", str(scored["changed_predictions"]), "near ties"),
        *(
            (f"training of clipnb-mini, drawings of {size}", f"{cell(value)} drawings/s", "-")
            for size, value in results["training"]["drawings_per_second"].items()
        ),
    ]
    lines = ["| on a GPU | measured | wanted |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    ending = f"Rounds: {results['rounds']}; median (lowest to highest). Random weights. {machine_text(results)}."
    return "\n".join([*lines, ending]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU here: benchmarks/results/gpu.md stays as it is.")
        return
    results = run(options.rounds)
    publish("gpu", results, table(results))


if __name__ == "__main__":
    main()
