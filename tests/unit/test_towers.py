"""Products and attention as `_towers` computes them, against PyTorch's own layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from clipnb.models import _towers

TYPES = [torch.float32, torch.bfloat16, torch.float16]
ACTIVATIONS = [None, nn.GELU(), nn.GELU("tanh"), nn.ReLU(), lambda x: x * torch.sigmoid(1.702 * x)]


def roundings(dtype, count=4):
    """So many roundings of numbers of about 4, and those within a sum in fp32."""
    return max(1e-5, count * 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("by_onednn", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES)
@torch.inference_mode()
def test_a_product_is_a_linear_layer_with_what_follows_it(monkeypatch, dtype, activation, by_onednn):
    if not by_onednn:  # as on a processor, or in a PyTorch, that cannot
        monkeypatch.setattr(_towers, "_onednn_types", tuple)
    torch.manual_seed(0)
    x, other, bias = torch.randn(3, 5, 32).to(dtype), torch.randn(3, 5, 48).to(dtype), torch.randn(48).to(dtype)
    weight = (torch.randn(48, 32) / 32**0.5).to(dtype)
    exact = nn.functional.linear(x.double(), weight.double(), bias.double())
    expected = exact if activation is None else activation(exact)
    assert _towers._product(x, weight, bias, activation).dtype == dtype
    tolerance = {"rtol": 0, "atol": roundings(dtype)}
    assert torch.allclose(_towers._product(x, weight, bias, activation).double(), expected, **tolerance)
    assert torch.allclose(_towers._product(x, weight, bias, add=other).double(), exact + other.double(), **tolerance)
    every_second = x[:, ::2], other[:, ::2]  # rows that are not one after another
    found = _towers._product(every_second[0], weight, bias, add=every_second[1])
    assert torch.allclose(found.double(), (exact + other.double())[:, ::2], **tolerance)


@pytest.mark.parametrize("at_once", [1, 2**20])
@pytest.mark.parametrize("scale", [1, 30])  # 30: scores of a few hundred, which bf16 would round by 1
@torch.inference_mode()
def test_attention_in_products_is_attention(monkeypatch, at_once, scale):
    monkeypatch.setattr(_towers, "SCORES_AT_ONCE", at_once)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 5, 2, 7, 16).bfloat16()
    expected = scaled_dot_product_attention((scale * query).double(), key.double(), value.double())
    found = _towers._attend_in_products(scale * query, key, value)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.double(), expected, rtol=0, atol=roundings(torch.bfloat16, 1))


def visual(dtype, **options):
    import open_clip

    torch.manual_seed(0)
    config = open_clip.CLIPVisionCfg(image_size=32, layers=3, width=32, patch_size=8, head_width=16, **options)
    return open_clip.model._build_vision_tower(16, config).eval().to(dtype)


@pytest.mark.parametrize("options", [{}, {"ls_init_value": 0.5}, {"act_kwargs": {"approximate": "tanh"}}])
@torch.inference_mode()
def test_packed_weights_give_the_same_vectors_and_leave_the_tower_as_it_was(options):
    tower = visual(torch.bfloat16, **options)
    before = copy.deepcopy(tower.state_dict())
    packed, pixels = _towers.pack_products(tower), torch.randn(4, 3, 32, 32).bfloat16()
    found, expected = (nn.functional.normalize(_towers.read_images(of, pixels).float()) for of in (packed, tower))
    assert torch.allclose(found, expected, rtol=0, atol=roundings(torch.bfloat16, 1))
    assert all(torch.equal(weight, before[name]) for name, weight in tower.state_dict().items())
    if torch.bfloat16 in _towers._onednn_types():
        first, *_, last = packed.transformer.resblocks
        assert first.mlp.c_fc.weight.is_mkldnn and not last.mlp.c_fc.weight.is_mkldnn
        assert packed.conv1.weight is tower.conv1.weight  # what is not packed is shared


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_precisions_are_not_packed(dtype):
    tower = visual(dtype)
    assert _towers.pack_products(tower) is tower


def test_a_processor_without_bf16_packs_nothing(monkeypatch):
    monkeypatch.setattr(_towers, "_onednn_types", lambda: (torch.float32,))
    tower = visual(torch.bfloat16)
    assert _towers.pack_products(tower) is tower
