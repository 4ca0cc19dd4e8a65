import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipnb import explain, worst
from clipnb.errors import InputError
from clipnb.intervals import proportion
from clipnb.metrics import per_class_accuracy
from clipnb.similarity import unit_norm
from tests.support.shared import unit_rows

COUNT = 40  # classes of the constructed world: 50 images each, 45 right, the wrong ones spread


def world():
    """A confusion matrix of good classes whose errors have no pattern, texts that are far apart, names."""
    confusion = np.diag(np.full(COUNT, 45))
    for c in range(COUNT):
        confusion[c, (c + 1 + 3 * np.arange(5)) % COUNT] += 1
    texts = np.eye(COUNT, 64)
    return confusion, np.full(COUNT, 0.1), texts, [f"thing {chr(65 + c)}x{c}" for c in range(COUNT)]


def one(c, confusion, cmm, texts, names, **thresholds):
    return explain.explain_classes([c], confusion, cmm, texts, names, **thresholds).loc[c]


def set_row(confusion, c, right, **wrong):
    confusion[c] = 0
    confusion[c, c] = right
    for j, count in wrong.items():
        confusion[c, int(j[1:])] = count


def test_a_name_collision_is_recognised_by_name_and_by_text():
    confusion, cmm, texts, names = world()
    names[4], names[9] = "missile", "Missile"
    texts[9] = texts[4]
    set_row(confusion, 9, 0, c4=46, c5=4)
    found = one(9, confusion, cmm, texts, names)
    assert found.verdict == "name collision" and found.same_name == [(4, "missile")] and found.to_same_name == 46
    assert found.sentence == "46 of 50 wrong answers go to the same name or text: 'missile' (class 4)."
    assert found.rivals == [("missile", 46), (names[5], 4)] and found.accuracy == 0 and found.images == 50
    names[9] = "rocket"  # another name, but the same text vector
    assert one(9, confusion, cmm, texts, names).verdict == "name collision"
    texts[9] = np.eye(64)[60]  # another vector, but a plural of the same name
    names[9] = "missiles"
    assert one(9, confusion, cmm, texts, names).verdict == "name collision"


def test_a_twin_that_takes_no_answers_is_not_blamed():
    confusion, cmm, texts, names = world()
    names[4] = names[9] = "missile"
    set_row(confusion, 9, 10, c20=40)
    found = one(9, confusion, cmm, texts, names)
    assert found.verdict == "visual confusion" and found.same_name == [(4, "missile")] and found.to_same_name == 0


def test_a_near_synonym_is_recognised_by_the_texts():
    confusion, cmm, texts, names = world()
    texts[7] = unit_norm(texts[6] + 0.1 * texts[7])
    set_row(confusion, 7, 20, c6=25, c30=5)
    found = one(7, confusion, cmm, texts, names, synonym_cosine=0.9)
    assert found.verdict == "near-synonym" and found.to_synonyms == 25 and found.nearest_text == names[6]
    assert (
        found.nearest_cosine == pytest.approx(1 / np.sqrt(1.01))
        and f"the nearest is {names[6]!r} (1.00)" in found.sentence
    )
    assert (
        one(7, confusion, cmm, texts, names, synonym_cosine=0.999).verdict == "visual confusion"
    )  # the threshold decides
    assert one(7, confusion, cmm, texts, names, synonym_cosine=0.9, majority=0.9).verdict == "visual confusion"


def test_visual_confusion_is_a_rival_beyond_chance():
    confusion, cmm, texts, names = world()
    set_row(confusion, 3, 20, c30=12, c1=9, c2=9)
    found = one(3, confusion, cmm, texts, names)
    assert found.verdict == "visual confusion" and found.rival_p < 1e-6 and found.nearest_cosine < 0.5
    assert found.sentence.startswith(f"12 of 30 wrong answers are {names[30]!r}, more than chance explains (p = ")
    # the same counts are no evidence where everybody errs towards class 30
    for c in range(COUNT):
        if c not in (3, 30):
            set_row(confusion, c, 20, c30=30)
    set_row(confusion, 3, 20, c30=30)
    found = one(3, confusion, cmm, texts, names)
    assert found.verdict == "unclear" and found.rival_p > 0.05


def test_too_few_images_and_unclear():
    confusion, cmm, texts, names = world()
    np.fill_diagonal(confusion, 6)  # a poor model: 6 of 11
    set_row(confusion, 3, 0, c9=1, c17=1)  # two images, two different wrong answers
    found = explain.explain_classes([3, 5], confusion, cmm, texts, names)
    assert found.verdict.tolist() == ["too few images", "unclear"] and found.attrs["min_images"] == 5
    assert (
        found.loc[3, "sentence"]
        == "2 images: with fewer than 5, even a class at 0 % cannot be distinguished from an average one."
    )
    assert (
        found.loc[5, "sentence"]
        == f"The most frequent of 5 wrong answers is {names[6]!r} (1): no more than chance explains."
    )
    assert one(3, confusion, cmm, texts, names, min_images=2).verdict == "unclear"


