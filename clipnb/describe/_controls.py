"""Texts without a language model's knowledge, which descriptions are compared with."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

from clipnb._checks import generator, whole_number
from clipnb.describe._files import check_texts
from clipnb.describe._query import whole_name


def shuffled(by_class: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Control: every class gets the descriptions of another class, with its own name put in. Fluent, about the wrong thing.

    >>> shuffled({"dog": ["a dog with long ears"], "car": ["a car with four wheels"]})
    {'dog': ['a dog with four wheels'], 'car': ['a car with long ears']}
    """
    names = list(check_texts(by_class, "by_class"))
    donors = (
        names[len(names) // 2 :] + names[: len(names) // 2]
    )  # half a turn: no class keeps its own, if there are two
    swapped = {}
    for name, donor in zip(names, donors):
        texts = [whole_name(donor).sub(lambda _: name, text, count=1) for text in by_class[donor]]
        swapped[name] = [text if whole_name(name).search(text) else f"{name}, {text}" for text in texts]
    return swapped


def random_words(
    by_class: Mapping[str, Sequence[str]], seed: int = 0, words: int = 4, letters: bool = False
) -> dict[str, list[str]]:
    """Control as in WaffleCLIP (arXiv 2306.07282): as many texts a class, the name and random words. About nothing.

    Args:
        by_class: {classname: texts}; their words are the vocabulary.
        words: how many in a text.
        letters: random letters instead, as many as the drawn words have.

    >>> random_words({"dog": ["a dog with long ears"]}, words=2)
    {'dog': ['dog, with long']}
    """
    rng = generator(seed)
    words, by_class = whole_number(words, "words", 1, 1000), check_texts(by_class, "by_class")
    own = {word for name in by_class for word in re.findall(r"\w+", name.lower())}
    vocabulary = sorted(
        {word for texts in by_class.values() for text in texts for word in re.findall(r"\w+", text.lower())} - own
    ) or ["thing"]

    def draw() -> str:
        drawn = rng.choice(vocabulary, words)
        return " ".join(
            "".join(rng.choice(list(string.ascii_lowercase), len(word))) if letters else word for word in drawn
        )

    return {name: [f"{name}, {draw()}" for _ in texts] for name, texts in by_class.items()}


def keyword_texts(keywords: Mapping[str, Sequence[str]], count: int = 5) -> dict[str, list[str]]:
    """Control: the name with one keyword each, at most `count`; the bare name where there are none. No language model.

    >>> keyword_texts({"dog": ["pet", "dog"], "car": []})
    {'dog': ['dog, pet'], 'car': ['car']}
    """
    count = whole_number(count, "count", 1)
    return {
        name: [f"{name}, {word}" for word in words if word.casefold() != name.casefold()][:count] or [name]
        for name, words in check_texts(keywords, "keywords").items()
    }
