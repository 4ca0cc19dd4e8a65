"""Live figures for notebooks and for the page they become.

Each figure computes its numbers here, keeps them in synced traits, and is drawn by hand-written JavaScript in `static/`.
It needs no kernel: in a static page the same numbers are looked up. With a kernel, the control's trait follows the reader.
"""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from clipnb import plots
from clipnb.errors import InputError, as_numpy, booleans, floats, generator, having, places_in, real, text_of, texts_of, whole_number

STATIC = Path(__file__).parent / "static"
LIMIT = 300_000  # bytes of one figure's data
SIDE = 64        # pixels of a thumbnail's longer side


def _esm(name: str) -> str:
    """The module of one figure: the shared helpers, then its own file."""
    return "\n".join((STATIC / file).read_text(encoding="utf-8") for file in ("figure.js", name))


class LiveFigure(anywidget.AnyWidget):
    """A figure whose data is fixed (`content`) and whose state is a few synced traits.

    Each kind has `static_figure()`: its current state as a matplotlib figure, for print.

    Raises:
        InputError: the data is over 300 kB.
    """

    _css = STATIC / "figure.css"
    content = traitlets.Dict().tag(sync=True)

    def __init__(self, content: dict, **state) -> None:
        size = len(json.dumps(content, allow_nan=False).encode())
        if size > LIMIT:
            raise InputError(f"Expected at most {LIMIT // 1000} kB of data for {type(self).__name__}, got {size // 1000} kB: "
                             "show fewer pictures, classes or prompts")
        super().__init__(content=content, **state)

    def _repr_mimebundle_(self, **options) -> tuple[dict, dict]:
        """The live figure, and its picture for viewers and exports that run no script."""
        data, metadata = super()._repr_mimebundle_(**options)
        picture = io.BytesIO()
        self.static_figure().savefig(picture, format="png")
        return {**data, "image/png": base64.b64encode(picture.getvalue()).decode()}, metadata


def _in_range(name: str, value, low, high):
    if not low <= real(value, name) <= high:
        raise InputError(f"Expected `{name}` from {low} to {high}, got {value}")
    return value


def _above_zero(temperature):
    if not 0 < real(temperature, "temperature") < np.inf:
        raise InputError(f"Expected `temperature` above 0, got {temperature}")
    return temperature


def _aligned(name: str, values, length: int) -> np.ndarray:
    values = as_numpy(values, name)
    if values.shape != (length,):
        raise InputError(f"Expected `{name}` of shape (N,) = ({length},), got {values.shape}")
    return values


def _evaluated(data, result, *names: str) -> list[np.ndarray]:
    """These arrays of `result`, one value a picture of `data`."""
    having(data, "data", "classnames", "clipnb.load_dataset"), having(result, "result", "per_class_accuracy", "clipnb.evaluate")
    return [_aligned(f"result.{name}", getattr(result, name), len(data)) for name in names]


