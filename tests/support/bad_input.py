"""The table behind `test_bad_input` and the page "What is promised": one valid call of every public function, and
what to spoil in it.

An argument has a kind (KINDS, by its name); a kind has mutations (MUTATIONS); each mutation must be refused unless
ALLOWED says why not.
"""

import inspect
import json
import re
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

import clipnb
from clipnb import describe, errors
from clipnb.describe import llm
from clipnb.embeddings import Embeddings
from clipnb.paper import corrections, tails

SLOWEST = 10  # seconds of processor time of the calling thread, which other work on the machine hardly changes
SLOW = (
    "audit",
    "load_model",
    "methods.compare_methods",
    "reproduce.reproduce",
    "reproduce.run",
    "reproduce.rehearse",
)  # valid calls are made once
EYE, NAN = np.eye(3), float("nan")
BANK = np.stack([EYE, EYE[[1, 0, 2]]])


def changed(value, place, new):
    array = np.array(value, dtype=float)
    array.flat[place] = new
    return array


def shaped(value):
    return np.asarray(value).shape


NOT_NUMBERS = {
    "wrong type: text": lambda v: "text",
    "wrong type: None": lambda v: None,
    "wrong type: dict": lambda v: {"a": 1},
    "wrong type: object": lambda v: object(),
    "wrong dtype: strings": lambda v: np.full(shaped(v), "a"),
    "wrong dtype: objects": lambda v: np.full(shaped(v), None),
    "wrong device: meta": lambda v: torch.empty(shaped(v), device="meta"),
    "wrong shape: a dimension more": lambda v: np.asarray(v)[None],
    "wrong shape: a single number": lambda v: 3.5,
    "wrong shape: ragged": lambda v: [[1.0], [1.0, 2.0]],
}
FLOATS = {
    **NOT_NUMBERS,
    "wrong dtype: complex": lambda v: np.asarray(v).astype(complex),
    "NaN": lambda v: changed(v, 0, NAN),
    "infinity": lambda v: changed(v, 0, np.inf),
    "huge: beyond single precision": lambda v: changed(v, 0, 1e300),
    "empty": lambda v: np.asarray(v)[:0],
    "mismatched: wider": lambda v: np.concatenate([v, v], axis=-1),
    "mismatched: longer": lambda v: np.concatenate([v, v], axis=0),
}
UNIT_VECTORS = {
    **FLOATS,
    "not of unit norm": lambda v: 1.1 * np.asarray(v),
    "not of unit norm: a row of zeros": lambda v: np.concatenate([0 * np.asarray(v)[:1], np.asarray(v)[1:]]),
}
INDICES = {
    **NOT_NUMBERS,
    "wrong dtype: float": lambda v: np.asarray(v, dtype=float),
    "wrong dtype: bool": lambda v: np.asarray(v) > 0,
    "NaN": lambda v: changed(v, 0, NAN),
    "negative": lambda v: np.asarray(v) - 2,
    "huge": lambda v: np.asarray(v) + 2**40,
    "huge: unsigned": lambda v: np.full(shaped(v), 2**64 - 1, dtype=np.uint64),
    "empty": lambda v: [],
    "mismatched: longer": lambda v: [*v, *v],
}
TRUTHS = {
    **NOT_NUMBERS,
    "NaN": lambda v: changed(v, 0, NAN),
    "negative": lambda v: changed(v, 0, -1),
    "huge": lambda v: changed(v, 0, 1e300),
    "empty": lambda v: np.asarray(v)[:0],
    "mismatched: longer": lambda v: np.concatenate([v, v], axis=0),
}
NUMBER = {
    "wrong type: text": lambda v: "1",
    "wrong type: None": lambda v: None,
    "wrong type: list": lambda v: [1],
    "wrong type: bool": lambda v: True,
    "wrong type: array": lambda v: np.array([1.0, 2.0]),
    "NaN": lambda v: NAN,
    "negative": lambda v: -3,
}
COUNT = {**NUMBER, "wrong type: fraction": lambda v: 1.5, "infinity": lambda v: float("inf"), "huge": lambda v: 10**30}
STRINGS = {
    "wrong type: one string": lambda v: "cat",
    "wrong type: None": lambda v: None,
    "wrong type: number": lambda v: 5,
    "wrong type: numbers inside": lambda v: [1, 2, 3],
    "wrong type: None inside": lambda v: [None, *v[1:]],
    "empty": lambda v: [],
    "empty: a blank": lambda v: [" ", *v[1:]],
    "no Unicode": lambda v: ["a\ud800" + v[0], *v[1:]],
}
TEXT = {
    "wrong type: None": lambda v: None,
    "wrong type: number": lambda v: 5,
    "wrong type: list": lambda v: ["a"],
    "empty": lambda v: "",
}
THING = {"wrong type: text": lambda v: "text", "wrong type: None": lambda v: None, "wrong type: number": lambda v: 5}
FILE = {
    **TEXT,
    "not there": lambda v: "no/such/thing",
    "a zero byte": lambda v: "a\0b",
    "huge: a long name": lambda v: "a" * 5000,
}
TEXTS_BY_NAME = {
    "wrong type: text": lambda v: "text",
    "wrong type: None": lambda v: None,
    "wrong type: list": lambda v: ["cat"],
    "empty": lambda v: {},
    "wrong type: a text each": lambda v: {"cat": "a cat"},
    "wrong type: numbers inside": lambda v: {"cat": [1]},
}
MUTATIONS = {
    "floats": FLOATS,
    "unit vectors": UNIT_VECTORS,
    "indices": INDICES,
    "truths": TRUTHS,
    "count": COUNT,
    "strings": STRINGS,
    "text": TEXT,
    "thing": THING,
    "file": FILE,
    "number": {**NUMBER, "huge": lambda v: 1e300, "infinity": lambda v: float("inf")},
    "texts": TEXTS_BY_NAME,
    "templates": {
        **STRINGS,
        "no slot": lambda v: ["cat"],
        "two slots": lambda v: ["{} {}"],
        "duplicate": lambda v: [v[0], v[0]],
    },
    "folder": {**{key: FILE[key] for key in FILE if key != "not there"}, "a file": lambda v: __file__},
    "option": {**TEXT, "unknown": lambda v: "no such option"},
    "depths": {
        **{key: COUNT[key] for key in COUNT if key.startswith("wrong type")},
        "empty": lambda v: (),
        "negative": lambda v: (-1,),
        "zero": lambda v: (0, 1),
        "wrong type: fractions": lambda v: (1.5,),
    },
    "weights": {
        "wrong type: text": lambda v: "text",
        "wrong type: object": lambda v: object(),
        "negative": lambda v: [-1.0],
        "NaN": lambda v: [NAN],
        "mismatched: longer": lambda v: np.ones(50),
    },
    "flag": {},
    "free": {},
    "images": {
        "wrong type: text": lambda v: "text",
        "wrong type: None": lambda v: None,
        "wrong type: number": lambda v: 5,
        "wrong type: None inside": lambda v: [None, *v[1:]],
        "wrong shape: a row inside": lambda v: [np.zeros(3), *v[1:]],
        "empty": lambda v: [],
        "empty: inside": lambda v: [np.zeros((0, 3, 3)), *v[1:]],
        "wrong shape: five colours": lambda v: [np.zeros((4, 4, 5)), *v[1:]],
        "NaN": lambda v: [np.full((4, 4, 3), NAN), *v[1:]],
        "mismatched: longer": lambda v: [*v, *v],
    },
    "pair": {
        **THING,
        "empty": lambda v: (),
        "mismatched: longer": lambda v: (v[0], [*v[1], True]),
        "NaN": lambda v: ([NAN, *v[0][1:]], v[1]),
        "wrong type: texts inside": lambda v: (["a"] * len(v[0]), v[1]),
        "no positive": lambda v: (v[0], [False] * len(v[1])),
    },
    "scores by depth": {
        **THING,
        "wrong type: list": lambda v: [0.5],
        "empty": lambda v: {},
        "negative": lambda v: {-1: 0.5},
        "wrong type: depth in words": lambda v: {"one": 0.5},
        "wrong type: a text each": lambda v: {1: "a"},
        "huge": lambda v: {1: 5.0},
        "mismatched: too deep": lambda v: {50: 0.5},
    },
}
KINDS = {
    "unit vectors": "vectors classifier bank reference",
    "floats": "similarity scores confusion cmm per_class a b x y samples weights confidence_of recall precision margin "
    "offset",
    "indices": "predictions labels predictions_a predictions_b classes flagged indices",
    "truths": "relevant positives correct correct_a correct_b",
    "count": "k num_classes resamples seed splits bins n successes worst_k top_m batch_size workers batch_tokens "
    "rivals min_images count words "
    "concurrency attempts retries max_tokens shard_size enrich most max_images columns top per_cell",
    "number": "confidence floor temperature entropy logit_scale logit_bias synonym_cosine majority significance "
    "name_weight max_cost per_minute timeout "
    "chance mean spearman average_precision base_rate rare_share rare_recall common_accuracy",
    "strings": "classnames texts prompts",
    "templates": "templates pool",
    "text": "classname template answer text made category",
    "option": "reduction method nan device precision decoder bad_images baseline kind name spec like",
    "depths": "ks",
    "scores by depth": "recall_at_k",
    "file": "file path source folder",
    "folder": "store cache",
    "thing": "model data questions images result fit results table",
    "flag": "progress trust_pickle partial letters fix_names allow_rivals per_class_weights complete",
    "free": "ax log settings question steps api_base price pretrained",
    "weights": "sample_weight",
}
KIND = {name: kind for kind, names in KINDS.items() for name in names.split()} | {"offset": "free"}

