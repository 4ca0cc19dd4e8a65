"""Every prompt weighting and every control on the same images: the experiment behind `clipnb ensemble` and chapter 8.

`ROWS` lists the rows of its table: what each needs and how it is run on an `Experiment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from clipnb import describe, ensemble, margin, paired
from clipnb._checks import generator, one_of, real_number, require_attribute, whole_number
from clipnb._format import score_text
from clipnb._moved import renamed
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_texts
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.models import Model, WrappedModel
from clipnb.paper import corrections
from clipnb.prompts import DRAWING_TEMPLATES, check_templates, most_frequent_names, template_set
from clipnb.zeroshot import prompt_vectors

SINGLE = template_set("single")[0]
# What a row may need, and why it is not run where that is missing. Texts are listed before labels, so that a row that
# lacks both reports the texts.
REASONS = {
    "descriptions": "no description fits a class",
    "keywords": "the data set has no keywords",
    "names": "the data set has no counts of other names",
    "labels": "the images that weights come from have no labels",
}


@dataclass(frozen=True)
class Outcome:
    """What a row of the table gives."""

    result: EvaluationResult
    weights: np.ndarray | None = None  # of templates: (P,), (P, C) per class, or (N, P) per image
    mean_weights: np.ndarray | None = None  # (P,) their mean over classes or images
    text_weights: dict[int, np.ndarray] | None = None  # of texts: {class: (P_c,)}


@dataclass(frozen=True)
class Experiment:
    """Everything that the rows are run on. N images, C classes, P templates, D dimensions."""

    images: Embeddings  # scored
    fit: Embeddings  # determine the weights, without their labels except for rows that need "labels"
    bare: np.ndarray  # (C, D) text vectors of the bare names
    single: np.ndarray  # (C, D) of one template; the bare names if no row needs it
    bank: np.ndarray  # (P, C, D) of all templates; empty if no row needs it
    texts: Mapping[str, Mapping[int, np.ndarray]]  # kind of texts -> {class: (P_c, D)}
    renamed: np.ndarray | None  # (C, D) text vectors of the most frequent names
    worst_k: int
    temperature: float
    logit_scale: float  # factor of the cosines in the model's softmax
    seed: int

    def score(self, classifier: np.ndarray) -> EvaluationResult:
        """Evaluate a classifier on the images."""
        return evaluate(self.images.vectors, classifier, self.images.labels)

    def weigh(self, **options: Any) -> Outcome:
        """Score the ensemble with weights of `ensemble.prompt_weights`."""
        settings: dict[str, Any] = {"temperature": self.temperature} | options
        weights = ensemble.prompt_weights(self.fit.vectors, self.bank, **settings)
        mean = weights.mean(axis=1) if weights.ndim == 2 else weights
        return Outcome(self.score(ensemble.weighted_classifier(self.bank, weights)), weights, mean)

    def weigh_per_image(self) -> Outcome:
        """Score the ensemble with AutoCLIP's weights, which each image has of its own."""
        weights = ensemble.prompt_weights(self.images.vectors, self.bank, method="autoclip")
        result = ensemble.evaluate_per_image(self.images.vectors, self.bank, weights, self.images.labels)
        return Outcome(result, weights, weights.mean(axis=0))

    def weigh_on_halves(self) -> Outcome:
        """Score each half of the images with weights from the other half."""

        def classifier(vectors: np.ndarray) -> np.ndarray:
            weights = ensemble.prompt_weights(vectors, self.bank, temperature=self.temperature)
            return ensemble.weighted_classifier(self.bank, weights)

        return self._on_halves(classifier)

    def enrich(self, kind: str, weighted: bool = True, labels: bool = False) -> Outcome:
        """Score the bare names with texts added to the flagged classes."""
        classifier, weights = self._enriched(
            kind, self.fit.vectors if weighted else None, self.fit.labels if labels else None
        )
        return Outcome(self.score(classifier), text_weights=weights)

    def enrich_on_halves(self, kind: str) -> Outcome:
        """Score each half of the images with texts weighted on the other half."""
        return self._on_halves(lambda vectors: self._enriched(kind, vectors, None)[0])

    def correct(self, name: str) -> Outcome:
        """Score a row of `clipnb.paper.corrections` on the bare names."""
        images = self.images
        result = corrections.corrected(
            name,
            images.vectors,
            self.bare,
            images.labels,
            self.bank,
            self.logit_scale,
            self.seed,
            reference=self.fit.vectors,
            renamed=self.renamed,
        )
        return Outcome(result)

    def _enriched(self, kind: str, vectors: np.ndarray | None, labels: np.ndarray | None) -> tuple[np.ndarray, dict]:
        return ensemble.description_classifier(self.bare, self.texts[kind], vectors, labels, self.temperature)

    def _on_halves(self, classifier: Callable[[np.ndarray], np.ndarray]) -> Outcome:
        vectors = self.images.vectors
        result = ensemble.evaluate_on_halves(
            vectors, lambda rows: classifier(vectors[rows]), self.images.labels, seed=self.seed
        )
        return Outcome(result)


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    family: str  # the method that brings this row
    needs: frozenset[
        str
    ]  # "single", "templates", "labels", "names", or a kind of texts ("descriptions", "keywords", ...)
    run: Callable[[Experiment], Outcome]


