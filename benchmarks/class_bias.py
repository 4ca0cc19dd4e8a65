"""`class_bias` and the transductive methods beside the bare matrix product, and the table of later methods on two sets.

    python -m benchmarks.class_bias                 # writes benchmarks/results/class_bias.json and .md
    python -m benchmarks.class_bias --table icons   # accuracies with all classes, and with a tenth of them present

Each round times every contender once, in turn. Peak memory is the resident set above what was there before the call,
each contender in a process of its own.
"""

from __future__ import annotations

import argparse

import numpy as np

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
from benchmarks.evaluate import CLASSES, IMAGES, WIDTH, inputs, product
from clipnb import ensemble, transductive
from clipnb.paper import corrections

BIAS = {
    name: lambda vectors, classifier, labels, name=name: ensemble.class_bias(vectors, classifier, name)
    for name in ("nnn", "frolic", "sinkhorn", "mlls")
}
TRANSDUCTIVE = {
    method.__name__: lambda vectors, classifier, labels, method=method: method(vectors, classifier)
    for method in (transductive.transclip, transductive.stata)
}


def measure_peak(name: str) -> float:
    """MB that one call adds to this process at its peak; libraries are loaded before."""
    function = (BIAS | TRANSDUCTIVE)[name]
    vectors, classifier, labels = inputs(IMAGES)
    function(vectors[:64], classifier, labels[:64])
    before = reset_peak()
    kept = function(vectors, classifier, labels)
    del kept
    return status("VmHWM") - before


def run(count: int) -> dict:
    """All measurements."""
    before = load()
    arguments = inputs(IMAGES)
    times = rounds({"product": product} | BIAS, arguments, count)
    times |= rounds(TRANSDUCTIVE, arguments, 1)
    names = [*BIAS, *TRANSDUCTIVE]
    return {
        "machine": machine(("numpy", "torch", "scipy")),
        "rounds": count,
        "load_average": [before, load()],
        "seconds": {name: spread([t[0] for t in values]) for name, values in times.items()},
        "cpu_seconds": {name: spread([t[1] for t in values]) for name, values in times.items()},
        "over_product": {name: [ratio(times, name, "product", clock) for clock in (0, 1)] for name in BIAS},
        "peak_mb": {name: round(float(own_process("class_bias", "--peak", name))) for name in names},
    }


def page(results: dict) -> str:
    """The results in Markdown."""
    lines = [
        f"N = {IMAGES:,} images, C = {CLASSES:,} classes, D = {WIDTH}; {results['rounds']} rounds (one of the "
        "transductive methods), median (lowest to highest).",
        "",
        "| method | seconds (wall) | seconds (processor) | times the product (wall) | (processor) | peak extra MB |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("product", *results["peak_mb"]):
        over = [cell(value) for value in results["over_product"].get(name, [])] or ["", ""]
        times = [cell(results[clock][name]) for clock in ("seconds", "cpu_seconds")]
        lines.append(f"| `{name}` | {' | '.join([*times, *over])} | {results['peak_mb'].get(name, '')} |")
    lines += ["", f"{machine_text(results)}."]
    return "\n".join(lines) + "\n"


def table(name: str) -> str:
    """Every row of `clipnb.paper.corrections` on a set, with all classes and with a tenth of them present."""
    model, data = clipnb.load_model(), clipnb.load_dataset(name)
    images = clipnb.encode_images(model, data)
    vectors, labels = images.vectors, images.labels
    classifier = clipnb.zero_shot_classifier(model, data.classnames)
    bank = clipnb.prompt_vectors(model, data.classnames, clipnb.prompts.DRAWING_TEMPLATES)
    parts = {"all classes": np.arange(len(labels)), "a tenth of them": corrections.few_classes(labels, len(classifier))}
    tables = []
    for title, rows in parts.items():
        found = corrections.table(vectors[rows], classifier, labels[rows], bank, model.logit_scale)
        tables.append(f"{name}, {title} present ({len(rows)} images)\n{found.round(3).to_string(index=False)}")
    return "\n\n".join(tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", choices=[*BIAS, *TRANSDUCTIVE])
    parser.add_argument("--table")
    options = parser.parse_args()
    if options.peak:
        print(measure_peak(options.peak))
    elif options.table:
        print(table(options.table))
    else:
        results = run(options.rounds)
        publish_beside("class_bias", results, page)
