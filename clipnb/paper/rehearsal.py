"""A synthetic benchmark of ImageNet's shape whose true answers are known, for `clipnb reproduce --rehearsal`.

It needs neither weights nor images. Every image vector is planted between its class and one rival, so a class's true
accuracy is a normal probability (a probit model), for one template as for any weights of many.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.stats import norm

from clipnb._checks import generator, whole_number
from clipnb._format import percent, score_text
from clipnb._moved import renamed
from clipnb.datasets import imagenet_classnames, repaired_classnames
from clipnb.embeddings import Embeddings
from clipnb.errors import InputError
from clipnb.models import Model
from clipnb.prompts import duplicate_classnames, template_set
from clipnb.similarity import unit_norm

WIDTH = 512  # D, as of ViT-B/16
NEVER_RECOGNISED = 10  # classes at 0 %, as many as the paper's
SPREAD = {"bare": 0.3, "single": 0.2, "best": 0.02, "poor": 1.5}  # of the log cosine between a class and its text
NOISE = 0.4  # norm of an image's part that belongs to no class


@dataclass(frozen=True)
class PlantedBenchmark:
    """A synthetic benchmark with its true answers. N images, C classes, P templates; indices are class indices."""

    model: Model  # its text tower knows the planted texts, and gives any other text a direction of its own
    images: Embeddings
    templates: list[str]  # P, the best among them at `best`
    best: np.ndarray  # positions in `templates`
    # ten classes whose name says nothing and whose images all lie nearest to a rival's text
    never_recognised: np.ndarray
    recoverable: np.ndarray  # (10,) share of their images that descriptions bring back
    later_duplicates: np.ndarray  # classes that share their name with an earlier one: at 0 % until names are repaired
    descriptions: dict[str, list[str]]  # by classname; the last text of each is off the mark
    repaired: list[str]  # the classnames without duplicates
    rivals: np.ndarray  # (C,)
    true_probit: np.ndarray  # (C,) probit of the accuracy under perfect texts

    @cached_property
    def cosines(self) -> np.ndarray:
        """(P, C) cosine between each class and its text by each template."""
        return np.stack([self._cosine(template) for template in self.templates])

    def _cosine(self, template: str) -> np.ndarray:
        return cast(_PlantedTexts, self.model.module).cosines[template]

    def true_accuracy(
        self, template: str | None = None, weights: npt.ArrayLike | None = None, repaired: bool = False
    ) -> np.ndarray:
        """(C,) accuracy that each class has in this benchmark, of which the images are a sample.

        Args:
            template: one text a class; or
            weights: (P,) or (P, C) of an ensemble of `templates`, whose texts' private parts average out.
            repaired: after the duplicate names are repaired.
        """
        if template is not None:
            cosine = self._cosine(template)
        else:
            weights = np.broadcast_to(
                np.asarray(weights, dtype=float).reshape(len(self.templates), -1), self.cosines.shape
            )
            shared = (weights * self.cosines).sum(axis=0)
            cosine = shared / np.sqrt(shared**2 + (weights**2 * (1 - self.cosines**2)).sum(axis=0))
        accuracy = norm.cdf(self.true_probit + np.log(cosine) - np.log(cosine[self.rivals]))
        accuracy[self.never_recognised] = 0
        if not repaired:
            accuracy[self.later_duplicates] = 0
        return accuracy

    def checks(self, results: dict) -> list[dict]:
        """Compare what was planted with what `reproduce` found: lines with "what", "planted", "found" and "ok".

        Args:
            results: of `clipnb.paper.reproduce.reproduce` on this benchmark, with `repaired`.
        """
        tables = {spelling: {row["method"]: row for row in rows} for spelling, rows in results["tables"].items()}
        images = np.array(results["images_per_class"])
        as_named = np.array(tables["as named"]["bare"]["right"]) / images
        rows = tables["repaired"]
        repaired = {name: np.array(row["right"]) / images for name, row in rows.items()}
        never = self.never_recognised.tolist()
        flagged = set(results["flagged"]["repaired"])
        ten_worst = np.sort(np.argsort(repaired["bare"], kind="stable")[:NEVER_RECOGNISED]).tolist()
        lines = [
            _line(
                "duplicate names",
                sorted(c for group in duplicate_classnames(self.images.classnames).values() for c in group),
                [duplicate["class"] for duplicate in results["duplicates"]],
            ),
            _line(
                "classes at 0 %, names as they are",
                sorted([*never, *self.later_duplicates.tolist()]),
                np.flatnonzero(as_named == 0).tolist(),
            ),
            _line("the ten worst, names repaired", never, ten_worst),
            _line("never recognised classes found without labels", NEVER_RECOGNISED, sum(c in flagged for c in never)),
        ]
        for name in ("zpe", "cmm", "cmm-worst", "oracle"):
            weights = rows[name]["weights"]
            top = sorted(weights, key=weights.get)[-len(self.best) :]
            best = sorted(self.templates[p] for p in self.best)
            lines.append(_line(f"best templates by the weights of {name}", best, sorted(top)))
        for name in ("bare", "single", "uniform", "zpe", "cmm"):
            lines.append(_score_line(rows[name], "accuracy", self._truth(rows[name]).mean()))
        truth = self._truth(rows["bare"])
        for k in (k for k in (10, 20, 50, 100) if f"worst_{k}_split_half" in rows["bare"]):
            chosen = _chosen_on_half(truth, images // 2, k)
            lines.append(_score_line(rows["bare"], f"worst_{k}_split_half", chosen))
            lines.append(_score_line(rows["bare"], f"worst_{k}_truly_worst", np.sort(truth)[:k].mean()))
        for name, planted in (("descriptions", self.recoverable.mean()), ("random", 0.0), ("shuffled", 0.0)):
            measured = repaired[name][self.never_recognised].mean()
            what = f"accuracy on the classes never recognised, {name}"
            lines.append(_line(what, percent(planted), percent(measured), abs(measured - planted) < 0.02))
        return lines

    def _truth(self, row: dict) -> np.ndarray:
        """(C,) true accuracies under the texts of a row of the table."""
        template = {"bare": "{}", "single": template_set("single")[0]}.get(row["method"])
        weights = None if template else [row["weights"][t] for t in self.templates]
        return self.true_accuracy(template, weights, repaired=True)


def _line(what: str, planted: Any, found: Any, ok: bool | None = None) -> dict:
    """One line of the checks; without `ok`, both sides have to be equal."""
    return {"what": what, "planted": planted, "found": found, "ok": bool(found == planted if ok is None else ok)}


def _score_line(row: dict, score: str, truth: float) -> dict:
    """A check that the interval of a score holds the true value."""
    low, high = row[f"{score}_ci"]
    shown = score_text(row[score], low, high, ".1%")
    return _line(f"{score} of {row['method']}", percent(truth), shown, low <= truth <= high)


def _chosen_on_half(truth: np.ndarray, half: np.ndarray, k: int) -> float:
    """True accuracy of k classes chosen on `half` images of each class: what the split-half score estimates.

    It is higher than that of the k truly worst, which half the images do not find with certainty.
    """
    rng = np.random.default_rng(0)
    order = rng.binomial(half, truth, size=(200, len(truth))) / half + rng.random((200, len(truth))) / (
        2 * half.max() ** 2
    )
    return float(truth[np.argpartition(order, k - 1, axis=1)[:, :k]].mean())


def make_benchmark(classes: int = 1000, per_class: int = 50, seed: int = 0) -> PlantedBenchmark:
    """Make a synthetic benchmark with ImageNet's classnames (fewer if `classes` < 1,000, always with the duplicates).

    - Image i of class c lies between c and its rival r: s(x_i, c) / s(x_i, r) = exp(z_i), z_i ~ normal(true_probit_c,
      1). So c's true
      accuracy under perfect texts is Phi(true_probit_c); these are long-tailed, from 25 % to 99 %.
    - A text has the cosine k with its class: near 1 for the best templates, less and uneven for the others. Then z_i
      has to
      exceed log(k_r / k_c).
    - Ten classes are never recognised: their names say nothing, and their images lie nearer to a rival's text.
    - Duplicates share a name, so the later one is never predicted, though its images are good.

    Args:
        classes: C, at least 40.
        per_class: images per class, at least 2.
        seed: seed of everything random.

    >>> planted = make_benchmark(classes=60, per_class=4)
    >>> planted.images.vectors.shape, len(planted.never_recognised)
    ((240, 512), 10)
    >>> [planted.images.classnames[c] for c in planted.later_duplicates]
    ['missile', 'sunglasses']
    """
    every, every_repaired = imagenet_classnames(), repaired_classnames()
    whole_number(classes, "classes", 40, len(every))
    whole_number(per_class, "per_class", 2, 1000)
    rng = generator(seed)
    pairs = [c for group in duplicate_classnames(every).values() for c in group]
    others = np.setdiff1d(np.arange(len(every)), pairs)
    kept = np.sort(np.r_[pairs, rng.choice(others, classes - len(pairs), replace=False)])
    names, repaired = [every[c] for c in kept], [every_repaired[c] for c in kept]
    groups = list(duplicate_classnames(names).values())
    if not groups:
        raise InputError(
            "Expected duplicates among ImageNet's classnames, found none: this version of open_clip has other names"
        )
    later = np.array([c for group in groups for c in group[1:]])
    ordinary = rng.permutation(np.setdiff1d(np.arange(classes), np.concatenate(groups)))
    never_recognised, ordinary = np.sort(ordinary[:NEVER_RECOGNISED]), ordinary[NEVER_RECOGNISED:]

    rivals = np.empty(classes, dtype=np.int64)
    rivals[ordinary] = np.roll(ordinary, 1)
    rest = np.setdiff1d(np.arange(classes), ordinary)
    rivals[rest] = rng.choice(ordinary, len(rest), replace=False)
    true_probit = norm.ppf(0.25 + 0.74 * rng.beta(1.6, 1.2, classes))
    recoverable = rng.uniform(0.2, 0.6, NEVER_RECOGNISED)

    seen = unit_norm(rng.normal(size=(classes, WIDTH)))  # where the images of a class are
    named = seen.copy()  # where a perfect text of its name is
    named[never_recognised] = unit_norm(rng.normal(size=(NEVER_RECOGNISED, WIDTH)))
    seen[never_recognised] = unit_norm(0.6 * seen[rivals[never_recognised]] + 0.8 * seen[never_recognised])
    for first, *more in groups:
        seen[more] = unit_norm(0.4 * seen[first] + 0.92 * seen[more])
        named[more] = seen[more]

    labels = np.repeat(np.arange(classes), per_class)
    ratio = np.exp(rng.normal(true_probit[labels]))
    in_class, in_rival = ratio / np.hypot(ratio, 1), 1 / np.hypot(ratio, 1)
    for c, share in zip(never_recognised, recoverable):  # all or nothing, in shares that are exact
        in_class[labels == c] = rng.permutation(np.arange(per_class) < round(share * per_class))
        in_rival[labels == c] = 1 - in_class[labels == c]
    vectors = in_class[:, None].astype(np.float32) * seen[labels].astype(np.float32)
    vectors += in_rival[:, None].astype(np.float32) * seen[rivals[labels]].astype(np.float32)
    vectors = unit_norm(vectors) + NOISE * unit_norm(rng.standard_normal(vectors.shape, dtype=np.float32))

    templates = template_set("openai-80")[:6]
    best = np.sort(rng.choice(len(templates), 2, replace=False))
    spread = {"{}": SPREAD["bare"], template_set("single")[0]: SPREAD["single"]}
    spread |= {template: SPREAD["best" if p in best else "poor"] for p, template in enumerate(templates)}
    tower = _PlantedTexts(seed, named)
    for template, s in spread.items():
        cosine = np.exp(-s * np.minimum(np.abs(rng.normal(size=classes)), 2))
        tower.cosines[template] = cosine
        for spelling in (repaired, names):  # a shared name means the first one
            for c in reversed(range(classes)):
                tower.plan[template.replace("{}", spelling[c])] = (named[c], cosine[c])
    descriptions = {}
    for spelling in (repaired, names):
        for c in reversed(range(classes)):
            texts = [
                f"{spelling[c]}: mark {5 * c + mark}" for mark in range(5)
            ]  # marks of its own, so that shuffled texts mean nothing
            tower.plan |= dict.fromkeys(texts[:-1], (seen[c], 0.95))
            descriptions[spelling[c]] = texts
    no_preprocess = cast("Callable[[Image.Image], torch.Tensor]", None)  # the planted model never reads an image
    model = Model("planted", f"seed {seed}", tower, no_preprocess, _tokens, torch.device("cpu"), "fp32")
    provenance = {
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "precision": "fp32",
        "dataset": "rehearsal",
        "dataset_fingerprint": f"{classes} x {per_class}, seed {seed}",
    }
    images = Embeddings(
        unit_norm(vectors).astype(np.float32), labels, [f"planted/{i}" for i in range(len(labels))], names, provenance
    )
    return PlantedBenchmark(
        model,
        images,
        templates,
        best,
        never_recognised,
        np.round(recoverable * per_class) / per_class,
        later,
        descriptions,
        repaired,
        rivals,
        true_probit,
    )


class _PlantedTexts(torch.nn.Module):
    """A text tower that looks up what was planted: text -> (direction, cosine); the rest of a vector is the text's
    own.
    """

    def __init__(self, seed: int, named: np.ndarray) -> None:
        super().__init__()
        self.seed = seed
        self.plan: dict[str, tuple[np.ndarray, float]] = {}
        self.cosines: dict[str, np.ndarray] = {}
        self.width = named.shape[1]
        self.logit_scale = torch.tensor(100.0).log()  # that of CLIP
        self.register_buffer("named", torch.from_numpy(named))  # the fingerprint is computed from it

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._vector(bytes(row[row > 0].tolist()).decode()) for row in tokens]))

    def _vector(self, text: str) -> np.ndarray:
        own = np.random.default_rng([self.seed, zlib.crc32(text.encode())]).normal(size=self.width)
        own /= np.linalg.norm(own)
        direction, cosine = self.plan.get(text, (own, 1.0))
        return (cosine * direction + np.sqrt(1 - cosine**2) * own).astype(np.float32)


def _tokens(texts: list[str], context: int = 400) -> torch.Tensor:
    """Bytes as token ids, 0 = padding."""
    rows = np.zeros((len(texts), context), dtype=np.int64)
    for row, text in zip(rows, texts):
        content = text.encode()[:context]
        row[: len(content)] = list(content)
    return torch.from_numpy(rows)


__getattr__ = renamed(__name__, {"World": "PlantedBenchmark", "make_world": "make_benchmark"})
