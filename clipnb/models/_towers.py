"""Shorter ways through towers that are built as open_clip builds its own; `clipnb.models` measures that they are exact."""

from __future__ import annotations

import numpy as np
import torch

from clipnb.models._prefixes import Tree


def read_images(tower: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Image vectors (B, D), of any length, of a vision transformer that pools at its class token."""
    x = tower._embeds(pixels)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = block(x)
    return tower._pool(_read_at(last, x, x[:, :1]))[0] @ tower.proj


def read_trees(tower: torch.nn.Module, trees: list[Tree]) -> torch.Tensor:
    """Text vectors (P, D), of any length, of a causal text transformer, for all prompts of these trees, tree after tree."""
    shape, most = (len(trees), max(len(tree.ids) for tree in trees)), max(len(tree.ends) for tree in trees)
    ids, positions, ends = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros((len(trees), most), np.int64)
    hidden = np.broadcast_to(~np.eye(shape[1], dtype=bool), (*shape, shape[1])).copy()  # what fills up sees itself
    for row, tree in enumerate(trees):
        n = len(tree.ids)
        ids[row, :n], positions[row, :n], hidden[row, :n, :n] = tree.ids, tree.positions, ~tree.visible
        ends[row, : len(tree.ends)] = tree.ends
    ids, positions, ends, hidden = (
        torch.from_numpy(array).to(tower.positional_embedding.device) for array in (ids, positions, ends, hidden)
    )
    x = tower.token_embedding(ids) + tower.positional_embedding[positions]
    *blocks, last = tower.transformer.resblocks
    mask = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill_(hidden, -torch.inf)
    mask = mask.repeat_interleave(last.attn.num_heads, 0)
    for block in blocks:
        x = block(x, attn_mask=mask)
    x = _read_at(last, x, _at(x, ends), _at(mask, ends.repeat_interleave(last.attn.num_heads, 0)))
    x = tower.ln_final(torch.cat([row[: len(tree.ends)] for row, tree in zip(x, trees)]))
    if tower.text_projection is not None:
        x = (
            tower.text_projection(x)
            if isinstance(tower.text_projection, torch.nn.Linear)
            else x @ tower.text_projection
        )
    return x


def _at(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, K, ...) of (B, N, ...): the places (B, K) of each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], places]


def _read_at(
    block: torch.nn.Module, x: torch.Tensor, queries: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What a tower's last block makes of `queries`, some places of `x`: nobody reads the others, so only their keys are needed."""
    keys = block.ln_1(x)
    queries = queries + block.ls_1(block.attention(block.ln_1(queries), keys, keys, attn_mask=mask))
    return queries + block.ls_2(block.mlp(block.ln_2(queries)))
