import re

import numpy as np
import pytest
import torch

from clipnb._checks import as_numpy, booleans, class_indices, floats, one_of, whole_number
from clipnb.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_torch_tensor_becomes_the_same_numbers(dtype):
    tensor = torch.tensor([[1.5, -2.0]], dtype=dtype, requires_grad=True)
    assert as_numpy(tensor, "vectors").tolist() == [[1.5, -2.0]]


def test_an_array_is_not_copied():
    array = np.arange(3)
    assert as_numpy(array, "labels") is array


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (lambda: as_numpy([[1], [1, 2]], "vectors"), "Expected `vectors` to be a rectangular array, got "),
        (lambda: as_numpy(["cat"], "labels"), "Expected `labels` to hold numbers, got <U3 (list)"),
        (lambda: as_numpy([None], "labels"), "Expected `labels` to hold numbers, got object (list)"),
        (lambda: floats([1.0], "vectors", 2), "Expected `vectors` to have 2 dimension(s), got shape (1,)"),
        (lambda: floats([1j], "scores", 1), "Expected `scores` to hold real numbers, got complex128"),
        (
            lambda: floats([1.0, np.nan, np.inf], "scores", 1),
            "Expected `scores` to be finite, got 2 NaN or infinite value(s)",
        ),
        (lambda: class_indices([[0]], "labels"), "Expected `labels` of shape (N,), got (1, 1)"),
        (lambda: class_indices([0] * 49, "labels", 50), "Expected `labels` of shape (N,) = (50,), got (49,)"),
        (lambda: class_indices([0.0], "labels"), "Expected `labels` to hold integers (class indices), got float64"),
        (lambda: class_indices([True], "labels"), "Expected `labels` to hold integers (class indices), got bool"),
        (lambda: class_indices([0, -1], "predictions"), "Expected `predictions` >= 0, got -1 at position 1"),
        (
            lambda: class_indices([0, -2], "labels", unknown=True),
            "Expected `labels` >= -1 (-1 stands for an unknown label), got -2 at position 1",
        ),
        (
            lambda: class_indices([0, 3], "labels", num_classes=3),
            "Expected `labels` < 3 (the number of classes), got 3 at position 1",
        ),
        (lambda: booleans([1, 0], "positives", (3,)), "Expected `positives` of shape (3,), got (2,)"),
        (
            lambda: booleans([1, -1], "positives", (2,)),
            "Expected `positives` to hold booleans (or 0 and 1), got other values such as -1",
        ),
        (
            lambda: booleans([1, np.nan], "positives", (2,)),
            "Expected `positives` to hold booleans (or 0 and 1), got other values such as nan",
        ),
        (lambda: whole_number(2.0, "k", 1), "Expected `k` to be a whole number, got 2.0"),
        (lambda: whole_number(True, "k", 1), "Expected `k` to be a whole number, got True"),
        (lambda: whole_number(0, "k", 1), "Expected `k` >= 1, got 0"),
        (lambda: whole_number(6, "k", 1, 5), "Expected `k` between 1 and 5, got 6"),
        (
            lambda: one_of("mean", "reduction", ("image", "class")),
            "Expected `reduction` to be one of 'image', 'class', got 'mean'",
        ),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(check, text):
    with pytest.raises(InputError, match="^" + re.escape(text)) as caught:
        check()
    assert "\n" not in str(caught.value)


def test_edges_of_the_ranges_pass():
    assert class_indices([-1, 2], "labels", 2, 3, unknown=True).tolist() == [-1, 2]
    assert class_indices([], "labels").dtype == np.int64
    assert class_indices(np.array([2], dtype=np.uint8), "labels").dtype == np.int64
    assert (whole_number(1, "k", 1, 5), whole_number(np.int64(5), "k", 1, 5)) == (1, 5)
    assert np.isnan(floats([np.nan], "per_class", 1, finite=False)).all()
    assert booleans(np.array([[True]]), "relevant", (1, 1)).tolist() == [[True]]
