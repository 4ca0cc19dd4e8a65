import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clipnb import margin, similarity
from clipnb.errors import InputError
from tests.support.shared import same_classes, unit_rows

NAN = float("nan")


def naive(vectors, classifier, labels, reduction):
    """The two formulas of the module's text, on the whole N x C matrix."""
    s = np.asarray(vectors, dtype=float) @ np.asarray(classifier, dtype=float).T
    cmm = np.full(len(classifier), NAN)
    for c in range(len(classifier)):
        mine = s[labels == c]
        if len(mine):
            rival = (
                np.delete(mine, c, axis=1).max(axis=1)
                if reduction == "image"
                else np.delete(mine.mean(axis=0), c).max()
            )
            cmm[c] = (mine[:, c] - rival).mean()
    return cmm


# Two classes at right angles; the second image of class 0 lies nearer to class 1; class 2 is absent.
VECTORS = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
CLASSIFIER = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
LABELS = [0, 0, 1]


def test_by_hand_with_labels():
    cmm = margin.class_wise_matching_margin(VECTORS, CLASSIFIER, LABELS)
    assert np.allclose(cmm, [(1 - 0.2) / 2, 1.0, NAN], equal_nan=True)  # margins 1 - 0 and 0.6 - 0.8
    cmm = margin.class_wise_matching_margin(VECTORS, CLASSIFIER, LABELS, reduction="class")
    assert np.allclose(cmm, [0.8 - 0.4, 1.0, NAN], equal_nan=True)  # mean vector (0.8, 0.4)
    # reductions part where the images of a class have different rivals
    rivals = [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.6, 0.0, 0.8]]
    image, by_class = (
        margin.class_wise_matching_margin(rivals, np.eye(3), [0, 0, 0], r)[0] for r in ("image", "class")
    )
    assert image == pytest.approx((1 - 0.2 - 0.2) / 3) and by_class == pytest.approx((2.2 - 0.8) / 3)


def test_by_hand_with_pseudo_labels():
    # the second image now counts for class 1, which it is predicted as
    cmm = margin.class_wise_matching_margin(VECTORS, CLASSIFIER)
    assert np.allclose(cmm, [1.0, (0.2 + 1) / 2, NAN], equal_nan=True)
    cmm = margin.class_wise_matching_margin(VECTORS, CLASSIFIER, reduction="class")
    assert np.allclose(cmm, [1.0, 0.9 - 0.3, NAN], equal_nan=True)


def test_image_margins_and_rivals():
    margins, rivals = margin.image_margins(VECTORS, CLASSIFIER, [0, 0, -1])  # the last one unknown: its prediction
    assert np.allclose(margins, [1.0, -0.2, 1.0]) and rivals.tolist() == [1, 1, 0]
    assert (margin.image_margins(VECTORS, CLASSIFIER)[0] >= 0).all()


@given(st.integers(1, 40), st.integers(2, 8), st.integers(0, 10**6), st.sampled_from([1, 100, 2**20]))
def test_equals_the_naive_reference(count, num_classes, seed, block_bytes):
    rng = np.random.default_rng(seed)
    vectors, classifier = unit_rows(rng, count, 6), unit_rows(rng, num_classes, 6)
    labels = rng.integers(-1, num_classes, count)
    kept, similarity.BLOCK_BYTES = similarity.BLOCK_BYTES, block_bytes
    try:
        predicted = margin.pseudo_labels(vectors, classifier)
        scores = vectors.astype(float) @ classifier.astype(float).T
        assert same_classes(predicted, scores.argmax(axis=1), scores)
        for reduction in ("image", "class"):
            for given_labels, target in ((labels, labels), (None, predicted)):
                found = margin.class_wise_matching_margin(vectors, classifier, given_labels, reduction)
                assert np.allclose(
                    found, naive(vectors, classifier, target, reduction), rtol=0, atol=1e-6, equal_nan=True
                )
    finally:
        similarity.BLOCK_BYTES = kept


