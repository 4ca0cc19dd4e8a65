"""Predictions in files: anyone's are read block by block, and clipnb's own are written.

A table (CSV, Parquet, Arrow, JSON lines, JSON) holds one image a row, with a label and a prediction, or one column a
class; a NumPy
file holds the scores (N, C) of `predict_proba`. Memory grows by some twenty bytes a row, whatever the file holds
besides.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipnb._checks import as_numpy, format_value, listed, require_attribute, texts_of
from clipnb._files import new_file, path_of, read_text, write_atomically
from clipnb._format import first_line
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, result_of_predictions
from clipnb.metrics import MAX_CLASSES
from clipnb.similarity import take_top

# Names of columns in the order of preference, as pandas, scikit-learn, FiftyOne, Hugging Face and others have them.
IDS = tuple("id image_id filepath file_path image_path path filename file_name image _id key uid".split())
LABELS = tuple(
    "label_class label labels ground_truth.label ground_truth target targets target_label y_true true_label "
    "given_label "
    "actual truth gt y class".split()
)
PREDICTIONS = tuple(
    "prediction_class prediction predictions.label predictions predicted predicted_label predicted_class pred preds "
    "pred_label y_pred".split()
)
SCORES = tuple("score confidence predictions.confidence prediction.confidence probability similarity".split())
TOPK = tuple("top5_class top5 top_5 topk top_k top5_names top5_labels".split())
CLASS_SCORES = tuple(
    "probabilities predict_proba pred_probs proba probs logits predictions.logits y_score similarities scores".split()
)
NAMES = ("classnames", "classes", "classes_")
METADATA = b"clipnb"  # of the Parquet files that `write_predictions` writes
DEPTH = 5  # of the best classes that are kept of scores by class
BLOCK_BYTES = 2**23
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # the first bytes, by protocol


@dataclass(frozen=True)
class Predictions:
    """Predictions of N images for C classes, as `read_predictions` read them."""

    source: str  # path of the file
    classnames: list[str]
    labels: npt.NDArray[np.int16]  # (N,), -1 = unknown
    predictions: npt.NDArray[np.int16]  # (N,)
    topk: npt.NDArray[np.int16]  # (N, K), best first; K = 1 where the file holds predictions only
    scores: npt.NDArray[np.float32] | None  # (N,) of the predictions, NaN where a row has none; None: none in the file
    keys: npt.NDArray[np.uint64] = field(repr=False)  # (N,) hashes of the ids
    _read_ids: Callable[[], Iterator[pa.Array]] | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_ids(self) -> bool:
        """Whether the file names its images; else a row's number is its id."""
        return self._read_ids is not None

    def result(self) -> EvaluationResult:
        """What `evaluate_predictions` says of them."""
        scores = None if self.scores is None or np.isnan(self.scores).any() else self.scores
        return result_of_predictions(self.predictions, self.labels, len(self.classnames), self.topk, scores)

    def ids(self, rows: npt.ArrayLike | None = None) -> list[str]:
        """The ids of some rows (ascending), or of all, read from the file again: they are not kept in memory."""
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows)
        if self._read_ids is None:
            return [str(row) for row in wanted]
        texts: list[str] = []
        start = 0
        for block in self._read_ids():
            inside = wanted[(wanted >= start) & (wanted < start + len(block))] - start
            texts += block.take(pa.array(inside)).to_pylist()
            start += len(block)
        return texts


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
        classnames: C names, if the file does not know them all: then labels are these names, or numbers from 0 to C -
            1. None: the
            names that the file knows, the columns' names, or else the labels and predictions that occur, in order.
        labels: (N,) for a file without them: class indices or names, or a `.npy` file of them.

    Raises:
        InputError: the file cannot be read; a column is missing; a row has no prediction; an id is there twice; a
            name is not among the
            classes.

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
        given = None if labels is None else _given_labels(labels)
        return _Reader(source, names, given).read()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"Expected a file of predictions, got {path}: {error.strerror or first_line(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"Cannot read the predictions in {path}: it is not text in UTF-8") from None
    except (pa.ArrowException, ValueError, TypeError, KeyError, csv.Error, zipfile.BadZipFile, RecursionError) as error:
        raise InputError(f"Cannot read the predictions in {path}: {first_line(error)}") from None


