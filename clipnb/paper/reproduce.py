"""The paper's experiment as one call: every row of its table, twin names repaired, published figures beside, all in one JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from clipnb import ensemble, worst
from clipnb._checks import listed, text_of
from clipnb._files import path_of, read_text
from clipnb.datasets import check_readable, load_dataset, open_imagenet, repaired_classnames, scored_classnames
from clipnb.describe import load_descriptions, unmatched
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_images
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.models import load_model
from clipnb.paper import methods
from clipnb.paper.rehearsal import make_world
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

FORMAT = "clipnb-reproduce-1"
KS = (10, 20, 50, 100)  # of worst-k
PER_CLASS, IMAGES = 50, 50_000  # images of ImageNet's validation set, in a class and in all
ZPE_AT_ONCE = 32  # prompts whose double precision copy is in memory at a time
# What CLIP's authors say a data set shows, as one template (arXiv 2103.00020, section 3.1.4, where they name it); torchvision's names.
DOMAIN_TEMPLATES = {
    "OxfordIIITPet": "a photo of a {}, a type of pet.",
    "Food101": "a photo of {}, a type of food.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "EuroSAT": "a satellite photo of {}.",
    "Flowers102": "a photo of a {}, a type of flower.",
    "DTD": "a photo of a {} texture.",
    "GTSRB": "a photo of a {} traffic sign.",
}


@dataclass(frozen=True)
class Published:
    """One figure of a paper: a score of a row as it was printed, rounded to `unit`."""

    row: str
    score: str
    value: float
    unit: float
    source: str
    model: str = "ViT-B-16"  # or with "-quickgelu", with OpenAI's weights; the paper does not name its model, whose accuracy is that of this one


THE_PAPER = "arXiv 2310.03324, abstract"
PUBLISHED = (
    Published("bare", "accuracy", 0.641, 0.001, THE_PAPER),
    Published("bare", "classes_at_zero", 10, 1, THE_PAPER),
    Published("bare", "worst_10", 0.0, 0.001, f"{THE_PAPER}: follows from ten classes at 0 %"),
    Published("descriptions", "worst_10", 0.052, 0.001, f"{THE_PAPER}: after the method, which is reconstructed here"),
    Published("bare", "accuracy", 0.6418, 0.0001, "arXiv 2302.06235"),
    Published("uniform", "accuracy", 0.6857, 0.0001, "arXiv 2302.06235"),
    Published("uniform", "accuracy", 0.6333, 0.0001, "CLIP_benchmark, benchmark.csv", "ViT-B-32"),
    Published("uniform", "accuracy", 0.6835, 0.0001, "CLIP_benchmark, benchmark.csv"),
    Published("uniform", "accuracy", 0.7549, 0.0001, "CLIP_benchmark, benchmark.csv", "ViT-L-14"),
)


@dataclass
class Steps:
    """What each step took: wall and processor seconds, and the process's peak memory up to its end."""

    taken: list[dict] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record the block under this name.

        >>> steps = Steps()
        >>> with steps.step("rest"):
        ...     pass
        >>> steps.taken[0]["step"], sorted(steps.taken[0])
        ('rest', ['cpu_seconds', 'peak_mb', 'seconds', 'step'])
        """
        began, worked = time.perf_counter(), time.process_time()
        yield
        found = {
            "step": name,
            "seconds": round(time.perf_counter() - began, 2),
            "cpu_seconds": round(time.process_time() - worked, 2),
            "peak_mb": _peak_mb(),
        }
        if torch.cuda.is_initialized():
            found["gpu_peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        self.taken.append(found)


def _peak_mb() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10))


def template_pool(more: Sequence[str] = ()) -> list[str]:
    """Every template at hand, each once: `more`, the bare name, one template, OpenAI's 80 and its 7, and those for drawings.

    >>> pool = template_pool(["a blurry {}."])
    >>> pool[:2], len(pool) > 80
    (['a blurry {}.', '{}'], True)
    """
    named = (template for name in ("bare", "single", "openai-80", "openai-7") for template in template_set(name))
    more = check_templates(dict.fromkeys(listed(more, "more")), "more") if more or more is None else []
    return list(dict.fromkeys([*more, *named, *DRAWING_TEMPLATES]))


def pool_results(
    vectors, bank, labels, temperature: float = 0.01
) -> tuple[dict[str, EvaluationResult], dict[str, np.ndarray]]:
    """Uniform, ZPE and CMM ensembles of a large pool of prompts, in memory that does not grow with N x P x C.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors.
        labels: (N,) class indices, -1 = unknown; used for the scores only.

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
    model,
    images: Embeddings,
    classnames: Sequence[str],
    templates: Sequence[str],
    pool: Sequence[str] = (),
    descriptions: Mapping[str, Sequence[str]] | None = None,
    repaired: Sequence[str] | None = None,
    complete: bool = False,
    steps: Steps | None = None,
    seed: int = 0,
) -> dict:
    """The whole experiment on one set of images: bare names, one template, every weighting and control, and a larger pool.

    As the paper does, and unlike chapter 8, weights and flagged classes come from the images that are scored, without
    labels; "cmm-half" and "descriptions-half" are the controls of that.

    Args:
        model: from `clipnb.load_model`, to encode prompts.
        images: labelled images.
        classnames: C names.
        templates: of the ensembles.
        pool: more templates, for the rows "pool-..."; empty: none.
        descriptions: {classname: texts}, or None.
        repaired: C names with twins told apart; the table is made again with them. None: no second table.
        complete: whether this is the whole data set, so that published figures can be compared.
        steps: to go on with.

    Returns:
        A dict ready for JSON: "format", what was run ("model", "dataset", ...), "tables" {"as named" and perhaps "repaired":
        rows with every score, its `_ci`, and "right", the number of right images of each class}, "images_per_class", "flagged" (classes
        that got texts), "twins" (their accuracies before and after), "published" (`compare_published`), "not_run" {row: why}, "steps".

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
    steps = steps or Steps()
    spellings = {"as named": list(classnames)} | (
        {"repaired": list(repaired)} if repaired and list(repaired) != list(classnames) else {}
    )
    tables, flagged, not_run = {}, {}, {}
    for spelling, names in spellings.items():
        with steps.step(f"methods, names {spelling}"):
            compared = methods.compare_methods(
                model, images, names, templates=templates, descriptions=descriptions, seed=seed
            )
        not_run |= compared.not_run
        flagged[spelling] = compared.flagged.tolist()
        top = {}
        if pool:
            with steps.step(f"pool of {len(pool)} templates, names {spelling}"):
                results, weights = pool_results(images.vectors, prompt_vectors(model, names, pool), images.labels)
                compared.results |= results
                top = {
                    row: {pool[p]: float(w[p]) for p in np.argsort(-w, kind="stable")[:10]}
                    for row, w in weights.items()
                }
        with steps.step(f"intervals, names {spelling}"):
            tables[spelling] = [
                row
                | tail(compared.results[row["method"]], seed)
                | ({"top_weights": top[row["method"]]} if row["method"] in top else {})
                for row in compared.rows(KS[0], seed)
            ]
    confusion = compared.results["bare"].confusion
    found = {
        "format": FORMAT,
        **_made(),
        "model": model.name,
        "pretrained": model.pretrained,
        "device": _device(model.device),
        **{
            key: images.provenance.get(key)
            for key in (
                "model_fingerprint",
                "model_settings",
                "precision",
                "precision_check",
                "dataset",
                "dataset_fingerprint",
            )
        },
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
        "twins": _twins(spellings, tables, confusion.sum(axis=1)),
        "not_run": not_run,
        "steps": steps.taken,
    }
    return found | {"published": compare_published(found)}


def run(
    imagenet: str | Path | None = None,
    dataset: str | None = None,
    model: str = "clipnb-mini",
    pretrained: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
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
    """`reproduce` from a folder: the pictures checked, the model loaded, the images encoded. What `clipnb reproduce` does.

    Args:
        imagenet: folder of ImageNet's validation pictures (`imagenet.open_imagenet`); or
        dataset: another set, as for `load_dataset`.
        model, pretrained, device, precision, trust_pickle, like: as for `load_model`.
        templates: a named set or a file; None: the data set's own, OpenAI's 80 (and what a torchvision set is of) or, for drawings, those for drawings.
        descriptions: JSON file of texts a class, "emoji", or None.
        partial: accept other numbers of pictures a class than ImageNet's 50.
        pool: also the ensembles of `template_pool`.
        store: folder of the embeddings store.
        fix_names: repair classnames (`prompts.fix_names`) before they are scored.

    Returns:
        As `reproduce`, with "left_out", "lint" and "renamed", and "account": lines on all of them.

    Raises:
        InputError: as those; and before anything is encoded, every picture that cannot be read.
    """
    for name, value in (("imagenet", imagenet), ("descriptions", descriptions), ("store", store)):
        if value is not None:
            path_of(value, name)
    for name, value in (("dataset", dataset), ("model", model), ("pretrained", pretrained), ("templates", templates)):
        if value is not None or name == "model":
            text_of(value, name)
    if imagenet is None and dataset is None:
        raise InputError("Expected `imagenet` or `dataset`, got neither")
    steps = Steps()
    kind, _, rest = (dataset or "").partition(":")
    if kind in ("imagenet", "imagenet-partial"):
        imagenet, partial = rest, partial or kind == "imagenet-partial"
    with steps.step("open and check"):
        texts = load_descriptions(descriptions).by_class if descriptions else None
        data = open_imagenet(imagenet, partial) if imagenet else load_dataset(dataset)
        scored_classnames(data)
        chosen = load_templates(data.templates if templates is None else templates)
        name = data.name.split(":")[1] if data.name.startswith("torchvision:") else None
        chosen = list(dict.fromkeys([*([DOMAIN_TEMPLATES[name]] if name in DOMAIN_TEMPLATES else []), *chosen]))
        check_readable(data)
    with steps.step("load the model"):
        loaded = load_model(model, pretrained, device, precision, trust_pickle, like)
    with steps.step("encode images"):
        images = encode_images(loaded, data, store, progress=progress)
    names, changes = repair(data.classnames) if fix_names else (data.classnames, [])
    findings = lint(names, chosen, loaded)
    renamed = [f"classname {old!r} is repaired to {new!r}" for old, new in changes]
    said = [
        data.left_out_line(labelled=True),
        *data.remarks,
        *renamed,
        *map(str, findings),
        unmatched(texts, names) if texts else None,
    ]
    found = reproduce(
        loaded,
        images,
        names,
        chosen,
        template_pool(chosen) if pool else (),
        texts,
        repaired_classnames() if imagenet else None,
        bool(imagenet) and not partial,
        steps,
    )
    return found | {
        "exif_rotation": data.exif_rotation,
        "left_out": data.left_out_rows(labelled=True),
        "lint": [asdict(finding) for finding in findings],
        "renamed": [{"from": old, "to": new} for old, new in changes],
        "account": [line for line in said if line],
    }


def rehearse(classes: int = 1000, per_class: int = 50, seed: int = 0) -> dict:
    """`reproduce` on a world with planted answers: its results with "checks" (`World.checks`).

    >>> found = rehearse(classes=60, per_class=20)
    >>> found["checks"][0]["what"], found["checks"][0]["ok"]
    ('twin names', True)
    """
    steps = Steps()
    with steps.step("make the world"):
        world = make_world(classes, per_class, seed)
    found = reproduce(
        world.model,
        world.images,
        world.images.classnames,
        world.templates,
        (),
        world.descriptions,
        world.repaired,
        steps=steps,
        seed=seed,
    )
    return found | {"checks": world.checks(found)}


def tail(result: EvaluationResult, seed: int = 0) -> dict:
    """Worst-k accuracies (`worst.worst_k_report`) for every k of KS up to half the classes, and the number of right images of each class.

    >>> sorted(tail(evaluate(np.eye(2), np.eye(2), [0, 1])))
    ['right']
    """
    right, images = np.diag(result.confusion), result.confusion.sum(axis=1)
    ks = [k for k in KS if 2 * k <= (images >= 2).sum()]  # more than half of all classes are no tail
    rows = {}
    for report in (
        worst.worst_k_reports(result.predictions, result.labels, result.num_classes, ks, seed=seed) if ks else ()
    ):
        scores = {
            "": report.naive,
            "_truly_worst": report.truly_worst,
            "_listed": report.listed,
            "_split_half": report.split_half,
        }
        for name, score in scores.items():
            rows[f"worst_{report.k}{name}"] = None if np.isnan(score.value) else score.value
            rows[f"worst_{report.k}{name}_ci"] = (score.low, score.high) if score.has_interval else None
    return rows | {"right": right.tolist()}


def _made() -> dict:
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("clipnb", "torch", "open_clip_torch", "numpy")},
    }


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _twins(spellings: dict, tables: dict, images: np.ndarray) -> list[dict]:
    """What each class of a group of twins gets with bare names, before and after they are told apart."""
    found = []
    for group in duplicate_classnames(spellings["as named"]).values():
        for c in group:
            accuracy = {
                spelling: rows[0]["right"][c] / int(images[c]) if images[c] else None
                for spelling, rows in tables.items()
            }
            found.append(
                {
                    "class": c,
                    "classname": spellings["as named"][c],
                    "accuracy": accuracy["as named"],
                    "repaired name": spellings.get("repaired", spellings["as named"])[c],
                    "accuracy after": accuracy.get("repaired"),
                }
            )
    return found


def compare_published(results: dict) -> list[dict]:
    """Published ImageNet figures beside a run's, which agree if the printed value, within its rounding, lies in the run's interval.

    Args:
        results: from `reproduce`.

    Returns:
        For each figure "row", "score", "published", "here" and "ci" and "difference" (None where the row was not run), "source" and
        "verdict": "agrees", "differs", "not run", "no interval" (a score around which none holds), or "not comparable" (other images,
        templates or another model).

    >>> row = {"method": "bare", "accuracy": 0.6425, "accuracy_ci": (0.638, 0.647)}
    >>> run = {"dataset": "imagenet:x", "complete": True, "model": "ViT-B-16", "pretrained": "openai", "templates": [],
    ...        "images": 50_000, "images_per_class": 1000 * [50], "tables": {"as named": [row]}}
    >>> [(line["published"], line["verdict"]) for line in compare_published(run)][:2]
    [(0.641, 'agrees'), (10, 'not run')]
    """
    if not isinstance(results, Mapping):
        raise InputError(f"Expected `results` of `reproduce`, got {type(results).__name__}")
    rows = {row["method"]: row for row in results["tables"]["as named"]}
    # The published figures are of the whole validation set: 50 images of each of 1,000 classes.
    whole = (
        results["complete"]
        and results.get("images") == IMAGES
        and set(results.get("images_per_class", [])) == {PER_CLASS}
    )
    complete = str(results["dataset"]).startswith("imagenet:") and whole and results["pretrained"] == "openai"
    model = str(results["model"]).removesuffix("-quickgelu")  # with OpenAI's weights both names are the same model
    found = []
    for figure in PUBLISHED:
        if not figure.source.startswith(THE_PAPER) and figure.model != model:
            continue
        comparable = (
            complete
            and figure.model == model
            and (figure.row != "uniform" or results["templates"] == template_set("openai-80"))
        )
        row = rows.get(figure.row, {})
        here, ci = row.get(figure.score), row.get(f"{figure.score}_ci")
        verdict = "not run" if here is None else "not comparable"
        if comparable and here is not None and ci is None:
            verdict = "no interval"
        elif comparable and here is not None:
            inside = ci[0] - figure.unit / 2 <= figure.value <= ci[1] + figure.unit / 2
            verdict = "agrees" if inside else "differs"
        found.append(
            {
                "row": figure.row,
                "score": figure.score,
                "published": figure.value,
                "here": here,
                "ci": ci,
                "difference": None if here is None else here - figure.value,
                "verdict": verdict,
                "source": figure.source,
            }
        )
    return found


def check_results(path: str | Path) -> tuple[dict, list[dict]]:
    """Read a file of results and compare it with the published figures again: (results, lines of `compare_published`).

    Raises:
        InputError: there is no such file, it is no JSON of `reproduce`, or its scores do not follow from its counts.

    >>> check_results("nowhere.json")
    Traceback (most recent call last):
    clipnb.errors.InputError: Cannot read results of `clipnb reproduce` in nowhere.json: FileNotFoundError: ...
    """
    path = path_of(path, "path")
    try:
        results = json.loads(read_text(path))
        if results["format"] != FORMAT:
            raise ValueError(f"format {results['format']!r}, expected {FORMAT!r}")
        images = np.array(results["images_per_class"])
        if not images.sum() > 0:
            raise ValueError("it counts no images")
        for row in (row for rows in results["tables"].values() for row in rows):
            accuracy, per_class = _from_counts(np.array(row["right"]), images)
            if not np.isclose(accuracy, row["accuracy"]) or int((per_class == 0).sum()) != row["classes_at_zero"]:
                raise ValueError(f"the scores of row {row['method']!r} do not follow from its counts")
        return results, compare_published(results)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"Cannot read results of `clipnb reproduce` in {path}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from None


def _from_counts(right: np.ndarray, images: np.ndarray) -> tuple[float, np.ndarray]:
    present = images > 0
    return float(right.sum() / images.sum()), right[present] / images[present]


def shown(row: dict) -> dict[str, str]:
    """A row of a table as text for people, in percent: naive worst-k and the split-half one after a slash; harmonic mean, and floored at 1 %.

    >>> shown({"method": "bare", "accuracy": .5, "accuracy_ci": (.4, .6), "classes_at_zero": 1, "harmonic_mean": 0.,
    ...        "harmonic_mean_floored": .1, "geometric_mean": 0., "mean_per_class_accuracy": .5, "worst_10": 0., "worst_10_split_half": .02})
    {'method': 'bare', 'accuracy %': '50.0 [40.0, 60.0]', 'per class %': '50.0', 'at 0 %': '1', 'worst-10 %': '0.0 / 2.0', 'harmonic %': '0.0', 'floored %': '10.0', 'geometric %': '0.0'}
    """
    low, high = row["accuracy_ci"]
    tails = {
        f"worst-{k} %": f"{100 * row[f'worst_{k}']:.1f} / {100 * row[f'worst_{k}_split_half']:.1f}"
        for k in KS
        if f"worst_{k}_split_half" in row
    }
    return {
        "method": row["method"],
        "accuracy %": f"{100 * row['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
        "per class %": f"{100 * row['mean_per_class_accuracy']:.1f}",
        "at 0 %": str(row["classes_at_zero"]),
        **tails,
        "harmonic %": f"{100 * row['harmonic_mean']:.1f}",
        "floored %": f"{100 * row['harmonic_mean_floored']:.1f}",
        "geometric %": f"{100 * row['geometric_mean']:.1f}",
    }


def shown_published(line: dict) -> dict[str, str]:
    """A line of `compare_published` as text for people.

    >>> shown_published({"row": "bare", "score": "accuracy", "published": .641, "here": .645, "ci": (.64, .65), "difference": .004,
    ...                  "verdict": "agrees", "source": "a paper"})
    {'figure': 'accuracy of bare', 'published': '64.1 %', 'here': '64.5 % [64.0, 65.0]', 'difference': '+0.4', 'verdict': 'agrees', 'source': 'a paper'}
    """
    count = line["score"] == "classes_at_zero"

    def text(value: float, form: str) -> str:
        return f"{value:{form[0] if form[0] == '+' else ''}.0f}" if count else f"{100 * value:{form}}"

    unit = "" if count else " %"
    decimals = ".2f" if not count and round(100 * line["published"], 1) != round(100 * line["published"], 2) else ".1f"
    here = "-" if line["here"] is None else f"{text(line['here'], decimals)}{unit}"
    if line["ci"]:
        here += f" [{', '.join(text(end, decimals) for end in line['ci'])}]"
    return {
        "figure": f"{line['score']} of {line['row']}",
        "published": text(line["published"], decimals) + unit,
        "here": here,
        "difference": "-" if line["difference"] is None else text(line["difference"], "+" + decimals),
        "verdict": line["verdict"],
        "source": line["source"],
    }
