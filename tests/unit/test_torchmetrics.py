"""Our metrics against torchmetrics over generated cases; where definitions differ, the difference is written down."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification, retrieval

from clipnb import evaluation, metrics
from tests.support.shared import unit_rows


@st.composite
def cases(draw, classes=(2, 9), ties=False):
    """Scores (N, C) and labels (N,): without ties, torchmetrics has the same definitions."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    count, num_classes = draw(st.integers(1, 40)), draw(st.integers(*classes))
    scores = (
        rng.integers(0, 3, (count, num_classes)) / 4
        if ties
        else rng.permuted(np.linspace(0.01, 0.99, count * num_classes))
    )
    return np.asarray(scores, dtype=np.float32).reshape(count, num_classes), rng.integers(0, num_classes, count)


def tensors(*arrays):
    return tuple(torch.from_numpy(np.asarray(array)) for array in arrays)


@given(cases())
@settings(max_examples=200)
def test_counts_and_averages_agree(case):
    scores, labels = case
    num_classes, predictions = scores.shape[1], scores.argmax(axis=1)
    guessed, actual = tensors(predictions, labels)
    confusion = metrics.confusion_matrix(predictions, labels, num_classes)
    assert np.array_equal(confusion, classification.multiclass_confusion_matrix(guessed, actual, num_classes).numpy())
    micro = classification.multiclass_accuracy(guessed, actual, num_classes, average="micro")
    assert metrics.accuracy(predictions, labels) == pytest.approx(micro.item(), abs=1e-6)
    macro = classification.multiclass_accuracy(guessed, actual, num_classes, average="macro").item()
    predicted_only = set(predictions) - set(labels)
    if not predicted_only:
        assert metrics.mean_per_class_accuracy(confusion) == pytest.approx(macro, abs=1e-6)
    else:  # torchmetrics counts a class without images as 0 as soon as it is predicted; we leave it out
        ours = np.nan_to_num(metrics.per_class_accuracy(confusion))[sorted({*labels, *predictions})]
        assert ours.mean() == pytest.approx(macro, abs=1e-6)
    # Each class: torchmetrics gives 0 for a class without images (or never predicted), we give NaN.
    for ours, theirs in (
        (metrics.per_class_accuracy(confusion), classification.multiclass_recall),
        (metrics.per_class_precision(confusion), classification.multiclass_precision),
    ):
        assert np.allclose(np.nan_to_num(ours), theirs(guessed, actual, num_classes, average=None), atol=1e-6)


@given(cases(), st.data())
@settings(max_examples=200)
def test_recall_at_k_is_their_top_k_accuracy_averaged_micro(case, data):
    # Their default is macro in this function, and "recall at k" of their retrieval module is another number (below).
    scores, labels = case
    k = data.draw(st.integers(1, scores.shape[1]))
    theirs = classification.multiclass_accuracy(*tensors(scores, labels), scores.shape[1], top_k=k, average="micro")
    assert metrics.recall_at_k(scores, labels, k) == pytest.approx(theirs.item(), abs=1e-6)


@given(cases(ties=True))
@settings(max_examples=100)
def test_on_ties_we_take_the_lower_index_and_they_whatever_topk_finds(case):
    scores, labels = case
    k = min(2, scores.shape[1])
    theirs = classification.multiclass_accuracy(
        *tensors(scores, labels), scores.shape[1], top_k=k, average="micro"
    ).item()
    own = scores[np.arange(len(labels)), labels][:, None]
    at_best, at_worst = ((rank < k).mean() for rank in ((scores > own).sum(axis=1), (scores >= own).sum(axis=1) - 1))
    for value in (theirs, metrics.recall_at_k(scores, labels, k)):
        assert at_worst - 1e-6 <= value <= at_best + 1e-6
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert metrics.recall_at_k(scores, labels, k) == (order == labels[:, None]).any(axis=1).mean()


