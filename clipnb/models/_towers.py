"""Shorter ways through towers; `_capabilities` measures their exactness.

Those through transformers read the parts of towers that are built as open_clip 3 builds its own by name, some of them
private (`_embeds`, `_pool`): where one is missing, an AttributeError is raised, and the model takes the slow way with
one warning. PyTorch types every part as "Tensor or Module", so that towers are `Any` here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.nn.utils.fusion import fuse_conv_bn_weights

from clipnb.models._prefixes import Tree


def read_images(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Image vectors (B, D), not normalised, of a vision transformer that pools at its class token."""
    x = tower._embeds(pixels)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = _read_at(block, x, x)
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
    for block in blocks:
        x = _read_at(block, x, x, mask)
    x = _read_at(last, x, _at(x, last_places), _at(mask, last_places))
    x = tower.ln_final(torch.cat([row[: len(tree.ends)] for row, tree in zip(x, trees)]))
    if tower.text_projection is None:
        return x
    if isinstance(tower.text_projection, torch.nn.Linear):
        return tower.text_projection(x)
    return x @ tower.text_projection


def fold_norms(tower: nn.Module) -> nn.Module | None:
    """A copy of an image tower with its batch norms merged into the convolutions before them; None if it has none.

    The copy shares all other weights with the tower.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*tower.parameters(), *tower.buffers())}
    folded = copy.deepcopy(tower, shared)
    return folded if merge_norms(folded) else None


def merge_norms(tower: nn.Module) -> bool:
    """Merge the batch norms of a tower into the convolutions before them, in place; whether it has any.

    A norm belongs to the convolution before it among the parts of one module, which need not hold in every tower.
    """
    pairs = list(conv_norm_pairs(tower))
    for parent, name, conv, norm in pairs:
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(conv.weight.float(), conv.bias, *statistics)
        conv.weight, conv.bias = (nn.Parameter(part.to(conv.weight.dtype), False) for part in (weight, bias))
        setattr(parent, name, getattr(norm, "act", nn.Identity()))  # timm's norms hold the activation that follows
    return bool(pairs)


def conv_norm_pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any, Any]]:
    """(parent, name of the batch norm, convolution, batch norm) of each norm with a convolution before it, in order."""
    conv = None
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            conv = child
        elif isinstance(child, nn.BatchNorm2d) and conv is not None:
            yield module, name, conv, child
            conv = None
        else:
            yield from conv_norm_pairs(child)


def unit_norm(vectors: torch.Tensor) -> np.ndarray:
    """Vectors (B, D) of length one, as float32 in NumPy."""
    # In fp32 whatever the tower's type: a norm taken in bf16 is off by up to 0.4 %.
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def _at(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, K, ...) of (B, N, ...): the places (B, K) of each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], places]


def _read_at(block: Any, x: torch.Tensor, queries: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Output of a block at the places (B, K, D) of `x` (B, N, D) that are `queries`; all of `x` is keys and values."""
    keys = block.ln_1(x)
    own = keys if queries is x else block.ln_1(queries)
    queries = queries + block.ls_1(_attend(block.attn, own, keys, mask))
    return queries + block.ls_2(block.mlp(block.ln_2(queries)))


def _attend(attention: Any, queries: torch.Tensor, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What `torch.nn.MultiheadAttention` computes, (B, K, D), with a mask (B, K, N) for all heads.

    PyTorch's module puts the places first, before it projects. The rows of the product are then no longer contiguous,
    and it becomes one small product for each place, which takes twice as long on a CPU.
    """
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width = attention.embed_dim
    if queries is x:
        query, key, value = linear(x, weight, bias).chunk(3, dim=-1)
    else:
        query = linear(queries, weight[:width], bias[:width])
        key, value = linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    result = scaled_dot_product_attention(query, key, value, None if mask is None else mask[:, None])
    return attention.out_proj(result.transpose(1, 2).flatten(2))
