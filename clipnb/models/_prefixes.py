"""Prompts that begin alike, laid out so that a causal text tower reads what they share once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Tokens of a tree. In a larger one more prompts share their beginning, but attention grows with its square.
MAX_NODES = 256


@dataclass(frozen=True)
class Tree:
    """Prompts as one sequence of n tokens, in which each token sees its own prompt's earlier tokens and no others."""

    prompts: npt.NDArray[np.int64]  # (B,) positions of the prompts
    ends: npt.NDArray[np.int64]  # (B,) the place of each prompt's last token
    ids: npt.NDArray[np.int64]  # (n,) token ids
    positions: npt.NDArray[np.int64]  # (n,) each token's position in its prompt
    visible: npt.NDArray[np.bool_]  # (n, n): row i is what token i attends to


def trees(tokens: np.ndarray, lengths: np.ndarray, nodes: int = MAX_NODES) -> Iterator[Tree]:
    """Lay prompts out as trees of at most `nodes` tokens (or of one prompt); together they hold every prompt once.

    Args:
        tokens: (P, L) token ids.
        lengths: (P,) tokens of each prompt that count, 1 to L.
        nodes: the largest number of tokens of a tree.

    >>> tree, = trees(np.array([[7, 1, 2], [7, 1, 3]]), np.array([3, 3]))
    >>> tree.ids, tree.positions, tree.ends
    (array([7, 1, 2, 3]), array([0, 1, 2, 2]), array([2, 3]))
    >>> tree.visible[3].astype(int)
    array([1, 1, 0, 1])
    """
    tokens = np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, -1)
    order = np.lexsort(tokens.T[::-1])  # neighbours share as much as they can
    alike = (tokens[order[1:]] == tokens[order[:-1]]).cumprod(axis=1).sum(axis=1)
    capacity = nodes + tokens.shape[1]
    ids = np.empty(capacity, np.int64)
    positions = np.empty(capacity, np.int64)
    visible = np.zeros((capacity, capacity), bool)
    count = 0
    prompts: list[int] = []
    ends: list[int] = []
    path = np.empty(0, np.int64)  # the places of the tokens of the prompt before

    def tree() -> Tree:
        return Tree(
            np.array(prompts),
            np.array(ends),
            ids[:count].copy(),
            positions[:count].copy(),
            visible[:count, :count].copy(),
        )

    for prompt, shared in zip(order.tolist(), [0, *alike.tolist()]):
        length = int(lengths[prompt])
        shared = min(shared, length)
        if prompts and count + length - shared > nodes:
            yield tree()
            count = shared = 0
            prompts, ends = [], []
        new = slice(count, count + length - shared)
        ids[new] = tokens[prompt, shared:length]
        positions[new] = np.arange(shared, length)
        visible[new] = visible[path[shared - 1]] if shared else False
        visible[new, new] = np.tri(length - shared, dtype=bool)
        path = np.concatenate([path[:shared], np.arange(new.start, new.stop)])
        prompts.append(prompt)
        ends.append(path[length - 1])
        count = new.stop
    yield tree()
