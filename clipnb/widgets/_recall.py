"""Recall@K, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import generator, unique_indices, whole_number
from clipnb._format import thumbnail
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.widgets._base import SIDE, LiveFigure, decode, evaluated, in_range, new_figure, read_module


class RecallAtKExplorer(LiveFigure):
    """Move K and see which images have their label among the first K guesses.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        indices: images to show; a sample of `count` labelled images if None.
        count: size of the sample.
        seed: seed of the sample, >= 0.

    The trait `k` follows the slider. The numbers are over every labelled image.

    Raises:
        InputError: `result` is not of `data`, an index is out of range or unlabelled, or the data is over 300 kB.
    """

    _esm = read_module("recall.js")
    k = traitlets.Int(1).tag(sync=True)

    def __init__(
        self,
        data: LabeledImages,
        result: EvaluationResult,
        indices: Sequence[int] | None = None,
        count: int = 24,
        seed: int = 0,
    ) -> None:
        (labels,) = evaluated(data, result, "labels")
        labelled = np.flatnonzero(labels >= 0)
        count = whole_number(count, "count", 1)
        rng = generator(seed)
        sample = np.sort(rng.choice(labelled, size=min(count, len(labelled)), replace=False))
        chosen = unique_indices(sample if indices is None else indices, "indices", len(data)).tolist()
        if (labels[chosen] < 0).any():
            raise InputError("Expected `indices` of labelled images, got some whose label is -1")
        hits = result.topk == labels[:, None]
        ranks = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
        ks = range(1, result.topk.shape[1] + 1)
        names = data.classnames
        super().__init__(
            {
                "name": data.name,
                "total": len(labelled),
                "num_classes": result.num_classes,
                "recall": [float(hits[labelled, :k].any(axis=1).mean()) for k in ks],
                "chance": [k / result.num_classes for k in ks],
                "pictures": [
                    {
                        "src": thumbnail(data[i][0], SIDE),
                        "name": names[labels[i]],
                        "rank": int(ranks[i]),
                        "guesses": [
                            {
                                "name": names[guess],
                                "similarity": round(float(similarity), 4),
                                "hit": bool(guess == labels[i]),
                            }
                            for guess, similarity in zip(result.topk[i], result.topk_similarity[i], strict=True)
                        ],
                    }
                    for i in chosen
                ],
            }
        )

    @traitlets.validate("k")
    def _check_k(self, proposal: dict[str, Any]) -> float:
        return in_range("k", proposal["value"], 1, len(self.content["recall"]))

    def static_figure(self) -> Figure:
        """The recall curve, and the images with the rank of their label."""
        content = self.content
        height = 1.9 * -(-len(content["pictures"]) // 6)
        figure = new_figure(7, 2.6 + height)
        curve, strip = figure.subplots(2, 1, height_ratios=(2.6, height))
        plots.recall_curve(dict(enumerate(content["recall"], start=1)), content["num_classes"], ax=curve)
        marks = [
            f"guess {image['rank']}" if 0 < image["rank"] <= self.k else f"not in top {self.k}"
            for image in content["pictures"]
        ]
        titles = [f"{image['name']}\n{mark}" for image, mark in zip(content["pictures"], marks, strict=True)]
        plots.image_strip([decode(image["src"]) for image in content["pictures"]], titles, ax=strip)
        return figure