# Sources: columns and blocks ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A file as blocks of columns."""

    path: Path
    columns: dict[str, pa.DataType | None]  # None: text, of which the reader says what it is
    blocks: Callable[[list[str], set[str]], Iterator[pa.Table]]  # of some columns, the second of which hold numbers
    classnames: list[str] | None = None
    by_number: bool = False  # the names are those of clipnb's own file, which holds class indices, too


def _open(path: Path) -> _Source:
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"PAR1"):
        return _open_parquet(path)
    if start.startswith(b"ARROW1") or (path.suffix == ".arrow" and start.startswith(b"\xff\xff\xff\xff")):
        return _open_arrow(path, start.startswith(b"ARROW1"))
    if start.startswith(b"\x93NUMPY") or (start.startswith(b"PK\x03\x04") and path.suffix == ".npz"):
        return _open_numpy(path)
    if start.startswith((b"PK\x03\x04", *PICKLES, b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"BZh", b"\xfd7zXZ")):
        raise InputError(
            f"Expected predictions as CSV, Parquet, JSON lines, .npy or .npz, got {path}: it is packed, pickled "
            f"(.pt, .pkl) or a "
            "spreadsheet; save arrays with numpy.savez(file, logits=..., labels=...), tables as CSV"
        )
    if path.suffix.casefold() in (".jsonl", ".ndjson") or (path.suffix.casefold() == ".json" and _is_json_lines(start)):
        return _open_json_lines(path)
    if path.suffix.casefold() == ".json" or start.lstrip().startswith((b"{", b"[")):
        return _open_json(path)
    return _open_csv(path)


def _table_source(path: Path, schema: pa.Schema, batches, **known) -> _Source:
    """A source whose columns have types; a struct is a column for each of its fields."""
    columns: dict[str, pa.DataType | None] = {}
    for column in schema:
        if pa.types.is_struct(column.type):
            columns |= {f"{column.name}.{part.name}": part.type for part in column.type}
        else:
            columns[column.name] = column.type

    def blocks(names: list[str], _numbers: set[str]) -> Iterator[pa.Table]:
        outer = list(dict.fromkeys(name if name in schema.names else name.partition(".")[0] for name in names))
        for batch in batches(outer, len(names)):
            table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            while any(pa.types.is_struct(column.type) for column in table.schema):
                table = table.flatten()
            yield table.select(names)

    return _Source(path, columns, blocks, **known)


