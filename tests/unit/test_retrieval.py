"""Retrieval against full matrices, against the formula of CLIP_benchmark, and against what ties and clusters imply."""

import re

import numpy as np
import pytest
import torch

from clipnb import InputError, metrics
from clipnb.retrieval import evaluate_retrieval
from tests.support.shared import unit_rows


def world(seed=0, images=40, most=5, width=8, noise=0.6, repeats=0):
    """Images and captions that resemble them; the owners are in no order, and some captions are worded alike."""
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng, images, width)
    owner = rng.permutation(np.repeat(np.arange(images), rng.integers(0, most + 1, images)))
    texts = vectors[owner] + noise * unit_rows(rng, len(owner), width)
    texts = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    texts[len(texts) - repeats :] = texts[:repeats]
    return vectors, texts, owner


def recall_of_clip_benchmark(scores, positive_pairs, k):
    """The formula of CLIP_benchmark's `recall_at_k`, written down again: found positives / positives of each query."""
    first = torch.topk(torch.tensor(scores), k, dim=1)[1].numpy()
    return np.take_along_axis(positive_pairs, first, axis=1).sum(axis=1) / positive_pairs.sum(axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_hits_are_those_of_clip_benchmark_where_captions_do_not_tie(seed):
    vectors, texts, owner = world(seed)
    scores = evaluate_retrieval(vectors, texts, owner).scores()
    similarity = texts @ vectors.T
    pairs = np.arange(len(vectors)) == owner[:, None]
    asked = pairs.any(axis=0)
    for k in (1, 5, 10):
        found = recall_of_clip_benchmark(similarity, pairs, k)
        assert scores[f"text_to_image_hit_at_{k}"].value == pytest.approx((found > 0).mean(), abs=1e-9)
        found = recall_of_clip_benchmark(similarity.T[asked], pairs.T[asked], k)
        assert scores[f"image_to_text_hit_at_{k}"].value == pytest.approx((found > 0).mean(), abs=1e-9)
        assert scores[f"image_to_text_recall_at_{k}"].value == pytest.approx(found.mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_scores_with_ties_are_those_of_the_full_matrix(seed):
    vectors, texts, owner = world(seed, repeats=30)
    result = evaluate_retrieval(vectors, texts, owner)
    similarity = vectors.astype(float) @ texts.T.astype(float)
    similarity[:, len(texts) - 30 :] = similarity[:, :30]  # equal captions tie exactly
    relevant = owner == np.arange(len(vectors))[:, None]
    scores = result.scores()
    for k in (1, 5, 10):
        hit, recall = (f(similarity, relevant, k) for f in (metrics.hit_at_k, metrics.retrieval_recall_at_k))
        assert scores[f"image_to_text_hit_at_{k}"].value == pytest.approx(hit, abs=1e-9)
        assert scores[f"image_to_text_recall_at_{k}"].value == pytest.approx(recall, abs=1e-9)
        hit = metrics.hit_at_k(similarity.T, relevant.T, k)
        assert scores[f"text_to_image_hit_at_{k}"].value == pytest.approx(hit, abs=1e-9)
    first = [
        metrics.label_rank(row[None].repeat(sum(own), 0), np.flatnonzero(own)).min()
        for row, own in zip(similarity, relevant)
        if own.any()
    ]
    assert np.array_equal(result.first_rank, first)
    assert scores["image_to_text_median_rank"].value == np.median(first) + 1
    ranks = metrics.label_rank(similarity.T, owner)
    assert (
        np.array_equal(result.rank_of_image, ranks)
        and scores["text_to_image_median_rank"].value == np.median(ranks) + 1
    )


def test_the_lower_index_wins():
    same = np.tile([[1.0, 0.0]], (3, 1))
    result = evaluate_retrieval(same, same, [2, 1, 0], ks=(1,))
    assert result.rank_of_image.tolist() == [2, 1, 0] and result.rank_of_text.tolist() == [0, 1, 2]


@pytest.mark.parametrize("rows, size", [(1, 8), (7, 64), (384, 2**23)])
def test_blocks_change_nothing(rows, size, monkeypatch):
    vectors, texts, owner = world(5, 60, repeats=20)
    whole = evaluate_retrieval(vectors, texts, owner)
    monkeypatch.setattr("clipnb.similarity.BLOCK_ROWS", rows)
    monkeypatch.setattr("clipnb.similarity.BLOCK_BYTES", size)
    parts = evaluate_retrieval(vectors, texts, owner)
    assert np.array_equal(parts.rank_of_image, whole.rank_of_image)
    assert np.array_equal(parts.rank_of_text, whole.rank_of_text)


def test_folds_are_ranked_apart_and_pooled():
    vectors, texts, owner = world(6, 50, noise=1.5)
    folds = evaluate_retrieval(vectors, texts, owner, fold_size=20)
    parts = []
    for start in (0, 20):
        mine = (owner >= start) & (owner < start + 20)
        parts.append(evaluate_retrieval(vectors[start : start + 20], texts[mine], owner[mine] - start))
    assert (folds.folds, folds.left_out, folds.num_images) == (2, 10, 40)
    for direction, queries in (("text_to_image", "num_texts"), ("image_to_text", None)):
        sizes = [getattr(part, queries) if queries else len(part.first_rank) for part in parts]
        values = [part.scores()[f"{direction}_hit_at_5"].value for part in parts]
        assert folds.scores()[f"{direction}_hit_at_5"].value == pytest.approx(np.average(values, weights=sizes))
    summary = folds.summary()
    assert summary["folds"] == 2 and summary["images_in_no_fold"] == 10
    full = evaluate_retrieval(vectors, texts, owner)
    assert folds.scores()["text_to_image_hit_at_1"].value > full.scores()["text_to_image_hit_at_1"].value


def test_intervals_are_clustered_by_image():
    rng = np.random.default_rng(0)
    vectors = unit_rows(rng, 200, 16)
    texts = vectors + 0.8 * unit_rows(rng, 200, 16)
    texts = np.repeat(texts / np.linalg.norm(texts, axis=1, keepdims=True), 5, axis=0)  # five captions of one fate
    five = evaluate_retrieval(vectors, texts, np.repeat(np.arange(200), 5)).scores()["text_to_image_hit_at_1"]
    one = evaluate_retrieval(vectors, texts[::5], np.arange(200)).scores()["text_to_image_hit_at_1"]
    assert five.value == one.value and five.high - five.low == pytest.approx(one.high - one.low, rel=0.05)


def test_intervals_hold_the_truth_of_a_large_set():
    vectors, texts, owner = world(1, 3000, width=6, noise=0.9)
    truth = evaluate_retrieval(vectors, texts, owner, fold_size=100).scores()
    held, count = dict.fromkeys(truth, 0), 30
    for start in range(0, 3000, 100):
        mine = (owner >= start) & (owner < start + 100)
        part = evaluate_retrieval(vectors[start : start + 100], texts[mine], owner[mine] - start).scores()
        for name, score in part.items():
            held[name] += score.low - 1e-9 <= truth[name].value <= score.high + 1e-9
    assert min(held.values()) >= count - 6, held  # 95 % of 30 are 28.5; six misses or more happen once in 10,000


EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    "given, text",
    [
        ({"image_vectors": 2 * EYE}, "Expected `image_vectors` of unit norm"),
        ({"text_vectors": EYE[:, :2]}, "Expected `image_vectors` and `text_vectors` of one width D, got 3 and 2"),
        ({"text_vectors": EYE[:0]}, "Expected at least one image and one caption"),
        ({"text_vectors": np.full((3, 3), np.nan)}, "Expected `text_vectors` to be finite"),
        ({"image_of_text": [0, 1, 3]}, "Expected `image_of_text` < 3"),
        ({"image_of_text": [0, 1, -1]}, "Expected `image_of_text` >= 0"),
        ({"image_of_text": [0, 1]}, "Expected `image_of_text` of shape (N,) = (3,)"),
        ({"ks": ()}, "Expected at least one depth in `ks`"),
        ({"ks": (0,)}, "Expected `ks` >= 1"),
        ({"fold_size": 4}, "Expected `fold_size` of at most 3"),
        ({"fold_size": 0}, "Expected `fold_size` >= 1"),
    ],
)
def test_wrong_input_is_one_line(given, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        evaluate_retrieval(**{"image_vectors": EYE, "text_vectors": EYE, "image_of_text": [0, 1, 2]} | given)
