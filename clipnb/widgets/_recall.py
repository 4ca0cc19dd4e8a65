"""Recall@K, image by image."""

from collections.abc import Sequence

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import generator, unique_indices, whole_number
from clipnb._format import thumbnail
from clipnb.errors import InputError
from clipnb.widgets._base import SIDE, LiveFigure, decode, evaluated, in_range, new_figure, read_module


class RecallAtKExplorer(LiveFigure):
    """Move K and see which pictures have their label among the first K guesses.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        indices: pictures to show; a seeded sample of `count` labelled ones if None.
        count: size of the sample.
        seed: of the sample.

    The trait `k` follows the slider. The numbers are over every labelled picture.

    Raises:
        InputError: `result` is not of `data`, an index is out of range or unlabelled, or the data is over 300 kB.
    """

    _esm = read_module("recall.js")
    k = traitlets.Int(1).tag(sync=True)

    def __init__(self, data, result, indices: Sequence[int] | None = None, count: int = 24, seed: int = 0) -> None:
        (labels,) = evaluated(data, result, "labels")
        labelled = np.flatnonzero(labels >= 0)
        count, rng = whole_number(count, "count", 1), generator(seed)
        if indices is None:
            indices = np.sort(rng.choice(labelled, size=min(count, len(labelled)), replace=False))
        indices = unique_indices(indices, "indices", len(data)).tolist()
        if (labels[indices] < 0).any():
            raise InputError("Expected `indices` of labelled pictures, got some whose label is -1")
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
                    for i in indices
                ],
            }
        )

    @traitlets.validate("k")
    def _check_k(self, proposal):
        return in_range("k", proposal["value"], 1, len(self.content["recall"]))

    def static_figure(self) -> Figure:
        """The recall curve, and the pictures with the rank of their label."""
        content = self.content
        height = 1.9 * -(-len(content["pictures"]) // 6)
        figure = new_figure(7, 2.6 + height)
        curve, strip = figure.subplots(2, 1, height_ratios=(2.6, height))
        plots.recall_curve(dict(enumerate(content["recall"], start=1)), content["num_classes"], ax=curve)
        marks = [
            f"guess {picture['rank']}" if 0 < picture["rank"] <= self.k else f"not in top {self.k}"
            for picture in content["pictures"]
        ]
        titles = [f"{picture['name']}\n{mark}" for picture, mark in zip(content["pictures"], marks, strict=True)]
        plots.image_strip([decode(picture["src"]) for picture in content["pictures"]], titles, ax=strip)
        return figure
