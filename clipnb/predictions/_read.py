"""Files of predictions, read block by block."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipnb._checks import texts_of
from clipnb._files import path_of
from clipnb._format import first_line
from clipnb.errors import InputError
from clipnb.predictions._arrays import given_labels, open_numpy
from clipnb.predictions._json import is_json_lines, open_json, open_json_lines
from clipnb.predictions._predictions import DEPTH, Predictions, as_texts, keys_of
from clipnb.predictions._source import CLASS_SCORES, IDS, LABELS, PREDICTIONS, SCORES, TOPK, Source
from clipnb.predictions._tables import open_arrow, open_csv, open_parquet
from clipnb.predictions._vocabulary import Vocabulary, is_whole, normal
from clipnb.similarity import take_top

PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # the first bytes, by protocol


def read_predictions(
    path: str | Path, classnames: Sequence[str] | None = None, labels: npt.ArrayLike | str | Path | None = None
) -> Predictions:
    r"""Read a file of predictions, block by block.

    - CSV (separated by a comma, semicolon, tab or bar), Parquet, Arrow, JSON lines, JSON (a list of rows): columns `id`
      (or filepath, image ...), `label` (or target, ground_truth.label ...) and `prediction` (or predicted,
      predictions.label ...); optional `score` (or confidence) and a list column `top5`. Without a column of
      predictions: one column a class, or a list column such as `logits`, with the score of each class.
    - `.npy`: scores (N, C), with `labels`. `.npz`: scores under a name such as predict_proba, probabilities or
      logits, or `predictions`; `labels` (or target, y_true) and, if they are there, `classnames` (or classes) and `id`.
    - FiftyOne's `samples.json` or CSV, files of Hugging Face datasets (the names of ClassLabel are known), and
      `--predictions-out`.

    Args:
        path: of the file.
        classnames: C names, if the file does not know them all: then labels are these names, or numbers from 0 to
            C - 1. None: the names that the file knows, the columns' names, or else the labels and predictions that
            occur, in order.
        labels: (N,) for a file without them: class indices or names, or a `.npy` file of them.

    Raises:
        InputError: the file cannot be read; a column is missing; a row has no prediction; an id is there twice; a
            name is not among the classes.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("id,label,prediction\n1.jpg,cat,dog\n2.jpg,dog,dog\n")
    ...     predictions = read_predictions(Path(folder, "a.csv"))
    >>> predictions.classnames, predictions.result().accuracy
    (['cat', 'dog'], 0.5)
    """
    path = path_of(path, "path").expanduser()
    names = None if classnames is None else texts_of(classnames, "classnames")
    try:
        source = _open(path)
        given = None if labels is None else given_labels(labels)
        return _Reader(source, names, given).read()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"Expected a file of predictions, got {path}: {error.strerror or first_line(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"Cannot read the predictions in {path}: it is not text in UTF-8") from None
    except (pa.ArrowException, ValueError, TypeError, KeyError, csv.Error, zipfile.BadZipFile, RecursionError) as error:
        raise InputError(f"Cannot read the predictions in {path}: {first_line(error)}") from None


def _open(path: Path) -> Source:
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"PAR1"):
        return open_parquet(path)
    if start.startswith(b"ARROW1") or (path.suffix == ".arrow" and start.startswith(b"\xff\xff\xff\xff")):
        return open_arrow(path, start.startswith(b"ARROW1"))
    if start.startswith(b"\x93NUMPY") or (start.startswith(b"PK\x03\x04") and path.suffix == ".npz"):
        return open_numpy(path)
    if start.startswith((b"PK\x03\x04", *PICKLES, b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"BZh", b"\xfd7zXZ")):
        raise InputError(
            f"Expected predictions as CSV, Parquet, JSON lines, .npy or .npz, got {path}: it is packed, pickled "
            "(.pt, .pkl) or a spreadsheet; save arrays with numpy.savez(file, logits=..., labels=...), tables as CSV"
        )
    if path.suffix.casefold() in (".jsonl", ".ndjson") or (path.suffix.casefold() == ".json" and is_json_lines(start)):
        return open_json_lines(path)
    if path.suffix.casefold() == ".json" or start.lstrip().startswith((b"{", b"[")):
        return open_json(path)
    return open_csv(path)


class _Reader:
    """One file on its way to `Predictions`."""

    def __init__(self, source: Source, classnames: list[str] | None, labels: np.ndarray | None):
        self.source = source
        self.path = source.path
        self.given = labels
        self.id = self._column(IDS)
        own = {
            name: kind
            for name, kind in source.columns.items()
            if not (source.by_number and name in ("label", "prediction", "top5"))
        }
        self.label = None if labels is not None else self._column(LABELS, own)
        self.prediction = self._column([name for name in PREDICTIONS if not self._is_list(name)], own)
        self.topk = self._column(
            [name for name in TOPK if source.columns.get(name) is None or self._is_list(name)], own
        )
        if self.topk and not self._is_list(self.topk):
            self.topk = None  # a list written as text
        if labels is None and self.label is None:
            raise InputError(
                f"Expected a column of labels in {self.path} (label, target, ground_truth ...), got {self._shown()}"
                + ("; give them as `labels` (--labels FILE.npy)" if self.path.suffix in (".npy", ".npz") else "")
            )
        self.classnames = classnames or source.classnames
        self.by_class = [] if self.prediction or self.topk else self._columns_by_class()
        self.score = self._column(SCORES) if not self.by_class else None
        if self.by_class and not self._is_list(self.by_class[0]) and self.classnames is None:
            self.classnames = self.by_class

    def _column(self, names: Sequence[str], among: dict | None = None) -> str | None:
        columns = self.source.columns if among is None else among
        lower = {column.casefold(): column for column in reversed(columns)}
        return next((lower[name] for name in names if name in lower), None)

    def _is_list(self, column: str) -> bool:
        kind = self.source.columns.get(column)
        return kind is not None and (
            pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        )

    def _shown(self) -> str:
        columns = list(self.source.columns)
        return (
            "the columns " + ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
        )

    def _columns_by_class(self) -> list[str]:
        """The columns with the score of each class, in the order of the classes."""
        columns = self.source.columns
        one = next((name for name in CLASS_SCORES if self._is_list(name)), None)
        if one:
            return [one]
        rest = [
            name
            for name, kind in columns.items()
            if name not in (self.id, self.label)
            and (kind is None or pa.types.is_floating(kind) or pa.types.is_integer(kind))
        ]
        if self.classnames:
            if not set(self.classnames) & set(rest):
                rest = []
            elif missing := [name for name in self.classnames if name not in rest]:
                raise InputError(
                    f"Expected a column for each of the {len(self.classnames)} classes in {self.path}, "
                    f"{len(missing)} are missing, such as {missing[0]!r}"
                )
            return self.classnames if rest else self._no_predictions()
        return rest if len(rest) > 1 else self._no_predictions()

    def _no_predictions(self) -> list[str]:
        raise InputError(
            f"Expected a column of predictions in {self.path} (prediction, predicted ...), or one column a class, "
            f"got {self._shown()}"
        )

    def read(self) -> Predictions:
        names = [name for name in (self.id, self.label, self.prediction, self.topk, self.score, *self.by_class) if name]
        numbers = {name for name in (self.score, *self.by_class) if name}
        labels, predicted = (
            Vocabulary(self.label or "labels", self.path),
            Vocabulary(self.prediction or "", self.path),
        )
        parts: dict[str, list[np.ndarray]] = {name: [] for name in ("keys", "labels", "predictions", "topk", "scores")}
        rows = 0
        for table in self.source.blocks(names, numbers):
            if not len(table):
                continue
            if self.id:
                parts["keys"].append(self._keys(table[self.id], rows))
            if self.label:
                parts["labels"].append(labels.codes(table[self.label]))
            if self.by_class:
                best, scores = self._best(table, rows)
                parts["topk"].append(best)
                parts["scores"].append(scores)
            if self.topk:
                parts["topk"].append(self._lists(table[self.topk], predicted, rows))
            if self.prediction:
                codes = predicted.codes(table[self.prediction])
                if (codes < 0).any():
                    raise InputError(
                        f"Expected a prediction in each row of {self.path}, got none in row "
                        f"{rows + int((codes < 0).argmax()) + 1} (column {self.prediction!r})"
                    )
                parts["predictions"].append(codes)
            if self.score:
                parts["scores"].append(pc.fill_null(table[self.score].cast(pa.float32()), np.nan).to_numpy())
            rows += len(table)
        if not rows:
            raise InputError(f"Expected rows in {self.path}, got none below the names of the columns")
        joined = {name: np.concatenate(values) if values else None for name, values in parts.items()}
        del parts
        if self.given is not None:
            joined["labels"] = self._own_labels(labels, rows)
        return self._finish(joined, labels, predicted, rows)

    def _own_labels(self, labels: Vocabulary, rows: int) -> np.ndarray:
        assert self.given is not None
        if len(self.given) != rows:
            raise InputError(
                f"Expected `labels` of shape (N,) = ({rows},), as {self.path} has rows, got ({len(self.given)},)"
            )
        values = self.given.tolist()
        if any(not (value is None or isinstance(value, (str, int, float))) for value in values):
            raise InputError("Expected `labels` to hold class indices or names")
        return labels.codes(
            pa.array([None if value is None or value != value else str(value) for value in values], pa.string())
        )

    def _keys(self, ids: pa.ChunkedArray, before: int) -> npt.NDArray[np.uint64]:
        if ids.null_count:
            row = before + int(pc.index(ids.is_null(), True).as_py()) + 1
            raise InputError(f"Expected an id in each row of {self.path}, got none in row {row} (column {self.id!r})")
        return keys_of(ids)

    def _best(self, table: pa.Table, before: int) -> tuple[np.ndarray, np.ndarray]:
        """The best classes of each row of scores, ties to the lower index, and the score of the first."""
        if len(self.by_class) == 1 and self._is_list(self.by_class[0]):
            column = table[self.by_class[0]].combine_chunks()
            width = _width(column, self.by_class[0], self.path, before)
            scores = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        else:
            scores = np.stack([table[name].to_numpy() for name in self.by_class], axis=1)
        if self.classnames is None:
            self.classnames = [str(c) for c in range(scores.shape[1])]
        if scores.shape[1] != len(self.classnames):
            raise InputError(
                f"Expected {len(self.classnames)} scores a row in {self.path}, one a class, got {scores.shape[1]}"
            )
        scores = scores.astype(np.float64 if scores.dtype.itemsize > 4 else np.float32)  # also a copy, which is used up
        if not np.isfinite(scores).all():
            row, c = np.argwhere(~np.isfinite(scores))[0]
            raise InputError(
                f"Expected finite scores in {self.path}, got {scores[row, c]} in row {before + row + 1} for "
                f"{self.classnames[c]!r}"
            )
        best, values = take_top(scores, min(DEPTH, scores.shape[1]))
        return best.astype(np.int16), values[:, 0].astype(np.float32)

    def _lists(self, column: pa.ChunkedArray, predicted: Vocabulary, before: int) -> np.ndarray:
        values = column.combine_chunks()
        width = _width(values, self.topk or "", self.path, before)
        codes = predicted.codes(values.flatten()).reshape(-1, width)
        if (codes < 0).any():
            row = before + int((codes < 0).any(axis=1).argmax()) + 1
            raise InputError(
                f"Expected {width} classes in each row of {self.path}, got a gap in row {row} (column {self.topk!r})"
            )
        return codes

    def _finish(self, joined: dict, labels: Vocabulary, predicted: Vocabulary, rows: int) -> Predictions:
        classnames, of_labels, of_predictions = self._classes(labels, predicted, joined)
        codes = of_labels[joined["labels"]]  # the last, for -1, is -1
        topk = joined["topk"]
        if topk is not None and not self.by_class:
            topk = of_predictions[topk]
        if joined["predictions"] is not None:
            best = of_predictions[joined["predictions"]]
            topk = best[:, None] if topk is None else topk
        else:
            assert topk is not None  # a file without predictions has scores or lists
            best = topk[:, 0]
        keys = joined["keys"] if self.id else np.arange(rows, dtype=np.uint64)
        found = Predictions(
            str(self.path), classnames, codes, np.ascontiguousarray(best), topk, joined["scores"], keys,
            self._ids if self.id else None,
        )  # fmt: skip
        self._check_ids(found)
        return found

    def _ids(self) -> Iterator[pa.Array]:
        assert self.id is not None
        for table in self.source.blocks([self.id], set()):
            yield as_texts(table[self.id])

    def _check_ids(self, found: Predictions) -> None:
        if not self.id:
            return
        ordered = np.sort(found.keys)
        same = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(same):
            return
        suspects = np.flatnonzero(np.isin(found.keys, same))
        first: dict[str, int] = {}
        for row, text in zip(suspects.tolist(), found.ids(suspects)):  # equal hashes of different ids are no duplicates
            if first.setdefault(text, row) != row:
                raise InputError(
                    f"Expected each id once in {self.path}, got {text!r} in rows {first[text] + 1} and {row + 1}"
                    + (f", and {len(same) - 1} more duplicates" if len(same) > 1 else "")
                )

    def _classes(
        self, labels: Vocabulary, predicted: Vocabulary, joined: dict
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Classnames, and the class of each text of the labels and of the predictions, with -1 as the last of each."""
        names = self.classnames
        texts = [*labels.place, *predicted.place]
        numbers = {side: [is_whole(text) for text in side.place] for side in (labels, predicted)}
        if names is None:
            kinds = {"numbers" if all(flags) else "names" for side, flags in numbers.items() if flags}
            if len(kinds) > 1:
                raise InputError(
                    f"Expected labels and predictions in {self.path} both as names or both as numbers, got "
                    f"{next(iter(labels.place))!r} and {next(iter(predicted.place))!r}; give the classnames "
                    "(--classes FILE)"
                )
            whole = kinds == {"numbers"}
            unique = {str(int(float(text))) if whole else text for text in texts} - ({"-1"} if whole else set())
            names = sorted(unique, key=(lambda text: (int(text), text)) if whole else (lambda text: (0, text)))
            if not names:
                raise InputError(f"Expected labels in {self.path}, got none: nothing can be scored")
        return (
            names,
            self._places(labels, names, joined["labels"], unknown=True),
            self._places(predicted, names, joined["predictions"]),
        )

    def _places(
        self, side: Vocabulary, names: list[str], codes: np.ndarray | None, unknown: bool = False
    ) -> np.ndarray:
        place: dict[str, int] = {}
        for i, name in enumerate(names):
            place.setdefault(name, i)
        whole = all(map(is_whole, side.place))
        by_name = not self.source.by_number and (
            not whole or all(normal(text) in place for text in side.place if normal(text) != "-1")
        )
        if by_name and len(place) < len(names):
            twice = next(name for i, name in enumerate(names) if place[name] != i)
            raise InputError(f"Expected class numbers in {self.path}, got names, and two classes are called {twice!r}")
        result = []
        for text, code in side.place.items():
            number = int(normal(text)) if whole else None
            if unknown and number == -1:
                result.append(-1)
            elif by_name and (text in place or normal(text) in place):
                result.append(place.get(text, place.get(normal(text), -1)))
            elif not by_name and number is not None and 0 <= number < len(names):
                result.append(number)
            else:
                row = "" if codes is None else f" in row {int((codes == code).argmax()) + 1}"
                raise InputError(
                    f"Expected the column {side.column!r} of {self.path} to hold {len(names)} classes, by name or as "
                    f"numbers from 0 to {len(names) - 1}, got {text!r}{row}"
                )
        return np.array([*result, -1], dtype=np.int16)


def _width(column: pa.Array, name: str, path: Path, before: int) -> int:
    """The length that all lists of a column share."""
    lengths = pc.fill_null(pc.call_function("list_value_length", [column]), 0).to_numpy(zero_copy_only=False)
    if (lengths != lengths[0]).any() or not lengths[0]:
        row = before + int((lengths != lengths[0]).argmax()) + 1
        raise InputError(f"Expected lists of one length in the column {name!r} of {path}, got another one in row {row}")
    return int(lengths[0])