def _thumbnail(image: Image.Image) -> str:
    """A small WebP copy as a data URI."""
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(width: float, height: float) -> Figure:
    """An empty figure that a notebook shows where it is returned, and not a second time at the end of the cell."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    return figure


def _pixels(src: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))


def _number(value) -> float | None:
    """A plain float; None (JSON has no NaN) where it is undefined."""
    return None if np.isnan(value) else float(value)


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}".replace("%", " %")


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

    _esm = _esm("recall.js")
    k = traitlets.Int(1).tag(sync=True)

    def __init__(self, data, result, indices: Sequence[int] | None = None, count: int = 24, seed: int = 0) -> None:
        (labels,) = _evaluated(data, result, "labels")
        labelled = np.flatnonzero(labels >= 0)
        count, rng = whole_number(count, "count", 1), generator(seed)
        if indices is None:
            indices = np.sort(rng.choice(labelled, size=min(count, len(labelled)), replace=False))
        indices = places_in(indices, "indices", len(data)).tolist()
        if (labels[indices] < 0).any():
            raise InputError("Expected `indices` of labelled pictures, got some whose label is -1")
        hits = result.topk == labels[:, None]
        ranks = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
        ks = range(1, result.topk.shape[1] + 1)
        names = data.classnames
        super().__init__({
            "name": data.name,
            "total": len(labelled),
            "num_classes": result.num_classes,
            "recall": [float(hits[labelled, :k].any(axis=1).mean()) for k in ks],
            "chance": [k / result.num_classes for k in ks],
            "pictures": [{
                "src": _thumbnail(data[i][0]),
                "name": names[labels[i]],
                "rank": int(ranks[i]),
                "guesses": [
                    {"name": names[guess], "similarity": round(float(similarity), 4), "hit": bool(guess == labels[i])}
                    for guess, similarity in zip(result.topk[i], result.topk_similarity[i], strict=True)
                ],
            } for i in indices],
        })

    @traitlets.validate("k")
    def _check_k(self, proposal):
        return _in_range("k", proposal["value"], 1, len(self.content["recall"]))

    def static_figure(self) -> Figure:
        """The recall curve, and the pictures with the rank of their label."""
        content = self.content
        height = 1.9 * -(-len(content["pictures"]) // 6)
        figure = _figure(7, 2.6 + height)
        curve, strip = figure.subplots(2, 1, height_ratios=(2.6, height))
        plots.recall_curve(dict(enumerate(content["recall"], start=1)), content["num_classes"], ax=curve)
        marks = [f"guess {picture['rank']}" if 0 < picture["rank"] <= self.k else f"not in top {self.k}"
                 for picture in content["pictures"]]
        titles = [f"{picture['name']}\n{mark}" for picture, mark in zip(content["pictures"], marks, strict=True)]
        plots.image_strip([_pixels(picture["src"]) for picture in content["pictures"]], titles, ax=strip)
        return figure


def _most_confused(confusion: np.ndarray, count: int) -> list[int]:
    """Classes in order of confusion: start at the worst pair, then add the class most confused with those already in."""
    between = confusion + confusion.T
    np.fill_diagonal(between, -1)
    group = sorted(int(c) for c in np.unravel_index(between.argmax(), between.shape))
    while len(group) < count:
        links = between[group].sum(axis=0)
        links[group] = -1
        group.append(int(links.argmax()))
    return group


class ConfusionExplorer(LiveFigure):
    """A confusion matrix whose cells open the pictures that fell in them.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices to show, in this order; the worst-confused group if None.
        count: size of that group.
        per_cell: most pictures of one cell.
        most: most pictures in all.

    The trait `shown` is the number of classes shown, `cell` the open [row, column]; the position after the last class is
    "other". Precision and recall are over all pictures of the class, not only those in the cells.

    Raises:
        InputError: `result` is not of `data`, fewer than two classes, an index out of range, or the data is over 300 kB.
    """

    _esm = _esm("confusion.js")
    shown = traitlets.Int(2).tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 1], minlen=2, maxlen=2).tag(sync=True)

    def __init__(self, data, result, classes: Sequence[int] | None = None, count: int = 8, per_cell: int = 8,
                 most: int = 120) -> None:
        labels, predictions = _evaluated(data, result, "labels", "predictions")
        confusion = result.confusion
        for name, value in (("count", count), ("per_cell", per_cell), ("most", most)):
            whole_number(value, name, 1)
        if classes is None:
            classes = _most_confused(confusion, min(count, len(confusion)))
        classes = places_in(classes, "classes", len(confusion)).tolist()
        if len(classes) < 2:
            raise InputError(f"Expected `classes` with at least two different classes, got {classes}")
        names = data.classnames
        actual_totals, predicted_totals = confusion.sum(axis=1)[classes], confusion.sum(axis=0)[classes]
        right = confusion[classes, classes]
        super().__init__({
            "name": data.name,
            "names": [names[c] for c in classes],
            "counts": confusion[np.ix_(classes, classes)].tolist(),
            "actual_totals": actual_totals.tolist(),
            "predicted_totals": predicted_totals.tolist(),
            "precision": [_number(x) for x in _ratio(right, predicted_totals)],
            "recall": [_number(x) for x in _ratio(right, actual_totals)],
            "pictures": [{
                "src": _thumbnail(data[i][0]), "actual": row, "predicted": column,
                "name": names[labels[i]], "guess": names[predictions[i]],
            } for i, row, column in _cells(labels, predictions, classes, per_cell, most)],
        }, shown=len(classes))

    @traitlets.validate("shown")
    def _check_shown(self, proposal):
        return _in_range("shown", proposal["value"], 2, len(self.content["names"]))

    def static_figure(self) -> Figure:
        """The matrix of the classes shown, with "other" as the last column."""
        content, m = self.content, self.shown
        inner = np.array(content["counts"])[:m, :m]
        other = np.array(content["actual_totals"])[:m] - inner.sum(axis=1)
        square = np.zeros((m + 1, m + 1), dtype=int)
        square[:m, :m], square[:m, m] = inner, other
        figure = _figure(3.6 + 0.5 * m, 2.6 + 0.5 * m)
        plots.confusion(square, [*content["names"][:m], "other"], classes=range(m), ax=figure.subplots())
        return figure


def _cells(labels, predictions, classes: list[int], per_cell: int, most: int) -> list[tuple[int, int, int]]:
    """(picture, row, column) of pictures to show: the first of every cell, then the second of every cell, and so on."""
    position = {c: p for p, c in enumerate(classes)}
    other, taken, found = len(classes), {}, []
    for i in np.flatnonzero(labels >= 0):
        row, column = (position.get(int(c), other) for c in (labels[i], predictions[i]))
        turn = taken.get((row, column), 0)
        if (row, column) != (other, other) and turn < per_cell:
            taken[row, column] = turn + 1
            found.append((turn, row, column, int(i)))
    return [(i, row, column) for _, row, column, i in sorted(found)[:most]]


class ThresholdExplorer(LiveFigure):
    """Search a gallery with a threshold: pictures enter and leave, precision and recall move.

    Args:
        data: LabeledImages.
        scores: (N,) similarity of each picture to the query; a picture is found if its score is at least the threshold.
        positives: (N,) bool, True where the picture is what is searched for.
        indices: pictures to draw; if None, up to 36: positives spread over all ranks, and the best-scored others.
        name: what is searched for.

    The trait `threshold` follows the slider, whose steps are about a hundred round numbers from the lowest positive to
    above the highest score; it starts where F1 is largest. Counts are over all pictures.

    Raises:
        InputError: a shape does not fit `data`, a score is not finite, there is no positive, or the data is over 300 kB.
    """

    _esm = _esm("threshold.js")
    threshold = traitlets.Float().tag(sync=True)

    def __init__(self, data, scores, positives, indices: Sequence[int] | None = None, name: str = "dog") -> None:
        having(data, "data", "classnames", "clipnb.load_dataset"), text_of(name, "name")
        scores = floats(_aligned("scores", scores, len(data)), "scores", 1).astype(float)
        positives = booleans(positives, "positives", scores.shape)
        if not positives.any():
            raise InputError("Expected `positives` with at least one True, got none")
        thresholds, decimals = _round_steps(scores[positives].min(), scores.max())
        total, wanted = len(scores), int(positives.sum())
        found = total - np.searchsorted(np.sort(scores), thresholds)
        tp = wanted - np.searchsorted(np.sort(scores[positives]), thresholds)
        f1 = 2 * tp / (found + wanted)
        given = indices is not None
        indices = places_in(indices, "indices", total).tolist() if given else _gallery(scores, positives)
        drawn = int(positives[indices].sum())
        super().__init__({
            "name": name,
            "dataset": data.name,
            "thresholds": thresholds.tolist(),
            "decimals": decimals,
            "tp": tp.tolist(), "fp": (found - tp).tolist(), "fn": (wanted - tp).tolist(),
            "tn": (total - found - wanted + tp).tolist(),
            "precision": [_number(x) for x in _ratio(tp, found)],
            "recall": (tp / wanted).tolist(),
            "f1": f1.tolist(),
            "base_rate": wanted / total,
            "picked": f"{drawn} of the {wanted} positives and {'' if given else 'the best-scored '}{len(indices) - drawn} "
                      f"of the {total - wanted} others, by score",
            "pictures": [
                {"src": _thumbnail(data[i][0]), "name": data.classnames[data.labels[i]] if data.labels[i] >= 0 else "unknown",
                 "score": scores[i], "positive": bool(positives[i])}
                for i in sorted(indices, key=lambda i: -scores[i])
            ],
        }, threshold=float(thresholds[f1.argmax()]))

    def static_figure(self) -> Figure:
        """The curve with the current threshold as a dot."""
        content = self.content
        t = int(np.abs(np.array(content["thresholds"]) - self.threshold).argmin())
        defined = [i for i, value in enumerate(content["precision"]) if value is not None]
        figure = _figure(6.4, 4)
        ax = plots.precision_recall([content["precision"][i] for i in defined], [content["recall"][i] for i in defined],
                                    ax=figure.subplots(), base_rate=content["base_rate"])
        if t in defined:
            ax.plot(content["recall"][t], content["precision"][t], "o", color=plots.INK, markersize=9)
        figure.suptitle(f"“{content['name']}” from a score of {content['thresholds'][t]}: "
                        f"precision {_text(content['precision'][t])}, recall {_text(content['recall'][t])}", fontsize="medium", parse_math=False)
        return figure


def _round_steps(low: float, high: float) -> tuple[np.ndarray, int]:
    """About a hundred round numbers from just below `low` to just above `high`, and their decimals."""
    raw = (high - low) / 100 or 0.001
    magnitude = 10.0 ** np.floor(np.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw)
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    return np.round(np.arange(np.floor(low / step), np.floor(high / step) + 2) * step, decimals), decimals


def _gallery(scores: np.ndarray, positives: np.ndarray, count: int = 36) -> list[int]:
    """Half positives, spread over all their ranks, and half the best-scored others."""
    best_first = np.argsort(-scores, kind="stable")
    wanted, others = best_first[positives[best_first]], best_first[~positives[best_first]]
    spread = np.unique(np.linspace(0, len(wanted) - 1, min(count // 2, len(wanted))).round().astype(int))
    return [*wanted[spread].tolist(), *others[: count - len(spread)].tolist()]


class ParadoxExplorer(LiveFigure):
    """The accuracy paradox: a rare class is hardly found, and overall accuracy does not notice.

    Args:
        n: pictures in all.
        rare_share: share of the rare class, in (0, 0.5].
        rare_recall: share of the rare class that is found, in [0, 1].
        common_accuracy: share of all other pictures that are read right, in [0, 1].
        rare: name of the rare class.

    The traits `rare_share` and `rare_recall` follow the sliders.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> figure = ParadoxExplorer()
        >>> numbers = figure.numbers()
        >>> [f"{numbers[name]:.0%}" for name in ("accuracy", "rare_recall", "macro")]
        ['98%', '12%', '56%']
    """

    _esm = _esm("paradox.js")
    rare_share = traitlets.Float().tag(sync=True)
    rare_recall = traitlets.Float().tag(sync=True)

    def __init__(self, n: int = 5000, rare_share: float = 0.02, rare_recall: float = 0.12, common_accuracy: float = 0.9976,
                 rare: str = "fire truck") -> None:
        whole_number(n, "n", 2, 10**9), text_of(rare, "rare")
        for name, value, high in (("rare_share", rare_share, 0.5), ("rare_recall", rare_recall, 1), ("common_accuracy", common_accuracy, 1)):
            _in_range(name, value, 0, high)
        super().__init__({"n": n, "common_accuracy": common_accuracy, "rare": rare},
                         rare_share=rare_share, rare_recall=rare_recall)

    @traitlets.validate("rare_share")
    def _check_share(self, proposal):
        return _in_range("rare_share", proposal["value"], 0, 0.5)

    @traitlets.validate("rare_recall")
    def _check_recall(self, proposal):
        return _in_range("rare_recall", proposal["value"], 0, 1)

    def numbers(self) -> dict[str, float]:
        """Counts in whole pictures and the four fractions of the current state; the page computes the same.

        Returns:
            dict with the counts rare, found, common, right and the fractions accuracy, rare_recall, macro (mean per-class
            accuracy over the two groups) and baseline (the accuracy of never saying the rare class).
        """
        def nearest(x: float) -> int:
            return int(np.floor(x + 0.5))

        n = self.content["n"]
        rare = max(1, nearest(n * self.rare_share))
        found = nearest(rare * self.rare_recall)
        common = n - rare
        right = nearest(common * self.content["common_accuracy"])
        return {
            "rare": rare, "found": found, "common": common, "right": right,
            "accuracy": (found + right) / n, "rare_recall": found / rare,
            "macro": (found / rare + right / common) / 2, "baseline": common / n,
        }

    def static_figure(self) -> Figure:
        """The four fractions as bars."""
        numbers, rare = self.numbers(), self.content["rare"]
        labels = {"accuracy": "overall accuracy", "baseline": f"never saying {rare}", "macro": "mean per-class accuracy",
                  "rare_recall": f"recall on {rare}"}
        figure = _figure(6.4, 2.4)
        ax = figure.subplots()
        bars = ax.barh(list(labels), [numbers[key] for key in labels], color=[plots.BLUE] * 3 + [plots.ORANGE])
        ax.bar_label(bars, [_text(numbers[key]) for key in labels], padding=4)
        ax.set_yticks(range(len(labels)), labels.values(), parse_math=False)
        ax.set(xlim=(0, 1.15), xticks=[])
        ax.invert_yaxis()
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        return figure


class WorstStrip(LiveFigure):
    """Pictures of the worst classes, each with what the model said and by which margin.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices, worst first; the `count` classes of lowest accuracy that have pictures if None.
        per_class: pictures of one class, those of lowest margin.
        count: how many classes to take if `classes` is None.

    The trait `shown` is the number of classes shown.

    Raises:
        InputError: `result` is not of `data`, a class is out of range or has no pictures, or the data is over 300 kB.
    """

    _esm = _esm("worst.js")
    shown = traitlets.Int(1).tag(sync=True)

    def __init__(self, data, result, classes: Sequence[int] | None = None, per_class: int = 3, count: int = 10) -> None:
        labels, predictions, margins = _evaluated(data, result, "labels", "predictions", "margins")
        accuracy, per_class, count = result.per_class_accuracy, whole_number(per_class, "per_class", 1), whole_number(count, "count", 1)
        if classes is None:
            classes = np.argsort(accuracy, kind="stable")[: min(count, int((~np.isnan(accuracy)).sum()))]
        classes = places_in(classes, "classes", len(accuracy)).tolist()
        empty = [data.classnames[c] for c in classes if np.isnan(accuracy[c])]
        if empty:
            raise InputError(f"Expected `classes` that have pictures, got without any: {empty}")

        def row(place: int, c: int) -> dict:
            members = np.flatnonzero(labels == c)
            lowest = members[np.argsort(margins[members], kind="stable")[:per_class]]
            return {
                "name": data.classnames[c],
                "accuracy": float(accuracy[c]),
                "right": int((predictions[members] == c).sum()),
                "count": len(members),
                "mean_so_far": float(accuracy[classes[: place + 1]].mean()),
                "pictures": [{
                    "src": _thumbnail(data[int(i)][0]), "guess": data.classnames[predictions[i]],
                    "right": bool(predictions[i] == c), "margin": float(margins[i]),
                } for i in lowest],
            }

        super().__init__({"name": data.name, "rows": [row(place, c) for place, c in enumerate(classes)]},
                         shown=min(5, len(classes)))

    @traitlets.validate("shown")
    def _check_shown(self, proposal):
        return _in_range("shown", proposal["value"], 1, len(self.content["rows"]))

    def static_figure(self) -> Figure:
        """One row of pictures a class."""
        rows = self.content["rows"][: self.shown]
        figure = _figure(6.4, 1.9 * len(rows))
        for ax, row in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows, strict=True):
            titles = [f"said {picture['guess']}\nmargin {picture['margin']:.3f}" for picture in row["pictures"]]
            plots.image_strip([_pixels(picture["src"]) for picture in row["pictures"]], titles, ax=ax, columns=len(titles))
            ax.set_title(f"{row['name']}: {_text(row['accuracy'])} ({row['right']} of {row['count']} right)", loc="left",
                         fontsize=9, parse_math=False)
        return figure


class PromptWeightExplorer(LiveFigure):
    """How a softmax turns the scores of prompts into weights, colder or hotter.

    Args:
        prompts: P texts.
        scores: (P,) score of each prompt, larger is better; for example its margin.
        accuracies: (P,) accuracy of each prompt alone, a fraction in [0, 1]; optional.
        temperature: where the slider starts; a fifth of the range of the scores if None.
        top: how many prompts get a bar of their own.

    The trait `temperature` follows the slider.

    Raises:
        InputError: shapes differ, a score is not finite, or `temperature` is not positive.

    Example:
        >>> figure = PromptWeightExplorer(["a {}.", "a photo of a {}."], [0.0, 1.0], temperature=1)
        >>> figure.weights().round(3).tolist()
        [0.269, 0.731]
    """

    _esm = _esm("prompts.js")
    temperature = traitlets.Float().tag(sync=True)

    def __init__(self, prompts: Sequence[str], scores, accuracies=None, temperature: float | None = None, top: int = 12) -> None:
        prompts, top = texts_of(prompts, "prompts"), whole_number(top, "top", 1)
        scores = floats(_aligned("scores", scores, len(prompts)), "scores", 1).astype(float)
        if accuracies is not None:
            accuracies = floats(_aligned("accuracies", accuracies, len(prompts)), "accuracies", 1).astype(float)
            _in_range("accuracies", accuracies.min(), 0, 1), _in_range("accuracies", accuracies.max(), 0, 1)
        if temperature is not None:
            _above_zero(temperature)
        self._order = np.argsort(-scores, kind="stable")
        spread = float(np.ptp(scores)) or 1.0
        steps = [float(f"{spread * factor:.3g}") for factor in np.geomspace(0.01, 10, 61)]
        super().__init__({
            "prompts": [{"text": prompts[p], "score": scores[p],
                         "accuracy": None if accuracies is None else float(accuracies[p])} for p in self._order],
            "temperatures": steps,
            "top": top,
            "mean_accuracy": None if accuracies is None else float(accuracies.mean()),
        }, temperature=min(steps, key=lambda step: abs(step - spread / 5)) if temperature is None else temperature)

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal):
        return _above_zero(proposal["value"])

    def weights(self, temperature: float | None = None) -> np.ndarray:
        """Weights in the order of `prompts`, (P,), adding up to one; at the current temperature if None."""
        scores = np.array([prompt["score"] for prompt in self.content["prompts"]])
        powers = np.exp((scores - scores[0]) / (self.temperature if temperature is None else _above_zero(temperature)))
        weights = np.empty(len(scores))
        weights[self._order] = powers / powers.sum()
        return weights

    def effective_number(self, temperature: float | None = None) -> float:
        """Effective number of prompts, 1 / sum of squared weights: from 1 (one decides) to P (uniform)."""
        return float(1 / np.square(self.weights(temperature)).sum())

    def static_figure(self) -> Figure:
        """The weights at the current temperature."""
        prompts, weights = self.content["prompts"], self.weights()[self._order]
        figure = _figure(6.4, 1.4 + 0.3 * min(len(prompts), self.content["top"]))
        plots.weights(weights, [prompt["text"] for prompt in prompts], ax=figure.subplots(), top=self.content["top"])
        figure.suptitle(f"temperature {self.temperature:g}: effective number of prompts {self.effective_number():.2f} "
                        f"of {len(prompts)}", fontsize="medium")
        return figure
