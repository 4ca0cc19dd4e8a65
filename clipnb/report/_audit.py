"""`clipnb.audit`: the classes of your own data that a model fails on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from clipnb import ensemble, margin, paired, prompts
from clipnb._checks import require_attribute, text_of, texts_of, whole_number
from clipnb._files import path_of
from clipnb._format import thumbnail
from clipnb.datasets import (
    LabeledImages,
    every_second,
    load_dataset,
    read_classnames,
    scored_classnames,
    with_classes,
)
from clipnb.datasets._images import MISSING
from clipnb.describe import load_descriptions, unmatched
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_images, encode_texts
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.explain import SAME_TEXT, explain_classes, order_finding
from clipnb.intervals import proportion
from clipnb.models import EMBEDDED, Model, Precision, WrappedModel, load_model
from clipnb.report._advice import give_advice
from clipnb.report._correction import correction_advice
from clipnb.report._page import plain_text, short
from clipnb.report._report import Report
from clipnb.report._routing import route
from clipnb.report._slices import MAX_SHOWN, examples_of, slice_summary, slice_table
from clipnb.similarity import unit_norm
from clipnb.slices import find_slices
from clipnb.zeroshot import prompt_vectors

AUDITED = ""  # name of the audited templates among the wordings
TRIED = ("bare", "single", "openai-7")  # other wordings that an audit tries: nine prompts a class
IMAGES_PER_CLASS = 4  # thumbnails of each bad class
MAX_IMAGES = 240  # thumbnails on one page, which bounds its size
SIDE = 112  # pixels of a thumbnail's longer side


def audit(
    dataset: str | LabeledImages = "icons",
    model: str | Model | WrappedModel = EMBEDDED,
    pretrained: str | None = None,
    *,
    classes: str | Path | None = None,
    templates: str | Sequence[str] = "bare",
    descriptions: str | Path | None = None,
    words: str | Path | Sequence[str] | None = None,
    worst_k: int = 10,
    store: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    trust_pickle: bool = False,
    like: str | None = None,
    made: str | None = None,
    progress: bool = False,
    fix_names: bool = False,
) -> Report:
    """Find the classes of a data set that a model fails on, the reasons, and what to do first.

    It reads every image (unreadable ones are listed and left out), checks the classnames, encodes, evaluates,
    explains the worst classes, tries other wordings, and measures how well a ranking without labels can be trusted.
    Without labels it ranks the classes by the margin of pseudo-labels (`margin`), whose reliability it measures with
    the same model on the icon set.

    Args:
        dataset: a name or path for `load_dataset`, or a loaded data set.
        model: a name or path for `load_model`, or a loaded model.
        pretrained: weights, as for `load_model`.
        device: as for `load_model`.
        precision: as for `load_model`.
        trust_pickle: as for `load_model`.
        like: as for `load_model`.
        classes: file of classnames for unlabelled images, of candidates, or of better names (`datasets.with_classes`).
        templates: name of a template set (`prompts.template_set`) or a list of templates, audited as one ensemble.
        descriptions: file of descriptions by class (`describe.load_descriptions`), tried as another wording; the
            icon and emoji sets have their own.
        words: words that name the slices inside classes (`slices.find_slices`): a list, or a file with a word a line.
            None: the classnames.
        worst_k: how many classes to explain; fewer if there are fewer.
        store: folder that keeps the image embeddings, so that later audits and interrupted runs need not encode them
            again.
        made: time stamp on the page; None: the current time. Everything else is the same for the same input.
        progress: whether to show progress bars on stderr.
        fix_names: whether to repair the classnames (`prompts.fix_names`) before scoring; `summary["renamed"]` lists the
            repairs.

    Raises:
        InputError: an argument or file cannot be used, there are fewer than two classes, or no image can be read.

    >>> from dataclasses import replace
    >>> data = load_dataset("emoji")
    >>> few = replace(data.take(data.labels < 3), classnames=data.classnames[:3])  # nine drawings of three classes
    >>> report = audit(few, made="today")
    >>> report.summary["n"], len(report.worst), report.classes.columns[:3].tolist()
    (9, 3, ['class', 'classname', 'images'])
    """
    worst_k = whole_number(worst_k, "worst_k", 1)
    for name, value in (("classes", classes), ("descriptions", descriptions), ("store", store)):
        if value is not None:
            path_of(value, name)
    if isinstance(templates, str):
        chosen = prompts.template_set(text_of(templates, "templates"))
    else:
        chosen = prompts.check_templates(templates)
    if isinstance(words, (str, Path)):
        words = read_classnames(words)
    elif words is not None:
        words = texts_of(words, "words")
    data = _opened(dataset)
    named = with_classes(data, classes) if classes else data
    scored_classnames(named, "give a file of candidate names (`classes`, --classes FILE)")
    named, changes = _repaired(named) if fix_names else (named, [])
    own = descriptions or named.descriptions
    texts = load_descriptions(own).by_class if own else {}
    if isinstance(model, str):
        model = load_model(
            model, pretrained=pretrained, device=device, precision=precision, trust_pickle=trust_pickle, like=like
        )

    images = encode_images(model, data, store, bad_images="skip", progress=progress)
    unreadable = _unreadable(data, images)
    named = _readable(named, images)
    banks = _banks(model, named, {AUDITED: chosen, **{name: prompts.template_set(name) for name in TRIED}})
    result = evaluate(images.vectors, unit_norm(banks.pop(AUDITED).mean(axis=0)), named.labels)
    k = min(worst_k, _number_of_candidates(result))
    permuted = order_finding(result.predictions, result.labels, named.classnames)
    findings = [*([permuted] if permuted else []), *prompts.lint(named.classnames, chosen, model)]

    ranked = _classes(result, named.classnames)
    bad = _explained(ranked["class"].to_numpy()[:k], result, named.classnames)
    described = {c: texts[name] for c, name in enumerate(named.classnames) if name in texts}
    wordings = _wordings(model, images.vectors, result, banks, described, k)
    correction = correction_advice(images.vectors, result, model.logit_scale, k)
    search = find_slices(
        result.predictions,
        result.labels,
        every_second(result.labels),
        np.arange(result.num_classes),
        rivals=result.rivals,
        vectors=images.vectors,
        words=result.classifier if words is None else unit_norm(prompt_vectors(model, words, chosen).mean(axis=0)),
    )
    slices = slice_table(
        search, result, named.classnames, lambda rows: [named.ids[row] for row in rows], words or named.classnames
    )
    confidence = margin.prediction_confidence(images.vectors, result.classifier, model.logit_scale, model.logit_bias)
    measured_on, reliability_k, reliability = _reliability(model, images.vectors, result, data.name, worst_k)
    remarks = [*data.remarks, unmatched(texts, named.classnames) if descriptions else None]
    precision_check = {key: value for key, value in images.provenance.items() if key == "precision_check"}
    summary = {
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "model": model.name,
        "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint,
        "model_settings": model.settings,
        "precision": model.precision,
        **precision_check,
        "templates": templates if isinstance(templates, str) else chosen,
        "num_templates": len(chosen),
        "exif_rotation": data.exif_rotation,
        "remarks": [remark for remark in remarks if remark],
        "renamed": [{"from": old, "to": new} for old, new in changes],
        "images": len(named),
        "unreadable": len(unreadable),
        "classes": len(named.classnames),
        "never_predicted": int(np.isnan(result.cmm["pseudo_image"]).sum()),
        **(result.summary(k=worst_k) if result.n else {}),
        **route(confidence, result.predictions, result.labels),
        **(slice_summary(search) if result.n else {}),
        "reliability_measured_on": measured_on,
        "reliability_k": reliability_k,
        "made": made or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    table = _images(result, named)
    return Report(
        summary=summary,
        advice=give_advice(
            summary, named.left_out_line(labelled=True), findings, bad, wordings, slices, result, correction
        ),
        findings=pd.DataFrame(map(asdict, findings), columns=["what", "where", "advice"]),
        worst=bad,
        classes=ranked,
        wordings=wordings,
        slices=slices,
        reliability=reliability,
        unreadable=unreadable,
        images=table,
        left_out=pd.DataFrame(named.left_out_rows(labelled=True), columns=["reason", "count", "examples"]),
        thumbnails=_thumbnails(named, table, bad, [examples_of(part, result) for part in search.slices[:MAX_SHOWN]]),
        result=result,
    )


def _opened(dataset: str | LabeledImages) -> LabeledImages:
    if isinstance(dataset, str):
        return load_dataset(dataset)
    return require_attribute(dataset, "dataset", "ids", "clipnb.load_dataset")


def _unreadable(data: LabeledImages, images: Embeddings) -> pd.DataFrame:
    """Files without a vector: those that could not be decoded, and those that a table names and that do not exist."""
    missing = {item: reason for reason in MISSING for item in data.left_out.get(reason, [])}
    rows = [
        {"id": plain_text(name), "reason": plain_text(reason)} for name, reason in (images.skipped | missing).items()
    ]
    return pd.DataFrame(rows, columns=["id", "reason"])


def _readable(data: LabeledImages, images: Embeddings) -> LabeledImages:
    """The images that have a vector; missing files are listed as unreadable and not as left out."""
    left_out = {reason: items for reason, items in data.left_out.items() if reason not in MISSING}
    readable = np.array([i for i, name in enumerate(data.ids) if name not in images.skipped])
    return replace(data, left_out=left_out).take(readable)


def _number_of_candidates(result: EvaluationResult) -> int:
    """How many classes can be among the worst: those with images or, without labels, those that were predicted."""
    if result.n:
        return int((result.confusion.sum(axis=1) > 0).sum())
    return int((~np.isnan(result.cmm["pseudo_image"])).sum())


def _repaired(data: LabeledImages) -> tuple[LabeledImages, list[tuple[str, str]]]:
    """The set under repaired classnames, and what changed."""
    names, changes = prompts.fix_names(data.classnames)
    synonyms = data.synonyms and [[name, *others[1:]] for name, others in zip(names, data.synonyms)]
    return replace(data, classnames=names, synonyms=synonyms), changes


def _banks(model: Model | WrappedModel, data: LabeledImages, sets: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """(P, C, D) text vectors of each set of templates; the vector of a class with synonyms is the mean over its
    names.
    """
    templates = list(dict.fromkeys(template for group in sets.values() for template in group))
    names = data.synonyms or [[name] for name in data.classnames]
    bank = prompt_vectors(model, [name for group in names for name in group], templates)
    sizes = np.array([len(group) for group in names])
    if (sizes > 1).any():
        bank = unit_norm(np.add.reduceat(bank, np.cumsum(sizes) - sizes, axis=1) / sizes[:, None])
    return {name: bank[[templates.index(template) for template in group]] for name, group in sets.items()}


def _reliability(
    model: Model | WrappedModel, vectors: np.ndarray, result: EvaluationResult, name: str, k: int
) -> tuple[str, int, pd.DataFrame]:
    """Where, at which k and how well bad classes can be found without labels; measured on the icon set if need be."""
    if not result.n:
        known = load_dataset("icons")
        name, vectors = "the icon set", encode_images(model, known).vectors
        result = evaluate(vectors, prompt_vectors(model, known.classnames, ["{}"])[0], known.labels)
    k = min(k, int((~np.isnan(result.per_class_accuracy)).sum()))
    baselines = margin.baseline_scores(vectors, result.classifier, model.logit_scale, model.logit_bias)
    scores = {"pseudo_image": result.cmm["pseudo_image"], **baselines}
    table = margin.compare_scores(scores, result.per_class_accuracy, k)
    return name, k, table.rename_axis("score").reset_index()


def _classes(result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """All classes, worst first: by accuracy and then margin, or by margin without labels; classes without images
    last.
    """
    table = pd.DataFrame({"class": range(len(names)), "classname": names})
    if result.n:
        counts = result.confusion.sum(axis=1)
        scores = [proportion(int(right), int(n)) for right, n in zip(np.diag(result.confusion), counts)]
        table = table.assign(
            images=counts,
            accuracy=result.per_class_accuracy,
            accuracy_low=[score.low for score in scores],
            accuracy_high=[score.high for score in scores],
            precision=result.per_class_precision,
            margin=result.cmm["image"],
        )
    table = table.assign(
        predicted=np.bincount(result.predictions, minlength=len(names)), margin_no_labels=result.cmm["pseudo_image"]
    )
    return table.sort_values(
        ["accuracy", "margin"] if result.n else "margin_no_labels", kind="stable", ignore_index=True
    )


def _explained(chosen: np.ndarray, result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """The chosen classes, each with a verdict; without labels, only two verdicts are possible."""
    classifier = result.classifier
    if result.n:
        return explain_classes(chosen, result.confusion, result.cmm["image"], classifier, names).reset_index()
    duplicates = [set(group) for group in prompts.near_duplicate_classnames(names).values()]
    rows = []
    for c in map(int, chosen):
        predicted = result.predictions == c
        rivals = np.bincount(result.rivals[predicted])
        rival = int(rivals.argmax())
        cosine = float(classifier[c] @ classifier[rival])
        same = cosine > 1 - SAME_TEXT or any({c, rival} <= group for group in duplicates)
        rows.append(
            {
                "class": c,
                "classname": names[c],
                "verdict": "name collision" if same else "narrow margin",
                "predicted": int(predicted.sum()),
                "sentence": f"{predicted.sum()} images are called this, over {names[rival]!r} most often "
                f"({rivals[rival]} of them); the cosine of the two texts is {cosine:.2f}.",
                "margin": float(result.cmm["pseudo_image"][c]),
                "rival": names[rival],
                "rival_cosine": cosine,
            }
        )
    return pd.DataFrame(rows)


def _wordings(
    model: Model | WrappedModel,
    vectors: np.ndarray,
    base: EvaluationResult,
    banks: dict[str, np.ndarray],
    texts: dict[int, list[str]],
    k: int,
) -> pd.DataFrame:
    """Other wordings on the same images, and by how much each differs from the audited one."""
    tried = {name: unit_norm(bank.mean(axis=0)) for name, bank in banks.items()}
    tried = {name: classifier for name, classifier in tried.items() if not np.array_equal(classifier, base.classifier)}
    last = TRIED[-1]
    weights = ensemble.prompt_weights(vectors, banks[last])
    tried[f"{last}, weighted by margin"] = ensemble.weighted_classifier(banks[last], weights)
    # As in the paper, only the worst classes get descriptions, and these are found without labels.
    flagged = margin.worst_first(base.cmm["pseudo_image"])[: max(k, base.num_classes // 10)]
    if described := [int(c) for c in flagged if c in texts]:
        bank = {c: encode_texts(model, texts[c]) for c in described}
        tried["descriptions"] = ensemble.description_classifier(base.classifier, bank, vectors)[0]
    rows = []
    for name, classifier in tried.items():
        result = evaluate(vectors, classifier, base.labels)
        row = {"wording": name, "changed": float((result.predictions != base.predictions).mean())}
        rows.append(row | (_difference(result, base, k, len(tried)) if base.n else {}))
    return pd.DataFrame(rows)


def _difference(result: EvaluationResult, base: EvaluationResult, k: int, comparisons: int) -> dict:
    """By how much a wording differs from the audited one; intervals hold for all wordings at once."""
    differences = paired.paired_differences(result, base, k, comparisons=comparisons)
    row = {}
    for statistic, column in (("accuracy", "accuracy"), ("worst_k_chosen", f"worst_{k}_chosen")):
        if statistic in differences:
            difference = differences[statistic]
            low, high = difference["ci"]
            row |= {
                column: difference["a"],
                f"{column}_change": difference["value"],
                f"{column}_low": low,
                f"{column}_high": high,
            }
    verdict = differences["accuracy"]["verdict"]
    return row | {"classes_at_zero": differences["classes_at_zero"]["a"], "accuracy_verdict": verdict}


def _images(result: EvaluationResult, data: LabeledImages) -> pd.DataFrame:
    names = np.array([*data.classnames, None], dtype=object)  # the last is that of -1: unknown
    return pd.DataFrame(
        {
            "id": [plain_text(name) for name in data.ids],
            "label": names[data.labels],
            "prediction": names[result.predictions],
            "similarity": result.topk_similarity[:, 0].astype(float),
            "margin": result.margins.astype(float),
            "rival": names[result.rivals],
            "label_class": data.labels,
            "prediction_class": result.predictions,
        }
    )


def _thumbnails(
    data: LabeledImages, images: pd.DataFrame, bad: pd.DataFrame, slices: list[np.ndarray]
) -> dict[str, list]:
    """Small images with captions: those that speak most against each bad class, those of each slice, and those whose
    label is doubtful.
    """
    labelled = bool((data.labels >= 0).any())
    order = np.argsort(images["margin"].to_numpy(), kind="stable")
    classes = images["label_class" if labelled else "prediction_class"].to_numpy()[order]
    chosen = {str(c): order[classes == c][:IMAGES_PER_CLASS] for c in bad["class"].head(MAX_IMAGES // IMAGES_PER_CLASS)}
    chosen |= {f"slice {i}": rows for i, rows in enumerate(slices)}
    if labelled:
        chosen["labels"] = order[images["margin"].to_numpy()[order] < 0][: 2 * IMAGES_PER_CLASS]
    rows = images.to_dict("records")
    return {
        key: [
            {
                "source": thumbnail(data[i][0], SIDE),
                "caption": _caption(rows[i], labelled, with_label=key == "labels"),
                "id": short(rows[i]["id"], 200),
            }
            for i in map(int, places)
        ]
        for key, places in chosen.items()
    }


def _caption(row: dict, labelled: bool, with_label: bool) -> str:
    label = f"labelled {short(row['label'])}, " if with_label else ""
    if not labelled:
        return f"{label}nearly {short(row['rival'])}"
    if row["label_class"] == row["prediction_class"]:
        return f"{label}right, nearly {short(row['rival'])}"
    return f"{label}called {short(row['prediction'])}"