def _rows_a_block(columns: int) -> int:
    return max(1024, BLOCK_BYTES // (8 * max(16, columns)))


def _open_parquet(path: Path) -> _Source:
    from pyarrow import parquet

    opened = parquet.ParquetFile(path)
    schema = opened.schema_arrow
    metadata = schema.metadata or {}
    own = json.loads(metadata[METADATA]) if METADATA in metadata else None

    def batches(names: list[str], width: int):
        return parquet.ParquetFile(path).iter_batches(_rows_a_block(width), columns=names)

    known = own["classnames"] if own else _names_of_features(metadata)
    return _table_source(path, schema, batches, classnames=known, by_number=own is not None)


def _names_of_features(metadata: dict) -> list[str] | None:
    """The names that Hugging Face's datasets keep of a ClassLabel."""
    if b"huggingface" not in metadata:
        return None
    features = json.loads(metadata[b"huggingface"]).get("info", {}).get("features") or {}
    for column in (*LABELS, *PREDICTIONS):
        names = (features.get(column) or {}).get("names") if isinstance(features.get(column), dict) else None
        if names:
            return [str(name) for name in names]
    return None


def _open_arrow(path: Path, is_file: bool) -> _Source:
    def opened():
        memory = pa.memory_map(str(path))
        return pa.ipc.open_file(memory) if is_file else pa.ipc.open_stream(memory)

    def batches(names: list[str], _width: int):
        reader = opened()
        every = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        return (batch.select(names) for batch in every)

    schema = opened().schema
    return _table_source(path, schema, batches, classnames=_names_of_features(schema.metadata or {}))


def _open_csv(path: Path) -> _Source:
    with open(path, encoding="utf-8-sig", newline="") as text:
        header = text.readline(2**20)
    if not header.strip():
        raise InputError(f"Expected rows in {path}, got an empty file")
    separator = max(",;\t|", key=header.count)
    names = next(csv.reader(io.StringIO(header), delimiter=separator), [])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Expected columns with different names in {path}, got {twice!r} twice")

    def blocks(wanted: list[str], numbers: set[str]) -> Iterator[pa.Table]:
        from pyarrow import csv as reader

        options = reader.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.float64() if name in numbers else pa.string() for name in wanted},
            null_values=["", "NaN", "nan"] if not set(wanted) - numbers else [""],
            strings_can_be_null=True,
        )
        for batch in reader.open_csv(
            path,
            reader.ReadOptions(block_size=BLOCK_BYTES, column_names=names, skip_rows=1),
            reader.ParseOptions(delimiter=separator, newlines_in_values=True),
            options,
        ):
            yield pa.Table.from_batches([batch])

    return _Source(path, dict.fromkeys(names), blocks)


def _is_json_lines(start: bytes) -> bool:
    first, _, rest = start.lstrip().partition(b"\n")
    if not first.startswith(b"{") or not rest.strip():
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def _open_json_lines(path: Path) -> _Source:
    from pyarrow import json as reader

    def tables(_names: list[str], _width: int) -> Iterator[pa.Table]:
        with open(path, "rb") as file:
            while lines := b"".join(file.readlines(BLOCK_BYTES)).strip():
                yield reader.read_json(io.BytesIO(lines), reader.ReadOptions(block_size=2 * len(lines) + 1024))

    first = next(tables([], 0), None)
    if first is None:
        raise InputError(f"Expected rows in {path}, got an empty file")
    return _table_source(path, first.schema, tables)


