"""Transductive classifiers: all images of a set are classified together, and each image's neighbours have a say.

Both methods see the whole (unlabelled) test set, so neither works on a single image. Memory grows with N x C; the
neighbours are found in blocks, so that no (N, N) matrix exists.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse

from clipnb._checks import real_number, whole_number
from clipnb._class_bias import check_logit_scale
from clipnb.errors import InputError
from clipnb.similarity import block_slices, check_vectors, parallel_map, similarity_blocks, take_top, tensor

MAX_BYTES = 4 * 2**30
# Arrays of shape (N, C) in single precision that are in memory at a time.
ARRAYS = 3
# Fixed in the authors' code of both methods: the weight of the likelihoods, and the steps of the inner loop.
LIKELIHOOD_DIVISOR = 50
INNER_STEPS = 5
SMALLEST = 1e-12
# Smaller memberships change no sum, but processors are slow with numbers near the smallest of single precision: in the
# planted benchmark these are a third of all memberships and took half of the time.
NEGLIGIBLE = 1e-30


def transclip(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    logit_scale: float = 100.0,
    neighbours: int = 3,
    iterations: int = 10,
) -> npt.NDArray[np.float32]:
    """TransCLIP without labels (arXiv 2406.01837; code: solvers/TransCLIP.py of StatA): (N, C) memberships.

    Images are a mixture of Gaussians with one diagonal covariance. A membership multiplies the zero-shot softmax, the
    likelihood, and the votes of an image's nearest neighbours; means and covariance follow from memberships, in turns.
    Only the zero-shot softmax ties a class to its text, so a class without images drifts to images of other classes.

    The means start at the class vectors, as in the code that StatA's authors publish for comparison; the first code of
    TransCLIP starts from each class's eight most confident images.

    Args:
        vectors: (N, D) unit-norm image vectors, N >= 2.
        classifier: (C, D) unit-norm class vectors.
        logit_scale: of the zero-shot softmax, > 0; 100 in the authors' code.
        neighbours: of each image, 1 to N - 1 (fewer if there are fewer).
        iterations: of the outer loop.

    Returns:
        (N, C) float32 memberships, rows sum to 1; `argmax(axis=1)` predicts. Their square roots have rows of unit norm,
        so `evaluate(np.sqrt(memberships), np.eye(C), labels)` scores them.

    Raises:
        InputError: shapes differ, vectors are not of unit norm, an option is out of range, or more than 4 GiB of memory
            would be needed.

    >>> angles = np.array([0.0, 0.1, 0.2, 1.4, 1.5])
    >>> images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> transclip(images, np.eye(2)).argmax(axis=1)
    array([0, 0, 0, 1, 1])
    """
    vectors, classifier = _check(vectors, classifier, logit_scale, neighbours, iterations)
    variance = np.full(classifier.shape, 1 / classifier.shape[1])

    def update(memberships: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        sums, squares, size = _moments(memberships, vectors)
        means = _unit(sums, classifier)
        shared = (squares - 2 * means * sums + size[:, None] * means**2).sum(axis=0) / len(vectors)
        return means, np.broadcast_to(np.maximum(shared, SMALLEST), classifier.shape)

    return _alternate(vectors, classifier, logit_scale, neighbours, iterations, variance, update)


def stata(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    logit_scale: float = 100.0,
    neighbours: int = 3,
    iterations: int = 10,
    anchor: float = 1.0,
) -> npt.NDArray[np.float32]:
    """StatA (arXiv 2501.03729; code: solvers/StatA.py): TransCLIP with each class anchored to its text.

    With n_c images predicted as c, mean and covariance of c are beta_c times those of its images plus 1 - beta_c times
    those of the text's Gaussian, beta_c = n_c / (anchor + n_c): a class that is not predicted stays at its text.

    Args:
        vectors: (N, D) unit-norm image vectors, N >= 2.
        classifier: (C, D) unit-norm class vectors.
        logit_scale: of the zero-shot softmax, > 0; 100 in the authors' code.
        neighbours: of each image, 1 to N - 1 (fewer if there are fewer).
        iterations: of the outer loop.
        anchor: weight of the text in units of images, >= 0; 1 in the authors' code.

    Returns:
        As `transclip`.

    Raises:
        InputError: as `transclip`.

    >>> angles = np.array([0.0, 0.1, 0.2, 1.4, 1.5])
    >>> images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> stata(images, np.eye(2)).argmax(axis=1)
    array([0, 0, 0, 1, 1])
    """
    vectors, classifier = _check(vectors, classifier, logit_scale, neighbours, iterations)
    if not 0 <= real_number(anchor, "anchor") < np.inf:
        raise InputError(f"Expected `anchor` >= 0 and finite, got {anchor}")
    texts = classifier.astype(float)
    first = _zero_shot(vectors, classifier, logit_scale)
    sums, squares, size = _moments(first, vectors)
    of_texts = (squares - 2 * texts * sums + size[:, None] * texts**2).sum(axis=0) / len(vectors)
    variance = np.broadcast_to(np.maximum(of_texts, SMALLEST), texts.shape)

    def update(memberships: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        sums, squares, size = _moments(memberships, vectors)
        predicted = np.bincount(memberships.argmax(axis=1), minlength=len(texts))
        beta = (predicted / (anchor + predicted + SMALLEST))[:, None]
        means = _unit(beta * _unit(sums, classifier) + (1 - beta) * texts, classifier)
        of_images = (squares - 2 * means * sums) / np.maximum(size, SMALLEST)[:, None] + means**2
        of_class = beta * of_images + (1 - beta) * (variance + (texts - means) ** 2)
        return means, np.maximum(of_class, SMALLEST)

    return _alternate(vectors, classifier, logit_scale, neighbours, iterations, variance, update, per_class=True)


def _check(vectors, classifier, logit_scale, neighbours, iterations):
    vectors, classifier = check_vectors(vectors, classifier)
    if len(vectors) < 2:
        raise InputError(f"Expected at least two images in `vectors`, got {len(vectors)}: none has a neighbour")
    needed = ARRAYS * 4 * len(vectors) * len(classifier)
    if needed > MAX_BYTES:
        raise InputError(
            f"Expected `vectors` of N x C up to {MAX_BYTES / (4 * ARRAYS):,.0f} values, got {len(vectors):,} x "
            f"{len(classifier):,}, which would need {needed / 2**30:.1f} GiB of memory; take a part of the images"
        )
    check_logit_scale(logit_scale)
    whole_number(neighbours, "neighbours", 1)
    whole_number(iterations, "iterations", 0, 1000)
    return vectors, classifier


def _alternate(
    vectors: npt.NDArray[np.float32],
    classifier: npt.NDArray[np.float32],
    logit_scale: float,
    neighbours: int,
    iterations: int,
    variance: npt.NDArray[np.float64],
    update: Callable,
    per_class: bool = False,
) -> npt.NDArray[np.float32]:
    """Memberships, then means and covariances, in turns; `iterations` updates of the latter."""
    votes = _votes(vectors, min(neighbours, len(vectors) - 1))
    memberships = _zero_shot(vectors, classifier, logit_scale)
    means = classifier.astype(float)
    for step in range(iterations + 1):
        if step:
            means, variance = update(memberships)
        logits = _logits(vectors, classifier, logit_scale, means, variance, per_class)
        for _ in range(INNER_STEPS):
            memberships = votes @ memberships
            memberships += logits
            _softmax(memberships)
    return memberships


def _zero_shot(vectors, classifier, logit_scale: float) -> npt.NDArray[np.float32]:
    logits = np.empty((len(vectors), len(classifier)), np.float32)
    for rows, block in similarity_blocks(vectors, classifier):
        logits[rows] = block
    logits *= logit_scale
    return _softmax(logits)


def _logits(vectors, classifier, logit_scale: float, means, variance, per_class: bool) -> npt.NDArray[np.float32]:
    """Logit of the zero-shot softmax plus the Gaussian's log-likelihood / 50, up to a constant for each image: (N, C).

    With one covariance for all classes, the quadratic term of an image is such a constant.
    """
    linear = (logit_scale * classifier + means / (LIKELIHOOD_DIVISOR * variance)).astype(np.float32)
    constant = -((means**2 / variance).sum(axis=1) / (2 * LIKELIHOOD_DIVISOR))
    if per_class:
        constant -= np.log(variance).sum(axis=1) / (2 * LIKELIHOOD_DIVISOR)
    quadratic = (-1 / (2 * LIKELIHOOD_DIVISOR * variance)).astype(np.float32) if per_class else None
    logits = np.empty((len(vectors), len(classifier)), np.float32)
    constant = (constant - constant.mean()).astype(np.float32)

    def visit(rows: slice) -> None:
        block = vectors[rows] @ linear.T + constant
        if quadratic is not None:
            block += vectors[rows] ** 2 @ quadratic.T
        logits[rows] = block

    parallel_map(visit, block_slices(len(vectors), len(classifier)))
    return logits


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax of each row in place, with 0 for what is NEGLIGIBLE."""
    values = tensor(logits)

    def visit(rows: slice) -> None:
        values[rows] = values[rows].softmax(dim=1)
        part = logits[rows]
        part *= part >= NEGLIGIBLE

    parallel_map(visit, block_slices(*logits.shape))
    return logits


