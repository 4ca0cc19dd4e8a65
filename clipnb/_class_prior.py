"""A Bayesian model of the true accuracies of classes, given the number of correct images of each class.

The prior is a family of distributions: a share of the classes has an accuracy of exactly 0, and the accuracies of the
others are a mixture of two beta distributions, the first of which may be restricted to lie above a floor. The number of
correct images of a class is binomial. All seven parameters have flat priors and are sampled, so that intervals also
reflect the uncertainty about the shape of the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

# Accuracies above 0, finest near 0 and 1, where a beta density can be steep.
GRID = np.sin(np.linspace(0, np.pi / 2, 162)[1:-1]) ** 2
LOG_WIDTH = np.log(np.sin(np.linspace(0, np.pi, 162)[1:-1]))  # log of the width of each grid cell, up to a constant
LEVELS = np.concatenate([[0.0], GRID])
LOG_GRID, LOG_REST = np.log(GRID), np.log1p(-GRID)
# Bounds of the seven parameters: for each of the two betas the logit of its mean and the log of its concentration; then
# the logit of the second beta's share, the logit of the share of classes at 0, and the floor. A negative floor counts
# as 0, so that half of its prior is on "no floor".
LOWER = np.array([-6.0, np.log(0.1), -6.0, np.log(0.1), -8.0, -12.0, -1.0])
UPPER = np.array([6.0, np.log(1e7), 6.0, np.log(1e7), 0.0, 1.0, 0.95])
WALKERS = 48
STEPS = 400  # steps of each walker; the first half is discarded, and every 40th step of the second half is kept
STARTS = 40  # random points for each walker; the best of all points become the walkers


@dataclass(frozen=True)
class Patterns:
    """The distinct pairs (correct images, images) of the classes: classes with the same pair share a likelihood."""

    right: np.ndarray  # (P,) correct images
    images: np.ndarray  # (P,) images
    count: np.ndarray  # (P,) number of classes with this pair
    of_class: np.ndarray  # (C,) the pattern of each class

    @classmethod
    def of(cls, right: np.ndarray, images: np.ndarray) -> Patterns:
        """Group C classes by their numbers of correct images and of images."""
        pairs, of_class, count = np.unique(np.stack([right, images]), axis=1, return_inverse=True, return_counts=True)
        return cls(pairs[0], pairs[1], count, of_class.ravel())

    def likelihood(self) -> np.ndarray:
        """(P, G) probability of each pattern at each accuracy of GRID, up to a factor for each pattern."""
        right, images = self.right[:, None], self.images[:, None]
        return _exp_below_max(right * LOG_GRID + (images - right) * LOG_REST)


def sample_accuracies(right: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Posterior sample of the true accuracy of every class: (S, C) fractions, one row for each set of parameters.

    Args:
        right: (C,) number of correct images of each class.
        images: (C,) number of images of each class, at least one.
        rng: random number generator.

    >>> sample = sample_accuracies(np.array([0, 9, 10]), np.array([10, 10, 10]), np.random.default_rng(0))
    >>> sample.shape[1], bool(sample[:, 0].mean() < 0.3)
    (3, True)
    """
    patterns = Patterns.of(right, images)
    table = patterns.likelihood()
    theta = _sample_parameters(patterns, table, rng)
    zero, above = _mixture(theta)
    sample = np.empty((len(theta), len(right)))
    for s in range(len(theta)):
        at_zero = zero[s] * (patterns.right == 0)
        posterior = np.concatenate([at_zero[:, None], table * above[s]], axis=1).cumsum(axis=1)
        picks = rng.random(len(right)) * posterior[patterns.of_class, -1]
        # One sorted array for all patterns: the values of pattern p lie between p and p + 1.
        edges = (posterior / posterior[:, -1:] + np.arange(len(posterior))[:, None]).ravel()
        positions = np.searchsorted(edges, picks / posterior[patterns.of_class, -1] + patterns.of_class)
        sample[s] = LEVELS[np.minimum(positions - patterns.of_class * len(LEVELS), len(LEVELS) - 1)]
    return sample


