"""Zero-shot classification: class vectors from classnames and templates (the two functions that need a model)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipnb._moved import redirect
from clipnb.encode import encode_texts
from clipnb.models import Model
from clipnb.prompts import check_classnames, check_templates
from clipnb.similarity import unit_norm

_MOVED = ("evaluate", "evaluate_prompts", "evaluate_store", "EvaluationResult", "PromptResults")


def prompt_vectors(model: Model, classnames: Sequence[str], templates: Sequence[str]) -> npt.NDArray[np.float32]:
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
    model: Model, classnames: Sequence[str], templates: Sequence[str] = ("{}",)
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


__getattr__ = redirect(__name__, dict.fromkeys(_MOVED, "clipnb.evaluation"))