UNCHECKED = {"data": "free", "result": "free"}  # what clipnb made itself is not checked again
QUESTION = describe.Question("cat", ("dog",))
ASKER = {"model": "openai/x", "cache": Path(tempfile.gettempdir(), "clipnb-no-answers"), "price": (0.0, 0.0)}
VECTORS = {"vectors": EYE, "classifier": EYE}
LABELLED = {**VECTORS, "labels": [0, 1, 2]}
TWO_SCORES = ([0.1, 0.2, 0.3], [False, True, True])
PER_CLASS = {"per_class": [0.1, 0.5, 0.9]}
MODEL_OPTIONS = {"classnames": ["cat", "dog", "pig"], "templates": ["{}", "a {}."]}


class Lazy:
    """Things that take a moment to make, made once."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())

    def __getattr__(self, name):
        made = getattr(type(self), f"make_{name}")(self)
        setattr(self, name, made)
        return made

    def make_model(self):
        return clipnb.load_model(device="cpu")

    def make_quick_model(self):
        return clipnb.wrap_model(
            lambda images: np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images]),  # the mean colours
            lambda texts: np.ones((len(texts), 3)),
            "mean colours",
        )

    def make_data(self):
        for name in ("cat", "dog"):
            (self.folder / "photos" / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (8, 8), (90 * i, 50, len(name) * 20)).save(self.folder / "photos" / name / f"{i}.png")
        return clipnb.load_dataset(f"folder:{self.folder / 'photos'}")

    def make_images(self):
        return Embeddings(
            np.eye(256, dtype=np.float32)[:4],
            np.array([0, 0, 1, 1]),
            list("abcd"),
            ["cat", "dog"],
            {"model_fingerprint": "x"},
        )

    def make_store(self):
        Embeddings(EYE.astype(np.float32), np.arange(3), list("abc"), ["x", "y", "z"]).save(self.folder / "store")
        return self.folder / "store"

    def make_result(self):
        return clipnb.evaluate(EYE, EYE, [0, 1, 2])

    def make_scored(self):  # of `data`
        return clipnb.evaluate(EYE[[0, 0, 1, 0]], EYE[:2], [0, 0, 1, 1])

    def make_paradox(self):
        return clipnb.widgets.ParadoxExplorer()

    def make_weighing(self):
        return clipnb.widgets.PromptWeightExplorer(["a {}", "b {}"], [0.1, 0.2])

    def make_tail(self):
        return clipnb.widgets.TailExplorer(tails.load(large=True), tails.worst_named())

    def make_names(self):
        return clipnb.widgets.NameExplorer(tails.nearest_of_each())

    def make_atlas(self):
        return clipnb.widgets.ClassAtlas(self.data, self.scored)

    def make_editor(self):
        return clipnb.widgets.ConfusionEditor([[3, 1], [0, 2]], ["cat", "dog"])

    def make_transfer(self):
        return clipnb.widgets.TransferExplorer(TWO_SCORES, TWO_SCORES)

    def make_pairs(self):
        Image.new("RGB", (8, 8)).save(self.folder / "pair.png")
        return self.file("pairs.csv", "image,caption\npair.png,a square\n")

    def make_report(self):
        return clipnb.audit(self.data, self.model, made="today")

    def make_csv(self):
        return self.file("p.csv", "id,label,prediction\n1,cat,dog\n2,dog,dog\n")

    def make_run(self):
        content = {"dataset": "x", "n": 2, "classes": 2, "accuracy": 0.5, "accuracy_ci": [0.1, 0.9]}
        return self.file("run.json", json.dumps(content))

    def file(self, name, text):
        (self.folder / name).write_text(text, "utf-8")
        return self.folder / name


def drawn(**given):
    return given | {"ax": Figure().subplots()}


def unit_rows(count, width):
    rows = np.random.default_rng(0).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


made = Lazy()
# name: (a valid call's arguments, kinds of arguments that are called alike elsewhere)
ROWS = {
    "audit": (
        lambda: {
            "dataset": made.data,
            "model": made.model,
            "made": "today",
            "classes": made.file("n.txt", "cat\ndog\n"),
            "worst_k": 2,
        },
        {
            "dataset": "thing",
            "classes": "file",
            "descriptions": "file",
            "templates": "option",
            "worst_k": "count",
            "device": "free",
            "precision": "free",
            "like": "free",
            "made": "free",
        },
    ),
    "load_model": (dict, {"trust_pickle": "truth", "pretrained": "option"}),
    "wrap_model": (
        lambda: {"encode_images": np.ones, "encode_texts": np.ones, "name": "mine"},
        {"encode_images": "thing", "encode_texts": "thing", "name": "text"},
    ),
    "load_dataset": (dict, {}),
    "load_splits": (dict, {}),
    "datasets.load_splits": (dict, {}),
    "encode_images": (lambda: {"model": made.model, "data": made.data}, {}),
    "encode_texts": (lambda: {"model": made.model, "texts": ["cat"]}, {}),
    "prompt_vectors": (lambda: dict(model=made.model, **MODEL_OPTIONS), {}),
    "zero_shot_classifier": (lambda: dict(model=made.model, **MODEL_OPTIONS), {}),
    "evaluate": (lambda: dict(LABELLED), {}),
    "evaluate_prompts": (lambda: {"vectors": EYE, "bank": BANK, "labels": [0, 1, 2]}, {}),
    "evaluate_store": (lambda: {"folder": made.store, "classifier": EYE}, {}),
    "evaluate_predictions": (
        lambda: {
            "predictions": [0, 1, 1],
            "labels": [0, 1, 1],
            "classnames": ["cat", "dog"],
            "topk": [[0, 1], [1, 0], [1, 0]],
            "scores": [0.1, 0.2, 0.3],
        },
        {"topk": "free"},
    ),
    "predictions.read_predictions": (
        lambda: {"path": made.csv, "classnames": ["cat", "dog"]},
        {"labels": "free"},
    ),
    "predictions.write_predictions": (
        lambda: {
            "path": made.folder / "out.parquet",
            "ids": ["a", "b", "c"],
            "result": made.result,
            "classnames": ["cat", "dog", "pig"],
        },
        {"ids": "free", "about": "free"},
    ),
    "report.audit_predictions": (
        lambda: {"predictions": made.csv, "classnames": ["cat", "dog"], "made": "today"},
        {"predictions": "file", "images": "file", "labels": "free"},
    ),
    "report.compare_predictions": (
        lambda: {"a": made.csv, "b": made.csv, "classnames": ["cat", "dog"], "made": "today"},
        {"a": "file", "b": "file", "labels": "free"},
    ),
    "report.tabulate": (lambda: {"paths": [made.run], "k": 1, "made": "today"}, {"paths": "paths"}),
    "report.model_card": (lambda: {"summary": {"dataset": "x", "accuracy": 0.5}}, {"summary": "thing"}),
    "report.write_model_card": (
        lambda: {"path": made.folder / "card.md", "summary": {"dataset": "x", "accuracy": 0.5}},
        {"summary": "thing"},
    ),
    "datasets.read_classnames": (lambda: {"file": made.file("names.txt", "cat\ndog\n")}, {}),
    "EvaluationResult.merge": (lambda: {"parts": [made.result]}, {"parts": "free"}),
    "EvaluationResult.summary": (lambda: {"self": made.result, "k": 1}, {"self": "free"}),
    "EvaluationResult.scores": (lambda: {"self": made.result, "k": 1}, {"self": "free"}),
    "Embeddings.load": (lambda: {"folder": made.store}, {}),
    "Embeddings.save": (
        lambda: {"self": made.images, "folder": made.folder / "new"},
        {"self": "free", "folder": "folder"},
    ),
    "metrics.accuracy": (lambda: {"predictions": [0, 1, 1], "labels": [0, 1, 2]}, {}),
    "metrics.recall_at_k": (lambda: {"similarity": EYE, "labels": [0, 1, 2], "k": 1}, {}),
    "metrics.retrieval_recall_at_k": (lambda: {"similarity": EYE, "relevant": EYE, "k": 1}, {}),
    "metrics.confusion_matrix": (lambda: {"predictions": [0, 1, 1], "labels": [0, 1, 2], "num_classes": 3}, {}),
    "metrics.per_class_accuracy": (lambda: {"confusion": EYE}, {}),
    "metrics.per_class_precision": (lambda: {"confusion": EYE}, {}),
    "metrics.mean_per_class_accuracy": (lambda: {"confusion": EYE}, {}),
    "metrics.precision_recall_curve": (lambda: {"scores": [0.9, 0.8, 0.3], "positives": [1, 0, 1]}, {}),
    "metrics.average_precision": (lambda: {"scores": [0.9, 0.8, 0.3], "positives": [1, 0, 1]}, {}),
    "intervals.wilson_interval": (lambda: {"successes": 1, "n": 3}, {}),
    "intervals.area_under_roc": (lambda: {"scores": [1.0, 2, 3], "positives": [0, 1, 1]}, {}),
    "intervals.paired_difference": (lambda: {"correct_a": [1, 0, 1], "correct_b": [0, 0, 1]}, {}),
    "intervals.rank_correlation": (lambda: {"x": [1.0, 2, 3], "y": [3.0, 1, 2]}, {}),
    "intervals.rank_correlation_difference": (lambda: {"a": [1.0, 2, 3], "b": [3.0, 1, 2], "y": [1.0, 3, 2]}, {}),
    "metrics.label_rank": (lambda: {"similarity": EYE, "labels": [0, 1, 2]}, {}),
    "intervals.percentile_interval": (lambda: {"samples": [1.0, 2, 3]}, {}),
    "intervals.mcnemar": (lambda: {"correct_a": [1, 0, 1], "correct_b": [0, 0, 1]}, {}),
    "metrics.calibration_bins": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "correct": [0, 1, 1]},
        {"confidence": "floats"},
    ),
    "metrics.expected_calibration_error": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "correct": [0, 1, 1]},
        {"confidence": "floats"},
    ),
    "metrics.risk_coverage_curve": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "right": [0, 1, 1]},
        {"confidence": "floats", "right": "truths"},
    ),
    "metrics.area_under_risk_coverage": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "right": [0, 1, 1]},
        {"confidence": "floats", "right": "truths"},
    ),
    "reject.choose_threshold": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "right": [0, 1, 1]},
        {"confidence": "floats", "right": "truths", "precision": "number"},
    ),
    "reject.confirm": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "right": [0, 1, 1], "threshold": 0.5},
        {"confidence": "floats", "right": "truths", "precision": "number", "threshold": "number"},
    ),
    "reject.confirm_on_halves": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "right": [0, 1, 1], "half": [0, 1, 1]},
        {"confidence": "floats", "right": "truths", "precision": "number", "half": "truths"},
    ),
    "reject.accepted_by_class": (
        lambda: {
            "confidence": [0.2, 0.7, 0.9],
            "predictions": [0, 1, 1],
            "labels": [0, 1, 0],
            "num_classes": 2,
            "threshold": 0.5,
            "none": [0, 0, 1],
        },
        {"confidence": "floats", "threshold": "number", "none": "truths"},
    ),
    "reject.none_of_these": (
        lambda: {"confidence": [0.2, 0.7, 0.9], "none": [0, 1, 1], "threshold": 0.5},
        {"confidence": "floats", "none": "truths", "threshold": "number"},
    ),
    "reject.set_aside": (
        lambda: {"labels": [0, 1, 2], "classnames": ["cat", "dog", "pig"], "names": ["pig"]},
        {"names": "strings"},
    ),
    "slices.find_slices": (
        lambda: {
            "predictions": [0, 1, 1],
            "labels": [0, 1, 0],
            "half": [0, 1, 1],
            "classes": [0, 1],
            "rivals": [1, 0, 1],
            "vectors": EYE,
            "words": EYE,
        },
        {"half": "truths", "rivals": "indices", "classes": "indices", "significance": "number", "words": "floats"},
    ),
    "retrieval.evaluate_retrieval": (
        lambda: {"image_vectors": EYE, "text_vectors": EYE, "image_of_text": [0, 1, 2]},
        {
            "image_vectors": "unit vectors",
            "text_vectors": "unit vectors",
            "image_of_text": "indices",
            "fold_size": "count",
        },
    ),
    "datasets.load_pairs": (
        lambda: {"spec": str(made.pairs)},
        {"spec": "file", "images": "file", "split": "text"},
    ),
    "multilabel.score_valid_labels": (
        lambda: {"predictions": [0, 1, 1], "valid_labels": [[0], [0, 1], []], "labels": [0, 1, 1], "num_classes": 2},
        {"valid_labels": "lists"},
    ),
    "datasets.load_valid_labels": (
        lambda: {"file": made.file("valid.json", json.dumps({i: [0] for i in made.data.ids})), "data": made.data},
        {},
    ),
    **{
        f"metrics.{name}": (lambda: {"scores": EYE, "positives": EYE}, {})
        for name in ("per_class_average_precision", "mean_average_precision")
    },
    "worst.worst_classes": (lambda: dict(PER_CLASS, k=1), {}),
    "worst.worst_k_accuracy": (lambda: dict(PER_CLASS, k=1), {}),
    "worst.worst_k_report": (
        lambda: {"predictions": [0, 1, 1, 1], "labels": [0, 0, 1, 1], "num_classes": 2, "k": 1},
        {},
    ),
    "worst.classes_at_zero": (lambda: dict(PER_CLASS), {}),
    "worst.harmonic_mean": (lambda: dict(PER_CLASS), {}),
    "worst.geometric_mean": (lambda: dict(PER_CLASS), {}),
    "worst.worst_k_reports": (
        lambda: {"predictions": [0, 1, 1, 1], "labels": [0, 0, 1, 1], "num_classes": 2, "ks": [1]},
        {},
    ),
    "worst.possible_worst": (
        lambda: {"right": [1, 2], "images": [2, 2], "k": 1},
        {"right": "floats", "images": "floats"},
    ),
    "paired.paired_differences": (
        lambda: {"result": made.result, "base": made.result, "k": 1, "flagged": [0]},
        {"result": "free", "base": "free", "comparisons": "count"},
    ),
    "paired.differences_of_predictions": (
        lambda: {"predictions": [0, 1, 1], "before": [1, 1, 0], "labels": [0, 1, 2], "num_classes": 3, "k": 1},
        {"before": "indices", "flagged": "free", "comparisons": "count"},
    ),
    "paired.chosen_on_halves": (
        lambda: {"right": [True, False, True, True], "labels": [0, 0, 1, 1], "num_classes": 2, "k": 1},
        {"right": "truths"},
    ),
    "intervals.proportion": (lambda: {"successes": 1, "n": 3}, {}),
    "intervals.mean_over_classes": (
        lambda: {"right": [1, 2], "images": [2, 2]},
        {"right": "floats", "images": "floats"},
    ),
    "intervals.mean_with_t": (lambda: {"values": [1.0, 2.0, 3.0]}, {"values": "floats"}),
    "intervals.clustered_accuracy": (lambda: {"correct": [1, 0, 1], "clusters": [0, 0, 1]}, {"clusters": "free"}),
    "metrics.hit_at_k": (lambda: {"similarity": EYE, "relevant": EYE, "k": 1}, {}),
    "metrics.per_class_f1": (lambda: {"confusion": EYE}, {}),
    "metrics.mean_per_class_f1": (lambda: {"confusion": EYE}, {}),
    "margin.class_wise_matching_margin": (lambda: dict(LABELLED), {}),
    "margin.image_margins": (lambda: dict(LABELLED), {}),
    "margin.worst_first": (lambda: {"cmm": [0.1, 0.2, 0.3]}, {}),
    "margin.worst_found": (lambda: dict(PER_CLASS, cmm=[0.1, 0.2, 0.3], k=1), {}),
    "margin.worst_auc": (lambda: dict(PER_CLASS, cmm=[0.1, 0.2, 0.3], k=1), {}),
    "margin.margin_intervals": (lambda: dict(LABELLED), {}),
    "margin.softmax_confidence": (lambda: dict(VECTORS), {}),
    "margin.prediction_confidence": (lambda: dict(VECTORS, logit_bias=-10.0), {}),
    "margin.nearest_text": (lambda: {"classifier": EYE}, {}),
    "margin.baseline_scores": (lambda: dict(VECTORS), {}),
    "margin.compare_scores": (lambda: dict(PER_CLASS, scores={"a": [0.1, 0.2, 0.3]}, k=1), {"scores": "thing"}),
    "explain.label_order": (lambda: {"predictions": [0, 1], "labels": [0, 1], "num_classes": 2}, {}),
    "explain.order_finding": (lambda: {"predictions": [0, 1], "labels": [0, 1], "classnames": ["cat", "dog"]}, {}),
    "explain.explain_classes": (
        lambda: {
            "classes": [0, 1],
            "confusion": EYE * 3,
            "cmm": [0.1, 0.2, 0.3],
            "classifier": EYE,
            "classnames": ["cat", "dog", "pig"],
        },
        {},
    ),
    "ensemble.prompt_margins": (lambda: {"vectors": EYE, "bank": BANK, "labels": [0, 1, 2]}, {}),
    "ensemble.prompt_weights": (
        lambda: {"vectors": EYE, "bank": BANK, "labels": [0, 1, 2], "reference": EYE},
        {"per_class": "flag"},
    ),
    "ensemble.softmax_weights": (lambda: {"scores": [1.0, 2, 3], "temperature": 1}, {}),
    "ensemble.weighted_classifier": (lambda: {"bank": BANK, "weights": [0.5, 0.5]}, {}),
    "ensemble.pseudo_labels": (lambda: dict(VECTORS), {}),
    "ensemble.description_classifier": (lambda: dict(LABELLED, descriptions={0: EYE[:2]}), {"descriptions": "thing"}),
    "ensemble.zpe_scores": (lambda: {"vectors": EYE, "bank": BANK, "reference": EYE}, {}),
    "ensemble.autoclip_weights": (lambda: {"vectors": EYE, "bank": BANK}, {}),
    "ensemble.evaluate_per_image": (
        lambda: {"vectors": EYE, "bank": BANK, "weights": np.full((3, 2), 0.5), "labels": [0, 1, 2]},
        {},
    ),
    "ensemble.evaluate_on_halves": (
        lambda: {"vectors": EYE, "fit": lambda rows: EYE, "labels": [0, 1, 2]},
        {"fit": "free"},
    ),
    "ensemble.class_bias": (
        lambda: dict(VECTORS, method="sinkhorn", reference=EYE),
        {"prior": "free", "neighbours": "count", "strength": "number"},
    ),
    "ensemble.carprt_scores": (lambda: {"vectors": EYE, "bank": BANK}, {}),
    "ensemble.evaluate_offset_on_halves": (
        lambda: dict(LABELLED, fit=lambda rows: np.zeros(3)),
        {"fit": "free"},
    ),
    "transductive.transclip": (lambda: dict(VECTORS), {"neighbours": "count", "iterations": "count"}),
    "transductive.stata": (lambda: dict(VECTORS), {"neighbours": "count", "iterations": "count", "anchor": "number"}),
    "corrections.corrected": (
        lambda: dict(LABELLED, method="nnn", bank=BANK, reference=EYE, renamed=EYE),
        {"bank": "free", "renamed": "free"},
    ),
    "corrections.few_classes": (lambda: {"labels": [0, 1, 2], "num_classes": 3}, {"share": "number"}),
    "corrections.table": (
        lambda: dict(LABELLED, bank=BANK, k=1, halves=False, comparisons=8),
        {"bank": "free", "halves": "free", "renamed": "free", "comparisons": "count"},
    ),
    "corrections.rows_run": (dict, {"bank": "free", "renamed": "free", "halves": "free"}),
    "corrections.over_shares": (
        lambda: dict(LABELLED, shares=[0.5, 1.0], methods=["nnn"]),
        {"shares": "floats", "methods": "strings"},
    ),
    "tails.load": (dict, {"large": "free"}),
    "tails.right_by_class": (lambda: {"row": clipnb.paper.tails.load().iloc[0]}, {"row": "thing"}),
    "tails.scores": (
        lambda: {"right": [0, 25, 50], "k": 1, "estimates": False},
        {"right": "indices", "estimates": "free"},
    ),
    "tails.table": (
        lambda: {"tails": clipnb.paper.tails.load().head(1)},
        {"tails": "thing", "estimates": "free"},
    ),
    "tails.zeros": (dict, {}),
    "tails.worst_named": (dict, {}),
    "tails.nearest_of_each": (dict, {}),
    "tails.nearest_names": (dict, {"of": "free"}),
    "tails.compare_prompts": (
        lambda: {"tails": clipnb.paper.tails.load(large=True), "before": "bare", "after": "single"},
        {"tails": "thing", "before": "option", "after": "option"},
    ),
    "margin.find_worst": (lambda: dict(VECTORS, k=2), {}),
    "paired.compare": (
        lambda: {"results": {"bare": made.result, "b": made.result}, "k": 1, "flagged": [0]},
        {"results": "free"},
    ),
    "describe.query": (lambda: {"classname": "cat", "rivals": ["dog"]}, {"rivals": "strings"}),
    "describe.load_query": (lambda: {"path": made.file("q.txt", "What is a {classname}?")}, {}),
    "describe.load_descriptions": (dict, {"source": "file"}),
    "describe.questions": (
        lambda: {"classnames": ["cat", "dog", "pig"], "classifier": EYE, "classes": [0, 1]},
        {"categories": "free"},
    ),
    "describe.check_answer": (lambda: {"answer": '["a cat"]', "question": QUESTION, "count": 1}, {"too_long": "free"}),
    "describe.unmatched": (lambda: {"by_class": {"cat": ["a cat"]}, "classnames": ["cat"]}, {"by_class": "texts"}),
    "describe.refusal": (lambda: {"text": "a cat"}, {}),
    "describe.shuffled": (lambda: {"by_class": {"cat": ["a cat"], "dog": ["a dog"]}}, {"by_class": "texts"}),
    "describe.random_words": (lambda: {"by_class": {"cat": ["a cat"], "dog": ["a dog"]}}, {"by_class": "texts"}),
    "describe.keyword_texts": (lambda: {"keywords": {"cat": ["pet"]}}, {"keywords": "texts"}),
    "methods.compare_methods": (
        lambda: {"model": made.model, "images": made.images, "classnames": ["cat", "dog"], "method": "uniform"},
        {"fit": "thing", "descriptions": "texts", "keywords": "texts", "name_counts": "free"},
    ),
    "datasets.open_imagenet": (dict, {"partial": "flag"}),
    "datasets.imagenet_classnames": (dict, {}),
    "datasets.repaired_classnames": (dict, {}),
    "datasets.synsets": (dict, {}),
    "datasets.synset_names": (dict, {}),
    "datasets.check_order": (lambda: {"classnames": clipnb.datasets.imagenet_classnames()}, {}),
    "datasets.scored_classnames": (lambda: {"data": made.data}, {"data": "free", "way": "free"}),
    "datasets.check_readable": (lambda: {"data": made.data}, {"data": "free"}),
    "rehearsal.make_benchmark": (lambda: {"classes": 60, "per_class": 2}, {"classes": "count", "per_class": "count"}),
    "reproduce.reproduce": (
        lambda: {
            "model": made.model,
            "images": made.images,
            "classnames": ["cat", "dog"],
            "templates": ["{}"],
            "pool": ["{}", "a {}."],
            "repaired": ["cat", "hound"],
        },
        {"descriptions": "texts", "repaired": "strings", "pool": "templates", "name_counts": "free"},
    ),
    "reproduce.run": (
        lambda: {"dataset": made.data.name, "model": "clipnb-mini", "pool": False, "templates": "bare"},
        {
            "imagenet": "file",
            "dataset": "option",
            "model": "option",
            "pretrained": "option",
            "templates": "option",
            "descriptions": "file",
            "pool": "flag",
        },
    ),
    "reproduce.rehearse": (lambda: {"classes": 60, "per_class": 2}, {"classes": "count", "per_class": "count"}),
    "reproduce.compare_published": (
        lambda: {
            "results": {
                "dataset": "x",
                "complete": False,
                "model": "m",
                "pretrained": "p",
                "templates": [],
                "tables": {"as named": []},
            }
        },
        {},
    ),
    "reproduce.check_results": (dict, {}),
    "reproduce.check_agreement": (dict, {}),
    "evaluation.worst_class_rows": (lambda: {"result": made.result, "classnames": ["cat", "dog", "pig"], "k": 2}, {}),
    "evaluation.margin_summary": (
        lambda: {"result": made.result, "vectors": EYE, "classnames": ["cat", "dog", "pig"], "k": 2},
        {},
    ),
    "zeroshot.hard_views": (lambda: {"model": made.quick_model, "classifier": unit_rows(628, 3)}, {}),
    "report.missed_gates": (
        lambda: {"summary": made.report.summary, "gates": {"accuracy": 0.5}},
        {"summary": "thing", "gates": "thing"},
    ),
    "reproduce.template_pool": (lambda: {"more": ["a {}."]}, {"more": "templates"}),
    "reproduce.pool_results": (lambda: {"vectors": EYE, "bank": BANK, "labels": [0, 1, 2]}, {}),
    "llm.LLMSettings": (lambda: dict(ASKER), {"model": "text", "cache": "folder", "api_base": "text", "price": "pair"}),
    "llm.ask": (
        lambda: {"settings": llm.LLMSettings(**ASKER), "questions": []},
        {"questions": "thing", "too_long": "free"},
    ),
    "llm.estimate": (lambda: {"settings": llm.LLMSettings(**ASKER), "questions": [QUESTION]}, {"questions": "thing"}),
    "prompts.template_set": (lambda: {"name": "bare"}, {}),
    "prompts.load_templates": (lambda: {"source": "bare"}, {}),
    "prompts.most_frequent_names": (lambda: {"counts": {"sofa": {"couch": 3, "sofa": 1}}}, {"counts": "free"}),
    "prompts.duplicate_classnames": (lambda: {"classnames": ["cat", "dog"]}, {}),
    "prompts.fix_names": (lambda: {"classnames": ["cat", "dog"]}, {}),
    "prompts.near_duplicate_classnames": (lambda: {"classnames": ["cat", "dog"]}, {}),
    "prompts.lint": (
        lambda: {"classnames": ["cat", "dog"], "templates": ["{}"], "model": made.model},
        {"model": "free"},
    ),
    "prompts.check_templates": (lambda: {"templates": ["{}"]}, {"name": "free"}),
    "prompts.truncated_prompts": (lambda: {"model": made.model, "prompts": ["cat"]}, {"model": "free"}),
    "report.compare": (lambda: {"a": made.report, "b": made.report}, {"a": "thing", "b": "thing"}),
    "report.Report.load": (dict, {}),
    "datasets.with_classes": (
        lambda: {"data": made.data, "file": made.file("n.txt", "cat\ndog\n")},
        {"data": "free", "file": "file"},
    ),
    "datasets.labelled": (lambda: {"data": made.data, "per_class": 1}, {"data": "free", "per_class": "count"}),
    "datasets.every_second": (lambda: {"labels": [0, 0, 1]}, {}),
    "datasets.LabeledImages.take": (
        lambda: {"self": made.data, "indices": [0, 1]},
        {"self": "free", "indices": "indices"},
    ),
    "plots.per_class_accuracy": (lambda: drawn(**PER_CLASS, chance=0.3, mean=0.5), {}),
    "plots.confusion": (lambda: drawn(confusion=EYE, classnames=["cat", "dog", "pig"], classes=[0, 1]), {}),
    "plots.cluster_order": (lambda: {"confusion": EYE, "classes": [0, 1, 2]}, {}),
    "plots.with_rivals": (lambda: {"confusion": EYE, "classes": [0, 1]}, {}),
    "plots.recall_curve": (lambda: drawn(recall_at_k={1: 0.5, 2: 0.9}, num_classes=3), {}),
    "plots.precision_recall": (
        lambda: drawn(precision=[0.5, 1, 1], recall=[1, 0.5, 0], average_precision=0.7, base_rate=0.2),
        {},
    ),
    "plots.margin_accuracy": (lambda: drawn(**PER_CLASS, margin=[0.1, 0.2, 0.3], spearman=1.0), {}),
    "plots.calibration": (lambda: drawn(confidence=[0.2, 0.7, 0.9], correct=[0, 1, 1]), {"confidence": "floats"}),
    "plots.bars_with_intervals": (
        lambda: drawn(
            table=pd.DataFrame({"m": ["a", "b"], "v": [0.5, 0.4], "l": [0.4, 0.3], "h": [0.6, 0.5]}),
            value="v",
            low="l",
            high="h",
            label="m",
            baseline=0.4,
        ),
        {
            "table": "free",
            "value": "option",
            "low": "option",
            "high": "option",
            "label": "option",
            "baseline": "number",
        },
    ),
    "plots.image_strip": (
        lambda: drawn(images=[np.zeros((8, 8, 3))] * 2, titles=["cat", "dog"]),
        {"images": "images", "titles": "strings"},
    ),
    "plots.weights": (lambda: drawn(weights=[0.2, 0.5, 0.3], labels=["a {}", "b {}", "c {}"]), {"labels": "strings"}),
    "widgets.RecallAtKExplorer": (
        lambda: {"data": made.data, "result": made.scored, "indices": [0, 1]},
        dict(UNCHECKED),
    ),
    "widgets.RejectExplorer": (
        lambda: {
            "data": made.data,
            "confidence": [0.1, 0.2, 0.3, 0.4],
            "right": [0, 0, 1, 1],
            "indices": [0, 1],
            "precision": 0.9,
        },
        {"data": "free", "confidence": "floats", "right": "truths", "precision": "number"},
    ),
    "widgets.ConfusionExplorer": (
        lambda: {"data": made.data, "result": made.scored, "classes": [0, 1]},
        dict(UNCHECKED),
    ),
    "widgets.ThresholdExplorer": (
        lambda: {
            "data": made.data,
            "scores": [0.1, 0.2, 0.3, 0.4],
            "positives": [0, 0, 1, 1],
            "indices": [0, 1],
            "name": "dog",
        },
        {"data": "free", "name": "text"},
    ),
    "widgets.ParadoxExplorer": (dict, {"n": "count", "rare": "text"}),
    "widgets.ParadoxExplorer.numbers": (lambda: {"self": made.paradox}, {"self": "free"}),
    "widgets.ClassAtlas": (
        lambda: {"data": made.data, "result": made.scored, "classes": [0, 1], "per_class": 2, "sort": "margin"},
        UNCHECKED | {"per_class": "count", "labels": "flag", "sort": "option"},
    ),
    "widgets.ShareExplorer": (
        lambda: {"table": corrections.over_shares(EYE, EYE, [0, 1, 2], methods=["nnn"])},
        {"table": "thing"},
    ),
    "widgets.TailExplorer": (
        lambda: {"runs": tails.load(large=True), "worst": tails.worst_named()},
        {"runs": "thing", "worst": "thing"},
    ),
    "widgets.TailExplorer.numbers": (lambda: {"self": made.tail}, {"self": "free"}),
    "widgets.NameExplorer": (lambda: {"neighbours": tails.nearest_of_each()}, {"neighbours": "thing"}),
    "widgets.NameExplorer.colliding": (
        lambda: {"self": made.names, "threshold": 0.9},
        {"self": "free", "threshold": "number"},
    ),
    "widgets.ClassAtlas.shares": (lambda: {"self": made.atlas}, {"self": "free"}),
    "widgets.ConfusionEditor": (lambda: {"confusion": [[3, 1], [0, 2]], "classnames": ["cat", "dog"]}, {}),
    "widgets.ConfusionEditor.matrix": (lambda: {"self": made.editor}, {"self": "free"}),
    "widgets.ConfusionEditor.numbers": (lambda: {"self": made.editor}, {"self": "free"}),
    "widgets.LuckExplorer": (dict, {}),
    "widgets.TransferExplorer": (
        lambda: {"chosen_on": TWO_SCORES, "judged_on": TWO_SCORES, "name": "dog", "miss_cost": 2, "false_cost": 1},
        {"chosen_on": "pair", "judged_on": "pair", "name": "text", "miss_cost": "count", "false_cost": "count"},
    ),
    "widgets.TransferExplorer.costs": (lambda: {"self": made.transfer}, {"self": "free"}),
    "widgets.TransferExplorer.cheapest": (
        lambda: {"self": made.transfer, "part": "test"},
        {"self": "free", "part": "option"},
    ),
    "widgets.NumberGuess": (
        lambda: {"question": "How often?", "answer": 0.5, "chance": 0.1},
        {"question": "text", "answer": "number"},
    ),
    "widgets.CurveGuess": (lambda: {"question": "How often?", **PER_CLASS}, {"question": "text"}),
    "widgets.PromptWeightExplorer": (
        lambda: {"prompts": ["a {}", "b {}"], "scores": [0.1, 0.2], "accuracies": [0.5, 0.6], "temperature": 1.0},
        {"accuracies": "floats", "ensemble": "free"},
    ),
    "widgets.PromptWeightExplorer.weights": (lambda: {"self": made.weighing, "temperature": 1.0}, {"self": "free"}),
    "widgets.PromptWeightExplorer.effective_number": (
        lambda: {"self": made.weighing, "temperature": 1.0},
        {"self": "free"},
    ),
    "similarity.unit_norm": (lambda: {"vectors": EYE}, {"vectors": "floats"}),
    "similarity.top_k": (lambda: {"similarity": EYE, "k": 1}, {}),
}
MUTATIONS["truth"] = {
    "wrong type: text": lambda v: "no",
    "wrong type: number": lambda v: 1,
    "wrong type: None": lambda v: None,
}
MUTATIONS["lists"] = {
    "wrong type: text": lambda v: "text",
    "wrong type: number": lambda v: 5,
    "wrong type: None": lambda v: None,
    "wrong type: None inside": lambda v: [None, *v[1:]],
    "wrong dtype: fractions inside": lambda v: [[0.5], *v[1:]],
    "huge": lambda v: [[2**40], *v[1:]],
    "negative": lambda v: [[-1], *v[1:]],
    "empty": lambda v: [],
    "mismatched: longer": lambda v: [*v, *v],
}
MUTATIONS["pair"] = {
    "wrong type: text": lambda v: "ab",
    "wrong type: number": lambda v: 1.0,
    "negative": lambda v: (-1.0, 1.0),
    "NaN": lambda v: (NAN, 1.0),
    "mismatched: one": lambda v: (1.0,),
}
MUTATIONS["paths"] = {
    "wrong type: text": lambda v: "text",
    "wrong type: None": lambda v: None,
    "wrong type: numbers inside": lambda v: [1],
    "empty": lambda v: [],
}
# classes that `clipnb` fills and people read
NOT_CALLED = {
    "datasets.LabeledImages": "made by load_dataset",
    "datasets.ImageTextPairs": "made by load_pairs",
    "retrieval.RetrievalResult": "made by evaluate_retrieval",
    "multilabel.ValidLabelResult": "made by score_valid_labels",
    "EvaluationResult": "made by evaluate",
    "Embeddings": "made by encode_images and Embeddings.load",
    "InputError": "an exception",
    "describe.AnswerError": "an exception",
    "rehearsal.PlantedBenchmark": "made by make_benchmark",
    "slices.Slice": "made by find_slices",
    "slices.SliceSearch": "made by find_slices",
    "evaluation.EvaluationResult": "made by evaluate",
    "evaluation.evaluate": "is clipnb.evaluate",
    "evaluation.evaluate_prompts": "is clipnb.evaluate_prompts",
    "evaluation.evaluate_store": "is clipnb.evaluate_store",
    "zeroshot.prompt_vectors": "is clipnb.prompt_vectors",
    "zeroshot.zero_shot_classifier": "is clipnb.zero_shot_classifier",
    "report.ReportPage": "what Report and Upgrade share",
    "report.Report": "made by audit and Report.load",
    "report.Upgrade": "made by report.compare",
    "report.PredictionsReport": "made by audit_predictions",
    "report.RunTable": "made by tabulate",
    "predictions.Predictions": "made by read_predictions",
    "Score": "a named tuple",
    "intervals.Score": "a named tuple",
    "report.audit": "is clipnb.audit",
    "models.load_model": "is clipnb.load_model",
    "models.wrap_model": "is clipnb.wrap_model",
    "datasets.load_dataset": "is clipnb.load_dataset",
}

ALLOWED = [  # function, argument, mutation (regular expressions), and why it is valid
    (r"ensemble.class_bias", "neighbours", "huge", "all images, if there are fewer"),
    (r"transductive.*", "neighbours", "huge", "all other images, if there are fewer"),
    (r"transductive.*", "anchor", "huge", "classes stay at their texts"),
    (r"corrections.few_classes", "labels", "mismatched: longer", "any number of images"),
    (r"corrections.few_classes", "num_classes", "huge", "a number of candidates of any size"),
    (r"transductive.*|ensemble.class_bias", "vectors", "mismatched: longer", "any number of images"),
    (r"ensemble.carprt_scores", "vectors", "mismatched: longer", "any number of images"),
    (r"tails.scores", "right", "mismatched: longer", "any number of classes"),
    (r"tails.nearest_names", "count", "huge", "all that there are"),
    (r"corrections.table", "k", "huge", "all, if there are fewer"),
    (r"corrections.over_shares", "shares", "mismatched: longer", "any number of shares"),
    (r"corrections.over_shares", "shares", "mismatched: wider", "any number of shares"),
    (r"intervals.mean_over_classes", "images", "huge.*", "any number of images"),
    (r"intervals.mean_with_t", "values", "mismatched.*", "any number of values"),
    (
        r"(?!.*(calibration|mean_with_t))(metrics|intervals)\..*|margin\.worst.*|margin\.compare.*|similarity.top_k"
        r"|ensemble.softmax_weights|widgets.RejectExplorer",
        "(?!vectors|classifier|bank|right).*",
        "huge: beyond single precision",
        "computed in double precision",
    ),
    (r"intervals.rank_correlation.*", "x|y|a|b", "NaN|infinity", "NaN is a class without a value, infinity ranks"),
    (
        r"intervals.percentile_interval",
        "samples",
        "NaN|mismatched.*",
        "any number of samples; NaN is a resample without a value",
    ),
    (r".*", "seed", "huge", "seeds are of any size"),
    (r"evaluate_predictions", "labels", "wrong dtype: objects", "None is an unknown label"),
    (r"report.*", "k|worst_k", "huge", "all, if there are fewer"),
    (
        r"predictions.*|report.*_predictions|evaluate_predictions",
        "classnames",
        "mismatched.*",
        "classes may have no images",
    ),
    (
        r"metrics.(recall_at_k|label_rank)|similarity.top_k",
        "similarity",
        "mismatched: wider",
        "as many classes as columns",
    ),
    (r"widgets.*", "temperature", "huge", "equal weights"),
    (r"(?!widgets).*", "temperature", "huge|infinity", "equal weights"),
    (
        r"EvaluationResult.(summary|scores)|evaluation.*|paired.*|ensemble.(prompt_weights|softmax_weights)|audit"
        r"|methods.*|explain.*|describe.*|plots.*",
        "k|worst_k|top_m|rivals|enrich|top|most|columns",
        "huge",
        "all, if there are fewer",
    ),
    (
        r"ensemble.prompt_weights",
        "reference|entropy",
        "(?!None).*",
        "looked at by the methods that use it: zpe_scores, autoclip_weights",
    ),
    (r".*", "ks", "wrong type: list", "a list of depths is valid"),
    (r"explain.*|slices.*", "classes", "empty|mismatched.*", "any classes in any order"),
    (r"slices.*", "words", "mismatched: longer", "any number of words"),
    (r"explain.explain_classes", "cmm|classifier", "wrong type: None", "not known, as for predictions from a file"),
    (r"explain.*", "cmm", "NaN|infinity|huge.*", "shown as it is; NaN without images"),
    (r"explain.*|plots.*", "confusion|num_classes", "huge.*", "a count of any size"),
    (r"explain.*", "min_images", "huge", "all classes have too few then"),
    (
        r"ensemble.softmax_weights",
        "scores",
        "wrong shape: a dimension more|mismatched.*|NaN",
        "(P,) or (P, C); NaN gives equal weights",
    ),
    (r"paired.*", "flagged", "empty|mismatched.*", "any classes"),
    (r"describe.query", "rivals", "empty", "nothing in particular"),
    (r"describe.query", "count", "huge", "as asked"),
    (r"describe.questions", "classes", "empty|mismatched.*", "any classes"),
    (r"describe.refusal", "text", "empty", "nothing in it to refuse"),
    (r"describe.*", "by_class|keywords", "empty", "no class, no texts"),
    (r"describe.keyword_texts|llm.*", "count", "huge", "as many as there are"),
    (
        r"prompts.lint",
        "classnames|templates",
        "(?!wrong type: (one string|None|number)$|no Uni).*",
        "reported, not raised: that is what lint is for",
    ),
    (r"prompts.truncated_prompts", "prompts", "empty", "none is too long"),
    (r"llm.LLMSettings", "cache", "a file", "reported by ask, which makes the folder"),
    (r"llm.ask", "questions", "empty", "no question, no call"),
    (r"datasets.*take", "indices", "negative", "counted from the end, as in NumPy"),
    (r"datasets.*take", "indices", "empty", "an empty set, which encoding refuses"),
    (r"datasets.every_second", "labels", "empty|mismatched.*", "any number of images"),
    (r"load_model|reproduce.run", "pretrained|like", "empty", "as None"),
    (r"encode_texts", "batch_tokens", "huge", "all texts at once"),
    (r"methods.*|reproduce.reproduce", "descriptions|keywords", "empty", "no class has texts"),
    (r"reproduce.*", "pool|more", "empty", "no more templates"),
    (r"reproduce.template_pool", "more", "duplicate", "each is taken once"),
    (r"reproduce.pool_results", "labels", "wrong type: None", "no image has a label"),
    (r"intervals.(wilson_interval|proportion)", "n", "huge", "a count of any size"),
    (
        r"margin.worst.*|margin.compare.*",
        "cmm|per_class",
        "NaN|infinity",
        "NaN is a class that is never predicted, infinity ranks",
    ),
    (r"reject.*|metrics.*risk.*", "confidence", "huge.*", "only the order counts"),
    (r"reject.set_aside", "labels", "empty|mismatched: longer", "any number of images"),
    (r"retrieval.*", "image_vectors", "mismatched: longer", "any number of images"),
    (r"reject.*", "threshold", "huge|infinity|negative", "no image, or all, are answered"),
    (r".*", "logit_bias", "negative", "SigLIP's is negative"),
    (r"margin.worst_first", "cmm", "mismatched.*|empty", "any number of classes"),
    (r"similarity.*", ".*", "mismatched.*", "any number of rows and columns"),
    (r"similarity.unit_norm", ".*", "empty|wrong shape: a dimension more", "rows in any arrangement"),
    (r"similarity.top_k", "k", "huge", "k counts as C if it is larger"),
    (
        r"(?!explain|describe|ensemble.evaluate_offset|zeroshot.hard_views).*",
        "classifier",
        "mismatched: longer",
        "more classes than images have labels",
    ),
    (
        r"margin.(softmax|prediction|baseline).*|margin.find_worst"
        r"|ensemble.(pseudo_labels|zpe_scores|autoclip_weights)",
        "vectors",
        "mismatched: longer",
        "any number of images",
    ),
    (r"(?!ensemble.weighted|ensemble.evaluate_per).*", "bank", "mismatched: longer", "any number of prompts"),
    (r".*", "reference", "mismatched: longer", "any number of images"),
    (
        r"metrics.*|worst.*|plots.per_class.*",
        "per_class",
        "mismatched.*|NaN",
        "any number of classes; NaN is one without images",
    ),
    (r"plots.margin.*", "per_class|margin", "NaN", "NaN is a class without images"),
    (r"plots.*", "margin", "huge.*", "any number has its place"),
    (
        r"plots.*",
        "chance|mean|average_precision|base_rate|baseline|spearman",
        "NaN",
        "a score that is undefined, shown as it is",
    ),
    (r"plots.with_rivals", "classes", "wrong type: None", "all classes"),
    (r"plots.image_strip", "images", "NaN", "pixels without a value stay empty"),
    (r"widgets.*", "top|max_images|count|per_cell|per_class", "huge", "all, if there are fewer"),
    (
        r"widgets.CurveGuess",
        "per_class",
        "mismatched.*|NaN",
        "any number of classes; NaN is one without images",
    ),
    (r"widgets.*", "scores", "huge.*", "computed in double precision"),
]


def calls():
    """(function's name, argument, mutation) of everything that is tried."""
    for name, (_, _kinds) in ROWS.items():
        for argument, kind in kinds_of(name).items():
            for mutation in MUTATIONS[kind]:
                yield name, argument, mutation


WINGS = {
    "corrections": "paper",
    "tails": "paper",
    "methods": "paper",
    "reproduce": "paper",
    "rehearsal": "paper",
    "llm": "describe",
}


def function_of(name):
    first, _, last = name.partition(".")
    thing = clipnb
    for part in (*([WINGS[first]] if last and first in WINGS else []), *name.split(".")):
        thing = getattr(thing, part)
    return thing


def kinds_of(name):
    own = ROWS[name][1]
    return {
        argument: own.get(argument) or KIND[argument] for argument in inspect.signature(function_of(name)).parameters
    }


def why_allowed(name, argument, mutation):
    default = inspect.signature(function_of(name)).parameters[argument].default
    if mutation == "wrong type: None" and default is None and (name, argument) not in (("reproduce.run", "dataset"),):
        return "None is its default"
    return next(
        (
            why
            for f, a, m, why in ALLOWED
            if re.fullmatch(f, name) and re.fullmatch(a, argument) and re.fullmatch(m, mutation)
        ),
        None,
    )


def spoiled(name, argument, mutation):
    """A valid call's arguments, one of them spoiled."""
    given = ROWS[name][0]()
    valid = given.get(argument, inspect.signature(function_of(name)).parameters[argument].default)
    return given | {argument: MUTATIONS[kinds_of(name)[argument]][mutation](valid)}


def fault(name, argument, mutation):
    """What is wrong with how one spoiled call is answered; None if it is refused as documented."""
    if name in SLOW and why_allowed(name, argument, mutation):
        return None
    given = spoiled(name, argument, mutation)
    begin = time.thread_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            returned = function_of(name)(**given)
    except errors.InputError as error:
        text = str(error)
    except describe.AnswerError:  # its words are for a language model
        return None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:160]!r}"
    else:
        return None if why_allowed(name, argument, mutation) else f"returned {str(returned)[:60]!r}"
    if (seconds := time.thread_time() - begin) > SLOWEST:
        return f"took {seconds:.0f} s of processor time"
    if why := why_allowed(name, argument, mutation):
        return f"refused ({text}), though allowed: {why}"
    if "\n" in text or len(text) > 700:
        return f"not one line: {text[:200]!r}"
    value = given[argument]
    said = [
        argument,
        argument.rstrip("s"),
        *{
            "vectors": ["image"],
            "reference": ["image"],
            "classifier": ["class"],
            "spec": ["data set"],
            "name": ["model"],
            "device": ["Device"],
        }.get(argument, []),
        *([str(value), repr(value)] if isinstance(value, (str, Path)) and str(value) else []),
    ]
    if name == "prompts.lint":  # a prompt is made of both
        said.append("prompts")
    if mutation.startswith(("mismatched", "empty")):  # of two that do not fit, either may be named
        said += list(given)
    if not any(word in text for word in said):
        return f"does not name it: {text}"
    return (
        None
        if re.search("Expected .*got|Unknown .*(known|all):|[Cc]annot ", text)
        else f"says not what was expected and what came: {text}"
    )


