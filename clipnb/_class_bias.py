"""Corrections of class bias: an offset for each class, estimated from unlabelled images and added to the similarities.

A zero-shot classifier predicts some classes too often and others never. The methods here estimate that bias and
subtract it. Each rests on an assumption about the images, which its description names; where the assumption fails, the
correction does harm.

Sinkhorn's iteration is written out here, although the library POT has it: POT takes the whole (N, C) cost matrix in
double precision and copies it, and these methods work on blocks of images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from clipnb._checks import class_indices, floats, generator, one_of, real_number, require_attribute, whole_number
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, check_depths, check_offset, evaluate_unchecked
from clipnb.similarity import Scorer, block_slices, check_bank, check_vectors, in_order, tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch

BiasMethod = Literal["nnn", "frolic", "sinkhorn", "mlls"]
BIAS_METHODS: tuple[BiasMethod, ...] = ("nnn", "frolic", "sinkhorn", "mlls")
# exp(logits) are kept in memory up to this size; those of further images are computed again in every pass.
KEPT_BYTES = 256 * 2**20
# CLIP's is 100; under a much larger one, every probability is 0 or 1 and cosines are compared beyond their precision.
MAX_LOGIT_SCALE = 10_000
# Sinkhorn's iteration and EM stop after this many passes, or as soon as all shares together change by less.
MAX_PASSES = 40
TOLERANCE = 1e-3
# A wider range of offsets in a softmax counts as this one, since its reciprocal is beyond single precision.
WIDEST_OFFSET = 80
# The authors' code of Frolic corrects its logits this many times, and takes 1e-12 for a share of 0.
FROLIC_ROUNDS = 11
SMALLEST_SHARE = 1e-12


def class_bias(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    method: BiasMethod = "nnn",
    reference: npt.ArrayLike | None = None,
    *,
    logit_scale: float = 100.0,
    prior: npt.ArrayLike | None = None,
    neighbours: int = 128,
    strength: float = 0.75,
) -> npt.NDArray[np.float64]:
    """Offset of each class that corrects a classifier's bias, for `evaluate(..., offset=...)`; no labels are used.

    With s(x, t_c) the cosine similarity and p_i = softmax(logit_scale * s(x_i, t) + b) the probabilities under b:

    - "nnn" (arXiv 2410.24114; code: nnn/nnn_retriever.py): b_c = -strength * mean of the `neighbours` largest s(x, t_c)
      over the images, so a text that is near many images is pushed away. It assumes that the images look like the
      task's. The authors recommend 128 and 0.75; if a class has as many images of its own, these are the nearest, and
      a class that occurs is punished for it.
    - "frolic" (the bias step of arXiv 2410.19294; code: main_zeroshot.py): b_c -= log(beta_c), eleven times, where
      beta is the fixed point of P beta = beta and column j of P is the mean of p over the images predicted as j. It
      assumes that every candidate class occurs.
    - "sinkhorn": b such that the mean of p over the images equals `prior`, by Sinkhorn's iteration
      b_c += log(prior_c) - log(mean p_c). This is the class potential of entropic optimal transport from images to
      classes; OTTER (arXiv 2404.08461; code: src/inference.py) is its limit for a large `logit_scale`. It assumes that
      `prior` is right.
    - "mlls" (EM of Saerens, Latinne and Decaestecker 2002): the prior q is estimated, q_c <- mean p_c with b = log q,
      and followed. Its sign is the opposite: a class that is predicted often is predicted more often. It helps only
      where few classes occur.

    Args:
        vectors: (N, D) unit-norm image vectors that are to be scored.
        classifier: (C, D) unit-norm class vectors.
        method: as above.
        reference: (M, D) unit-norm vectors of other images of the task, from which the offset is estimated
            instead; the correction then works on a single image. None: it is estimated from all of `vectors` at once.
        logit_scale: factor of the cosines in the model's softmax, > 0; 100 for OpenAI's CLIP. "nnn" does without it.
        prior: of "sinkhorn": (C,) expected shares of the classes, > 0; None: all equal.
        neighbours: of "nnn": at least 1; all images if there are fewer.
        strength: of "nnn", in [0, 1].

    Returns:
        (C,) offsets in units of cosine, with mean 0: a constant changes no prediction.

    Raises:
        InputError: shapes differ, vectors are not of unit norm, or an option is unknown or out of range.

    >>> vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> class_bias(vectors, np.eye(2), method="sinkhorn", prior=[0.5, 0.5]).round(3)
    array([-0.1,  0.1])
    """
    one_of(method, "method", BIAS_METHODS)
    vectors, classifier = check_vectors(vectors, classifier)
    if reference is not None:
        vectors, _ = check_vectors(reference, classifier, "reference")
    scale = check_logit_scale(logit_scale)
    if not 0 <= real_number(strength, "strength") <= 1:
        raise InputError(f"Expected `strength` in [0, 1], got {strength}")
    neighbours = min(whole_number(neighbours, "neighbours", 1), len(vectors))
    shares = _check_prior(prior, len(classifier))
    if method == "nnn":
        offset = -strength * _mean_of_nearest(vectors, classifier, neighbours)
    else:
        kernel = _Kernel(vectors, classifier, scale)
        estimate = {"frolic": _frolic, "sinkhorn": lambda of: _sinkhorn(of, shares), "mlls": _mlls}[method]
        offset = estimate(kernel) / scale
    return offset - offset.mean()


def check_logit_scale(logit_scale: float) -> float:
    """Check the factor of the cosines in a softmax: above 0, and at most MAX_LOGIT_SCALE.

    >>> check_logit_scale(100.0)
    100.0
    """
    if not 0 < real_number(logit_scale, "logit_scale") <= MAX_LOGIT_SCALE:
        raise InputError(f"Expected `logit_scale` > 0 and at most {MAX_LOGIT_SCALE:,}, got {logit_scale}")
    return float(logit_scale)


def _check_prior(prior: npt.ArrayLike | None, num_classes: int) -> npt.NDArray[np.float64]:
    if prior is None:
        return np.full(num_classes, 1 / num_classes)
    shares = floats(prior, "prior", 1).astype(float)
    if shares.shape != (num_classes,) or not ((shares > 0) & (shares <= 1)).all() or abs(shares.sum() - 1) > 1e-6:
        raise InputError(
            f"Expected `prior` as shares > 0 of C = {num_classes} classes that sum to 1, got shape {shares.shape} "
            f"from {shares.min(initial=1):g}, sum {shares.sum():g}"
        )
    return shares


def _mean_of_nearest(
    vectors: npt.NDArray[np.float32], classifier: npt.NDArray[np.float32], neighbours: int
) -> npt.NDArray[np.float64]:
    """Mean of each class's largest similarities, (C,), which are collected block by block."""
    import torch

    images, scorer = tensor(vectors), Scorer(classifier)
    best = torch.empty((0, len(classifier)))

    def nearest(rows: slice) -> torch.Tensor:
        scores = scorer(images[rows])
        return scores.topk(min(neighbours, len(scores)), dim=0).values

    for block in in_order(nearest, block_slices(len(vectors), len(classifier))):
        together = torch.cat([best, block])
        best = together.topk(min(neighbours, len(together)), dim=0).values
    return best.double().mean(dim=0).numpy()


