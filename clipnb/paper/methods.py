"""Every prompt weighting and every control on the same images: the experiment behind `clipnb ensemble` and chapter 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipnb import describe, ensemble, margin, paired
from clipnb._checks import generator, one_of, real_number, require_attribute, whole_number
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_texts
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.prompts import DRAWING_TEMPLATES, check_templates, template_set
from clipnb.zeroshot import prompt_vectors

TEMPLATE_ROWS = (
    "single",
    "uniform",
    "zpe",
    "autoclip",
    "cmm",
    "cmm-class-means",
    "cmm-worst",
    "cmm-per-class",
    "cmm-top",
    "cmm-half",
    "greedy",
    "oracle",
)
TEXT_ROWS = (
    "descriptions",
    "descriptions-uniform",
    "descriptions-half",
    "descriptions-oracle",
    "keywords",
    "random",
    "random-letters",
    "shuffled",
)
ROWS = ("bare", *TEMPLATE_ROWS, *TEXT_ROWS)
METHODS = ("all", *(name for name in ROWS[1:] if "-" not in name))


@dataclass
class Comparison:
    """Results of methods and controls on the same images, with what made them."""

    results: dict[str, EvaluationResult]  # by row, "bare" first
    weights: dict[str, np.ndarray]  # of templates: (P,), (P, C) for cmm-per-class, (N, P) for autoclip
    text_weights: dict[str, dict[int, np.ndarray]]  # of texts: row -> {class: (P_c,)}
    texts: dict[str, dict[int, list[str]]]  # row -> {class: texts}
    templates: list[str]
    flagged: np.ndarray  # class indices that got texts, worst first
    not_run: dict[str, str] = field(default_factory=dict)  # row -> why

    def rows(self, k: int = 10, seed: int = 0) -> list[dict]:
        """The table as `paired.compare` makes it, with the mean weight of each template ("weights")."""
        rows = paired.compare(self.results, k, self.flagged, seed=seed)
        for row in rows:
            weights = self.weights.get(row["method"])
            if weights is not None:
                mean = weights.mean(axis=0 if row["method"] == "autoclip" else 1) if weights.ndim == 2 else weights
                row["weights"] = dict(zip(self.templates, map(float, mean)))
        return rows

    def against(self, main: str = "descriptions", k: int = 10, seed: int = 0) -> dict[str, dict]:
        """`main` minus every other row that gives texts to the same classes: {row: as `paired.paired_differences`}."""
        others = [row for row in self.results if row in TEXT_ROWS and row != main] if main in self.results else []
        return {
            row: paired.paired_differences(self.results[main], self.results[row], k, self.flagged, len(others), seed)
            for row in others
        }


def compare_methods(
    model,
    images: Embeddings,
    classnames: Sequence[str],
    fit: Embeddings | None = None,
    method: str = "all",
    templates: Sequence[str] = DRAWING_TEMPLATES,
    descriptions: Mapping[str, Sequence[str]] | None = None,
    keywords: Mapping[str, Sequence[str]] | None = None,
    worst_k: int = 10,
    enrich: int = 100,
    temperature: float = 0.01,
    seed: int = 0,
) -> Comparison:
    """Score the bare name and one method, or all of them with their controls, on the same images.

    Templates: single ("a photo of a {}."), uniform, zpe, autoclip, cmm; cmm by the margin of class means, over the worst
    classes only, per class, and as a plain mean of the better half of the templates; cmm-half (each half of the images
    weighted by the other half); greedy and oracle, which see the labels of `fit`.

    Texts for the `enrich` classes that look worst without labels on `fit` (`margin.find_worst`), weighted by
    `ensemble.description_classifier`: descriptions; with equal weights; each half by the other half; by labels (oracle); and,
    weighted in the same way, keywords, as many random words and letters, and the descriptions of another class.

    Args:
        model: from `clipnb.load_model`, to encode prompts.
        images: labelled images to report on.
        classnames: C names.
        fit: images that weights and the choice of classes come from; None: `images`, without their labels but for oracles.
        method: one of `METHODS`; a method brings its variants ("cmm": "cmm-worst" and so on).
        templates: of the ensembles.
        descriptions: {classname: texts}; None or no flagged class among them: these rows are not run.
        keywords: {classname: keywords}, or None.
        worst_k: classes that "cmm-worst" looks at.
        enrich: how many classes get texts; all that there are if there are fewer.
        temperature: of every softmax.
        seed: of the halves and of the random words.

    Raises:
        InputError: an argument is unknown or out of range, or `fit` is of another model.

    >>> from clipnb import encode_images, load_dataset, load_model
    >>> model, data = load_model(), load_dataset("emoji").take(20)
    >>> found = compare_methods(model, encode_images(model, data), data.classnames, method="uniform")
    >>> list(found.results), found.weights["uniform"].round(3).max()
    (['bare', 'uniform'], np.float64(0.1))
    """
    one_of(method, "method", METHODS)
    for name, value in (("images", images), ("fit", images if fit is None else fit)):
        require_attribute(value, name, "provenance", "clipnb.encode_images")
    for name, value in (("descriptions", descriptions), ("keywords", keywords)):
        if value is not None:
            describe.check_texts(value, name)
    whole_number(worst_k, "worst_k", 1), generator(seed)
    if not real_number(temperature, "temperature") > 0:
        raise InputError(f"Expected `temperature` > 0, got {temperature}")
    wanted = [row for row in ROWS if method == "all" or row == method or row.startswith(f"{method}-")]
    fit, templates = images if fit is None else fit, check_templates(templates)
    if len(images.vectors) and len(fit.vectors) and images.vectors.shape[1] != fit.vectors.shape[1]:
        raise InputError(
            f"Expected `fit` of width D = {images.vectors.shape[1]}, got {fit.vectors.shape[1]}: another model"
        )
    labelled = bool((fit.labels >= 0).any())
    size = len(templates) if set(wanted) & set(TEMPLATE_ROWS) else 0
    used = list(dict.fromkeys([*templates[:size], "{}", *(template_set("single") if "single" in wanted else [])]))
    banks = dict(zip(used, prompt_vectors(model, classnames, used)))
    bare = banks["{}"]
    flagged = margin.find_worst(fit.vectors, bare)[: whole_number(enrich, "enrich", 1)]
    found = Comparison({"bare": evaluate(images.vectors, bare, images.labels)}, {}, {}, {}, list(templates), flagged)
    if method == "all":
        found.not_run["another backbone"] = "no second model is shipped; run again with another model"
    if size:
        _run_templates(
            found,
            wanted,
            images,
            fit,
            np.stack([banks[t] for t in templates]),
            banks.get(template_set("single")[0]),
            labelled,
            worst_k,
            temperature,
            seed,
        )
    if set(wanted) & set(TEXT_ROWS):
        _run_texts(
            found, wanted, model, images, fit, bare, classnames, descriptions, keywords, labelled, temperature, seed
        )
    found.results = {row: found.results[row] for row in ROWS if row in found.results}
    return found


def _run_templates(found: Comparison, wanted, images, fit, bank, single, labelled, worst_k, temperature, seed) -> None:
    half = -(-len(bank) // 2)
    options = {
        "uniform": {"method": "uniform"},
        "zpe": {"method": "zpe"},
        "cmm": {},
        "cmm-class-means": {"reduction": "class"},
        "cmm-worst": {"worst_k": worst_k},
        "cmm-per-class": {"per_class": True},
        "cmm-top": {"top_m": half, "temperature": np.inf},
        "greedy": {"method": "greedy", "labels": fit.labels},
        "oracle": {"labels": fit.labels},
    }
    for row in wanted:
        if row == "single":
            found.results[row] = evaluate(images.vectors, single, images.labels)
        elif row == "autoclip":
            found.weights[row] = ensemble.prompt_weights(images.vectors, bank, method="autoclip")
            found.results[row] = ensemble.evaluate_per_image(images.vectors, bank, found.weights[row], images.labels)
        elif row == "cmm-half":

            def on(rows):
                return ensemble.weighted_classifier(
                    bank, ensemble.prompt_weights(images.vectors[rows], bank, temperature=temperature)
                )

            found.results[row] = ensemble.evaluate_on_halves(images.vectors, on, images.labels, seed=seed)
        elif row in ("greedy", "oracle") and not labelled:
            found.not_run[row] = "the images that weights come from have no labels"
        elif row in options:
            found.weights[row] = ensemble.prompt_weights(
                fit.vectors, bank, **{"temperature": temperature} | options[row]
            )
            found.results[row] = evaluate(
                images.vectors, ensemble.weighted_classifier(bank, found.weights[row]), images.labels
            )


def _run_texts(
    found: Comparison, wanted, model, images, fit, bare, classnames, descriptions, keywords, labelled, temperature, seed
) -> None:
    place = {classnames[c]: int(c) for c in found.flagged}
    described = {name: list(descriptions[name]) for name in place if name in (descriptions or {})}
    if not described:
        return found.not_run.update({row: "no description fits a class" for row in wanted if row in TEXT_ROWS})
    found.flagged = np.array([place[name] for name in described])
    count = max(map(len, described.values()))
    by_name = {
        "descriptions": described,
        "random": describe.random_words(described, seed),
        "random-letters": describe.random_words(described, seed, letters=True),
        "shuffled": describe.shuffled(described),
    }
    if keywords:
        by_name["keywords"] = describe.keyword_texts({name: keywords.get(name, []) for name in described}, count)
    elif "keywords" in wanted:
        found.not_run["keywords"] = "the data set has no keywords"
    needed = {row.split("-")[0] if row.startswith("descriptions") else row for row in wanted} & set(by_name)
    found.texts = {row: {place[name]: texts for name, texts in by_name[row].items()} for row in sorted(needed)}
    flat = list(dict.fromkeys(text for group in found.texts.values() for texts in group.values() for text in texts))
    vector = dict(zip(flat, encode_texts(model, flat)))
    encoded = {
        row: {c: np.stack([vector[text] for text in texts]) for c, texts in group.items()}
        for row, group in found.texts.items()
    }

    def enriched(group, vectors=None, labels=None):
        return ensemble.description_classifier(bare, encoded[group], vectors, labels, temperature)

    for row in wanted:
        group = "descriptions" if row.startswith("descriptions") else row
        if row not in TEXT_ROWS or group not in encoded:
            continue
        if row == "descriptions-half":
            found.results[row] = ensemble.evaluate_on_halves(
                images.vectors, lambda rows: enriched("descriptions", images.vectors[rows])[0], images.labels, seed=seed
            )
        elif row == "descriptions-oracle" and not labelled:
            found.not_run[row] = "the images that weights come from have no labels"
        else:
            classifier, found.text_weights[row] = enriched(
                group,
                None if row == "descriptions-uniform" else fit.vectors,
                fit.labels if row == "descriptions-oracle" else None,
            )
            found.results[row] = evaluate(images.vectors, classifier, images.labels)


def shown(row: dict) -> dict[str, str]:
    """A row of `Comparison.rows` as text for people: percent with intervals, and what differs beyond chance from the bare name.

    >>> rows = paired.compare({"bare": evaluate(np.eye(2), np.eye(2), [0, 1])}, k=1)
    >>> shown(rows[0])["accuracy %"], shown(rows[0])["worst-1 %"]
    ('100.0 [15.8, 100.0]', '100.0')
    """
    k, difference = row["worst_k"], row.get("difference", {})

    def score(key: str, form: str = ".1f") -> str:
        return _text(row.get(key), row.get(f"{key}_ci"), form)

    def change(name: str) -> str:
        return _text(difference[name]["value"], difference[name]["ci"], "+.1f") if name in difference else "-"

    low, high = row["classes_at_zero_ci"]
    sure = [
        f"{STATISTICS[name]} {what['verdict']}"
        for name, what in difference.items()
        if what["verdict"] in ("better", "worse")
    ]
    return {
        "method": row["method"],
        "accuracy %": score("accuracy"),
        "minus bare": change("accuracy"),
        "per class %": score("mean_per_class_accuracy"),
        f"worst-{k} %": score(f"worst_{k}"),
        "truly worst %": score(f"worst_{k}_truly_worst"),
        "split half %": score(f"worst_{k}_split_half"),
        "flagged %": score("flagged_accuracy"),
        "flagged minus bare": change("flagged_accuracy"),
        "chosen minus bare": change("worst_k_chosen"),
        "at 0 %": f"{row['classes_at_zero']} [{low:.0f}, {high:.0f}]",
        "harmonic %": score("harmonic_mean"),
        "floored %": score("harmonic_mean_floored"),
        "beyond chance": ", ".join(sure) or ("none" if difference else ""),
    }


STATISTICS = {  # names of the differences in a table for people
    "accuracy": "accuracy",
    "flagged_accuracy": "flagged",
    "worst_k_chosen": "chosen worst",
    "classes_at_zero": "at 0 %",
    "harmonic_mean_floored": "floored",
}


def _text(value: float | None, ci: Sequence[float] | None, form: str) -> str:
    """A fraction in percent with its interval; "-" for none, and a range where only that is known."""
    ends = "" if ci is None else ", ".join(f"{100 * end:{form}}" for end in ci)
    if value is None:
        return ends.replace(", ", " to ") or "-"
    return f"{100 * value:{form}}" + (f" [{ends}]" if ends else "")