# The command line

LONG = "a" * 5000
OF_OPTIONS = {  # option: values that no run may take; counts, numbers and choices have theirs by type
    "--model": ["", "no-such-model", "local-dir:no/such", "transformers:", "transformers:/no/such", LONG],
    "--pretrained": ["no-such-tag", "no/such.safetensors", LONG],
    "--device": ["", "gpu", "cuda:99"],
    "--precision": ["", "int8", "auto"],
    "--like": ["no-such-tag", LONG],
    "--dataset": ["", "emojis", "emoji:none", "folder:", "folder:/no/such", "table:none.csv", f"folder:{LONG}"],
    "--valid-labels": ["no/such.json", __file__, LONG],
    "--images": ["no/such", __file__, LONG],
    "--split": [""],
    "--store": [LONG, __file__],
    "--words": ["no/such.txt", LONG],
    "--templates": ["", "no-such-set", LONG, __file__],
    "--json": ["no/such/x.json", ".", LONG],
    "--out": ["no/such/x", ".", LONG],
    "--fit": ["", "emojis", "emoji"],
    "--descriptions": ["no/such.json", __file__, LONG],
    "--classes": ["no/such.txt", LONG],
    "--csv": [__file__],
    "--query": [__file__, "."],
    "--cache": [__file__],
    "--llm": [""],
    "--api-base": ["http://me:secret@host/v1"],
    "--price": ["x", "1", "-1,0", "nan,0"],
    "--fail-under": ["accuracy", "no_such_score=1", "accuracy=x"],
    "--reject-at": ["", "0.95", "precision", "precision=x", "precision=0", "precision=1.1", "risk=1", "recall=0.9"],
    "--none-class": ["", "no-such-class", LONG],
    "--compare": [("no/a.json", "no/b.json")],
    "--predictions": ["", "no/such.csv", ".", LONG],
    "--compare-predictions": ["no/such.csv"],
    "--labels": ["no/such.npy"],
    "--predictions-out": ["no/such/x", ".", LONG],
    "--model-card": ["no/such/x", ".", LONG],
    "--latex": ["no/such/x", ".", LONG],
    "--html": ["no/such/x", ".", LONG],
    "--imagenet": ["no/such", LONG],
    "--check": ["no/such.json", __file__, LONG],
    "--method": ["", "no-such-method"],
}
TOGETHER = {
    "--none-class": ["--reject-at", "precision=0.9"],
    "--price": ["--llm", "openai/x"],
    "--api-base": ["--llm", "openai/x", "--price", "0,0"],
    "--cache": ["--llm", "openai/x", "--price", "0,0"],
    "--query": ["--llm", "openai/x", "--price", "0,0"],
}
HARMLESS = {
    ("describe", "--max-cost"),
    ("describe", "--concurrency"),
    ("describe", "--per-minute"),
    ("describe", "--retries"),
    ("describe", "--timeout"),
}  # for --llm


def bad_options():
    """(command, option, value) of everything that is tried on the command line."""
    import click

    from clipnb.cli import main

    for name, command in main.commands.items():
        for option in command.params:
            flag = option.opts[0]
            if isinstance(option, click.Option) and not option.is_flag:
                kind = option.type
                values = (
                    ["x", "1.5", "-1"]
                    if isinstance(kind, click.types.IntParamType)
                    else ["x", "nan", "-1"]
                    if isinstance(kind, click.types.FloatParamType)
                    else ["", "no-such-choice"]
                    if isinstance(kind, click.Choice)
                    else OF_OPTIONS[flag]
                )
                for value in values:
                    yield name, flag, value
