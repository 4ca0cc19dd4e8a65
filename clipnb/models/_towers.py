"""Shorter ways through towers that are built as open_clip 3 builds its own; `_capabilities` measures their exactness.

They read the towers' parts by name, some of them private (`_embeds`, `_pool`): where one is missing, an AttributeError
is raised, and the model takes the slow way with one warning. PyTorch types every part as "Tensor or Module", so that
towers are `Any` here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from clipnb.models._prefixes import Tree


def read_images(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Image vectors (B, D), not normalised, of a vision transformer that pools at its class token."""
    x = tower._embeds(pixels)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = block(x)
    return tower._pool(_read_at(last, x, x[:, :1]))[0] @ tower.proj


def read_trees(tower: Any, trees: list[Tree]) -> torch.Tensor:
    """Text vectors (P, D), not normalised, of a causal text transformer: all prompts, tree after tree."""
    count = len(trees)
    length = max(len(tree.ids) for tree in trees)
    ids = np.zeros((count, length), np.int64)
    positions = np.zeros((count, length), np.int64)
    ends = np.zeros((count, max(len(tree.ends) for tree in trees)), np.int64)
    # Places that only fill up a row attend to themselves: a softmax over nothing would be NaN.
    hidden = np.broadcast_to(~np.eye(length, dtype=bool), (count, length, length)).copy()
    for row, tree in enumerate(trees):
        n = len(tree.ids)
        ids[row, :n] = tree.ids
        positions[row, :n] = tree.positions
        hidden[row, :n, :n] = ~tree.visible
        ends[row, : len(tree.ends)] = tree.ends
    device = tower.positional_embedding.device
    last_places = torch.from_numpy(ends).to(device)
    x = tower.token_embedding(torch.from_numpy(ids).to(device))
    x = x + tower.positional_embedding[torch.from_numpy(positions).to(device)]
    *blocks, last = tower.transformer.resblocks
    mask = torch.zeros(hidden.shape, dtype=x.dtype, device=device)
    mask = mask.masked_fill_(torch.from_numpy(hidden).to(device), -torch.inf)
    mask = mask.repeat_interleave(last.attn.num_heads, 0)
    for block in blocks:
        x = block(x, attn_mask=mask)
    last_mask = _at(mask, last_places.repeat_interleave(last.attn.num_heads, 0))
    x = _read_at(last, x, _at(x, last_places), last_mask)
    x = tower.ln_final(torch.cat([row[: len(tree.ends)] for row, tree in zip(x, trees)]))
    if tower.text_projection is None:
        return x
    if isinstance(tower.text_projection, torch.nn.Linear):
        return tower.text_projection(x)
    return x @ tower.text_projection


def unit_norm(vectors: torch.Tensor) -> np.ndarray:
    """Vectors (B, D) of length one, as float32 in NumPy."""
    # In fp32 whatever the tower's type: a norm taken in bf16 is off by up to 0.4 %.
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def _at(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, K, ...) of (B, N, ...): the places (B, K) of each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], places]


def _read_at(block: Any, x: torch.Tensor, queries: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Output of the last block at selected places of `x` only; the other places serve as keys and values."""
    keys = block.ln_1(x)
    queries = queries + block.ls_1(block.attention(block.ln_1(queries), keys, keys, attn_mask=mask))
    return queries + block.ls_2(block.mlp(block.ln_2(queries)))
