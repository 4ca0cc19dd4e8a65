"""TransCLIP and StatA against the steps of the authors' public solvers, written out with dense (N, C, D) arrays."""

import numpy as np
import pytest
from scipy.special import softmax

from clipnb import evaluate, transductive
from clipnb.errors import InputError
from clipnb.similarity import unit_norm


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(1)
    texts = unit_norm(rng.standard_normal((6, 12)))
    labels = np.repeat(np.arange(5), 14)  # the sixth class does not occur
    centres = unit_norm(texts + 1.2 * unit_norm(rng.standard_normal((6, 12))))
    images = unit_norm(centres[labels] + 0.5 * unit_norm(rng.standard_normal((70, 12))))
    return images, texts, labels


def votes(images, neighbours):
    affinity = images @ images.T
    np.fill_diagonal(affinity, -np.inf)
    weights = np.zeros_like(affinity)
    for i, row in enumerate(affinity):
        nearest = np.argsort(-row)[:neighbours]
        weights[i, nearest] = row[nearest]
    return weights


def dense(images, texts, scale, neighbours, iterations, anchor=None):
    """Memberships after the authors' loop; `anchor` None is TransCLIP."""
    weights, initial = votes(images, neighbours), softmax(scale * images @ texts.T, axis=1)
    z, means = initial, texts

    def spread(means):
        return (images[:, None] - means) ** 2  # (N, C, D)

    first = np.full(12, 1 / 12) if anchor is None else np.einsum("nc,ncd->d", z, spread(texts)) / len(images)
    covariance = np.tile(first, (6, 1))
    for step in range(iterations + 1):
        if step:
            means = unit_norm(z.T @ images / z.sum(axis=0)[:, None])
            if anchor is None:
                covariance = np.tile(np.einsum("nc,ncd->d", z, spread(means)) / len(images), (6, 1))
            else:
                count = np.bincount(z.argmax(axis=1), minlength=6)
                beta = (count / (anchor + count))[:, None]
                means = unit_norm(beta * means + (1 - beta) * texts)
                own = np.einsum("nc,ncd->cd", z, spread(means)) / z.sum(axis=0)[:, None]
                covariance = beta * own + (1 - beta) * (first + (texts - means) ** 2)
        likelihood = -0.5 * (spread(means) / covariance).sum(axis=2)
        for _ in range(5):
            inner = likelihood + 50 / (2 * neighbours) * (weights.T @ z + weights @ z)
            if anchor is not None:
                inner = inner - 0.5 * np.log(covariance).sum(axis=1)
            z = initial * np.exp((inner - inner.max(axis=1, keepdims=True)) / 50)
            z = z / z.sum(axis=1, keepdims=True)
    return z


@pytest.mark.parametrize("iterations", [0, 1, 5])
@pytest.mark.parametrize("anchor", [None, 1.0, 4.0])
def test_memberships_are_those_of_the_authors_steps(world, iterations, anchor):
    images, texts, _ = world
    options = {"logit_scale": 20.0, "neighbours": 3, "iterations": iterations}
    if anchor is None:
        memberships = transductive.transclip(images, texts, **options)
    else:
        memberships = transductive.stata(images, texts, **options, anchor=anchor)
    expected = dense(images, texts, 20.0, 3, iterations, anchor)
    assert memberships.dtype == np.float32
    np.testing.assert_allclose(memberships, expected, atol=2e-4)


def test_square_roots_of_memberships_can_be_evaluated(world):
    images, texts, labels = world
    for method in (transductive.transclip, transductive.stata):
        memberships = method(images, texts, logit_scale=20)
        result = evaluate(np.sqrt(memberships), np.eye(6), labels)
        np.testing.assert_array_equal(result.predictions, memberships.argmax(axis=1))


def test_more_neighbours_than_images_are_all_others(world):
    images, texts, _ = world
    few = transductive.stata(images[:3], texts, neighbours=2)
    np.testing.assert_allclose(transductive.stata(images[:3], texts, neighbours=9), few, atol=1e-6)


def test_too_much_memory_is_refused_with_what_it_would_need(world, monkeypatch):
    images, texts, _ = world
    monkeypatch.setattr(transductive, "MAX_BYTES", 3 * 4 * 70 * 6)
    transductive.transclip(images, texts, iterations=0)
    with pytest.raises(
        InputError, match=r"^Expected `vectors` of N x C up to 420 values, got 140 x 6, which would need"
    ):
        transductive.transclip(np.concatenate([images, images]), texts)
    with pytest.raises(InputError, match="got 1: none has a neighbour"):
        transductive.stata(images[:1], texts)
