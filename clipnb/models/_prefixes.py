"""Prompts that begin alike, laid out so that a causal text tower reads what they share once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NODES = (
    256  # tokens of a tree: what all its prompts share is read once for so many, and attention grows with their square
)


@dataclass(frozen=True)
class Tree:
    """Prompts as one sequence of n tokens, in which each token sees its own prompt's earlier tokens and no others."""

    prompts: np.ndarray  # (B,) which prompts
    ends: np.ndarray  # (B,) the place of each one's last token
    ids: np.ndarray  # (n,) token ids
    positions: np.ndarray  # (n,) each token's position in its prompt
    visible: np.ndarray  # (n, n) bool: row i is what token i attends to


def trees(tokens: np.ndarray, lengths: np.ndarray, nodes: int = NODES) -> Iterator[Tree]:
    """Lay prompts out as trees of at most `nodes` tokens (or of one prompt); together they hold every prompt once.

    Args:
        tokens: (P, L) token ids.
        lengths: (P,) tokens of each prompt that count, 1 to L.

    >>> tree, = trees(np.array([[7, 1, 2], [7, 1, 3]]), np.array([3, 3]))
    >>> tree.ids, tree.positions, tree.ends
    (array([7, 1, 2, 3]), array([0, 1, 2, 2]), array([2, 3]))
    >>> tree.visible[3].astype(int)
    array([1, 1, 0, 1])
    """
    tokens = np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, -1)
    order = np.lexsort(tokens.T[::-1])  # neighbours share as much as they can
    alike = (tokens[order[1:]] == tokens[order[:-1]]).cumprod(axis=1).sum(axis=1)
    room = nodes + tokens.shape[1]
    ids, positions, visible = np.empty(room, np.int64), np.empty(room, np.int64), np.zeros((room, room), bool)
    count, prompts, ends, path = 0, [], [], np.empty(0, np.int64)

    def grown() -> Tree:
        return Tree(
            np.array(prompts),
            np.array(ends),
            ids[:count].copy(),
            positions[:count].copy(),
            visible[:count, :count].copy(),
        )

    for prompt, shared in zip(order, (0, *alike)):
        length = lengths[prompt]
        shared = min(shared, length)
        if prompts and count + length - shared > nodes:
            yield grown()
            count, prompts, ends, shared = 0, [], [], 0
        new = slice(count, count + length - shared)
        ids[new], positions[new] = tokens[prompt, shared:length], np.arange(shared, length)
        visible[new] = visible[path[shared - 1]] if shared else False
        visible[new, new] = np.tri(length - shared, dtype=bool)
        path = np.concatenate([path[:shared], np.arange(new.start, new.stop)])
        prompts.append(prompt)
        ends.append(path[length - 1])
        count = new.stop
    yield grown()