def test_the_default_of_min_images_follows_the_data():
    for overall in (0.05, 0.3, 0.5, 0.62, 0.9):
        few = explain._fewest_images(overall)
        assert proportion(0, few).high < overall <= proportion(0, few - 1).high
    assert explain._fewest_images(0.0) == float("inf")


def test_a_class_without_errors_or_without_images_is_said_to_be_so():
    confusion, cmm, texts, names = world()
    set_row(confusion, 0, 50)
    set_row(confusion, 1, 0)
    cmm[1] = np.nan
    found = explain.explain_classes([0, 1], confusion, cmm, texts, names)
    assert found.verdict.tolist() == ["unclear", "too few images"] and np.isnan(found.loc[1, "accuracy"])
    assert found.loc[0, "sentence"] == "No wrong answer among 50 images." and found.loc[0, "rivals"] == []
    assert explain.explain_classes([0], [[0]], [np.nan], [[1.0]], ["dog"]).loc[0, "verdict"] == "too few images"
    assert explain.explain_classes([], confusion, cmm, texts, names).empty


@given(st.integers(2, 25), st.integers(0, 10**6))
def test_the_evidence_adds_up_on_any_data(num_classes, seed):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 4, (num_classes, num_classes)) * (rng.random((num_classes, num_classes)) < 0.4)
    names = [str(n) for n in rng.choice(["cat", "cats", "Cat", "dog", "bus", "car", "tree", "sea-lion"], num_classes)]
    cmm = rng.normal(size=num_classes)
    table = explain.explain_classes(np.arange(num_classes), confusion, cmm, unit_rows(rng, num_classes, 8), names)
    assert table.verdict.isin(explain.VERDICTS).all() and table.sentence.str.endswith(".").all()
    assert (table.images == confusion.sum(axis=1)).all() and (table.wrong == table.images - np.diag(confusion)).all()
    assert (
        np.allclose(table.accuracy.astype(float), per_class_accuracy(confusion), equal_nan=True)
        and (table.margin == cmm).all()
    )
    assert (table.to_same_name <= table.to_synonyms).all() and (table.to_synonyms <= table.wrong).all()
    assert ((0 <= table.rival_p) & (table.rival_p <= 1)).all()
    for c, row in table.iterrows():
        assert sum(count for _, count in row.rivals) <= row.wrong and names[c] == row.classname


def test_chance_alone_is_rarely_called_visual_confusion():
    rng = np.random.default_rng(0)
    confusion = np.diag(np.full(100, 30))
    for c in range(100):  # 20 wrong answers each, drawn from all classes alike
        np.add.at(confusion[c], rng.choice(np.delete(np.arange(100), c), 20), 1)
    table = explain.explain_classes(
        np.arange(100), confusion, np.zeros(100), np.eye(100), [f"n{c}x" for c in range(100)], synonym_cosine=0.5
    )
    assert (table.verdict == "visual confusion").mean() <= 0.06


def test_on_the_result_of_evaluate():
    from clipnb import evaluate

    rng = np.random.default_rng(0)
    classifier = unit_rows(rng, 20, 32)
    classifier[11] = classifier[2]
    labels = np.repeat(np.arange(20), 12)
    vectors = unit_norm(classifier[labels] + 0.1 * rng.normal(size=(240, 32))).astype(np.float32)
    names = [f"n{c}x" for c in range(20)]
    result = evaluate(vectors, classifier, labels)
    classes = worst.worst_classes(result.per_class_accuracy, 1)
    found = explain.explain_classes(classes, result.confusion, result.cmm["image"], classifier, names)
    assert classes.tolist() == [11] and found.loc[11, "verdict"] == "name collision" and found.loc[11, "margin"] == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": [2]}, "Expected `classes` < 2 (the number of classes), got 2 at position 0"),
        ({"confusion": [[1, 2]]}, "Expected `confusion` to be square, got shape (1, 2)"),
        ({"cmm": [0.1]}, "Expected `cmm` of length C = 2, got 1"),
        ({"classnames": ["a"]}, "Expected `classnames` of length C = 2, got 1"),
        ({"classnames": "ab"}, "Expected `classnames` to be a list of strings, got the single string 'ab'"),
        ({"classifier": [[1.0, 0.0]]}, "Expected `classifier` of length C = 2, got 1"),
        ({"majority": 0}, "Expected `majority` above 0 and at most 1, got 0"),
        ({"significance": 1}, "Expected `significance` above 0 and below 1, got 1"),
        ({"rivals": 0}, "Expected `rivals` >= 1, got 0"),
    ],
)
def test_wrong_input_raises(change, text):
    arguments = {
        "classes": [0],
        "confusion": [[1, 1], [0, 2]],
        "cmm": [0.1, 0.2],
        "classifier": np.eye(2),
        "classnames": ["a", "b"],
    }
    with pytest.raises(InputError, match="^" + re.escape(text)):
        explain.explain_classes(**(arguments | change))
