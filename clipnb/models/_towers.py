"""Shorter ways through towers; `_capabilities` measures their exactness.

Those through transformers read the parts of towers that are built as open_clip 3 builds its own by name, one of them
private (`_pool`): where one is missing, an AttributeError is raised, and the model takes the slow way with one warning.
PyTorch types every part as "Tensor or Module", so that towers are `Any` here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.nn.utils.fusion import fuse_conv_bn_weights

from clipnb.models._prefixes import Tree

SCORES_AT_ONCE = 2**20  # of attention, in fp32: as many as a core's cache holds


def read_images(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Image vectors (B, D), not normalised, of a vision transformer that pools at its class token."""
    x = _embed(tower, pixels)
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


def pack_products(tower: Any) -> Any:
    """A copy of a vision transformer for `read_images`, its weights in the layout in which oneDNN multiplies them.

    The copy shares all other weights with the tower. The tower itself, where its products are not by oneDNN, and in
    fp32, where a copy takes twice the memory for a gain of 5 %.
    """
    weight = tower.conv1.weight
    if weight.dtype != torch.bfloat16 or not _by_onednn(weight):
        return tower
    packed = _copy(tower)
    for block in packed.transformer.resblocks[:-1]:  # parts of the last one's weights are read apart
        layers = [(layer, "weight") for layer in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj)]
        for layer, name in ((block.attn, "in_proj_weight"), *layers):
            weight = torch.ops.mkldnn._reorder_linear_weight(getattr(layer, name).data)
            setattr(layer, name, nn.Parameter(weight, False))
    return packed


def fold_norms(tower: nn.Module) -> nn.Module | None:
    """A copy of an image tower with its batch norms merged into the convolutions before them; None if it has none.

    The copy shares all other weights with the tower.
    """
    folded = _copy(tower)
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


def _copy(tower: nn.Module) -> Any:
    """A copy that shares all weights with the tower."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*tower.parameters(), *tower.buffers())}
    return copy.deepcopy(tower, shared)


def _at(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, K, ...) of (B, N, ...): the places (B, K) of each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], places]


def _embed(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Vectors (B, 1 + L, W) of the class token and of the patches, at their positions.

    A convolution whose stride is its size is a product of patches, which takes half of the time in bf16 on a CPU.
    """
    (rows, columns), (height, width) = tower.grid_size, tower.patch_size
    patches = (
        pixels[..., : rows * height, : columns * width].unflatten(2, (rows, height)).unflatten(4, (columns, width))
    )
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    x = _product(patches, tower.conv1.weight.flatten(1), tower.conv1.bias)
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], dim=1)
    return tower.ln_pre(x + tower.positional_embedding)


def _read_at(block: Any, x: torch.Tensor, queries: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Output of a block at the places (B, K, D) of `x` (B, N, D) that are `queries`; all of `x` is keys and values."""
    keys = block.ln_1(x)
    own = keys if queries is x else block.ln_1(queries)
    x = _add(queries, block.ls_1, _attend(block.attn, own, keys, mask), block.attn.out_proj)
    hidden = _product(block.ln_2(x), block.mlp.c_fc.weight, block.mlp.c_fc.bias, activation=block.mlp.gelu)
    return _add(x, block.ls_2, hidden, block.mlp.c_proj)


def _add(x: torch.Tensor, scale: Any, hidden: torch.Tensor, layer: Any) -> torch.Tensor:
    """`x + scale(layer(hidden))`."""
    if isinstance(scale, nn.Identity):
        return _product(hidden, layer.weight, layer.bias, add=x)
    return x + scale(_product(hidden, layer.weight, layer.bias))


def _attend(attention: Any, queries: torch.Tensor, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What `torch.nn.MultiheadAttention` computes up to its last projection, (B, K, D).

    A mask (B, K, N) is for all heads.

    PyTorch's module puts the places first before it projects. The rows of the product are then no longer contiguous,
    and it becomes one small product for each place, which takes twice as long on a CPU.
    """
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width = attention.embed_dim
    if queries is x:
        query, key, value = _product(x, weight, bias).chunk(3, dim=-1)
    else:
        query = _product(queries, weight[:width], bias[:width])
        key, value = _product(x, weight[width:], bias[width:]).chunk(2, dim=-1)
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    if mask is None and x.device.type == "cpu" and x.dtype == torch.bfloat16:
        result = _attend_in_products(query, key, value)
    else:
        result = scaled_dot_product_attention(query, key, value, None if mask is None else mask[:, None])
    return result.transpose(1, 2).flatten(2)


def _attend_in_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """What `scaled_dot_product_attention` computes in bf16, (B, H, K, E), in half of its time on a CPU.

    Scores are in fp32, as they are there: a large one that is rounded to bf16 would be off by more than 0.1.
    """
    _, heads, count, width = query.shape
    images = max(1, SCORES_AT_ONCE // (heads * count * key.shape[2]))
    parts = []
    for q, k, v in zip(query.split(images), key.split(images), value.split(images)):
        q, k = (part.to(torch.float32, memory_format=torch.contiguous_format).flatten(0, 1) for part in (q, k))
        scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=width**-0.5)
        weights = scores.softmax(dim=-1).to(value.dtype)
        parts.append(torch.bmm(weights, v.flatten(0, 1)).unflatten(0, (-1, heads)))
    return torch.cat(parts)


def _product(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    add: torch.Tensor | None = None,
) -> torch.Tensor:
    """A linear layer, then its activation or a sum, in the same pass over memory where oneDNN has one.

    PyTorch sends products in fp32 on a CPU to MKL, which reaches less than half of oneDNN's rate on AMD's processors.
    """
    if not _by_onednn(x):
        x = linear(x, weight, bias)
    elif add is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, add, weight, bias, "add")
    elif type(activation) is nn.GELU:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], activation.approximate)
    else:
        x = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    if activation is not None:
        x = activation(x)
    return x if add is None else add + x


def _by_onednn(x: torch.Tensor) -> bool:
    """Whether oneDNN computes products of tensors like this one."""
    return x.device.type == "cpu" and x.dtype in _onednn_types()


@cache
def _onednn_types() -> tuple[torch.dtype, ...]:
    """The types whose products oneDNN computes on this processor, by operators that PyTorch's own compiler uses."""
    operators = torch.ops.mkldnn
    names = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    if not all(hasattr(operators, name) for name in names):
        return ()
    return (torch.float32, torch.bfloat16) if operators._is_mkldnn_bf16_supported() else (torch.float32,)