def _sample_parameters(patterns: Patterns, table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Posterior sample of the parameters, (S, 7), by the affine-invariant sampler of Goodman and Weare (2010)."""

    def log_posterior(theta: np.ndarray) -> np.ndarray:
        inside = ((theta > LOWER) & (theta < UPPER)).all(axis=1)
        zero, above = _mixture(np.clip(theta, LOWER, UPPER))
        # Not `above @ table.T`: in hundreds of products as small as this one, the threads of a BLAS library wait for
        # each other, on a busy machine for most of the time.
        likelihood = np.einsum("sg,pg->sp", above, table) + zero[:, None] * (patterns.right == 0)
        return np.where(inside, (np.log(np.maximum(likelihood, 1e-300)) * patterns.count).sum(axis=1), -np.inf)

    width = len(LOWER)
    half = WALKERS // 2
    start = rng.uniform(LOWER, UPPER, (STARTS * WALKERS, width))
    score = log_posterior(start)
    best = np.argsort(-score)[:WALKERS]
    walkers, score = start[best], score[best]
    kept = []
    for step in range(STEPS):
        for moving, others in ((slice(0, half), walkers[half:]), (slice(half, None), walkers[:half])):
            stretch = (1 + rng.random(half)) ** 2 / 2
            partner = others[rng.integers(half, size=half)]
            moved = partner + stretch[:, None] * (walkers[moving] - partner)
            new = log_posterior(moved)
            accepted = np.log(rng.random(half)) < (width - 1) * np.log(stretch) + new - score[moving]
            walkers[moving] = np.where(accepted[:, None], moved, walkers[moving])
            score[moving] = np.where(accepted, new, score[moving])
        if step >= STEPS // 2 and step % 40 == 0:
            kept.append(walkers.copy())
    return np.concatenate(kept)


def _mixture(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of classes at 0, (S,), and of classes at each accuracy of GRID, (S, G)."""
    zero = scipy.special.expit(theta[:, 5])
    second = scipy.special.expit(theta[:, 4:5])
    first = _above_floor(theta[:, 0:1], theta[:, 1:2], np.maximum(theta[:, 6:7], 0))
    return zero, (1 - zero[:, None]) * ((1 - second) * first + second * _beta(theta[:, 2:3], theta[:, 3:4]))


def _beta(
    logit_mean: np.ndarray,
    log_concentration: np.ndarray,
    log: np.ndarray = LOG_GRID,
    log_rest: np.ndarray = LOG_REST,
    log_width: np.ndarray = LOG_WIDTH,
) -> np.ndarray:
    """Probability of each cell of GRID under beta distributions, (S, G)."""
    mean = scipy.special.expit(logit_mean)
    concentration = np.exp(log_concentration)
    density = (mean * concentration - 1) * log + ((1 - mean) * concentration - 1) * log_rest + log_width
    weight = _exp_below_max(density)
    return weight / weight.sum(axis=1, keepdims=True)


def _exp_below_max(log: np.ndarray) -> np.ndarray:
    """`exp(log)` with the largest of each row scaled to 1; what is below exp(-600) is 0.

    Left to themselves, many entries would be denormal numbers, with which a processor computes ten times slower, and
    `exp` itself is slow with numbers below -745.
    """
    below = log - log.max(axis=1, keepdims=True)
    return np.where(below < -600, 0.0, np.exp(np.maximum(below, -600)))


def _above_floor(logit_mean: np.ndarray, log_concentration: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """As `_beta`, for beta distributions on [floor, 1]."""
    scaled = np.clip((GRID - floor) / (1 - floor), 1e-9, 1 - 1e-9)
    log_width = np.where(GRID > floor, LOG_WIDTH, -np.inf)
    return _beta(logit_mean, log_concentration, np.log(scaled), np.log1p(-scaled), log_width)
