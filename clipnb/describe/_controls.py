"""Texts without a language model's knowledge, which descriptions are compared with."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

from clipnb._checks import generator, whole_number
from clipnb.describe._files import check_texts
from clipnb.describe._query import whole_name


def shuffled(by_class: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Control: each class gets the texts of another class, with its own name put in. Fluent, about the wrong thing.

    >>> shuffled({"dog": ["a dog with long ears"], "car": ["a car with four wheels"]})
    {'dog': ['a dog with four wheels'], 'car': ['a car with long ears']}
    """
    texts = check_texts(by_class, "by_class")
    names = list(texts)
    half = len(names) // 2
    donors = names[half:] + names[:half]  # half a turn: with two classes or more, no class keeps its own texts

    def renamed(text: str, donor: str, name: str) -> str:
        text = whole_name(donor).sub(lambda _: name, text, count=1)
        return text if whole_name(name).search(text) else f"{name}, {text}"

    return {name: [renamed(text, donor, name) for text in texts[donor]] for name, donor in zip(names, donors)}


def random_words(
    by_class: Mapping[str, Sequence[str]], seed: int = 0, words: int = 4, letters: bool = False
) -> dict[str, list[str]]:
    """Control as in WaffleCLIP (arXiv 2306.07282): the same number of texts, each the name and random words.

    Args:
        by_class: {classname: texts}; their words are the vocabulary.
        seed: seed of the random choice, >= 0.
        words: number of words in a text.
        letters: use random letters instead, the same number as in the sampled words.

    >>> random_words({"dog": ["a dog with long ears"]}, words=2)
    {'dog': ['dog, with long']}
    """
    rng = generator(seed)
    words = whole_number(words, "words", 1, 1000)
    by_class = check_texts(by_class, "by_class")
    own = {word for name in by_class for word in re.findall(r"\w+", name.lower())}
    used = {word for texts in by_class.values() for text in texts for word in re.findall(r"\w+", text.lower())}
    vocabulary = sorted(used - own) or ["thing"]

    def sample() -> str:
        sampled = rng.choice(vocabulary, words)
        if letters:
            sampled = ["".join(rng.choice(list(string.ascii_lowercase), len(word))) for word in sampled]
        return " ".join(sampled)

    return {name: [f"{name}, {sample()}" for _ in texts] for name, texts in by_class.items()}


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
