"""Rows for what came after the paper, on the vectors of a small world."""

import numpy as np
import pytest

from clipnb import ensemble, evaluate, paired, transductive
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
    result = corrections.corrected("real-prompt", images, classifier, labels, renamed=bank[1])
    np.testing.assert_array_equal(result.predictions, evaluate(images, bank[1], labels).predictions)


@pytest.mark.slow
def test_table_holds_every_row_and_every_control(world):
    images, classifier, labels = world
    bank = np.stack([classifier, unit_norm(classifier + 0.1)])
    options = {"bank": bank, "logit_scale": 20, "k": 3, "renamed": bank[1]}
    table = corrections.table(images, classifier, labels, **options).set_index("method")
    assert list(table.index) == ["bare", *corrections.NAMES, *corrections.HALVES]
    assert list(table.index[1:]) == corrections.rows_run()
    assert set(corrections.HALVES) == {f"{name}-half" for name in ("carprt", "nnn", "frolic", "sinkhorn", "mlls")}
    assert table.loc["sinkhorn", "difference"] > 0 and table.loc["sinkhorn", "verdict"] in ("better", "no")
    assert table.loc["mlls", "difference"] < 0 <= table.loc["sinkhorn-half", "difference"]
    inside = table.accuracy.between(table.accuracy_low, table.accuracy_high)
    assert inside.all() and table.difference[1:].notna().all() and table.worst_difference[1:].notna().all()
    both = corrections.table(images, classifier, labels, **options, comparisons=1000).set_index("method")
    assert (both.difference_low[1:] < table.difference_low[1:]).all() and (both.verdict[1:] == "no").any()


def test_table_is_what_compare_says(world):
    """The same scores and corrected differences as the book's comparison of any methods."""
    images, classifier, labels = world
    table = corrections.table(images, classifier, labels, logit_scale=20, k=3, halves=False).set_index("method")
    results = {"bare": evaluate(images, classifier, labels)}
    for name in table.index[1:]:
        results[name] = corrections.corrected(name, images, classifier, labels, logit_scale=20)
    for row in paired.compare(results, k=3):
        found = table.loc[row["method"]]
        assert (found.accuracy, found.classes_at_zero) == (row["accuracy"], row["classes_at_zero"])
        assert found.worst_k == row["worst_3"]
        np.testing.assert_allclose([found.classes_at_zero_low, found.classes_at_zero_high], row["classes_at_zero_ci"])
        for statistic, prefix in (("accuracy", ""), ("worst_k_chosen", "worst_")):
            if difference := row.get("difference", {}).get(statistic):
                assert found[f"{prefix}verdict"] == difference["verdict"]
                np.testing.assert_allclose(found[f"{prefix}difference_low"], 100 * difference["ci"][0])


def test_over_shares_keeps_the_classes_of_a_smaller_share(world):
    images, classifier, labels = world
    found = corrections.over_shares(images, classifier, labels, [0.5, 1], ["sinkhorn"], logit_scale=20)
    assert found[["share", "classes", "images"]].drop_duplicates().values.tolist() == [[0.5, 10, 120], [1, 20, 240]]
    part = corrections.few_classes(labels, 20, 0.5)
    half = corrections.corrected("sinkhorn", images[part], classifier, labels[part], logit_scale=20)
    assert found.set_index(["share", "method"]).accuracy[0.5, "sinkhorn"] == half.accuracy
    assert np.isin(corrections.few_classes(labels, 20, 0.3), part).all()


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
        (
            lambda: corrections.corrected("real-prompt", np.eye(2), np.eye(2)),
            "Expected `renamed` with method 'real-prompt', got none",
        ),
        (
            lambda: corrections.table(np.eye(2), np.eye(2), [0, 1], renamed=np.eye(2)[:1]),
            r"Expected `renamed` of shape \(C, D\) = \(2, 2\), got \(1, 2\)",
        ),
        (lambda: corrections.corrected("stata-half", np.eye(2), np.eye(2)), "Expected `method` to be one of"),
        (lambda: corrections.few_classes([0], 1, share=0), r"Expected `share` in \(0, 1\], got 0"),
        (lambda: corrections.few_classes([-1], 1), "at least one label"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_a_share_of_a_single_image_is_left_out():
    found = corrections.over_shares(np.eye(4), np.eye(4), [0, 1, 2, 3], [0.25, 1], methods=["nnn"])
    assert found["share"].unique().tolist() == [1]