def test_class_means_of_many_images_keep_their_precision():
    rng = np.random.default_rng(0)
    vectors = similarity.unit_norm(unit_rows(rng, 1, 64) + 0.1 * unit_rows(rng, 20000, 64)).astype(np.float32)
    classifier, labels = unit_rows(rng, 3, 64), rng.integers(0, 2, 20000)
    found = margin.class_wise_matching_margin(vectors, classifier, labels, "class")
    assert np.allclose(found, naive(vectors, classifier, labels, "class"), rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_twin_classes_have_margin_zero_and_the_lower_is_predicted(count):
    rng = np.random.default_rng(0)
    classifier = unit_rows(rng, 5, 257)
    classifier[4] = classifier[1]
    vectors = np.repeat(classifier[1:2], count, axis=0)
    margins, rivals = margin.image_margins(vectors, classifier)
    assert (margins == 0).all() and (rivals == 4).all()
    margins, rivals = margin.image_margins(vectors, classifier, [4] * count)
    assert (margins == 0).all() and (rivals == 1).all()
    assert np.isnan(margin.class_wise_matching_margin(vectors, classifier)[4])


def test_one_class_has_no_rival():
    margins, rivals = margin.image_margins([[1.0]], [[1.0]], [0])
    assert np.isnan(margins).all() and rivals.tolist() == [-1]
    for reduction in ("image", "class"):
        assert np.isnan(margin.class_wise_matching_margin([[1.0]], [[1.0]], [0], reduction)).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_arrays_tensors_and_lists_agree(kind):
    found = margin.class_wise_matching_margin(kind(VECTORS), kind(CLASSIFIER), kind(LABELS))
    assert np.allclose(found, [0.4, 1.0, NAN], equal_nan=True)


def test_labels_are_not_changed():
    labels = np.array([-1, 0, 1])
    margin.image_margins(VECTORS, CLASSIFIER, labels)
    assert labels.tolist() == [-1, 0, 1]


def test_worst_first_and_what_it_finds():
    assert margin.worst_first([0.2, NAN, -0.1, 0.2]).tolist() == [1, 2, 0, 3]
    assert margin.worst_found([0.1, 0.9, 0.2, 0.8], [0.0, 1.0, 0.9, 0.5], k=2) == 0.5  # finds 0, misses 3
    assert margin.worst_found([NAN, 0.9, 0.2], [0.0, 1.0, 0.5], k=1) == 1.0  # never predicted ranks as worst
    assert margin.worst_found([0.1, 0.2, 0.3], [NAN, 0.0, 1.0], k=1) == 1.0  # a class without images is not scored
    assert margin.worst_found([0.3, 0.1, 0.2], [0.0, 0.0, 0.0], k=1) == 1.0  # equally bad: any will do


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: margin.class_wise_matching_margin(VECTORS, CLASSIFIER, LABELS, "mean"),
            "Expected `reduction` to be one of 'image', 'class', got 'mean'",
        ),
        (
            lambda: margin.class_wise_matching_margin(VECTORS, CLASSIFIER, [0, 0]),
            "Expected `labels` of shape (N,) = (3,), got (2,)",
        ),
        (
            lambda: margin.image_margins(VECTORS, CLASSIFIER, [0, 0, 3]),
            "Expected `labels` < 3 (the number of classes), got 3",
        ),
        (lambda: margin.worst_found([0.1], [0.1, 0.2], 1), "Expected `per_class` of shape (C,) = (1,), got (2,)"),
        (lambda: margin.worst_found([0.1, 0.2], [0.1, NAN], 2), "Expected `k` between 1 and 1, got 2"),
        (lambda: margin.worst_found([0.1, 0.2], [0.1, 0.2], 1.5), "Expected `k` to be a whole number, got 1.5"),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


# Intervals


def test_margin_intervals_by_hand():
    found = margin.margin_intervals(VECTORS, CLASSIFIER, LABELS)
    assert np.allclose(found[0], stats.ttest_1samp([1.0, -0.2], 0).confidence_interval(), atol=1e-5)  # two images
    assert np.isnan(found[1:]).all()  # one image, none
    assert np.isnan(margin.margin_intervals([[1.0], [1.0]], [[1.0]], [0, 0])).all()  # one class has no rival
    assert np.isnan(margin.margin_intervals(VECTORS, CLASSIFIER)[2]).all()  # pseudo-labels: nobody is predicted as it


@pytest.mark.parametrize("images", [2, 3, 5, 10])
def test_margin_intervals_hold_with_few_images(images):
    rng = np.random.default_rng(0)
    classifier, labels = unit_rows(rng, 6, 16), np.repeat(np.arange(5), images)

    def draw(labels):
        return similarity.unit_norm(classifier[labels] + 0.25 * rng.normal(size=(len(labels), 16))).astype(np.float32)

    many = np.repeat(np.arange(5), 4000)
    truth = margin.class_wise_matching_margin(draw(many), classifier, many)[:5]
    held = [
        (low <= truth) & (truth <= high)
        for low, high in (margin.margin_intervals(draw(labels), classifier, labels)[:5].T for _ in range(100))
    ]
    assert np.mean(held) > 0.92  # 95 % aimed at, 500 intervals


@pytest.mark.parametrize("reduction", ["image", "class"])
def test_margin_intervals_hold_the_margin_of_many_images(reduction):
    rng = np.random.default_rng(0)
    classifier = unit_rows(rng, 6, 16)

    def draw(count):
        labels = rng.integers(0, 5, count)
        return similarity.unit_norm(classifier[labels] + 0.25 * rng.normal(size=(count, 16))).astype(np.float32), labels

    many, labels = draw(20000)
    truth = margin.class_wise_matching_margin(many, classifier, labels, reduction)
    covered, widths = [], []
    for _ in range(30):
        vectors, labels = draw(200)
        low, high = margin.margin_intervals(vectors, classifier, labels, reduction).T
        covered.append((low <= truth)[:5] & (truth <= high)[:5])
        widths.append(high[:5] - low[:5])
        assert np.isnan(low[5])
    assert np.mean(covered) > 0.9 and np.mean(widths) < 0.2  # 95 % aimed at


