import re

import pytest

from clipnb import prompts
from clipnb.errors import InputError


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: prompts.check_templates("a photo of a {}."),
            "Expected `templates` to be a list of strings, got the single string 'a photo of a {}.'",
        ),
        (lambda: prompts.check_templates([]), "Expected at least one template, got none"),
        (lambda: prompts.check_templates(["{}", "a dog"]), "Expected template 1 to have one slot {}, got 'a dog'"),
        (lambda: prompts.check_templates(["{} and {}"]), "Expected template 0 to have one slot {}, got '{} and {}'"),
        (lambda: prompts.check_templates([None]), "Expected template 0 to have one slot {}, got None"),
        (lambda: prompts.check_templates(["{}", "a {}", "{}"]), "Expected `templates` without repeats, got '{}' twice"),
        (
            lambda: prompts.check_classnames("dog"),
            "Expected `classnames` to be a list of strings, got the single string 'dog'",
        ),
        (lambda: prompts.check_classnames([]), "Expected at least one classname, got none"),
        (lambda: prompts.check_classnames(["dog", "  "]), "Expected classname 1 to be a non-empty string, got '  '"),
        (lambda: prompts.check_classnames([3]), "Expected classname 0 to be a non-empty string, got 3"),
        (
            lambda: prompts.template_set("openai"),
            "Unknown template set 'openai'; known: bare, single, drawing, openai-7, openai-80",
        ),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text) + "$"):
        call()


@pytest.mark.parametrize(
    ("name", "count"), [("bare", 1), ("single", 1), ("drawing", 10), ("openai-7", 7), ("openai-80", 80)]
)
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

    found = prompts.duplicate_classnames(open_clip.IMAGENET_CLASSNAMES)
    assert {"missile", "sunglasses"} <= set(found) and all(len(places) > 1 for places in found.values())
    assert prompts.duplicate_classnames(["Sea  lion", "sea lion", "STRASSE", "straße", "dog"]) == {
        "sea lion": [0, 1],
        "strasse": [2, 3],
    }
    assert prompts.duplicate_classnames(["cat", "dog"]) == {}


def test_near_twins_take_in_punctuation_and_plurals_that_are_there():
    assert prompts.near_duplicate_classnames(["sea lion", "dog", "Sea-Lions", "sea  lion"]) == {"sea lion": [0, 2, 3]}
    assert prompts.near_duplicate_classnames(["house", "houses", "berry", "berries", "box", "boxes"]) == {
        "house": [0, 1],
        "berry": [2, 3],
        "box": [4, 5],
    }
    assert prompts.near_duplicate_classnames(["bus", "glass", "glas", "bu-", "grass", "news"]) == {
        "bu": [0, 3]
    }  # "glass" is no plural of "glas"
    assert prompts.near_duplicate_classnames(["!", "?", "♥", "♠"]) == {}  # nothing but signs: each stays itself


def kinds(findings):
    return [(finding.what, len(finding.where)) for finding in findings]


def test_lint_finds_what_is_wrong_with_names_and_templates():
    assert prompts.lint(["cat", "dog"], ["{}", "a photo of a {}."]) == []
    found = prompts.lint(["cat", "", "Cat ", None, "cats", "dog"], ["{}", "", "a dog", "{} and {}", "{}", None])
    assert kinds(found) == [
        ("empty classname", 2),
        ("duplicate classname", 2),
        ("near-duplicate classname", 3),
        ("empty template", 2),
        ("template without a slot", 1),
        ("template with several slots", 1),
        ("duplicate template", 2),
    ]
    assert found[0].where == ("1 ''", "3 None") and found[1].where == ("0 'cat'", "2 'Cat '")
    assert str(found[4]) == "template without a slot: 2 'a dog'; write {} where the classname goes"
    assert all("\n" not in str(finding) and finding.advice for finding in found)
    assert kinds(prompts.lint([""], ["{}"])) == [("empty classname", 1)]