@given(cases(), st.data())
@settings(max_examples=100)
def test_unknown_labels_are_their_ignore_index(case, data):
    scores, labels = case
    labels = np.where(data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))), -1, labels)
    guessed, actual = tensors(scores.argmax(axis=1), labels)
    theirs = classification.multiclass_confusion_matrix(guessed, actual, scores.shape[1], ignore_index=-1).numpy()
    assert np.array_equal(metrics.confusion_matrix(guessed.numpy(), labels, scores.shape[1]), theirs)
    micro = classification.multiclass_accuracy(
        guessed, actual, scores.shape[1], average="micro", ignore_index=-1
    ).item()
    ours = metrics.accuracy(guessed.numpy(), labels)
    if (labels == -1).all():  # nothing to score: they say 0, we say NaN
        assert micro == 0 and np.isnan(ours)
    else:
        assert ours == pytest.approx(micro, abs=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans())
@settings(max_examples=200)
def test_average_precision_and_its_curve_agree(seed, count, tied):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, 4, count) / 4 if tied else rng.permutation(np.linspace(0.01, 0.99, count))).astype(
        np.float32
    )
    positives = rng.random(count) < 0.4
    positives[rng.integers(count)] = True
    guessed, actual = tensors(scores, positives.astype(np.int64))
    theirs = classification.binary_average_precision(guessed, actual).item()
    assert metrics.average_precision(scores, positives) == pytest.approx(theirs, abs=1e-5)
    for ours, other in zip(
        metrics.precision_recall_curve(scores, positives), classification.binary_precision_recall_curve(guessed, actual)
    ):
        assert np.allclose(ours, other.numpy(), atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 12), st.data())
@settings(max_examples=200)
def test_retrieval_recall_agrees_query_by_query(seed, queries, items, data):
    rng = np.random.default_rng(seed)
    similarity = rng.permuted(np.linspace(0.01, 0.99, queries * items)).reshape(queries, items).astype(np.float32)
    relevant, k = rng.random((queries, items)) < 0.5, data.draw(st.integers(1, items))
    asked = relevant.any(axis=1)
    theirs = [
        retrieval.retrieval_recall(*tensors(s, r), top_k=k).item() for s, r in zip(similarity[asked], relevant[asked])
    ]
    expected = np.mean(theirs) if asked.any() else np.nan
    assert metrics.retrieval_recall_at_k(similarity, relevant, k) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_relevant_item_with_a_score_of_0_or_less_counts_for_us_and_not_for_them():
    similarity, relevant = np.array([[-0.1, -0.2, 0.3]], dtype=np.float32), np.array([[1, 1, 0]])
    assert metrics.retrieval_recall_at_k(similarity, relevant, 2) == 0.5  # cosines are often negative
    assert retrieval.retrieval_recall(*tensors(similarity[0], relevant[0]), top_k=2) == 0


def test_scores_outside_0_to_1_are_scores_for_us_and_logits_for_them():
    scores, positives = np.array([-0.5, 3.0, 40.0, 60.0], dtype=np.float32), np.array([0, 1, 1, 0])
    thresholds = metrics.precision_recall_curve(scores, positives)[2]
    assert np.array_equal(thresholds, scores)
    theirs = classification.binary_precision_recall_curve(*tensors(scores, positives))[2]
    assert len(theirs) == 3  # a sigmoid was applied first, after which 40 and 60 are both 1


@given(st.integers(1, 60), st.integers(2, 8), st.integers(0, 10**6))
@settings(max_examples=100)
def test_one_pass_gives_what_they_give_from_all_scores(count, num_classes, seed):
    rng = np.random.default_rng(seed)
    vectors, classifier, labels = (
        unit_rows(rng, count, 6),
        unit_rows(rng, num_classes, 6),
        rng.integers(0, num_classes, count),
    )
    result = evaluation.evaluate(vectors, classifier, labels, ks=(1, 3))
    scores, actual = tensors(vectors @ classifier.T, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about classes without images
        confusion = classification.multiclass_confusion_matrix(scores, actual, num_classes).numpy()
        top3 = classification.multiclass_accuracy(
            scores, actual, num_classes, top_k=min(3, num_classes), average="micro"
        )
    assert np.array_equal(result.confusion, confusion)
    assert result.recall_at_k[3] == pytest.approx(top3.item(), abs=1e-6)
