"""`clipnb.audit`: which classes of your own data a model fails on."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from clipnb import ensemble, margin, paired, prompts
from clipnb._checks import require_attribute, text_of, whole_number
from clipnb._files import path_of
from clipnb.datasets import LabeledImages, load_dataset, scored_classnames, with_classes
from clipnb.datasets._images import MISSING
from clipnb.describe import load_descriptions, unmatched
from clipnb.encode import encode_images, encode_texts
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.explain import SAME_TEXT, explain_classes, order_finding
from clipnb.intervals import proportion
from clipnb.models import EMBEDDED, Model, load_model
from clipnb.report._advice import give_advice
from clipnb.report._page import plain_text, short
from clipnb.report._report import Report
from clipnb.report._routing import route
from clipnb.similarity import unit_norm
from clipnb.zeroshot import prompt_vectors

TRIED = ("bare", "single", "openai-7")  # other wordings that an audit tries: nine prompts a class
PICTURES = 4  # shown of each bad class
MAX_PICTURES = 240  # in one page, which bounds its size
SIDE = 112  # pixels of a thumbnail


def audit(
    dataset: str | LabeledImages = "emoji",
    model: str | Model = EMBEDDED,
    pretrained: str | None = None,
    *,
    classes: str | Path | None = None,
    templates="bare",
    descriptions: str | Path | None = None,
    worst_k: int = 10,
    store: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    trust_pickle: bool = False,
    like: str | None = None,
    made: str | None = None,
    progress: bool = False,
    fix_names: bool = False,
) -> Report:
    """Find the classes of a data set that a model fails on, say why, and what to do first.

    Reads every image (unreadable ones are listed and left out), checks the names, encodes, evaluates, explains the worst
    classes, tries other wordings, and measures how far a label-free ranking can be trusted. Without labels it ranks classes
    by the pseudo-label margin (`margin`), whose reliability it measures with the same model on the emoji set.

    Args:
        dataset: a spec for `load_dataset`, or what that returns.
        model, pretrained, device, precision, trust_pickle, like: for `load_model`; or a loaded model.
        classes: file of classnames for unlabelled images, of candidates, or of better names (`datasets.with_classes`).
        templates: name of a template set (`prompts.template_set`) or a list, audited as one ensemble.
        descriptions: file of texts about classes (`describe.load_descriptions`), tried as a wording; the emoji set has its own.
        worst_k: how many classes to explain (fewer if there are fewer).
        store: folder that keeps the image vectors: encode once, audit often, go on after a kill.
        made: time stamp in the page; None: now. All else is the same for the same input.
        progress: show progress bars on stderr.
        fix_names: repair classnames (`prompts.fix_names`) before they are scored; `summary["renamed"]` lists the repairs.

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
        text_of(templates, "templates")
    if not isinstance(model, str):
        require_attribute(model, "model", "encode_pixels", "clipnb.load_model")
    if not isinstance(dataset, str):
        require_attribute(dataset, "dataset", "ids", "clipnb.load_dataset")
    data = load_dataset(dataset) if isinstance(dataset, str) else dataset
    named = with_classes(data, classes) if classes else data
    scored_classnames(named, "give a file of candidate names (`classes`, --classes FILE)")
    named, changes = _repaired(named) if fix_names else (named, [])
    chosen = prompts.template_set(templates) if isinstance(templates, str) else prompts.check_templates(templates)
    own = descriptions or named.descriptions
    texts = load_descriptions(own).by_class if own else {}
    unused = unmatched(texts, named.classnames) if descriptions else None
    model = load_model(model, pretrained, device, precision, trust_pickle, like) if isinstance(model, str) else model
    images = encode_images(model, data, store, bad_images="skip", progress=progress)
    missing = {item: reason for reason in MISSING for item in data.left_out.get(reason, [])}
    unreadable = pd.DataFrame(
        [{"id": plain_text(name), "reason": plain_text(why)} for name, why in (images.skipped | missing).items()],
        columns=["id", "reason"],
    )
    readable = np.array([i for i, name in enumerate(data.ids) if name not in images.skipped])
    vectors, provenance = images.vectors, images.provenance
    named = replace(
        named, left_out={reason: items for reason, items in named.left_out.items() if reason not in MISSING}
    )
    named, names = named.take(readable), named.synonyms or [[name] for name in named.classnames]
    sets = {name: prompts.template_set(name) for name in TRIED}
    every = list(dict.fromkeys(template for group in (chosen, *sets.values()) for template in group))
    bank = _bank(model, names, every)
    banks = {name: bank[[every.index(template) for template in group]] for name, group in {"": chosen, **sets}.items()}
    classifier = unit_norm(banks.pop("").mean(axis=0))
    result = evaluate(vectors, classifier, named.labels)
    k = min(
        worst_k,
        int((result.confusion.sum(axis=1) > 0).sum())
        if result.n
        else int((~np.isnan(result.cmm["pseudo_image"])).sum()),
    )
    permuted = order_finding(result.predictions, result.labels, named.classnames)
    findings = [*([permuted] if permuted else []), *prompts.lint(named.classnames, chosen, model)]
    measured_on, reliability_k, reliability = _reliability(model, vectors, result, data.name, worst_k)
    summary = {
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "model": model.name,
        "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint,
        "model_settings": model.settings,
        "precision": model.precision,
        **({"precision_check": provenance["precision_check"]} if "precision_check" in provenance else {}),
        "templates": templates if isinstance(templates, str) else chosen,
        "num_templates": len(chosen),
        "exif_rotation": data.exif_rotation,
        "remarks": [*data.remarks, *([unused] if unused else [])],
        "renamed": [{"from": old, "to": new} for old, new in changes],
        "images": len(named),
        "unreadable": len(unreadable),
        "classes": len(named.classnames),
        "never_predicted": int(np.isnan(result.cmm["pseudo_image"]).sum()),
        **(result.summary(k=worst_k) | route(vectors, result, model.logit_scale, model.logit_bias) if result.n else {}),
        "reliability_measured_on": measured_on,
        "reliability_k": reliability_k,
        "made": made or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    ranked = _classes(result, named.classnames)
    bad = _explained(ranked["class"].to_numpy()[:k], result, named.classnames)
    wordings = _wordings(
        model, vectors, result, banks, {c: texts[n] for c, n in enumerate(named.classnames) if n in texts}, k
    )
    images = _images(result, named)
    return Report(
        summary=summary,
        advice=give_advice(summary, named.left_out_line(labelled=True), findings, bad, wordings, result),
        findings=pd.DataFrame(map(asdict, findings), columns=["what", "where", "advice"]),
        worst=bad,
        classes=ranked,
        wordings=wordings,
        reliability=reliability.rename_axis("score").reset_index(),
        unreadable=unreadable,
        images=images,
        left_out=pd.DataFrame(named.left_out_rows(labelled=True), columns=["reason", "count", "examples"]),
        pictures=_pictures(named, images, bad),
    )


def _repaired(data: LabeledImages) -> tuple[LabeledImages, list[tuple[str, str]]]:
    """The set under repaired classnames, and what changed."""
    names, changes = prompts.fix_names(data.classnames)
    synonyms = data.synonyms and [[name, *others[1:]] for name, others in zip(names, data.synonyms)]
    return replace(data, classnames=names, synonyms=synonyms), changes


def _bank(model: Model, names: list[list[str]], templates: list[str]) -> np.ndarray:
    """(P, C, D) text vectors; that of a class with synonyms is the mean over its names."""
    bank = prompt_vectors(model, [name for group in names for name in group], templates)
    sizes = np.array([len(group) for group in names])
    if (sizes == 1).all():
        return bank
    return unit_norm(np.add.reduceat(bank, np.cumsum(sizes) - sizes, axis=1) / sizes[:, None])


def _reliability(model: Model, vectors, result: EvaluationResult, name: str, k: int) -> tuple[str, int, pd.DataFrame]:
    """Where, at which k and how well the classes that are bad can be found without labels."""
    if not result.n:  # then on pictures whose labels are known
        known = load_dataset("emoji")
        name, vectors = "the emoji set", encode_images(model, known).vectors
        result = evaluate(vectors, prompt_vectors(model, known.classnames, ["{}"])[0], known.labels)
    k = min(k, int((~np.isnan(result.per_class_accuracy)).sum()))
    baselines = margin.baseline_scores(vectors, result.classifier, model.logit_scale, model.logit_bias)
    return (
        name,
        k,
        margin.compare_scores({"pseudo_image": result.cmm["pseudo_image"], **baselines}, result.per_class_accuracy, k),
    )


def _classes(result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """All classes, worst first: by accuracy and then margin where there are labels, else by margin; without images last."""
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
    """The chosen classes, each with a verdict as far as there are labels."""
    classifier = result.classifier
    if result.n:
        return explain_classes(chosen, result.confusion, result.cmm["image"], classifier, names).reset_index()
    rows = []
    for c in chosen:
        mine = result.predictions == c
        rival = int(np.bincount(result.rivals[mine]).argmax())
        cosine = float(classifier[c] @ classifier[rival])
        same = cosine > 1 - SAME_TEXT or any(
            {c, rival} <= set(group) for group in prompts.near_duplicate_classnames(names).values()
        )
        rows.append(
            {
                "class": int(c),
                "classname": names[c],
                "verdict": "name collision" if same else "narrow margin",
                "predicted": int(mine.sum()),
                "sentence": f"{mine.sum()} images are called this, over {names[rival]!r} most often ({(result.rivals[mine] == rival).sum()} of them); "
                f"the cosine of the two texts is {cosine:.2f}.",
                "margin": float(result.cmm["pseudo_image"][c]),
                "rival": names[rival],
                "rival_cosine": cosine,
            }
        )
    return pd.DataFrame(rows)


def _wordings(
    model: Model, vectors, base: EvaluationResult, banks: dict, texts: dict[int, list[str]], k: int
) -> pd.DataFrame:
    """Other wordings on the same images, and by how much each differs from the audited one."""
    tried = {name: unit_norm(bank.mean(axis=0)) for name, bank in banks.items()}
    tried = {name: classifier for name, classifier in tried.items() if not np.array_equal(classifier, base.classifier)}
    last = list(banks)[-1]
    tried[f"{last}, weighted by margin"] = ensemble.weighted_classifier(
        banks[last], ensemble.prompt_weights(vectors, banks[last])
    )
    flagged = margin.worst_first(base.cmm["pseudo_image"])[
        : max(k, base.num_classes // 10)
    ]  # as the paper: only the worst, found without labels
    if described := [int(c) for c in flagged if c in texts]:
        bank = {c: encode_texts(model, texts[c]) for c in described}
        tried["descriptions"] = ensemble.description_classifier(base.classifier, bank, vectors)[0]
    rows = []
    for name, classifier in tried.items():
        result = evaluate(vectors, classifier, base.labels)
        row = {"wording": name, "changed": float((result.predictions != base.predictions).mean())}
        if base.n:
            differences = paired.paired_differences(
                result, base, k, comparisons=len(tried)
            )  # intervals hold for all rows at once
            for statistic, column in (("accuracy", "accuracy"), ("worst_k_chosen", f"worst_{k}_chosen")):
                if statistic in differences:
                    difference = differences[statistic]
                    row |= {
                        column: difference["a"],
                        f"{column}change_of_class": difference["value"],
                        f"{column}_low": difference["ci"][0],
                        f"{column}_high": difference["ci"][1],
                    }
            row["classes_at_zero"] = differences["classes_at_zero"]["a"]
            row["accuracy_verdict"] = differences["accuracy"]["verdict"]
        rows.append(row)
    return pd.DataFrame(rows)


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


def _pictures(data: LabeledImages, images: pd.DataFrame, bad: pd.DataFrame) -> dict[str, list]:
    """Thumbnails with captions: of each bad class the images that speak against it most, and those whose label is doubtful."""
    wanted, labelled = {}, bool((data.labels >= 0).any())
    rank = images.sort_values("margin", kind="stable")
    for c in bad["class"].head(MAX_PICTURES // PICTURES):
        wanted[str(c)] = rank.index[rank["label_class" if labelled else "prediction_class"] == c][:PICTURES]
    if labelled:
        wanted["labels"] = rank.index[rank["margin"] < 0][: 2 * PICTURES]
    found = {}
    for key, rows in wanted.items():
        found[key] = []
        for i in rows:
            row = images.loc[i]
            of = f"labelled {short(row['label'])}, " if key == "labels" else ""
            said = f"called {short(row['prediction'])}" if labelled else f"nearly {short(row['rival'])}"
            if labelled and row["label_class"] == row["prediction_class"]:
                said = f"right, nearly {short(row['rival'])}"
            found[key].append({"source": _thumbnail(data[i][0]), "caption": of + said, "id": short(row["id"], 200)})
    return found


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    image.save(file := io.BytesIO(), "WEBP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