def test_lint_finds_imagenets_twins():
    import open_clip

    found = prompts.lint(open_clip.IMAGENET_CLASSNAMES, prompts.template_set("openai-80"))
    assert [(finding.what, finding.where) for finding in found] == [
        ("duplicate classname", ("657 'missile'", "744 'missile'")),
        ("duplicate classname", ("836 'sunglasses'", "837 'sunglasses'")),
        ("classname of ImageNet that is known to mislead", ("837 'sunglasses' (dark glasses)",)),
    ]


@pytest.mark.parametrize("which", ["model", "tiny"])
def test_lint_counts_tokens_as_the_model_does(which, request):
    model = request.getfixturevalue(which)
    context = model.tokenizer(["a"]).shape[1]
    # the longest prompt that fits: whatever is added to it changes no token any more, or is seen to be cut
    fits = max(n for n in range(1, context) if not prompts.lint(["dog " * n], ["{}"], model))
    assert context - 4 <= fits < context
    assert prompts.lint(["cat"], ["a drawing of a {}."], model) == []
    found = prompts.lint(["dog " * (fits + 1), "cat", "dog " * (fits + 9)], ["{}", "a {}."], model)
    assert kinds(found) == [(f"prompt longer than the model's context of {context} tokens", 4)]
    assert found[0].where[0].startswith("'a " + "dog " * (fits + 9)) and str(found[0]).endswith(
        "shorten it: the model does not see the end"
    )
    longest = model.prompt_lengths(model.tokenizer(["dog " * (fits + 1)], context_length=200)).item()
    assert longest == context + 1 and found[0].where[-1] == f"{'dog ' * (fits + 1)!r} ({longest})"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: prompts.lint("dog"), "Expected `classnames` to be a list of strings, got the single string 'dog'"),
        (
            lambda: prompts.lint(["dog"], "{}"),
            "Expected `templates` to be a list of strings, got the single string '{}'",
        ),
    ],
)
def test_lint_refuses_a_single_string(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_templates_say_where_they_are_from(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff{}\n\na {} of mine\n", "utf-8")
    assert prompts.load_templates(path) == ["{}", "a {} of mine"]
    found = prompts.template_provenance(path, prompts.load_templates(path))
    assert found == {
        "source": "mine.txt",
        "origin": "file",
        "count": 2,
        "sha256": prompts.template_provenance("drawing", ["{}", "a {} of mine"])["sha256"],
    }
    assert prompts.template_provenance("openai-7", prompts.load_templates("openai-7"))["origin"].startswith(
        "open_clip "
    )
    path.write_text("{}\n{}\n")
    with pytest.raises(InputError, match=r"^Expected `templates` without repeats, got '{}' twice, in .*mine.txt$"):
        prompts.load_templates(path)


def test_most_frequent_names_are_those_that_the_authors_publish():
    """Counts of LAION-400M for Food-101, from NeglectedTailsVLM, analysis/laion/food101/metrics-LAION400M.json."""
    published = {
        "baby back ribs": ({"pork ribs": 3320, "baby back ribs": 1362, "barbecue ribs": 652}, "pork ribs"),
        "breakfast burrito": ({"burrito": 12150, "breakfast burrito": 1256, "breakfast wrap": 304}, None),
        "creme brulee": ({"brulee": 5374, "creme brulee": 3755}, None),
        "cup cakes": ({"cupcakes": 134390, "cupcake": 187267, "cup cakes": 2195}, "cupcake"),
        "french onion soup": ({"onion soup": 5488, "french onion soup": 3875}, None),
        "gyoza": ({"potstickers": 1013, "gyoza": 1531}, None),
    }
    counts = {name: counts for name, (counts, _) in published.items()}
    assert prompts.most_frequent_names(counts) == [other or name for name, (_, other) in published.items()]
    assert prompts.most_frequent_names({"sofa": {"couch": 0, "sofa": 0}, "owl": {}}) == ["sofa", "owl"]


@pytest.mark.parametrize("counts", [["sofa"], {"sofa": ["couch"]}, {"sofa": {"couch": 0.5}}, {"sofa": {"couch": -1}}])
def test_counts_of_names_are_checked(counts):
    with pytest.raises(InputError, match="counts"):
        prompts.most_frequent_names(counts)
