"""The true accuracies of classes, as far as the number of right images of each tells: a Bayesian model.

Family: a share of the classes has an accuracy of exactly 0; the accuracies of the others are a mixture of two beta distributions, the
first of which may be squeezed to lie above a floor. The number right of each class is binomial. All seven parameters have flat priors
and are sampled, so that an interval also allows for what the data do not say about the family's shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

GRID = (
    np.sin(np.linspace(0, np.pi / 2, 162)[1:-1]) ** 2
)  # accuracies above 0, finest near 0 and 1, where a beta can be steep
LOG_WIDTH = np.log(np.sin(np.linspace(0, np.pi, 162)[1:-1]))  # log of the width of a cell of the grid, up to a constant
LEVELS = np.concatenate([[0.0], GRID])
# Of both betas the logit of the mean and the log of the concentration; the logit of the second one's share; the logit of the share
# of classes at 0; the floor, where a number below 0 counts as 0, so that half of its prior is on "no floor".
LOWER = np.array([-6.0, np.log(0.1), -6.0, np.log(0.1), -8.0, -12.0, -1.0])
UPPER = np.array([6.0, np.log(1e7), 6.0, np.log(1e7), 0.0, 1.0, 0.95])
WALKERS = 48
STEPS = 400  # of each walker; the first half is left out, and of the second half every 40th is kept
STARTS = 40  # random points a walker, of which the best become the walkers


@dataclass(frozen=True)
class Patterns:
    """Classes that have equally many images, and of these equally many right, are one pattern."""

    right: np.ndarray  # (P,)
    images: np.ndarray  # (P,)
    count: np.ndarray  # (P,) number of classes
    of_class: np.ndarray  # (C,) the pattern of each class

    @classmethod
    def of(cls, right: np.ndarray, images: np.ndarray) -> Patterns:
        """Group C classes by their numbers of right images and of images."""
        pairs, of_class, count = np.unique(np.stack([right, images]), axis=1, return_inverse=True, return_counts=True)
        return cls(pairs[0], pairs[1], count, of_class.ravel())

    def likelihood(self) -> np.ndarray:
        """(P, G) probability of each pattern at each accuracy of GRID, up to a factor for each pattern."""
        right, images = self.right[:, None], self.images[:, None]
        log = right * np.log(GRID) + (images - right) * np.log1p(-GRID)
        return np.exp(log - log.max(axis=1, keepdims=True))


def sample_accuracies(right: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Posterior sample of the true accuracy of every class: (S, C) fractions, one row for each set of parameters.

    Args:
        right, images: (C,) numbers of right images and of images, each class with at least one image.
        rng: source of random numbers.

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
        posterior = np.concatenate([(zero[s] * (patterns.right == 0))[:, None], table * above[s]], axis=1).cumsum(
            axis=1
        )
        picks = rng.random(len(right)) * posterior[patterns.of_class, -1]
        # One sorted array for all patterns: pattern p lies between p and p + 1.
        edges = (posterior / posterior[:, -1:] + np.arange(len(posterior))[:, None]).ravel()
        place = np.searchsorted(edges, picks / posterior[patterns.of_class, -1] + patterns.of_class)
        sample[s] = LEVELS[np.minimum(place - patterns.of_class * len(LEVELS), len(LEVELS) - 1)]
    return sample


def _sample_parameters(patterns: Patterns, table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Posterior sample of the parameters, (S, 7), by the affine-invariant sampler of Goodman and Weare (2010)."""

    def log_posterior(theta: np.ndarray) -> np.ndarray:
        inside = ((theta > LOWER) & (theta < UPPER)).all(axis=1)
        zero, above = _mixture(np.clip(theta, LOWER, UPPER))
        seen = above @ table.T + zero[:, None] * (patterns.right == 0)
        return np.where(inside, np.log(np.maximum(seen, 1e-300)) @ patterns.count, -np.inf)

    width, half = len(LOWER), WALKERS // 2
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
    first = _beta(theta[:, 0:1], theta[:, 1:2], np.maximum(theta[:, 6:7], 0))
    return zero, (1 - zero[:, None]) * ((1 - second) * first + second * _beta(theta[:, 2:3], theta[:, 3:4], 0.0))


def _beta(logit_mean: np.ndarray, log_concentration: np.ndarray, floor) -> np.ndarray:
    """(S, G) shares of beta distributions on [floor, 1]."""
    mean, concentration = scipy.special.expit(logit_mean), np.exp(log_concentration)
    scaled = np.clip((GRID - floor) / (1 - floor), 1e-9, 1 - 1e-9)
    log = (mean * concentration - 1) * np.log(scaled) + ((1 - mean) * concentration - 1) * np.log1p(-scaled) + LOG_WIDTH
    log = np.where(GRID > floor, log, -np.inf)
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)