# Does the margin find the worst classes?


def test_auc_by_hand():
    assert margin.worst_auc([0.1, 0.2, 0.3, 0.4], [0.0, 0.1, 0.8, 0.9], k=2) == 1
    assert margin.worst_auc([0.4, 0.3, 0.2, 0.1], [0.0, 0.1, 0.8, 0.9], k=2) == 0
    assert margin.worst_auc([0.1, 0.1, 0.3], [0.0, 0.5, 0.9], k=1) == 0.75  # one tie, one won
    assert (
        margin.worst_auc([NAN, 0.1, NAN], [0.0, 0.5, NAN], k=1) == 1
    )  # never predicted ranks lowest; no images: left out
    assert np.isnan(margin.worst_auc([0.1, 0.2], [0.0, 0.0], k=1))  # all are equally bad


@given(st.integers(3, 40), st.integers(0, 10**6))
def test_auc_is_scikit_learns(count, seed):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    score, per_class = rng.integers(0, 6, count) / 5, rng.integers(0, 8, count) / 7
    k = int(rng.integers(1, count))
    worst = per_class <= np.sort(per_class)[k - 1]
    found = margin.worst_auc(score, per_class, k)
    assert np.isnan(found) if worst.all() else found == pytest.approx(roc_auc_score(worst, -score))


def test_baselines_by_hand():
    vectors = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
    scores = margin.baseline_scores(vectors, CLASSIFIER, logit_scale=1)
    assert scores["frequency"].tolist() == [2, 1, 0]
    assert np.allclose(scores["top-1 similarity"], [0.9, 1, NAN], equal_nan=True)
    e = np.exp
    share = [e(1) / (e(1) + 1 + e(-1)), e(0.8) / (e(0.8) + e(0.6) + e(-0.8))]
    assert np.allclose(scores["confidence"], [np.mean(share), e(1) / (e(1) + 2), NAN], equal_nan=True)
    assert np.allclose(scores["text only"], [0, 0, 0])
    assert np.allclose(margin.softmax_confidence(vectors, CLASSIFIER, 1e4), 1)  # no overflow
    nearest, cosine = margin.nearest_text([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]])
    assert nearest.tolist() == [2, 0, 0] and np.allclose(cosine, [1, 0.6, 1])
    assert margin.nearest_text([[1.0]])[0].tolist() == [-1] and np.isnan(margin.nearest_text([[1.0]])[1]).all()


def test_the_table_holds_every_score_and_chance():
    from clipnb import evaluate, intervals

    rng = np.random.default_rng(0)
    classifier = unit_rows(rng, 30, 16)
    labels = np.repeat(np.arange(30), 10)
    noise = np.linspace(0.05, 0.6, 30)[labels, None]
    vectors = similarity.unit_norm(classifier[labels] + noise * rng.normal(size=(300, 16))).astype(np.float32)
    result = evaluate(vectors, classifier, labels)
    scores = {**result.cmm, **margin.baseline_scores(vectors, classifier)}
    table = margin.compare_scores(scores, result.per_class_accuracy, k=10)
    assert list(table.index) == [*scores, "chance"] and list(table) == ["rho", "rho_low", "rho_high", "found", "auc"]
    assert (table["rho_low"] <= table["rho"])[:-1].all() and (table["rho"] <= table["rho_high"])[:-1].all()
    assert (
        table.loc["image", "rho"]
        == intervals.rank_correlation(result.cmm["image"], result.per_class_accuracy, "worst")[0]
    )
    assert table.loc["pseudo_image", "found"] == margin.worst_found(
        result.cmm["pseudo_image"], result.per_class_accuracy, 10
    )
    assert table.loc["image", "auc"] > 0.9 and table.loc["image", "found"] > table.loc["chance", "found"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: margin.margin_intervals(VECTORS, CLASSIFIER, LABELS, "mean"),
            "Expected `reduction` to be one of 'image', 'class', got 'mean'",
        ),
        (lambda: margin.worst_auc([0.1], [0.1, 0.2], 1), "Expected `per_class` of shape (C,) = (1,), got (2,)"),
        (lambda: margin.softmax_confidence(VECTORS, CLASSIFIER, 0), "Expected `logit_scale` > 0, got 0"),
        (lambda: margin.compare_scores({}, [0.1], 1), "Expected at least one score in `scores`, got none"),
        (
            lambda: margin.compare_scores({"x": [1.0]}, [0.1, 0.2], 1),
            "Expected `per_class` of shape (C,) = (1,), got (2,)",
        ),
    ],
)
def test_wrong_input_of_the_comparison_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()
