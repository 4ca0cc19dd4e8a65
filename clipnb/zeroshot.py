"""Zero-shot classification: class vectors from classnames and templates (the functions that need a model)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipnb import evaluation
from clipnb._checks import require_attribute
from clipnb._moved import redirect
from clipnb.datasets import load_dataset
from clipnb.encode import encode_images, encode_texts
from clipnb.errors import InputError
from clipnb.intervals import clustered_accuracy
from clipnb.models import Model, WrappedModel
from clipnb.prompts import check_classnames, check_templates
from clipnb.similarity import check_classifier, unit_norm

_MOVED = ("evaluate", "evaluate_prompts", "evaluate_store", "EvaluationResult", "PromptResults")


def prompt_vectors(
    model: Model | WrappedModel, classnames: Sequence[str], templates: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Text vectors of every template filled with every classname: (P, C, D) float32, unit norm.

    Args:
        model: from `clipnb.load_model`.
        classnames: C names.
        templates: P strings, each with one slot "{}".

    >>> from clipnb import load_model
    >>> prompt_vectors(load_model(), ["dog", "cat"], ["{}", "a drawing of a {}."]).shape
    (2, 2, 256)
    """
    classnames = check_classnames(classnames)
    templates = check_templates(templates)
    texts = [template.replace("{}", name) for template in templates for name in classnames]
    return encode_texts(model, texts).reshape(len(templates), len(classnames), -1)


def zero_shot_classifier(
    model: Model | WrappedModel, classnames: Sequence[str], templates: Sequence[str] = ("{}",)
) -> npt.NDArray[np.float32]:
    """One unit-norm class vector per classname: the renormalised mean of its prompts' vectors (CLIP, section 3.1.4).

    Args:
        model: from `clipnb.load_model`.
        classnames: C names.
        templates: strings with one slot "{}"; the default is the bare name.

    Returns:
        (C, D) float32, rows of unit norm, in the order of `classnames`.

    >>> from clipnb import load_model
    >>> zero_shot_classifier(load_model(), ["dog", "cat"], ["a drawing of a {}."]).shape
    (2, 256)
    """
    return unit_norm(prompt_vectors(model, classnames, templates).mean(axis=0))


def hard_views(model: Model | WrappedModel, classifier: npt.ArrayLike) -> dict:
    """Score a classifier on the harder views of the emoji set (turned, shrunk and moved test drawings, `emoji:hard`).

    The views of one drawing tend to be right or wrong together, which the intervals allow for
    (`intervals.clustered_accuracy`).

    Args:
        model: from `clipnb.load_model`.
        classifier: (C, D) unit-norm class vectors of the emoji set's classes.

    Returns:
        "n" (images), "accuracy" and "recall_at_5" (each a `Score`), "mean_per_class_accuracy" and "classes_at_zero".

    Raises:
        InputError: the classifier has another number of classes or another width.

    >>> from clipnb import load_dataset, load_model
    >>> model = load_model()
    >>> scores = hard_views(model, zero_shot_classifier(model, load_dataset("emoji").classnames))
    >>> scores["n"], f"{scores['accuracy']:.0%}"
    (5652, '21 % [20, 23]')
    """
    require_attribute(model, "model", "encode_pixels", "clipnb.load_model")
    data = load_dataset("emoji:hard")
    classifier = check_classifier(classifier)
    if classifier.shape != (len(data.classnames), model.dimensions):
        expected = (len(data.classnames), model.dimensions)
        raise InputError(f"Expected `classifier` of shape (C, D) = {expected}, got {classifier.shape}")
    result = evaluation.evaluate(encode_images(model, data).vectors, classifier, data.labels)
    drawings = np.unique([name.rpartition("#")[0] for name in data.ids], return_inverse=True)[1]
    return {
        "n": result.n,
        "accuracy": clustered_accuracy(result.topk[:, 0] == data.labels, drawings),
        "recall_at_5": clustered_accuracy((result.topk == data.labels[:, None]).any(axis=1), drawings),
        "mean_per_class_accuracy": result.mean_per_class_accuracy,
        "classes_at_zero": int((result.per_class_accuracy == 0).sum()),
    }


__getattr__ = redirect(__name__, dict.fromkeys(_MOVED, "clipnb.evaluation"))
