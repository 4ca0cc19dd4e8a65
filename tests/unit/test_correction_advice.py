"""The audit recommends a correction only where it helps on independent halves, and names its assumption."""

import numpy as np

from clipnb import evaluate
from clipnb.report._correction import correction_advice
from clipnb.similarity import unit_norm


def world(bias):
    rng = np.random.default_rng(0)
    texts = unit_norm(rng.standard_normal((12, 16)))
    labels = np.repeat(np.arange(12), 40)
    images = unit_norm(texts[labels] + unit_norm(rng.standard_normal((480, 16)))).astype(np.float32)
    classifier = unit_norm(texts + np.linspace(0, bias, 12)[:, None] * unit_norm(images.mean(axis=0)[None]))
    return images, evaluate(images, classifier, labels)


def test_a_planted_bias_is_corrected_and_the_assumption_named():
    images, base = world(bias=3)
    advice = correction_advice(images, base, 20, k=3)
    assert advice is not None and "class_bias(..., method='" in advice and "This assumes that " in advice


def test_nothing_is_recommended_without_a_bias_or_without_labels():
    images, base = world(bias=0)
    assert correction_advice(images, base, 20, k=3) is None
    assert correction_advice(images, evaluate(images, base.classifier), 20, k=3) is None
