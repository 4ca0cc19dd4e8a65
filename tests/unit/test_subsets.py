import re

import numpy as np
import pytest

from clipnb.datasets import LabeledImages, every_second, labelled
from clipnb.errors import InputError


def a_set(labels, classnames=("cat", "dog", "fox"), **fields):
    return LabeledImages(
        "pets", [f"{i}.png" for i in range(len(labels))], np.asarray(labels), list(classnames), read=None, **fields
    )


def test_a_set_whose_images_all_have_a_label_stays_as_it_is():
    data = a_set([0, 1, 2])
    assert labelled(data) is data


def test_images_without_a_label_join_what_is_left_out():
    some = labelled(a_set([0, -1, 1, -1], left_out={"broken links": ["x.png"]}))
    assert some.ids == ["0.png", "2.png"] and some.classnames == ["cat", "dog", "fox"]
    assert some.left_out == {"broken links": ["x.png"], "images without a label": ["1.png", "3.png"]}


FEW = (
    "Expected at least two classes of pets with {} or more labelled images each, got {} of 3 (the largest class has {})"
)


@pytest.mark.parametrize(
    ("data", "per_class", "text"),
    [
        (a_set([0, 0], ["cat"]), 1, "Expected at least two classes in pets, got one ('cat')"),
        (a_set([-1, -1], []), 1, "Expected class folders or labels in pets, found images only"),
        (a_set([-1, -1]), 1, FEW.format(1, 0, 0)),
        (a_set([0, 0, 1]), 2, FEW.format(2, 1, 2)),
    ],
)
def test_too_few_labels_are_refused(data, per_class, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        labelled(data, per_class)


def test_halves_share_every_class_and_the_first_takes_the_odd_image():
    labels = np.random.default_rng(0).integers(0, 9, 200)
    second = every_second(labels)
    for c in np.unique(labels):
        assert (labels[~second] == c).sum() - (labels[second] == c).sum() in (0, 1)
    assert every_second([]).shape == (0,)
