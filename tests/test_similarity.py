import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipnb import similarity
from clipnb.errors import InputError

from conftest import unit_rows


def naive_order(row):
    return sorted(range(len(row)), key=lambda c: (-row[c], c))


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([2, 1000]))
def test_top_k_is_a_stable_sort(num_classes, count, seed, spread):
    scores = np.random.default_rng(seed).integers(0, spread, (count, num_classes)).astype(np.float32) - 1
    for k in range(1, num_classes + 2):  # past C: all of them
        found = similarity.top_k(scores, k)
        assert found.dtype == np.int64 and found.tolist() == [naive_order(row)[:k] for row in scores]


@pytest.mark.parametrize("block_bytes", [1, 4 * 7 * 3, 2**20])
def test_blocks_cover_every_row_once(monkeypatch, block_bytes):
    monkeypatch.setattr(similarity, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 10, 8), unit_rows(rng, 7, 8)
    whole, rows_seen = np.full((10, 7), np.nan), []
    for rows, block in similarity.similarity_blocks(vectors, classifier):
        whole[rows] = block
        rows_seen += range(rows.start, rows.stop)
        assert block.nbytes <= max(block_bytes, 4 * 7)
    assert rows_seen == list(range(10))
    assert np.allclose(whole, vectors @ classifier.T, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17])
@pytest.mark.parametrize("num_classes", [2, 3, 5, 7, 17, 33])
def test_classes_of_equal_vectors_tie_exactly(count, num_classes):
    # a matrix product alone rounds equal columns differently, depending on their place
    rng = np.random.default_rng(0)
    for width in (7, 64, 257, 512):
        vectors, classifier = unit_rows(rng, count, width), unit_rows(rng, num_classes, width)
        classifier[-1] = classifier[0]
        scores = np.concatenate([block for _, block in similarity.similarity_blocks(vectors, classifier)])
        assert np.array_equal(scores[:, 0], scores[:, -1])


@pytest.mark.parametrize("num_classes", [1, 7, 100, 628])
def test_a_row_does_not_depend_on_its_block(num_classes):
    # a product with one row, or few, rounds differently from one with many
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 600, 64), unit_rows(rng, num_classes, 64)

    def scores(rows):
        return np.concatenate([block for _, block in similarity.similarity_blocks(vectors[rows], classifier)])

    whole = scores(slice(None))
    for cut in (1, 3, 100, 511, 512, 599):
        assert np.array_equal(np.concatenate([scores(slice(cut)), scores(slice(cut, None))]), whole)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50), st.randoms())
def test_fixed_point_sums_are_exact_in_any_order(values, random):
    rounded = similarity.fixed_point(np.array(values, dtype=float))
    assert np.abs(rounded - values).max() <= 2**-31
    total = np.sum(rounded)
    assert total == math.fsum(rounded)
    random.shuffle(shuffled := rounded.tolist())
    assert sum(shuffled) == total


def test_all_cores_give_results_in_order_and_pass_errors_on():
    threads = torch.get_num_threads()
    assert similarity.on_all_cores(lambda i: i * i, range(50)) == [i * i for i in range(50)]
    with pytest.raises(ZeroDivisionError):
        similarity.on_all_cores(lambda i: 1 // i, [1, 0])
    assert torch.get_num_threads() == threads


def test_read_only_arrays_are_taken_without_a_warning(recwarn):
    array = np.zeros((2, 2), dtype=np.float32)
    array.flags.writeable = False
    similarity.tensor(array)
    assert not recwarn.list


def test_inputs_become_float32_of_one_width():
    vectors, classifier = similarity.check_vectors(np.eye(2, dtype=np.float64), [[1, 0], [0, 1]])
    assert vectors.dtype == classifier.dtype == np.float32
    assert np.allclose(np.linalg.norm(similarity.unit_norm(np.array([[3.0, 4.0], [0.0, -2.0]])), axis=1), 1)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: similarity.check_vectors(np.eye(2), np.eye(3)),
     "Expected `vectors` and `classifier` of one width D, got 2 and 3: they come from different models"),
    (lambda: similarity.check_vectors(np.empty((0, 2)), np.eye(2)), "Expected at least one image and one class, got 0 and 2"),
    (lambda: similarity.check_vectors([1.0, 0.0], np.eye(2)), "Expected `vectors` to have 2 dimension(s), got shape (2,)"),
    (lambda: similarity.check_vectors([[np.nan, 0.0]], np.eye(2)), "Expected `vectors` to be finite, got 1 NaN or infinite"),
    (lambda: similarity.check_vectors(np.eye(2), [[np.inf, 0.0]]), "Expected `classifier` to be finite, got 1 NaN or infinite"),
    (lambda: similarity.unit_norm(np.zeros((1, 2))), "Expected vectors with a direction, got a row of zeros"),
])
def test_wrong_input_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()
