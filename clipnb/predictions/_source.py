"""A file of predictions as blocks of columns, and the names that columns have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

# Names of columns in the order of preference, as pandas, scikit-learn, FiftyOne, Hugging Face and others have them.
IDS = tuple("id image_id filepath file_path image_path path filename file_name image _id key uid".split())
LABELS = tuple(
    "label_class label labels ground_truth.label ground_truth target targets target_label y_true true_label "
    "given_label actual truth gt y class".split()
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
BLOCK_BYTES = 2**23  # read at once


@dataclass(frozen=True)
class Source:
    """A file as blocks of columns."""

    path: Path
    columns: dict[str, pa.DataType | None]  # None: text, of which the reader says what it is
    blocks: Callable[[list[str], set[str]], Iterator[pa.Table]]  # of some columns, the second of which hold numbers
    classnames: list[str] | None = None
    by_number: bool = False  # the names are those of clipnb's own file, which holds class indices, too


def table_source(path: Path, schema: pa.Schema, batches, **known) -> Source:
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

    return Source(path, columns, blocks, **known)


def rows_a_block(columns: int) -> int:
    """How many rows of that many numbers are read at once.

    >>> rows_a_block(1000)
    1048
    """
    return max(1024, BLOCK_BYTES // (8 * max(16, columns)))
