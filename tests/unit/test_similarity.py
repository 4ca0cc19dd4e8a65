import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipnb import similarity
from clipnb.errors import InputError
from tests.support.shared import same_classes, unit_rows


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


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 400])
@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 7, 9, 10, 11, 17, 33])
def test_classes_of_equal_vectors_tie_exactly(count, num_classes):
    # a matrix product alone rounds equal columns differently, depending on their place
    rng = np.random.default_rng(0)
    for width in (7, 64, 257, 512):
        vectors, classifier = unit_rows(rng, count, width), unit_rows(rng, num_classes, width)
        classifier[-1] = classifier[num_classes // 2] = classifier[0]
        scores = np.concatenate([block for _, block in similarity.similarity_blocks(vectors, classifier)])
        assert np.array_equal(scores[:, 0], scores[:, -1]) and np.array_equal(scores[:, 0], scores[:, num_classes // 2])


def test_zeros_of_either_sign_are_equal():
    classifier = np.float32([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0]])
    assert similarity.Scorer(classifier).later == [2] and similarity.Scorer(classifier).first == [0]


@pytest.mark.parametrize("num_classes", [1, 5, 7, 11, 100, 628])
def test_a_row_depends_on_its_block_by_rounding_only(num_classes):
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 600, 64), unit_rows(rng, num_classes, 64)

    def scores(rows):
        return np.concatenate([block for _, block in similarity.similarity_blocks(vectors[rows], classifier)])

    whole = scores(slice(None))
    for cut in (1, 3, 100, 511, 512, 599):
        parts = np.concatenate([scores(slice(cut)), scores(slice(cut, None))])
        assert np.allclose(parts, whole, rtol=0, atol=1e-6)
        assert same_classes(
            parts.argmax(axis=1), whole.argmax(axis=1), vectors.astype(float) @ classifier.T.astype(float)
        )


def test_all_cores_give_results_in_order_and_pass_errors_on():
    threads = torch.get_num_threads()
    assert similarity.parallel_map(lambda i: i * i, range(50)) == [i * i for i in range(50)]
    with pytest.raises(ZeroDivisionError):
        similarity.parallel_map(lambda i: 1 // i, [1, 0])
    for _ in similarity.in_order(abs, range(5)):
        break  # whoever asks for no more leaves nothing changed
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


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: similarity.check_vectors(np.eye(2), np.eye(3)),
            "Expected `vectors` and `classifier` of one width D, got 2 and 3: they come from different models",
        ),
        (
            lambda: similarity.check_vectors(np.empty((0, 2)), np.eye(2)),
            "Expected at least one image and one class, got 0 and 2",
        ),
        (
            lambda: similarity.check_vectors([1.0, 0.0], np.eye(2)),
            "Expected `vectors` to have 2 dimension(s), got shape (2,)",
        ),
        (
            lambda: similarity.check_vectors([[np.nan, 0.0]], np.eye(2)),
            "Expected `vectors` to be finite, got 1 NaN or infinite",
        ),
        (
            lambda: similarity.check_vectors(np.eye(2), [[np.inf, 0.0]]),
            "Expected `classifier` to be finite, got 1 NaN or infinite",
        ),
        (
            lambda: similarity.check_vectors(np.eye(2), [[0.8, 0.0], [0.0, 1.2]]),
            "Expected `classifier` of unit norm, got norms from 0.8 to 1.2; "
            "divide each row by its norm (clipnb.similarity.unit_norm)",
        ),
        (
            lambda: similarity.check_vectors(7 * np.eye(2), np.eye(2)),
            "Expected `vectors` of unit norm, got norms from 7 to 7",
        ),
        (
            lambda: similarity.check_vectors([[1.0, 0.0], [0.0, 0.0]], np.eye(2)),
            "Expected `vectors` of unit norm, got norms from 0 to 1",
        ),
        (
            lambda: similarity.check_vectors([[1e300, 0.0]], np.eye(2)),
            "Expected `vectors` of unit norm, got norms from inf to inf",
        ),
        (
            lambda: similarity.check_classifier(2 * np.eye(2)),
            "Expected `classifier` of unit norm, got norms from 2 to 2",
        ),
        (
            lambda: similarity.check_bank(np.stack([np.eye(2), 2 * np.eye(2)])),
            "Expected `bank` of unit norm, got norms from 1 to 2",
        ),
        (
            lambda: similarity.check_bank(np.full((1, 2, 2), np.nan)),
            "Expected `bank` to be finite, got 4 NaN or infinite",
        ),
        (lambda: similarity.unit_norm(np.zeros((1, 2))), "Expected vectors with a direction, got a row of zeros"),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("width", [2, 64, 1024])
def test_vectors_of_every_precision_are_of_unit_norm(kind, width):
    rows = torch.from_numpy(unit_rows(np.random.default_rng(0), 1000, width))
    for vectors in (
        rows.to(kind),
        torch.nn.functional.normalize((3 * rows).to(kind), dim=1),
    ):  # rounded, and computed so
        found, _ = similarity.check_vectors(vectors, rows)
        assert np.allclose(found, rows, rtol=0, atol=0.01)
