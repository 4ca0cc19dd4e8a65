"""The accuracies of all classes of published runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import require_attribute, whole_number
from clipnb._format import percent
from clipnb.errors import InputError
from clipnb.widgets._base import LiveFigure, new_figure, read_module

KEY = ["model", "pretrained", "prompts"]


class TailExplorer(LiveFigure):
    """All classes of a run, worst first, with the model and the prompts to choose and the worst classes by name.

    Args:
        runs: rows of `clipnb.paper.tails.load`.
        worst: rows of `clipnb.paper.tails.worst_named`; those of other runs are left out.

    The traits `run` and `prompts` are the indices of the model and of the prompt set shown.

    Raises:
        InputError: `runs` or `worst` is no such table.

    Example:
        >>> from clipnb.paper import tails
        >>> figure = TailExplorer(tails.load(large=True), tails.worst_named())
        >>> len(figure.content["models"]), figure.content["prompts"]
        (12, ['bare', 'single', 'openai-80'])
    """

    _esm = read_module("tails.js")
    run = traitlets.Int(0).tag(sync=True)
    prompts = traitlets.Int(0).tag(sync=True)

    def __init__(self, runs: pd.DataFrame, worst: pd.DataFrame) -> None:
        columns = require_attribute(runs, "runs", "columns", "clipnb.paper.tails.load").columns
        counts = [name for name in columns if str(name).startswith("n_right_")]
        if len(counts) < 2 or not len(runs) or not set(KEY) <= set(columns):
            raise InputError(f"Expected `runs` of clipnb.paper.tails.load, got columns {list(columns)[:4]}")
        columns = require_attribute(worst, "worst", "columns", "clipnb.paper.tails.worst_named").columns
        if not {*KEY, "classname", "right"} <= set(columns):
            raise InputError(f"Expected `worst` of clipnb.paper.tails.worst_named, got columns {list(columns)[:4]}")
        names = {key: rows[["classname", "right"]].values.tolist() for key, rows in worst.groupby(KEY)}
        prompts = list(dict.fromkeys(runs["prompts"]))
        models = [
            {
                "name": ", ".join(rows.iloc[0][["model", "pretrained"]]),
                "runs": [
                    {
                        "counts": [int(count) for count in row[counts]],
                        "worst": names.get(tuple(row[KEY]), []),
                    }
                    for _, row in rows.set_index("prompts", drop=False).loc[prompts].iterrows()
                ],
            }
            for _, rows in runs.groupby(["model", "pretrained"], sort=False)
        ]
        super().__init__({"images": len(counts) - 1, "prompts": prompts, "models": models})

    @traitlets.validate("run")
    def _check_run(self, proposal: dict[str, Any]) -> int:
        return whole_number(proposal["value"], "run", 0, len(self.content["models"]) - 1)

    @traitlets.validate("prompts")
    def _check_prompts(self, proposal: dict[str, Any]) -> int:
        return whole_number(proposal["value"], "prompts", 0, len(self.content["prompts"]) - 1)

    def numbers(self) -> dict[str, float]:
        """The accuracy, naive worst-10 accuracy and number of classes at 0 % of the current run."""
        counts = self.content["models"][self.run]["runs"][self.prompts]["counts"]
        right = np.repeat(np.arange(len(counts)), counts) / self.content["images"]
        return {"accuracy": right.mean(), "worst_10": right[:10].mean(), "classes_at_zero": float(counts[0])}

    def static_figure(self) -> Figure:
        """The accuracies of all classes of the current run, worst first."""
        model = self.content["models"][self.run]
        counts = model["runs"][self.prompts]["counts"]
        found = self.numbers()
        figure = new_figure(6.4, 3.0)
        ax = figure.subplots()
        right = np.repeat(np.arange(len(counts)), counts) / self.content["images"]
        ax.fill_between(np.arange(len(right)), right, color=plots.BLUE, step="mid", linewidth=0)
        ax.set_title(
            f"{model['name']}, {self.content['prompts'][self.prompts]}: {percent(found['accuracy'])}, worst ten "
            f"{percent(found['worst_10'])}, {found['classes_at_zero']:.0f} classes at 0 %",
            fontsize=9,
        )
        ax.set(xlabel="classes, worst first", ylabel="accuracy of the class")
        ax.yaxis.set_major_formatter(lambda value, _: percent(value, 0))
        ax.spines[["top", "right"]].set_visible(False)
        return figure
