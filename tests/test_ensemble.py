import re

import numpy as np
import pytest
import torch

from clipnb import ensemble, evaluate
from clipnb.errors import InputError
from clipnb.margin import class_wise_matching_margin
from clipnb.similarity import unit_norm

from conftest import unit_rows


def case(seed=0, classes=12, per_class=20, prompts=4, width=32):
    """Vectors around their class's direction; a bank whose first prompt is best, the next ones noisier, the last useless."""
    rng = np.random.default_rng(seed)
    truth = unit_rows(rng, classes, width)
    labels = np.repeat(np.arange(classes), per_class)
    vectors = unit_norm(truth[labels] + 0.15 * rng.normal(size=(len(labels), width))).astype(np.float32)
    noise = [0.02, 0.1, 0.2] + [5.0] * (prompts - 3)
    bank = np.stack([unit_norm(truth + level * rng.normal(size=truth.shape)) for level in noise]).astype(np.float32)
    return vectors, bank, labels


@pytest.mark.parametrize("reduction", ["image", "class"])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_best_prompt_is_recovered_and_the_useless_one_dropped(reduction, labelled):
    vectors, bank, labels = case()
    last = []
    for temperature in (1.0, 0.1, 0.01):
        weights = ensemble.prompt_weights(vectors, bank, labels if labelled else None, temperature=temperature, reduction=reduction)
        assert weights.shape == (4,) and weights.sum() == pytest.approx(1) and (np.diff(weights) < 0).all()
        last.append(weights[-1])
    assert last[0] > 0.1 > last[1] > last[2] and last[2] < 1e-6
    assert weights[0] > 0.9


def test_margins_equal_one_prompt_at_a_time():
    vectors, bank, labels = case()
    found = ensemble.prompt_margins(vectors, bank, labels)
    assert found.shape == (4, 12)
    for p, prompt in enumerate(bank):
        assert np.allclose(found[p], class_wise_matching_margin(vectors, prompt, labels), atol=1e-6)
    reference = evaluate(vectors, unit_norm(bank.mean(axis=0))).predictions  # the uniform ensemble's, for every prompt
    assert np.allclose(ensemble.prompt_margins(vectors, bank), ensemble.prompt_margins(vectors, bank, reference), equal_nan=True)


def test_weights_are_the_softmax_of_mean_margins():
    vectors, bank, labels = case()
    margins = ensemble.prompt_margins(vectors, bank, labels)
    for worst_k in (None, 3, 99):
        chosen = np.argsort(margins.mean(axis=0))[:worst_k]
        score = margins[:, chosen].mean(axis=1) / 0.05
        expected = np.exp(score - score.max())
        found = ensemble.prompt_weights(vectors, bank, labels, temperature=0.05, worst_k=worst_k)
        assert np.allclose(found, expected / expected.sum(), atol=1e-6)
    assert np.allclose(ensemble.prompt_weights(vectors, bank, method="uniform"), 0.25)
    assert ensemble.prompt_weights(vectors, bank, method="uniform", per_class=True).shape == (4, 12)


def test_a_class_nobody_is_predicted_as_spreads_no_nan():
    vectors, bank, labels = case()
    labels = np.where(labels == 5, -1, labels)
    for options in ({}, {"worst_k": 3}, {"per_class": True}):
        weights = ensemble.prompt_weights(vectors, bank, labels, **options)
        assert np.isfinite(weights).all() and np.allclose(weights.sum(axis=0), 1)
    assert np.allclose(weights[:, 5], 0.25)  # that class: uniform
    assert np.isfinite(ensemble.weighted_classifier(bank, weights)).all()


