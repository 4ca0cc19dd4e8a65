"""The texts of a column, which name classes or number them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipnb.errors import InputError
from clipnb.metrics import MAX_CLASSES


class Vocabulary:
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
                "different values: is it the right column?"
            )
        codes = np.append(np.array(new, dtype=np.int64), -1)
        return codes[pc.fill_null(encoded.indices, len(new)).to_numpy(zero_copy_only=False)].astype(np.int16)


def is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,18}(\.0*)?", text) is not None


def normal(text: str) -> str:
    return str(int(float(text))) if is_whole(text) else text
