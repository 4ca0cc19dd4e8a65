"""Templates and prompts, checked before a model sees them."""

from __future__ import annotations

from clipnb.errors import InputError

# Templates written for drawings; ours. The bare name comes first.
DRAWING_TEMPLATES = (
    "{}", "a drawing of a {}.", "a picture of a {}.", "an icon of a {}.", "an emoji of a {}.", "clip art of a {}.",
    "a cartoon {}.", "a simple drawing of a {}.", "a black and white drawing of a {}.", "a flat icon of a {}.",
)


def check_templates(templates) -> list[str]:
    """Return the templates as a list if each is a non-empty string with exactly one slot "{}" and none occurs twice.

    >>> check_templates(["a photo of a {}."])
    ['a photo of a {}.']
    >>> check_templates(["a photo of a dog."])
    Traceback (most recent call last):
    clipnb.errors.InputError: Expected template 0 to have one slot {}, got 'a photo of a dog.'
    """
    if isinstance(templates, str):
        raise InputError(f"Expected `templates` to be a list of strings, got the single string {templates!r}")
    templates = list(templates)
    if not templates:
        raise InputError("Expected at least one template, got none")
    for position, template in enumerate(templates):
        if not isinstance(template, str) or template.count("{}") != 1:
            raise InputError(f"Expected template {position} to have one slot {{}}, got {template!r}")
    _no_twins(templates, "templates")
    return templates


def check_classnames(classnames) -> list[str]:
    """Return the classnames as a list if each is a non-empty string; twins are allowed here (see `twins`).

    >>> check_classnames(["dog", "cat"])
    ['dog', 'cat']
    """
    if isinstance(classnames, str):
        raise InputError(f"Expected `classnames` to be a list of strings, got the single string {classnames!r}")
    classnames = list(classnames)
    if not classnames:
        raise InputError("Expected at least one classname, got none")
    for position, name in enumerate(classnames):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"Expected classname {position} to be a non-empty string, got {name!r}")
    return classnames


def twins(classnames) -> dict[str, list[int]]:
    """Classnames that occur more than once, with their indices; the later ones can never be predicted (ties).

    >>> twins(["missile", "dog", "Missile"])
    {'missile': [0, 2]}
    """
    places: dict[str, list[int]] = {}
    for position, name in enumerate(check_classnames(classnames)):
        places.setdefault(" ".join(name.casefold().split()), []).append(position)
    return {name: where for name, where in places.items() if len(where) > 1}


def _no_twins(strings, name: str) -> None:
    seen = set()
    for string in strings:
        if string in seen:
            raise InputError(f"Expected `{name}` without repeats, got {string!r} twice")
        seen.add(string)


def template_set(name: str) -> list[str]:
    """A named list of templates: "bare", "single", "drawing", "openai-7" or "openai-80".

    "openai-7" and "openai-80" are read from the installed open_clip (its SIMPLE and full ImageNet templates).

    >>> template_set("single")
    ['a photo of a {}.']
    """
    if name == "bare":
        return ["{}"]
    if name == "single":
        return ["a photo of a {}."]
    if name == "drawing":
        return list(DRAWING_TEMPLATES)
    if name in ("openai-7", "openai-80"):
        import open_clip  # heavy, and only these two need it

        functions = open_clip.SIMPLE_IMAGENET_TEMPLATES if name == "openai-7" else open_clip.OPENAI_IMAGENET_TEMPLATES
        return [function("{}") for function in functions]
    raise InputError(f"Unknown template set {name!r}; known: bare, single, drawing, openai-7, openai-80")
