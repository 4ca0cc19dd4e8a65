"""Trees of prompts: nothing lost, nothing seen that is not one's own, nothing twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipnb.models._prefixes import trees

PROMPTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=40)


def laid_out(prompts, nodes):
    lengths = np.array([len(prompt) for prompt in prompts])
    tokens = np.full((len(prompts), 12), 2)  # filled up with an id that also occurs in prompts
    for row, prompt in zip(tokens, prompts):
        row[: len(prompt)] = prompt
    return list(trees(tokens, lengths, nodes))


@given(PROMPTS, st.integers(1, 60))
def test_every_prompt_is_read_once_and_sees_itself_only(prompts, nodes):
    found = {}
    for tree in laid_out(prompts, nodes):
        assert len(tree.ids) <= max(nodes, 9)
        for prompt, end in zip(tree.prompts, tree.ends):
            path = np.flatnonzero(tree.visible[end])
            assert prompt not in found and path[-1] == end
            found[prompt] = tree.ids[path].tolist()
            assert tree.positions[path].tolist() == list(range(len(path)))
            for place, token in enumerate(path):  # each of its tokens sees those before it
                assert np.flatnonzero(tree.visible[token]).tolist() == path[: place + 1].tolist()
    assert [found[i] for i in range(len(prompts))] == prompts


@given(PROMPTS)
def test_one_tree_reads_every_beginning_once(prompts):
    (tree,) = laid_out(prompts, 1000)
    assert len(tree.ids) == len({tuple(prompt[: n + 1]) for prompt in prompts for n in range(len(prompt))})
