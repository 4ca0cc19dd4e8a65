import re

import pytest

from clipnb import prompts
from clipnb.errors import InputError


@pytest.mark.parametrize(("call", "text"), [
    (lambda: prompts.check_templates("a photo of a {}."),
     "Expected `templates` to be a list of strings, got the single string 'a photo of a {}.'"),
    (lambda: prompts.check_templates([]), "Expected at least one template, got none"),
    (lambda: prompts.check_templates(["{}", "a dog"]), "Expected template 1 to have one slot {}, got 'a dog'"),
    (lambda: prompts.check_templates(["{} and {}"]), "Expected template 0 to have one slot {}, got '{} and {}'"),
    (lambda: prompts.check_templates([None]), "Expected template 0 to have one slot {}, got None"),
    (lambda: prompts.check_templates(["{}", "a {}", "{}"]), "Expected `templates` without repeats, got '{}' twice"),
    (lambda: prompts.check_classnames("dog"), "Expected `classnames` to be a list of strings, got the single string 'dog'"),
    (lambda: prompts.check_classnames([]), "Expected at least one classname, got none"),
    (lambda: prompts.check_classnames(["dog", "  "]), "Expected classname 1 to be a non-empty string, got '  '"),
    (lambda: prompts.check_classnames([3]), "Expected classname 0 to be a non-empty string, got 3"),
    (lambda: prompts.template_set("openai"), "Unknown template set 'openai'; known: bare, single, drawing, openai-7, openai-80"),
])
def test_wrong_input_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text) + "$"):
        call()


@pytest.mark.parametrize(("name", "count"), [("bare", 1), ("single", 1), ("drawing", 10), ("openai-7", 7), ("openai-80", 80)])
def test_every_named_set_passes_its_own_check(name, count):
    templates = prompts.template_set(name)
    assert len(templates) == count and prompts.check_templates(templates) == templates


def test_a_named_set_is_the_callers_own_list():
    prompts.template_set("drawing").append("spoiled")
    assert len(prompts.template_set("drawing")) == 10


def test_openai_templates_are_open_clips():
    import open_clip

    filled = [t.replace("{}", "dog") for t in prompts.template_set("openai-80")]
    assert filled == [function("dog") for function in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_imagenets_twins_are_found():
    import open_clip

    found = prompts.twins(open_clip.IMAGENET_CLASSNAMES)
    assert {"missile", "sunglasses"} <= set(found) and all(len(places) > 1 for places in found.values())
    assert prompts.twins(["Sea  lion", "sea lion", "STRASSE", "straße", "dog"]) == {"sea lion": [0, 1], "strasse": [2, 3]}
    assert prompts.twins(["cat", "dog"]) == {}