def _template_row(
    name: str, run: Callable[[Experiment], Outcome], family: str = "cmm", needs: str = "templates"
) -> Row:
    return Row(name, family, frozenset(needs.split()), run)


def _text_row(name: str, run: Callable[[Experiment], Outcome], kind: str, needs: str = "", family: str = "") -> Row:
    return Row(name, family or kind, frozenset(["descriptions", kind, *needs.split()]), run)


BARE = Row("bare", "bare", frozenset(), lambda e: Outcome(e.score(e.bare)))
_TEMPLATE_ROWS = (
    _template_row("single", lambda e: Outcome(e.score(e.single)), "single", "single"),
    _template_row("uniform", lambda e: e.weigh(method="uniform"), "uniform"),
    _template_row("zpe", lambda e: e.weigh(method="zpe"), "zpe"),
    _template_row("autoclip", Experiment.weigh_per_image, "autoclip"),
    _template_row("cmm", Experiment.weigh),
    _template_row("cmm-class-means", lambda e: e.weigh(reduction="class")),
    _template_row("cmm-worst", lambda e: e.weigh(worst_k=e.worst_k)),
    _template_row("cmm-per-class", lambda e: e.weigh(per_class=True)),
    _template_row("cmm-top", lambda e: e.weigh(top_m=-(-len(e.bank) // 2), temperature=np.inf)),
    _template_row("cmm-half", Experiment.weigh_on_halves),
    _template_row("greedy", lambda e: e.weigh(method="greedy", labels=e.fit.labels), "greedy", "templates labels"),
    _template_row("oracle", lambda e: e.weigh(labels=e.fit.labels), "oracle", "templates labels"),
)
_TEXT_ROWS = (
    _text_row("descriptions", lambda e: e.enrich("descriptions"), "descriptions"),
    _text_row("descriptions-uniform", lambda e: e.enrich("descriptions", weighted=False), "descriptions"),
    _text_row("descriptions-half", lambda e: e.enrich_on_halves("descriptions"), "descriptions"),
    _text_row("descriptions-oracle", lambda e: e.enrich("descriptions", labels=True), "descriptions", "labels"),
    _text_row("keywords", lambda e: e.enrich("keywords"), "keywords"),
    _text_row("random", lambda e: e.enrich("random"), "random"),
    _text_row("random-letters", lambda e: e.enrich("random-letters"), "random-letters", family="random"),
    _text_row("shuffled", lambda e: e.enrich("shuffled"), "shuffled"),
)
# Later methods start from the bare names. CARPRT, which weights prompts, needs the templates.
_CORRECTION_NEEDS = {"carprt": ["templates"], "real-prompt": ["names"]}
_CORRECTION_ROWS = tuple(
    Row(
        name,
        name.removesuffix(corrections.HALF),
        frozenset(_CORRECTION_NEEDS.get(name.removesuffix(corrections.HALF), [])),
        lambda experiment, name=name: experiment.correct(name),
    )
    for name in (*corrections.NAMES, *corrections.HALVES)
)
ROWS = (BARE, *_TEMPLATE_ROWS, *_CORRECTION_ROWS, *_TEXT_ROWS)
TEMPLATE_ROWS = tuple(row.name for row in _TEMPLATE_ROWS)
TEXT_ROWS = tuple(row.name for row in _TEXT_ROWS)
METHODS = ("all", *dict.fromkeys(row.family for row in ROWS[1:]))


@dataclass(frozen=True)
class MethodResults:
    """Results of methods and controls on the same images, with the weights and texts behind them."""

    results: dict[str, EvaluationResult]  # by row, "bare" first
    weights: dict[str, np.ndarray]  # of templates: (P,), (P, C) for cmm-per-class, (N, P) for autoclip
    mean_weights: dict[str, np.ndarray]  # (P,) their means over classes or images
    text_weights: dict[str, dict[int, np.ndarray]]  # of texts: row -> {class: (P_c,)}
    texts: dict[str, dict[int, list[str]]]  # kind of texts -> {class: texts}
    templates: list[str]
    flagged: np.ndarray  # indices of the classes that got texts, worst first
    not_run: dict[str, str] = field(default_factory=dict)  # row -> reason

    def rows(self, k: int = 10, seed: int = 0) -> list[dict]:
        """The table as `paired.compare` makes it, with the mean weight of each template ("weights")."""
        rows = paired.compare(self.results, k, self.flagged, seed=seed)
        for row in rows:
            if row["method"] in self.mean_weights:
                row["weights"] = dict(zip(self.templates, map(float, self.mean_weights[row["method"]])))
        return rows

    def against(self, main: str = "descriptions", k: int = 10, seed: int = 0) -> dict[str, dict]:
        """`main` minus every other row that gives texts to the same classes: {row: as `paired.paired_differences`}."""
        others = [row for row in self.results if row in TEXT_ROWS and row != main] if main in self.results else []
        return {
            row: paired.paired_differences(self.results[main], self.results[row], k, self.flagged, len(others), seed)
            for row in others
        }


def compare_methods(
    model: Model | WrappedModel,
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
    name_counts: Mapping[str, Mapping[str, int]] | None = None,
) -> MethodResults:
    """Score the bare names and one method, or all of them with their controls, on the same images.

    Rows from templates: single ("a photo of a {}."), uniform, zpe, autoclip, cmm; cmm by the margin of class means,
    over the worst classes only, per class, and as a plain mean of the better half of the templates; cmm-half, where
    each half of the images is weighted by the other half; greedy and oracle, which use the labels of `fit`.

    Later methods (`clipnb.paper.corrections`): real-prompt, where `name_counts` are known; carprt, nnn, frolic,
    sinkhorn and mlls, each also with each half of the images corrected by the other half; transclip and stata.

    Rows from texts, for the `enrich` classes that look worst without labels on `fit` (`margin.find_worst`), weighted by
    `ensemble.description_classifier`: descriptions; descriptions with equal weights, with each half weighted by the
    other half, and weighted by labels (oracle); and, as controls, keywords, random words, random letters, and the
    descriptions of another class.

    Args:
        model: from `clipnb.load_model`, to encode prompts.
        images: labelled images to report on.
        classnames: C names.
        fit: images that determine the weights and the choice of classes; None: `images`. Labels are used by oracles
            only.
        method: one of `METHODS`; a method brings its variants ("cmm": "cmm-worst" and so on).
        templates: prompt templates to build the ensembles from.
        descriptions: {classname: texts}. Without any for a flagged class, the rows from texts are not run.
        keywords: {classname: keywords}, or None.
        worst_k: number of classes that "cmm-worst" looks at.
        enrich: how many classes get texts; all if there are fewer.
        temperature: of every softmax, in units of cosine.
        seed: seed of the halves and of the random words.
        name_counts: {classname: {name: in how many captions it stands}} for `prompts.most_frequent_names`, or None.

    Raises:
        InputError: an argument is unknown or out of range, or `fit` is of another model.

    >>> from clipnb import encode_images, load_dataset, load_model
    >>> model, data = load_model(), load_dataset("emoji").take(20)
    >>> results = compare_methods(model, encode_images(model, data), data.classnames, method="uniform")
    >>> list(results.results), results.weights["uniform"].round(3).max()
    (['bare', 'uniform'], np.float64(0.1))
    """
    one_of(method, "method", METHODS)
    fit_images = images if fit is None else fit
    for name, value in (("images", images), ("fit", fit_images)):
        require_attribute(value, name, "provenance", "clipnb.encode_images")
    for name, texts in (("descriptions", descriptions), ("keywords", keywords)):
        if texts is not None:
            describe.check_texts(texts, name)
    whole_number(worst_k, "worst_k", 1)
    whole_number(enrich, "enrich", 1)
    generator(seed)
    if not real_number(temperature, "temperature") > 0:
        raise InputError(f"Expected `temperature` > 0, got {temperature}")
    templates = check_templates(templates)
    width = images.vectors.shape[1]
    if len(images.vectors) and len(fit_images.vectors) and fit_images.vectors.shape[1] != width:
        raise InputError(
            f"Expected `fit` of width D = {width}, got {fit_images.vectors.shape[1]}: vectors of another model"
        )

    wanted = [row for row in ROWS[1:] if method in ("all", row.family)]
    needs = frozenset().union(*(row.needs for row in wanted))
    bank = _prompt_bank(model, classnames, templates, needs)
    renamed = _most_frequent(model, classnames, name_counts or {}) if "names" in needs else None
    flagged = margin.find_worst(fit_images.vectors, bank["{}"])[:enrich]
    groups, flagged = _texts_by_kind(classnames, flagged, descriptions, keywords, needs, seed)
    experiment = Experiment(
        images=images,
        fit=fit_images,
        bare=bank["{}"],
        single=bank.get(SINGLE, bank["{}"]),
        bank=np.stack([bank[t] for t in templates]) if "templates" in needs else np.empty((0, *bank["{}"].shape)),
        texts=_encoded(model, groups),
        renamed=renamed,
        worst_k=worst_k,
        temperature=temperature,
        logit_scale=model.logit_scale,
        seed=seed,
    )
    available = {"single", "templates", *groups, *(["labels"] if (fit_images.labels >= 0).any() else [])}
    available |= set() if renamed is None else {"names"}
    outcomes, not_run = {BARE.name: BARE.run(experiment)}, {}
    if method == "all":
        not_run["another backbone"] = "no second model is shipped; run again with another model"
    for row in wanted:
        if row.needs <= available:
            outcomes[row.name] = row.run(experiment)
        else:
            not_run[row.name] = next(reason for need, reason in REASONS.items() if need in row.needs - available)
    return MethodResults(
        results={name: outcome.result for name, outcome in outcomes.items()},
        weights={name: outcome.weights for name, outcome in outcomes.items() if outcome.weights is not None},
        mean_weights={
            name: outcome.mean_weights for name, outcome in outcomes.items() if outcome.mean_weights is not None
        },
        text_weights={
            name: outcome.text_weights for name, outcome in outcomes.items() if outcome.text_weights is not None
        },
        texts=groups,
        templates=templates,
        flagged=flagged,
        not_run=not_run,
    )


def _prompt_bank(
    model: Model | WrappedModel, classnames: Sequence[str], templates: list[str], needs: frozenset[str]
) -> dict[str, np.ndarray]:
    """Text vectors (C, D) of the bare names and of the templates that some row needs."""
    single = [SINGLE] if "single" in needs else []
    used: list[str] = list(dict.fromkeys([*(templates if "templates" in needs else []), "{}", *single]))
    vectors = prompt_vectors(model, classnames, used)
    return {template: vectors[i] for i, template in enumerate(used)}


def _most_frequent(
    model: Model | WrappedModel, classnames: Sequence[str], counts: Mapping[str, Mapping[str, int]]
) -> np.ndarray | None:
    """Text vectors (C, D) of each class's most frequent name; None if no count is known."""
    known = {name: counts.get(name, {}) for name in classnames}
    if len(known) < len(classnames) or not any(known.values()):
        return None
    return prompt_vectors(model, most_frequent_names(known), ["{}"])[0]


def _texts_by_kind(
    classnames: Sequence[str],
    flagged: np.ndarray,
    descriptions: Mapping[str, Sequence[str]] | None,
    keywords: Mapping[str, Sequence[str]] | None,
    needs: frozenset[str],
    seed: int,
) -> tuple[dict[str, dict[int, list[str]]], np.ndarray]:
    """The texts of each kind that some row needs, by class, and the flagged classes that get them."""
    if "descriptions" not in needs:
        return {}, flagged
    index = {classnames[int(c)]: int(c) for c in flagged}
    described = (
        {name: list(descriptions[name]) for name in index if name in (descriptions or {})} if descriptions else {}
    )
    if not described:
        return {}, flagged
    kinds: dict[str, Callable[[], Mapping[str, list[str]]]] = {
        "descriptions": lambda: described,
        "random": partial(describe.random_words, described, seed),
        "random-letters": partial(describe.random_words, described, seed, letters=True),
        "shuffled": partial(describe.shuffled, described),
    }
    if keywords:
        own = {name: keywords.get(name, []) for name in described}
        kinds["keywords"] = partial(describe.keyword_texts, own, max(map(len, described.values())))
    groups = {
        kind: {index[name]: list(texts) for name, texts in make().items()}
        for kind, make in kinds.items()
        if kind in needs
    }
    return groups, np.array([index[name] for name in described])


def _encoded(
    model: Model | WrappedModel, groups: Mapping[str, Mapping[int, list[str]]]
) -> dict[str, dict[int, np.ndarray]]:
    """Text vectors of all kinds of texts, each text encoded once."""
    texts = list(dict.fromkeys(text for group in groups.values() for listed in group.values() for text in listed))
    vectors = dict(zip(texts, encode_texts(model, texts))) if texts else {}
    return {
        kind: {c: np.stack([vectors[text] for text in listed]) for c, listed in group.items()}
        for kind, group in groups.items()
    }


# Names of the differences in a table for people.
STATISTICS = {
    "accuracy": "accuracy",
    "flagged_accuracy": "flagged",
    "worst_k_chosen": "chosen worst",
    "classes_at_zero": "at 0 %",
    "harmonic_mean_floored": "floored",
}


def table_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row of `MethodResults.rows` as text: percent with intervals, and what differs beyond chance from bare
    names.

    >>> rows = paired.compare({"bare": evaluate(np.eye(2), np.eye(2), [0, 1])}, k=1)
    >>> table_row(rows[0])["accuracy %"], table_row(rows[0])["worst-1 %"]
    ('100.0 [15.8, 100.0]', '100.0')
    """
    k, differences = row["worst_k"], row.get("difference", {})

    def score(name: str) -> str:
        return _percent(row.get(name), row.get(f"{name}_ci"), ".1f")

    def change(name: str) -> str:
        return _percent(differences[name]["value"], differences[name]["ci"], "+.1f") if name in differences else "-"

    verdicts = [
        f"{STATISTICS[name]} {difference['verdict']}"
        for name, difference in differences.items()
        if difference["verdict"] in ("better", "worse")
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
        "at 0 %": score_text(row["classes_at_zero"], *row["classes_at_zero_ci"], spec=".0f"),
        "harmonic %": score("harmonic_mean"),
        "floored %": score("harmonic_mean_floored"),
        "beyond chance": ", ".join(verdicts) or ("none" if differences else ""),
    }


def _percent(value: float | None, ci: Sequence[float] | None, spec: str) -> str:
    """A fraction in percent without the sign, which stands in the head of the column."""
    low, high = (100 * end for end in ci) if ci else (None, None)
    return score_text(None if value is None else 100 * value, low, high, spec)


__getattr__ = renamed(__name__, {"Comparison": "MethodResults", "shown": "table_row"})
