"""`evaluate` and `evaluate_prompts` beside the bare matrix product and beside torchmetrics with scikit-learn, in one
run.

    python -m benchmarks.evaluate            # writes benchmarks/results/evaluate.json and .md; `make bench` calls this

Each round times every contender once, in turn, so that a busy machine disturbs all of them; a ratio is taken within its
round. Peak memory is the resident set above what was there before the call, each contender in a process of its own.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

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
from clipnb.similarity import unit_norm

IMAGES, CLASSES, WIDTH, PROMPTS = 50_000, 1_000, 512, 247
FEW = (1_000, 5_000)  # images of the runs with many prompts: their difference is the cost of an image


def inputs(count: int, prompts: int | None = None):
    """Images around their class vectors (accuracy near 0.7), the class vectors (one set, or a bank), labels."""
    rng = np.random.default_rng(0)
    texts = rng.standard_normal(((prompts or 1) * CLASSES, WIDTH), dtype=np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    labels = rng.integers(0, CLASSES, count)
    vectors = rng.standard_normal((count, WIDTH), dtype=np.float32)
    for start in range(0, count, 1000):  # in parts, so that the inputs leave no peak of their own
        part = slice(start, start + 1000)
        vectors[part] = unit_norm(vectors[part] + 4 * texts[labels[part]])
    return vectors, texts.reshape(-1, CLASSES, WIDTH) if prompts else texts, labels


def product(vectors, classifier, labels):
    """The bare product, whole, by NumPy."""
    return vectors @ classifier.T


def product_in_blocks(vectors, classifier, labels):
    """The bare product in blocks, by torch, nothing kept."""
    images, columns = torch.from_numpy(vectors), torch.from_numpy(classifier).T
    for block in images.split(2048):
        block @ columns


def ours(vectors, classifier, labels):
    """Everything that `evaluate` offers."""
    result = clipnb.evaluate(vectors, classifier, labels)
    return (
        result.accuracy,
        result.recall_at_k,
        result.confusion,
        result.per_class_accuracy,
        result.per_class_precision,
        result.mean_per_class_accuracy,
        result.margins,
        result.rivals,
        result.cmm,
        result.class_similarity,
    )


def theirs(vectors, classifier, labels):
    """What torchmetrics and scikit-learn offer: top-1, top-5, confusion, recall and precision by class. No margins."""
    from sklearn.metrics import precision_recall_fscore_support
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

    scores, actual = torch.from_numpy(vectors) @ torch.from_numpy(classifier).T, torch.from_numpy(labels)
    predictions = scores.argmax(dim=1)
    top5 = multiclass_accuracy(scores, actual, CLASSES, top_k=5, average="micro")
    confusion = multiclass_confusion_matrix(predictions, actual, CLASSES)
    precision, recall, _, _ = precision_recall_fscore_support(
        labels, predictions.numpy(), labels=range(CLASSES), zero_division=np.nan
    )
    return (
        multiclass_accuracy(predictions, actual, CLASSES, average="micro").item(),
        {5: top5.item()},
        confusion,
        recall,
        precision,
    )


def prompts_product(vectors, bank, labels):
    for prompt in bank:
        vectors @ prompt.T


def prompts_ours(vectors, bank, labels):
    return clipnb.evaluate_prompts(vectors, bank, labels)


CONTENDERS = {f.__name__: f for f in (product, product_in_blocks, ours, theirs)}
PROMPT_CONTENDERS = {f.__name__: f for f in (prompts_product, prompts_ours)}


def measure_peak(name: str) -> float:
    """MB that one call adds to this process at its peak; libraries are loaded and warm before."""
    prompts = name in PROMPT_CONTENDERS
    function = (CONTENDERS | PROMPT_CONTENDERS)[name]
    vectors, texts, labels = inputs(FEW[-1] if prompts else IMAGES, PROMPTS if prompts else None)
    function(vectors[:64], texts[:1] if prompts else texts, labels[:64])
    before = reset_peak()
    kept = function(vectors, texts, labels)
    del kept
    return status("VmHWM") - before


def run(count: int) -> dict:
    """All measurements."""
    before = load()
    arguments = inputs(IMAGES)
    rounds(CONTENDERS, arguments, 1)  # warm
    times = rounds(CONTENDERS, arguments, count)
    check(arguments)
    best = [tuple(map(min, whole, blocks)) for whole, blocks in zip(times["product"], times["product_in_blocks"])]
    vectors, bank, labels = inputs(FEW[-1], PROMPTS)
    timed = rounds(
        {(name, n): lambda v, b, y, f=f, n=n: f(v[:n], b, y[:n]) for n in FEW for name, f in PROMPT_CONTENDERS.items()},
        (vectors, bank, labels),
        max(2, count // 3),
    )
    # An image costs the difference of the two runs; what a prompt costs at any number of images (the means of its
    # classes are multiplied too, 2 C rows) is in both.
    few, full = (
        {
            name: [
                tuple(b + (b - a) / (FEW[1] - FEW[0]) * (n - FEW[1]) for a, b in zip(*pair))
                for pair in zip(timed[name, FEW[0]], timed[name, FEW[1]])
            ]
            for name in PROMPT_CONTENDERS
        }
        for n in (FEW[1], IMAGES)
    )
    share = {
        name: [ratio(results, "prompts_product", "prompts_ours", clock) for clock in (0, 1)]
        for name, results in (("measured at 5,000 images", few), ("extrapolated to 50,000 images", full))
    }
    del vectors, bank
    peaks = {name: round(float(own_process("evaluate", "--peak", name))) for name in (*CONTENDERS, *PROMPT_CONTENDERS)}
    growth = round(PROMPTS * (IMAGES - FEW[1]) * 8 / 1e6)  # predictions, int64, are all that grows with the images
    return {
        "machine": machine(),
        "rounds": count,
        "prompt_rounds": max(2, count // 3),
        "load_average": [before, load()],
        "seconds": {name: spread([t[0] for t in values]) for name, values in times.items()},
        "cpu_seconds": {name: spread([t[1] for t in values]) for name, values in times.items()},
        "ours_over_product": [ratio(times | {"best": best}, "ours", "best", clock) for clock in (0, 1)],
        "theirs_over_ours": [ratio(times, "theirs", "ours", clock) for clock in (0, 1)],
        "prompts_share_of_product_rate": share,
        "peak_mb": peaks | {"prompts_ours at 50,000 images": peaks["prompts_ours"] + growth},
    }


def check(arguments) -> None:
    """Both sides results the same numbers."""
    accuracy, recall, confusion, per_class, precision, *_ = ours(*arguments)
    other = theirs(*arguments)
    assert np.isclose(accuracy, other[0], atol=1e-6) and np.isclose(recall[5], other[1][5], atol=1e-6)
    assert (
        np.abs(confusion - other[2].numpy()).sum() <= 4
    )  # two libraries round similarities apart, which may turn a near tie
    assert np.allclose(per_class, other[3], atol=0.05) and np.allclose(precision, other[4], atol=0.05, equal_nan=True)


def table(results: dict) -> str:
    """The results in Markdown."""

    shares = results["prompts_share_of_product_rate"]
    rows = [
        ("full `evaluate` / bare product, time", results["ours_over_product"], "at most 1.5"),
        ("torchmetrics + scikit-learn / full `evaluate`, time", results["theirs_over_ours"], "at least 3"),
        *(
            (f"{PROMPTS} prompts, share of the product's rate, {name}", value, "at least 0.6")
            for name, value in shares.items()
        ),
    ]
    lines = [
        f"N = {IMAGES:,} images, C = {CLASSES:,} classes, D = {WIDTH}; {results['rounds']} rounds "
        f"({results['prompt_rounds']} with many "
        "prompts), median (lowest to highest) of the ratio within a round.",
        "",
        "| ratio | wall | processor | wanted |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {cell(wall)} | {cell(cpu)} | {wanted} |" for name, (wall, cpu), wanted in rows]
    lines += ["", "| contender | seconds (wall) | seconds (processor) | peak extra MB |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {cell(results['seconds'][name])} | {cell(results['cpu_seconds'][name])} | "
        f"{results['peak_mb'][name]} |"
        for name in CONTENDERS
    ]
    lines += [f"| `{name}`, 5,000 images | | | {results['peak_mb'][name]} |" for name in PROMPT_CONTENDERS]
    lines += [
        f"| `prompts_ours`, 50,000 images (computed) | | | {results['peak_mb']['prompts_ours at 50,000 images']} |",
        "",
        machine_text(results) + ". The bare product is the faster of the two in each round. "
        "Many prompts at few images pay for the means of the classes: 2 C more rows to multiply for each prompt.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--peak", choices=[*CONTENDERS, *PROMPT_CONTENDERS], help="print the peak extra MB of one contender"
    )
    options = parser.parse_args()
    if options.peak:
        print(measure_peak(options.peak))
        return
    results = run(options.rounds)
    publish_beside("evaluate", results, table)


if __name__ == "__main__":
    main()
