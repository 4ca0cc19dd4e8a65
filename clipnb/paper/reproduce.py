"""The paper's experiment as one call: all rows of its table, with duplicate classnames fixed, next to published
figures.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clipnb import ensemble
from clipnb._checks import listed, text_of
from clipnb._files import path_of
from clipnb._format import number_or_none, percent, score_text
from clipnb.datasets import check_readable, load_dataset, open_imagenet, repaired_classnames, scored_classnames
from clipnb.describe import load_descriptions, unmatched
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_images
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.models import Model, Precision, WrappedModel, load_model
from clipnb.paper import methods
from clipnb.paper._published import (
    FORMAT,
    check_agreement,
    check_results,
    compare_published,
    shown_published,
)
from clipnb.paper._timings import Timings
from clipnb.paper.rehearsal import make_benchmark
from clipnb.prompts import (
    DRAWING_TEMPLATES,
    check_classnames,
    check_templates,
    duplicate_classnames,
    lint,
    load_templates,
    template_set,
)
from clipnb.prompts import fix_names as repair
from clipnb.similarity import check_bank
from clipnb.zeroshot import prompt_vectors

__all__ = [
    "check_agreement",
    "check_results",
    "compare_published",
    "pool_results",
    "rehearse",
    "reproduce",
    "run",
    "shown",
    "shown_published",
    "tail",
    "template_pool",
]

PROVENANCE = (
    "model_fingerprint",
    "model_settings",
    "precision",
    "precision_check",
    "dataset",
    "dataset_fingerprint",
)
KS = (10, 20, 50, 100)  # numbers of worst classes in the tables
ZPE_AT_ONCE = 32  # prompts that are copied to double precision at a time
# Templates from the CLIP paper (arXiv 2103.00020, section 3.1.4) for data sets of torchvision.
DOMAIN_TEMPLATES = {
    "OxfordIIITPet": "a photo of a {}, a type of pet.",
    "Food101": "a photo of {}, a type of food.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "EuroSAT": "a satellite photo of {}.",
    "Flowers102": "a photo of a {}, a type of flower.",
    "DTD": "a photo of a {} texture.",
    "GTSRB": "a photo of a {} traffic sign.",
}


def template_pool(more: Sequence[str] = ()) -> list[str]:
    """Return all known templates, each once: `more`, the bare name, OpenAI's 1, 80 and 7, and those for drawings.

    Args:
        more: further templates, which come first.

    >>> pool = template_pool(["a blurry {}."])
    >>> pool[:2], len(pool) > 80
    (['a blurry {}.', '{}'], True)
    """
    named = (template for name in ("bare", "single", "openai-80", "openai-7") for template in template_set(name))
    more = check_templates(list(dict.fromkeys(listed(more, "more"))), "more") if more or more is None else []
    return list(dict.fromkeys([*more, *named, *DRAWING_TEMPLATES]))


def pool_results(
    vectors: npt.ArrayLike, bank: npt.ArrayLike, labels: npt.ArrayLike, temperature: float = 0.01
) -> tuple[dict[str, EvaluationResult], dict[str, np.ndarray]]:
    """Uniform, ZPE and CMM ensembles of a large pool of prompts, in memory that does not grow with N x P x C.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors.
        labels: (N,) class indices, -1 = unknown; used for the scores only.
        temperature: of the softmax over the prompts' scores, in units of cosine.

    Returns:
        ({row: result}, {row: weights (P,)}).

    >>> results, weights = pool_results(np.eye(2), np.stack([np.eye(2), np.eye(2)[::-1]]), [0, 1])
    >>> list(results), weights["pool-uniform"]
    (['pool-uniform', 'pool-zpe', 'pool-cmm'], array([0.5, 0.5]))
    """
    bank = check_bank(bank)
    parts = [bank[start : start + ZPE_AT_ONCE] for start in range(0, len(bank), ZPE_AT_ONCE)]
    scores = np.concatenate([ensemble.zpe_scores(vectors, part) for part in parts])
    weights = {
        "pool-uniform": ensemble.prompt_weights(vectors, bank, method="uniform"),
        "pool-zpe": ensemble.softmax_weights(scores, temperature),
        "pool-cmm": ensemble.prompt_weights(vectors, bank, temperature=temperature),
    }
    return {
        row: evaluate(vectors, ensemble.weighted_classifier(bank, w), labels) for row, w in weights.items()
    }, weights


def reproduce(
    model: Model | WrappedModel,
    images: Embeddings,
    classnames: Sequence[str],
    templates: Sequence[str],
    pool: Sequence[str] = (),
    descriptions: Mapping[str, Sequence[str]] | None = None,
    repaired: Sequence[str] | None = None,
    complete: bool = False,
    steps: Timings | None = None,
    seed: int = 0,
    name_counts: Mapping[str, Mapping[str, int]] | None = None,
) -> dict:
    """The whole experiment on one set of images: bare names, one template, every weighting and control, and a larger
    pool.

    As the paper does, and unlike chapter 8, weights and flagged classes come from the images that are scored, without
    labels; "cmm-half" and "descriptions-half" are the controls of that.

    Args:
        model: from `clipnb.load_model`, to encode prompts.
        images: labelled images.
        classnames: C names.
        templates: prompt templates to build the ensembles from.
        pool: more templates, for the rows "pool-..."; without any, these rows are not run.
        descriptions: {classname: texts}, or None.
        repaired: C names without duplicates; the table is made again with them. None: no second table.
        complete: whether this is the whole data set, so that published figures can be results.
        steps: timings to append to.
        seed: seed of the halves, the intervals and the random words.
        name_counts: {classname: {name: in how many captions it stands}}, for the row "real-prompt", or None.

    Returns:
        A dict ready for JSON: "format", what was run ("model", "dataset", ...), "tables" {"as named" and perhaps
        "repaired": rows with every score, its `_ci`, and "right", the number of right images of each class},
        "images_per_class", "flagged" (classes that got texts), "duplicates" (accuracies of classes with duplicate
        names, before and after), "published" (`compare_published`), "not_run" {row: why}, "steps".

    Raises:
        InputError: no image has a label, or names and images do not fit.

    >>> from clipnb import encode_images, load_dataset, load_model
    >>> model, data = load_model(), load_dataset("emoji").take(40)
    >>> found = reproduce(model, encode_images(model, data), data.classnames, ["{}", "a drawing of a {}."])
    >>> [row["method"] for row in found["tables"]["as named"]][:3], found["published"][0]["verdict"]
    (['bare', 'single', 'uniform'], 'not comparable')
    """
    check_classnames(classnames)  # before hours of work
    if pool or pool is None:
        check_templates(pool, "pool")
    if repaired is not None and len(check_classnames(repaired, "repaired")) != len(classnames):
        raise InputError(
            f"Expected `repaired` to hold a name for each of {len(classnames)} classes, got {len(repaired)}"
        )
    timings = steps or Timings()
    spellings = {"as named": list(classnames)} | (
        {"repaired": list(repaired)} if repaired and list(repaired) != list(classnames) else {}
    )
    tables, flagged, not_run = {}, {}, {}
    for spelling, names in spellings.items():
        with timings.step(f"methods, names {spelling}"):
            results = methods.compare_methods(
                model,
                images,
                names,
                templates=templates,
                descriptions=descriptions,
                name_counts=name_counts,
                seed=seed,
            )
        not_run |= results.not_run
        flagged[spelling] = results.flagged.tolist()
        top = {}
        if pool:
            with timings.step(f"pool of {len(pool)} templates, names {spelling}"):
                pooled, weights = pool_results(images.vectors, prompt_vectors(model, names, pool), images.labels)
                results = replace(results, results=results.results | pooled)
                top = {
                    row: {pool[p]: float(w[p]) for p in np.argsort(-w, kind="stable")[:10]}
                    for row, w in weights.items()
                }
        with timings.step(f"intervals, names {spelling}"):
            # Before the rows, which use the first of each result's reports.
            tails = {name: tail(result, seed) for name, result in results.results.items()}
            tables[spelling] = [
                row | tails[row["method"]] | ({"top_weights": top[row["method"]]} if row["method"] in top else {})
                for row in results.rows(KS[0], seed)
            ]
    confusion = results.results["bare"].confusion
    content = {
        "format": FORMAT,
        **_made(),
        "model": model.name,
        "pretrained": model.pretrained,
        "device": _device(model.device),
        **{key: images.provenance.get(key) for key in PROVENANCE},
        "complete": complete,
        "images": len(images),
        "classes": len(classnames),
        "templates": list(templates),
        "pool": list(pool),
        "described": len(descriptions or {}),
        "classnames": spellings,
        "images_per_class": confusion.sum(axis=1).tolist(),
        "tables": tables,
        "flagged": flagged,
        "duplicates": _duplicates(spellings, tables, confusion.sum(axis=1)),
        "not_run": not_run,
        "steps": timings.steps,
    }
    return content | {"published": compare_published(content)}


def run(
    imagenet: str | Path | None = None,
    dataset: str | None = None,
    model: str = "clipnb-mini",
    pretrained: str | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    trust_pickle: bool = False,
    like: str | None = None,
    templates: str | None = None,
    descriptions: str | None = None,
    partial: bool = False,
    pool: bool = True,
    store: str | Path | None = None,
    progress: bool = False,
    fix_names: bool = False,
) -> dict:
    """Check the images of a folder, load the model, encode, and call `reproduce`: what `clipnb reproduce` does.

    Args:
        imagenet: folder of ImageNet's validation images (`datasets.open_imagenet`).
        dataset: another data set, as for `load_dataset`; one of the two is needed.
        model: name or path, as for `load_model`.
        pretrained: weights, as for `load_model`.
        device: as for `load_model`.
        precision: as for `load_model`.
        trust_pickle: as for `load_model`.
        like: as for `load_model`.
        templates: name of a template set or a file. None: the data set's own templates; a template for the domain is
            added for some sets of torchvision.
        descriptions: JSON file of descriptions by class, "emoji", or None.
        partial: whether to accept other numbers of images per class than ImageNet's 50.
        pool: whether to run the ensembles of `template_pool`.
        store: folder of the embeddings store.
        progress: whether to show progress bars on stderr.
        fix_names: whether to repair the classnames (`prompts.fix_names`) before scoring.

    Returns:
        As `reproduce`, with "left_out", "lint" and "renamed", and "account", lines on all of them.

    Raises:
        InputError: as for `reproduce` and `load_model`; or an image cannot be read, which is checked before encoding.
    """
    for name, value in (("imagenet", imagenet), ("descriptions", descriptions), ("store", store)):
        if value is not None:
            path_of(value, name)
    for name, value in (("dataset", dataset), ("model", model), ("pretrained", pretrained), ("templates", templates)):
        if value is not None or name == "model":
            text_of(value, name)
    if dataset is None and imagenet is None:
        raise InputError("Expected `imagenet` or `dataset`, got neither")
    timings = Timings()
    kind, _, rest = (dataset or "").partition(":")
    if kind in ("imagenet", "imagenet-partial"):
        imagenet, partial = rest, partial or kind == "imagenet-partial"
    with timings.step("open and check"):
        texts = load_descriptions(descriptions).by_class if descriptions else None
        data = open_imagenet(imagenet, partial) if imagenet else load_dataset(str(dataset))
        scored_classnames(data)
        chosen = load_templates(data.templates if templates is None else templates)
        name = data.name.split(":")[1] if data.name.startswith("torchvision:") else ""
        if name in DOMAIN_TEMPLATES:
            chosen = list(dict.fromkeys([DOMAIN_TEMPLATES[name], *chosen]))
        check_readable(data)
    with timings.step("load the model"):
        loaded = load_model(
            model, pretrained=pretrained, device=device, precision=precision, trust_pickle=trust_pickle, like=like
        )
    with timings.step("encode images"):
        images = encode_images(loaded, data, store, progress=progress)
    names, changes = repair(data.classnames) if fix_names else (data.classnames, [])
    findings = lint(names, chosen, loaded)
    renamed = [f"classname {old!r} is repaired to {new!r}" for old, new in changes]
    account = [
        data.left_out_line(labelled=True),
        *data.remarks,
        *renamed,
        *map(str, findings),
        unmatched(texts, names) if texts else None,
    ]
    results = reproduce(
        loaded,
        images,
        names,
        chosen,
        template_pool(chosen) if pool else (),
        texts,
        repaired_classnames() if imagenet else None,
        bool(imagenet) and not partial,
        timings,
        name_counts=data.name_counts,
    )
    return results | {
        "exif_rotation": data.exif_rotation,
        "left_out": data.left_out_rows(labelled=True),
        "lint": [asdict(finding) for finding in findings],
        "renamed": [{"from": old, "to": new} for old, new in changes],
        "account": [line for line in account if line],
    }


def rehearse(classes: int = 1000, per_class: int = 50, seed: int = 0) -> dict:
    """Run `reproduce` on a synthetic benchmark with planted answers, and add "checks" (`PlantedBenchmark.checks`).

    Args:
        classes: number of classes, at least 40.
        per_class: images per class, at least 2.
        seed: seed of the benchmark and of the intervals.

    >>> results = rehearse(classes=60, per_class=20)
    >>> results["checks"][0]["what"], results["checks"][0]["ok"]
    ('duplicate names', True)
    """
    timings = Timings()
    with timings.step("make the benchmark"):
        planted = make_benchmark(classes, per_class, seed)
    results = reproduce(
        planted.model,
        planted.images,
        planted.images.classnames,
        planted.templates,
        (),
        planted.descriptions,
        planted.repaired,
        steps=timings,
        seed=seed,
    )
    return results | {"checks": planted.checks(results)}


def tail(result: EvaluationResult, seed: int = 0) -> dict:
    """Return worst-k accuracies for every k of KS up to half the classes, and the number of right images of each class.

    Args:
        result: of labelled images.
        seed: seed of the random halves and of the posterior sample.

    Returns:
        The four scores of `worst.worst_k_report` for each k, with intervals (`_ci`), and "right".

    >>> sorted(tail(evaluate(np.eye(2), np.eye(2), [0, 1])))
    ['right']
    """
    right, images = np.diag(result.confusion), result.confusion.sum(axis=1)
    ks = [k for k in KS if 2 * k <= (images >= 2).sum()]
    reports = result.worst_k_reports(ks, seed) if ks else ()
    row = {}
    for report in reports:
        scores = {
            "": report.naive,
            "_truly_worst": report.truly_worst,
            "_listed": report.listed,
            "_split_half": report.split_half,
        }
        for suffix, score in scores.items():
            name = f"worst_{report.k}{suffix}"
            row[name] = number_or_none(score.value)
            row[f"{name}_ci"] = (score.low, score.high) if score.has_interval else None
    return row | {"right": right.tolist()}


def _made() -> dict:
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("clipnb", "torch", "open_clip_torch", "numpy")},
    }


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _duplicates(spellings: dict[str, list[str]], tables: dict[str, list[dict]], images: np.ndarray) -> list[dict]:
    """The accuracy with bare names of each class that shares its name, before and after the names are repaired."""
    names = spellings["as named"]
    repaired = spellings.get("repaired", names)
    lines = []
    for c in (c for group in duplicate_classnames(names).values() for c in group):
        accuracy = {
            spelling: rows[0]["right"][c] / int(images[c]) if images[c] else None for spelling, rows in tables.items()
        }
        lines.append(
            {
                "class": c,
                "classname": names[c],
                "accuracy": accuracy["as named"],
                "repaired name": repaired[c],
                "accuracy after": accuracy.get("repaired"),
            }
        )
    return lines


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row of a table as text for people, in percent.

    Worst-k accuracies are the naive one and, after a slash, the one chosen on half of the images; the harmonic mean is
    followed by the one with accuracies raised to 1 % at least.

    >>> row = {"method": "bare", "accuracy": .5, "accuracy_ci": (.4, .6), "classes_at_zero": 1, "harmonic_mean": 0.,
    ...        "harmonic_mean_floored": .1, "geometric_mean": 0., "mean_per_class_accuracy": .5, "worst_10": 0.,
    ...        "worst_10_split_half": .02}
    >>> text = shown(row)
    >>> text["accuracy %"], text["worst-10 %"], text["at 0 %"]
    ('50.0 [40.0, 60.0]', '0.0 / 2.0', '1')
    """

    def share(name: str) -> str:
        return percent(row[name]).removesuffix(" %")

    low, high = row["accuracy_ci"]
    return {
        "method": row["method"],
        "accuracy %": score_text(100 * row["accuracy"], 100 * low, 100 * high, ".1f"),
        "per class %": share("mean_per_class_accuracy"),
        "at 0 %": str(row["classes_at_zero"]),
        **{
            f"worst-{k} %": f"{share(f'worst_{k}')} / {share(f'worst_{k}_split_half')}"
            for k in KS
            if f"worst_{k}_split_half" in row
        },
        "harmonic %": share("harmonic_mean"),
        "floored %": share("harmonic_mean_floored"),
        "geometric %": share("geometric_mean"),
    }