class _Kernel:
    """exp(logits) of all images, each row divided by its largest value, in blocks of images.

    Blocks are kept as far as KEPT_BYTES allow, and computed again in every pass where they are not.
    """

    def __init__(self, vectors: npt.NDArray[np.float32], classifier: npt.NDArray[np.float32], scale: float):
        self.images = tensor(vectors)
        self.scorer = Scorer(classifier)
        self.scale = scale
        self.num_classes = len(classifier)
        self.slices = block_slices(len(vectors), len(classifier))
        rows_kept = KEPT_BYTES // (4 * self.num_classes)
        self.kept: dict[int, torch.Tensor | None] = {rows.start: None for rows in self.slices if rows.stop <= rows_kept}

    def _block(self, rows: slice) -> torch.Tensor:
        block = self.kept.get(rows.start)
        if block is None:
            similarity = self.scorer(self.images[rows])
            block = similarity.sub_(similarity.amax(dim=1, keepdim=True)).mul_(self.scale).exp_()
            if rows.start in self.kept:
                self.kept[rows.start] = block
        return block

    def visit(
        self, offset: npt.NDArray[np.float64], statistic: Callable[[torch.Tensor, torch.Tensor], Any]
    ) -> Iterator[Any]:
        """Yield statistic(block, exp(offset)) of each block; probabilities are proportional to the product of both."""
        import torch

        factor = torch.from_numpy(np.exp(np.maximum(offset - offset.max(), -WIDEST_OFFSET))).float()
        yield from in_order(lambda rows: statistic(self._block(rows), factor), self.slices)

    def mean_probability(self, offset: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Mean over images of softmax(logits + offset): (C,) shares."""

        def total(block: torch.Tensor, factor: torch.Tensor) -> npt.NDArray[np.float64]:
            return ((1 / (block @ factor)) @ block * factor).double().numpy()

        return np.sum(list(self.visit(offset, total)), axis=0) / len(self.images)


def _sinkhorn(kernel: _Kernel, prior: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    offset = np.zeros(kernel.num_classes)
    for _ in range(MAX_PASSES):
        share = kernel.mean_probability(offset)
        if np.abs(share - prior).sum() < TOLERANCE:
            break
        offset += np.log(prior) - np.log(np.maximum(share, SMALLEST_SHARE))
    return offset


def _mlls(kernel: _Kernel) -> npt.NDArray[np.float64]:
    prior = np.full(kernel.num_classes, 1 / kernel.num_classes)
    for _ in range(MAX_PASSES):
        before, prior = prior, np.maximum(kernel.mean_probability(np.log(prior)), SMALLEST_SHARE)
        if np.abs(prior - before).sum() < TOLERANCE:
            break
    return np.log(prior)


def _frolic(kernel: _Kernel) -> npt.NDArray[np.float64]:
    import torch

    count = kernel.num_classes
    offset = np.zeros(count)

    def by_prediction(block: torch.Tensor, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probability = block * factor
        probability *= 1 / probability.sum(dim=1, keepdim=True)
        # NumPy finds the place of a row's maximum eight times as fast as torch does.
        label = torch.from_numpy(probability.numpy().argmax(axis=1))
        best = probability.amax(dim=1)
        second = probability.scatter_(1, label[:, None], 0).amax(dim=1)
        probability.scatter_(1, label[:, None], best[:, None])
        # Images whose two best logits tie, within the authors' threshold, count for no class: row `count` takes them.
        return torch.where((best / second).log() > 1 / count, label, count), probability

    for _ in range(FROLIC_ROUNDS):
        sums, images = torch.zeros((count + 1, count)), torch.zeros(count + 1)
        for label, probability in kernel.visit(offset, by_prediction):
            sums.index_add_(0, label, probability)
            images += torch.bincount(label, minlength=count + 1)
        if not images[:count].any():
            break
        share = _fixed_point((sums / images.clamp(min=1)[:, None])[:count].numpy().T)
        offset -= np.log(share + SMALLEST_SHARE)
    return offset


def _fixed_point(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shares with matrix @ shares = shares, by the power iteration with the authors' start and tolerance."""
    shares = np.full(len(matrix), 1 / len(matrix), matrix.dtype)
    for _ in range(100):
        after = matrix @ shares
        after /= after.sum()
        if np.abs(after - shares).sum() < 1e-3:
            break
        shares = after
    return shares


def evaluate_offset_on_halves(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    fit: Callable[[npt.NDArray[np.int64]], npt.ArrayLike],
    labels: npt.ArrayLike | None = None,
    ks: Iterable[int] = (1, 5),
    seed: int = 0,
) -> EvaluationResult:
    """`evaluate` where each half of the images is scored with an offset that was fitted on the other half.

    No image helps to fit the offset that it is scored with, and yet every image is scored: the control for offsets that
    are fitted on the test images.

    Args:
        vectors: (N, D) unit-norm image vectors, N >= 2.
        classifier: (C, D) unit-norm class vectors.
        fit: function of (M,) row indices that returns the (C,) offset fitted on the images `vectors[rows]`.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        seed: seed of the random halves, which are those of `evaluate_on_halves`.

    Raises:
        InputError: there are fewer than two images, or as `evaluate`.

    >>> evaluate_offset_on_halves(np.eye(2), np.eye(2), lambda rows: [0.0, 2.0], [0, 1]).predictions
    array([1, 1])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    if len(vectors) < 2:
        raise InputError(f"Expected at least two images to halve, got {len(vectors)}")
    require_attribute(fit, "fit", "__call__", "a function of rows")
    labels = class_indices(
        np.full(len(vectors), -1) if labels is None else labels, "labels", len(vectors), len(classifier), unknown=True
    )
    half = generator(seed).permutation(len(vectors)) % 2
    offsets = [check_offset(fit(np.flatnonzero(half == other)), len(classifier), "fit(rows)") for other in (1, 0)]
    # Two more dimensions hold the half of an image and the offsets, so that one product adds the right one.
    images = np.concatenate([vectors, np.eye(2, dtype=np.float32)[half]], axis=1)
    texts = np.concatenate([classifier, np.stack(offsets, axis=1)], axis=1)
    return evaluate_unchecked(images, texts, labels, check_depths(ks))


def carprt_scores(vectors: npt.ArrayLike, bank: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """CARPRT's score of each prompt for each class: (P, C) cosines, higher is better (OpenReview AScQDQqVXY; test.py).

    The mean, over the images that prompt p predicts as class c, of their similarity; 0 where p predicts no image as c.
    Weights are the softmax over prompts of score / temperature. The authors' temperature is 1 for logits of 100 times
    the cosine, which is 0.01 here.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors.

    Raises:
        InputError: shapes differ, or vectors are not of unit norm.

    >>> carprt_scores(np.eye(2), np.stack([np.eye(2), np.full((2, 2), 0.5 ** 0.5)])).round(3)
    array([[1.   , 1.   ],
           [0.707, 0.   ]])
    """
    bank = check_bank(bank)
    vectors, _ = check_vectors(vectors, bank[0])
    images, count = tensor(vectors), bank.shape[1]
    scorers = [Scorer(texts) for texts in bank]
    sums, predicted = np.zeros(bank.shape[:2]), np.zeros(bank.shape[:2])

    def best(item: tuple[slice, int]) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        rows, prompt = item
        block = scorers[prompt](images[rows]).numpy()
        winner = block.argmax(axis=1)
        return prompt, winner, block[np.arange(len(block)), winner]

    items = [(rows, prompt) for rows in block_slices(len(vectors), count) for prompt in range(len(bank))]
    for prompt, winner, similarity in in_order(best, items):
        sums[prompt] += np.bincount(winner, similarity, count)
        predicted[prompt] += np.bincount(winner, minlength=count)
    return sums / np.maximum(predicted, 1)