def _open_json(path: Path) -> _Source:
    content = json.loads(read_text(path))
    if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
        raise InputError(
            f"Expected predictions in {path}, got the scores that CLIP_benchmark writes, which hold no predictions: "
            f"save what its "
            "run_classification returns, numpy.savez(file, logits=logits, target=target)"
        )
    if isinstance(content, dict) and {"classes", "labels"} <= set(content):
        raise InputError(
            f"Expected labels and predictions in {path}, got one field of FiftyOne's classification export: export "
            f"both fields, as "
            "FiftyOneDataset (samples.json) or CSVDataset"
        )
    rows = content.get("samples") if isinstance(content, dict) else content  # FiftyOne's, or a list of rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"Expected a list of rows in {path} (or FiftyOne's samples), got {format_value(content)}")
    keep = (*IDS, *LABELS, *PREDICTIONS, *SCORES, *TOPK, *CLASS_SCORES)
    labelled = {key for row in rows[:100] for key, cell in row.items() if _is_classification(cell)}
    renamed = _fiftyone_fields(labelled, path)
    flat = [_flat(row, renamed, keep) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    table = pa.table({name: [row.get(name) for row in flat] for name in columns})
    return _table_source(path, table.schema, lambda names, _width: iter([table.select(names)]))


def _is_classification(cell) -> bool:
    return isinstance(cell, dict) and cell.get("_cls", "Classification") == "Classification" and "label" in cell


def _fiftyone_fields(fields: set[str], path: Path) -> dict[str, str]:
    """FiftyOne's fields under our names: the only classification besides `ground_truth` holds the predictions."""
    others = sorted(fields - {"ground_truth"})
    if not fields or "predictions" in fields:
        return {}
    if "ground_truth" not in fields or len(others) != 1:
        raise InputError(
            f"Expected the classifications ground_truth and predictions in {path}, got {', '.join(sorted(fields))}: "
            "export these two fields under these names"
        )
    return {others[0]: "predictions"}


def _flat(row: dict, renamed: dict[str, str], keep: tuple[str, ...]) -> dict:
    flat = {}
    for key, cell in row.items():
        name = renamed.get(key, key)
        if isinstance(cell, dict):
            flat |= {f"{name}.{part}": value for part, value in cell.items() if f"{name}.{part}" in keep}
        elif name in keep or isinstance(cell, (int, float)):
            flat[name] = cell
    return flat


def _open_numpy(path: Path) -> _Source:
    """`.npy`, `.npz`: each array a column; of a matrix, a row is a list."""
    arrays = _members(path)
    scores = next((name for name in CLASS_SCORES if name in arrays), None)
    if len(arrays) == 1 and scores is None and next(iter(arrays.values()))[0][1:]:
        arrays = {"scores": next(iter(arrays.values()))}
    lengths = {name: shape[0] for name, (shape, _, _) in arrays.items() if shape and name not in NAMES}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"Expected arrays of one length in {path}, got {shown}")
    names = next((name for name in NAMES if name in arrays), None)
    known = None
    if names is not None:
        known = [str(name) for block in arrays[names][2](2**20) for name in block.tolist()]

    def kind(shape: tuple[int, ...], dtype: np.dtype) -> pa.DataType:
        scalar = pa.string() if dtype.kind in "US" else pa.from_numpy_dtype(dtype)
        return pa.list_(scalar, shape[1]) if len(shape) == 2 else scalar

    columns: dict[str, pa.DataType | None] = {
        name: kind(shape, dtype)
        for name, (shape, dtype, _) in arrays.items()
        if len(shape) in (1, 2) and name not in NAMES
    }

    def blocks(wanted: list[str], _numbers: set[str]) -> Iterator[pa.Table]:
        width = max([1, *(arrays[name][0][1] for name in wanted if len(arrays[name][0]) == 2)])
        for parts in zip(*(arrays[name][2](_rows_a_block(width)) for name in wanted)):
            yield pa.table([_as_arrow(part) for part in parts], wanted)

    return _Source(path, columns, blocks, known)


def _as_arrow(part: np.ndarray) -> pa.Array:
    part = part.astype(str) if part.dtype.kind == "S" else part
    if part.ndim == 1:
        return pa.array(part)
    return pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), part.shape[1])


def _members(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype, Callable[[int], Iterator[np.ndarray]]]]:
    """Arrays of a NumPy file: shape, type, and a function that yields blocks of that many rows."""
    if path.suffix != ".npz":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        name = "labels" if array.ndim == 1 else "scores"
        return {
            name: (array.shape, array.dtype, lambda rows: (array[i : i + rows] for i in range(0, len(array), rows)))
        }
    members = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, fortran, dtype = _header(file)
            if dtype.hasobject:
                raise InputError(
                    f"Expected arrays of numbers or texts in {path}, got Python objects in {member}: save names as "
                    f".astype(str)"
                )
            if fortran and len(shape) > 1:
                raise InputError(
                    f"Expected arrays in C order in {path}, got {member}: numpy.ascontiguousarray makes one"
                )
            members[member.removesuffix(".npy")] = (shape, dtype, _member_blocks(path, member))
    return members


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    return (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)


