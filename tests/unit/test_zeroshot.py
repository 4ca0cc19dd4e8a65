import numpy as np
import pytest

from clipnb import encode_texts, evaluation, zeroshot
from clipnb.zeroshot import prompt_vectors, zero_shot_classifier


def test_a_classifier_is_the_renormalised_mean_of_its_prompts(tiny):
    names, templates = ["dog", "fire engine"], ["{}", "a photo of a {}."]
    bank = prompt_vectors(tiny, names, templates)
    assert bank.shape == (2, 2, 16) and bank.dtype == np.float32
    for t, template in enumerate(templates):
        expected = encode_texts(tiny, [template.replace("{}", name) for name in names])
        assert np.allclose(bank[t], expected, atol=1e-6)
    classifier = zero_shot_classifier(tiny, names, templates)
    mean = bank.mean(axis=0)
    assert np.allclose(classifier, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    assert np.allclose(np.linalg.norm(classifier, axis=1), 1, atol=1e-6)
    assert np.allclose(zero_shot_classifier(tiny, names), bank[0], atol=1e-6)  # the default is the bare name


@pytest.mark.parametrize(
    "name", ['the "big" one', "it's {odd}", "a{}b", "red, green; blue", "собака", "犬", "naïve café", "%s \\n"]
)
def test_classnames_survive_the_template(tiny, name):
    found = prompt_vectors(tiny, [name, "dog"], ["a photo of a {}."])[0, 0]
    assert np.allclose(found, encode_texts(tiny, ["a photo of a " + name + "."])[0], atol=1e-6)
    assert not np.allclose(found, encode_texts(tiny, ["a photo of a ."])[0], atol=1e-3)


@pytest.mark.parametrize(
    "name", ["evaluate", "evaluate_prompts", "evaluate_store", "EvaluationResult", "PromptResults"]
)
def test_what_has_moved_is_still_found_here(name):
    with pytest.warns(DeprecationWarning, match=f"clipnb.zeroshot.{name} has moved to clipnb.evaluation.{name}"):
        assert getattr(zeroshot, name) is getattr(evaluation, name)
    with pytest.raises(AttributeError, match=r"module 'clipnb.zeroshot' has no attribute 'evaluat'"):
        _ = zeroshot.evaluat
