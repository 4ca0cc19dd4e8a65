"""Rows for what came after the paper, on the vectors of a small world."""

import numpy as np
import pytest

from clipnb import ensemble, evaluate, transductive
from clipnb.errors import InputError
from clipnb.paper import corrections
from clipnb.similarity import unit_norm


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    texts = unit_norm(rng.standard_normal((20, 16)))
    labels = np.repeat(np.arange(20), 12)
    images = unit_norm(texts[labels] + unit_norm(rng.standard_normal((240, 16))))
    classifier = unit_norm(texts + np.linspace(0, 1, 20)[:, None] * unit_norm(images.mean(axis=0)[None]))
    return images, classifier, labels


def test_rows_are_the_functions_they_name(world):
    images, classifier, labels = world
    bank = np.stack([classifier, unit_norm(classifier + 0.1)])
    for method in ("nnn", "frolic", "sinkhorn", "mlls"):
        offset = ensemble.class_bias(images, classifier, method, logit_scale=20)
        expected = evaluate(images, classifier, labels, offset=offset)
        result = corrections.corrected(method, images, classifier, labels, logit_scale=20)
        np.testing.assert_array_equal(result.predictions, expected.predictions)
    memberships = transductive.stata(images, classifier, 20)
    result = corrections.corrected("stata", images, classifier, labels, logit_scale=20)
    np.testing.assert_array_equal(result.predictions, memberships.argmax(axis=1))
    weights = ensemble.prompt_weights(images, bank, method="carprt")
    expected = evaluate(images, ensemble.weighted_classifier(bank, weights), labels)
    result = corrections.corrected("carprt", images, classifier, labels, bank)
    np.testing.assert_array_equal(result.predictions, expected.predictions)


@pytest.mark.slow
def test_table_holds_every_row_and_every_control(world):
    images, classifier, labels = world
    bank = np.stack([classifier, unit_norm(classifier + 0.1)])
    table = corrections.table(images, classifier, labels, bank, logit_scale=20, k=3).set_index("method")
    assert list(table.index) == ["bare", *corrections.NAMES, *corrections.HALVES]
    assert set(corrections.HALVES) == {f"{name}-half" for name in ("carprt", "nnn", "frolic", "sinkhorn", "mlls")}
    assert table.loc["sinkhorn", "difference"] > 0 and table.loc["sinkhorn", "verdict"] in ("better", "no")
    assert table.loc["mlls", "difference"] < 0 <= table.loc["sinkhorn-half", "difference"]
    inside = table.accuracy.between(table.accuracy_low, table.accuracy_high)
    assert inside.all() and table.difference[1:].notna().all()


def test_few_classes_keeps_all_images_of_some_classes(world):
    _, _, labels = world
    rows = corrections.few_classes(labels, 20, share=0.1, seed=1)
    assert len(rows) == 24 and len(np.unique(labels[rows])) == 2
    np.testing.assert_array_equal(corrections.few_classes(labels, 20, share=1), np.arange(240))
    assert len(corrections.few_classes([-1, 3, 3], 5, share=0.1)) == 2


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: corrections.corrected("carprt", np.eye(2), np.eye(2)),
            "Expected `bank` with method 'carprt', got none",
        ),
        (lambda: corrections.corrected("stata-half", np.eye(2), np.eye(2)), "Expected `method` to be one of"),
        (lambda: corrections.few_classes([0], 1, share=0), r"Expected `share` in \(0, 1\], got 0"),
        (lambda: corrections.few_classes([-1], 1), "at least one label"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()