def _member_blocks(path: Path, member: str) -> Callable[[int], Iterator[np.ndarray]]:
    def blocks(rows: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            shape, _, dtype = _header(file)
            width = int(np.prod(shape[1:], dtype=np.int64))
            for start in range(0, shape[0] if shape else 0, rows):
                count = min(rows, shape[0] - start)
                data = file.read(count * width * dtype.itemsize)
                yield np.frombuffer(data, dtype, count * width).reshape(count, *shape[1:])

    return blocks


def _given_labels(labels) -> np.ndarray:
    """Labels that come apart from the file, as an array (N,) of indices or names."""
    if isinstance(labels, (str, Path)):
        file = path_of(labels, "labels").expanduser()
        try:
            array = np.load(file, allow_pickle=False)
        except OSError as error:
            raise InputError(
                f"Expected `labels` in a .npy file, got {file}: {error.strerror or first_line(error)}"
            ) from None
        except (ValueError, EOFError) as error:
            raise InputError(f"Expected `labels` in a .npy file, got {file}: {first_line(error)}") from None
        if not isinstance(array, np.ndarray):
            raise InputError(f"Expected `labels` in a .npy file, got {file}, which holds several arrays")
    elif hasattr(labels, "detach"):
        array = as_numpy(labels, "labels")
    else:
        array = np.asarray(listed(labels, "labels", "labels"), dtype=object)
    if array.ndim != 1:
        raise InputError(f"Expected `labels` of shape (N,), got {array.shape}")
    return array


# Rows ----------------------------------------------------------------------------------------------------------------


class _Vocabulary:
    """Texts that occur, numbered as they come; a column has far fewer than rows."""

    def __init__(self, column: str, path: Path):
        self.column = column
        self.path = path
        self.place: dict[str, int] = {}

    def codes(self, values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int16]:
        """The number of each text; -1 for null."""
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
            raise InputError(
                f"Expected one name or number a row in the column {self.column!r} of {self.path}, got {values.type}"
            )
        if pa.types.is_floating(values.type):
            values = pa.array(values.to_numpy(zero_copy_only=False), from_pandas=True)  # NaN becomes null
        encoded = values.dictionary_encode()  # before numbers become texts, so that only a few of them do
        texts = [text and text.strip() for text in encoded.dictionary.cast(pa.string()).to_pylist()]
        new = [-1 if not text else self.place.setdefault(text, len(self.place)) for text in texts]
        if len(self.place) > MAX_CLASSES:
            raise InputError(
                f"Expected at most {MAX_CLASSES} classes in the column {self.column!r} of {self.path}, got more "
                f"different values: "
                "is it the right column?"
            )
        codes = np.append(np.array(new, dtype=np.int64), -1)
        return codes[pc.fill_null(encoded.indices, len(new)).to_numpy(zero_copy_only=False)].astype(np.int16)


class _Reader:
    """One file on its way to `Predictions`."""

    def __init__(self, source: _Source, classnames: list[str] | None, labels: np.ndarray | None):
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
                    f"{len(missing)} are missing, such "
                    f"as {missing[0]!r}"
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
            _Vocabulary(self.label or "labels", self.path),
            _Vocabulary(self.prediction or "", self.path),
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
                        f"{rows + int((codes < 0).argmax()) + 1} "
                        f"(column {self.prediction!r})"
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

    def _own_labels(self, labels: _Vocabulary, rows: int) -> np.ndarray:
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

    def _lists(self, column: pa.ChunkedArray, predicted: _Vocabulary, before: int) -> np.ndarray:
        values = column.combine_chunks()
        width = _width(values, self.topk or "", self.path, before)
        codes = predicted.codes(values.flatten()).reshape(-1, width)
        if (codes < 0).any():
            row = before + int((codes < 0).any(axis=1).argmax()) + 1
            raise InputError(
                f"Expected {width} classes in each row of {self.path}, got a gap in row {row} (column {self.topk!r})"
            )
        return codes

    def _finish(self, joined: dict, labels: _Vocabulary, predicted: _Vocabulary, rows: int) -> Predictions:
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
            yield _as_texts(table[self.id])

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
        self, labels: _Vocabulary, predicted: _Vocabulary, joined: dict
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Classnames, and the class of each text of the labels and of the predictions, with -1 as the last of each."""
        names = self.classnames
        texts = [*labels.place, *predicted.place]
        numbers = {side: [_is_whole(text) for text in side.place] for side in (labels, predicted)}
        if names is None:
            kinds = {"numbers" if all(flags) else "names" for side, flags in numbers.items() if flags}
            if len(kinds) > 1:
                raise InputError(
                    f"Expected labels and predictions in {self.path} both as names or both as numbers, got "
                    f"{next(iter(labels.place))!r} and {next(iter(predicted.place))!r}; give the classnames "
                    f"(--classes FILE)"
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
        self, side: _Vocabulary, names: list[str], codes: np.ndarray | None, unknown: bool = False
    ) -> np.ndarray:
        place: dict[str, int] = {}
        for i, name in enumerate(names):
            place.setdefault(name, i)
        whole = all(map(_is_whole, side.place))
        by_name = not self.source.by_number and (
            not whole or all(_normal(text) in place for text in side.place if _normal(text) != "-1")
        )
        if by_name and len(place) < len(names):
            twice = next(name for i, name in enumerate(names) if place[name] != i)
            raise InputError(f"Expected class numbers in {self.path}, got names, and two classes are called {twice!r}")
        result = []
        for text, code in side.place.items():
            number = int(_normal(text)) if whole else None
            if unknown and number == -1:
                result.append(-1)
            elif by_name and (text in place or _normal(text) in place):
                result.append(place.get(text, place.get(_normal(text), -1)))
            elif not by_name and number is not None and 0 <= number < len(names):
                result.append(number)
            else:
                row = "" if codes is None else f" in row {int((codes == code).argmax()) + 1}"
                raise InputError(
                    f"Expected the column {side.column!r} of {self.path} to hold {len(names)} classes, by name or as "
                    f"numbers from 0 to "
                    f"{len(names) - 1}, got {text!r}{row}"
                )
        return np.array([*result, -1], dtype=np.int16)


def keys_of(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Hashes (N,) of ids: eight bytes each, whatever their length.

    >>> len(set(keys_of(pa.array(["a", "b", "a"])).tolist()))
    2
    """
    from pandas.util import hash_array

    texts = _as_texts(ids).to_numpy(zero_copy_only=False)
    return hash_array(texts, categorize=False)  # pyright: ignore[reportCallIssue]


def _as_texts(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return (ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids).cast(pa.string())


def _width(column: pa.Array, name: str, path: Path, before: int) -> int:
    """The length that all lists of a column share."""
    lengths = pc.fill_null(pc.call_function("list_value_length", [column]), 0).to_numpy(zero_copy_only=False)
    if (lengths != lengths[0]).any() or not lengths[0]:
        row = before + int((lengths != lengths[0]).argmax()) + 1
        raise InputError(f"Expected lists of one length in the column {name!r} of {path}, got another one in row {row}")
    return int(lengths[0])


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,18}(\.0*)?", text) is not None


def _normal(text: str) -> str:
    return str(int(float(text))) if _is_whole(text) else text


# Two files on the same images, and clipnb's own -----------------------------------------------------------------------


def same_images(a: Predictions, b: Predictions) -> npt.NDArray[np.intp]:
    """For each row of A the row of B with the same id.

    Raises:
        InputError: one has images that the other lacks, or they have other classes or labels.
    """
    for name, value in (("a", a), ("b", b)):
        require_attribute(value, name, "keys", "read_predictions")
    if a.has_ids != b.has_ids:
        with_ids, without = (a, b) if a.has_ids else (b, a)
        raise InputError(f"Expected ids in both files, got none in {without.source}, while {with_ids.source} has them")
    order_a, order_b = np.argsort(a.keys, kind="stable"), np.argsort(b.keys, kind="stable")
    if len(a) != len(b) or not np.array_equal(a.keys[order_a], b.keys[order_b]):
        raise InputError(f"Expected the same images in both files, got {_only_in(a, b)} and {_only_in(b, a)}")
    rows = np.empty(len(a), dtype=np.intp)
    rows[order_a] = order_b
    del order_a, order_b
    if a.classnames != b.classnames:
        other = next((f"{x!r} and {y!r}" for x, y in zip(a.classnames, b.classnames) if x != y), None)
        raise InputError(
            f"Expected the same classes in {a.source} and {b.source}, got {len(a.classnames)} and {len(b.classnames)}"
            + (f", which differ first in {other}" if other else "")
            + "; give the classnames (--classes FILE)"
        )
    if len(wrong := np.flatnonzero(a.labels != b.labels[rows])):
        names = [*a.classnames, None]
        row = int(wrong[0])
        raise InputError(
            f"Expected the same labels in {a.source} and {b.source}, {len(wrong)} differ: {a.ids([row])[0]!r} is "
            f"{names[a.labels[row]]!r} and {names[b.labels[rows[row]]]!r}"
        )
    return rows


def _only_in(a: Predictions, b: Predictions) -> str:
    only = np.flatnonzero(~np.isin(a.keys, b.keys))
    return f"{len(only)} only in {a.source}" + (f" (such as {a.ids(only[:1])[0]!r})" if len(only) else "")


def write_predictions(
    path: str | Path, ids: Sequence[str], result: EvaluationResult, classnames: Sequence[str], about: dict | None = None
) -> None:
    """Write the predictions of a result as Parquet: what `read_predictions` reads, and pandas, DuckDB and others.

    The columns are id, label, prediction, top5 and their similarities, margin, and the indices of the classes
    (`label_class`,
    `prediction_class`, `top5_class`), since two classes may share a name. The names of all classes and `about` are in
    the metadata
    of the file, under "clipnb".

    Args:
        path: of the file.
        ids: (N,) of the images.
        result: of `evaluate` on these images.
        classnames: C names.
        about: what else to keep with them, ready for JSON.

    Raises:
        InputError: lengths differ.
        OSError: the file cannot be written, for example because the disk is full.

    >>> from tempfile import TemporaryDirectory
    >>> from clipnb.evaluation import evaluate_predictions
    >>> result = evaluate_predictions(["dog", "dog"], ["cat", "dog"], ["cat", "dog"])
    >>> with TemporaryDirectory() as folder:
    ...     write_predictions(Path(folder, "a.parquet"), ["1", "2"], result, ["cat", "dog"])
    ...     read_predictions(Path(folder, "a.parquet")).labels
    array([0, 1], dtype=int16)
    """
    from pyarrow import parquet

    path = new_file(path, "path")
    names = texts_of(classnames, "classnames", require_attribute(result, "result", "topk", "evaluate").num_classes)
    ids = listed(ids, "ids")
    if len(ids) != len(result.labels):
        raise InputError(f"Expected `ids` of shape (N,) = ({len(result.labels)},), got {len(ids)}")
    best = result.topk[:, :DEPTH]
    dictionary = np.array([*names, None], dtype=object)
    table = pa.table(
        {
            "id": pa.array([str(i) for i in ids], pa.string()),
            "label": pa.array(dictionary[result.labels], pa.string()),
            "prediction": pa.array(dictionary[result.predictions], pa.string()),
            "similarity": pa.array(result.topk_similarity[:, 0].astype(np.float32), from_pandas=True),
            "margin": pa.array(np.array(result.margins, np.float32), from_pandas=True),
            "top5": _as_lists(pa.array(dictionary[best].reshape(-1), pa.string()), best.shape[1]),
            "top5_similarity": _as_lists(
                pa.array(result.topk_similarity[:, :DEPTH].astype(np.float32).reshape(-1), from_pandas=True),
                best.shape[1],
            ),
            "label_class": pa.array(result.labels, pa.int32()),
            "prediction_class": pa.array(result.predictions, pa.int32()),
            "top5_class": _as_lists(pa.array(best.reshape(-1), pa.int32()), best.shape[1]),
        }
    )
    content = json.dumps({"classnames": names, **(about or {})}, ensure_ascii=False, default=float)
    memory = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata({METADATA: content}), memory, compression="zstd")
    write_atomically(path, memory.getvalue())


def _as_lists(values: pa.Array, width: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, width), pa.int32()), values)