def test_a_weighted_classifier_is_the_renormalised_mean():
    _, bank, _ = case()
    one = ensemble.weighted_classifier(bank, [0, 1, 0, 0])
    assert np.allclose(one, bank[1], atol=1e-6) and one.dtype == np.float32
    weights = np.random.default_rng(0).random((4, 12))
    expected = np.stack([sum(weights[p, c] * bank[p, c] for p in range(4)) for c in range(12)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(ensemble.weighted_classifier(bank, weights), expected, atol=1e-6)
    assert np.allclose(ensemble.weighted_classifier(torch.from_numpy(bank), 7 * weights), expected, atol=1e-6)  # scale is free


def test_softmax():
    assert np.allclose(ensemble.softmax_weights([0.0, np.log(3)], 1.0), [0.25, 0.75])
    assert np.allclose(ensemble.softmax_weights([[1e6, 0.0], [0.0, 1e6]], 1e-3), np.eye(2))  # no overflow
    assert np.allclose(ensemble.softmax_weights([[1.0, np.nan], [0.0, 2.0]], 0.01), [[1, 0.5], [0, 0.5]])


def test_descriptions_by_hand():
    classifier = np.eye(3)
    descriptions = {0: [[0.6, 0.8, 0.0], [1.0, 0.0, 0.0]]}
    vectors, labels = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 1]
    new, weights = ensemble.description_classifier(classifier, descriptions, vectors, labels, temperature=0.1, name_weight=0.0)
    expected = np.exp([(0.6 - 1.0) / 0.1, 0.0])  # the margin of each: 0.6 - 0 and 1 - 0
    assert np.allclose(weights[0], expected / expected.sum(), atol=1e-6)
    assert np.allclose(new[0], unit_norm(weights[0] @ np.array(descriptions[0])[None])[0], atol=1e-6)
    assert np.array_equal(new[1:], classifier[1:])  # the others keep their vectors
    same, _ = ensemble.description_classifier(classifier, descriptions, vectors, labels, name_weight=1.0)
    assert np.allclose(same, classifier)
    _, equal = ensemble.description_classifier(classifier, descriptions)  # without images: equal weights
    assert np.allclose(equal[0], 0.5)
    _, absent = ensemble.description_classifier(classifier, {2: descriptions[0]}, vectors, labels)
    assert np.allclose(absent[2], 0.5)
    assert np.array_equal(classifier, np.eye(3))


VECTORS, BANK, LABELS = case()


@pytest.mark.parametrize(("call", "text"), [
    (lambda: ensemble.prompt_weights(VECTORS, BANK[0], LABELS), "Expected `bank` to have 3 dimension(s), got shape (12, 32)"),
    (lambda: ensemble.prompt_weights(VECTORS, BANK[:0], LABELS), "Expected `bank` of shape (P, C, D) with P, C >= 1, got (0, 12, 32)"),
    (lambda: ensemble.prompt_weights(VECTORS, BANK, method="best"), "Expected `method` to be one of 'uniform', 'cmm', got 'best'"),
    (lambda: ensemble.prompt_weights(VECTORS, BANK, temperature=0), "Expected `temperature` > 0, got 0"),
    (lambda: ensemble.prompt_weights(VECTORS, BANK, temperature=float("nan")), "Expected `temperature` > 0, got nan"),
    (lambda: ensemble.prompt_weights(VECTORS, BANK, worst_k=0), "Expected `worst_k` >= 1, got 0"),
    (lambda: ensemble.prompt_weights(VECTORS, BANK, np.full(240, -1)), "Expected margins for at least one class, got NaN for all"),
    (lambda: ensemble.prompt_weights(VECTORS[:, :5], BANK), "Expected `vectors` and `classifier` of one width D, got 5 and 32"),
    (lambda: ensemble.weighted_classifier(BANK, [1, 1]), "Expected `weights` of shape (P,) = (4,) or (P, C) = (4, 12), got (2,)"),
    (lambda: ensemble.weighted_classifier(BANK, [1, 1, 1, -1]), "Expected `weights` >= 0, got a negative or NaN weight"),
    (lambda: ensemble.weighted_classifier(BANK, [1, 1, 1, np.nan]), "Expected `weights` >= 0, got a negative or NaN weight"),
    (lambda: ensemble.weighted_classifier(BANK, [0, 0, 0, 0]), "Expected vectors with a direction, got a row of zeros"),
    (lambda: ensemble.description_classifier(np.eye(2), {2: np.eye(2)}),
     "Expected class indices in `descriptions` between 0 and 1, got 2"),
    (lambda: ensemble.description_classifier(np.eye(2), {0: np.eye(3)}),
     "Expected `descriptions[0]` of shape (P_c >= 1, D = 2), got (3, 3)"),
    (lambda: ensemble.description_classifier(np.eye(2), {}, name_weight=2), "Expected `name_weight` in [0, 1], got 2"),
])
def test_wrong_input_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()