def _moments(memberships, vectors) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sums over images, weighted by membership: of vectors (C, D), of their squares (C, D), of 1 (C,)."""
    sums, squares = (memberships.T @ values for values in (vectors, vectors**2))
    return sums.astype(float), squares.astype(float), memberships.sum(axis=0, dtype=float)


def _unit(sums: npt.NDArray[np.float64], otherwise: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Rows of length one; a row of zeros becomes that of `otherwise`."""
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(length > 0, sums / np.where(length > 0, length, 1), otherwise)


def _votes(vectors: npt.NDArray[np.float32], neighbours: int) -> scipy.sparse.csr_array:
    """(N, N) sparse: (W + W.T) / (2 k), W the similarity of each image to its k nearest other images."""
    count = len(vectors)
    nearest = np.empty((count, neighbours), np.int64)
    similarity = np.empty((count, neighbours), np.float32)
    for rows, block in similarity_blocks(vectors, vectors):
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -np.inf
        nearest[rows], similarity[rows] = take_top(block, neighbours)
    starts = np.arange(0, count * neighbours + 1, neighbours)
    weights = scipy.sparse.csr_array((similarity.ravel(), nearest.ravel(), starts), shape=(count, count))
    return scipy.sparse.csr_array((weights + weights.T) / (2 * neighbours), dtype=np.float32)
