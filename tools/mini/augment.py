"""Augmentation for drawing style: one vendor's drawing should look as if several had drawn it.

All functions take and give float tensors in [0, 1] and draw from torch's global generator of the
default device (`with torch.device(...)`), whose state the training checkpoint holds.
"""

import math
import re

import torch
from torch.nn import functional as F

# Augmentation must not make a caption wrong.
SIDED = re.compile(r"\b(left|right|waxing|waning|quarter|crescent|clockwise|gibbous)\b")
COLOURED = re.compile(r"\b(red|green|blue|orange|yellow|purple|brown|black|white|pink|gr[ae]y|silver|gold)\b")


def flags(words: str) -> tuple[bool, bool]:
    """(may be mirrored, may change colour) for a drawing with this name."""
    words = words.lower()
    return not SIDED.search(words), not COLOURED.search(words)


def _uniform(n, low=0.0, high=1.0):
    return low + torch.rand(n) * (high - low)


def _hue_saturation(angle, saturation):
    """(N, 3, 3) colour matrices: a rotation about the grey axis, then a blend with grey."""
    grey = torch.tensor([0.299, 0.587, 0.114]).expand(len(angle), 3, 3)
    a = torch.tensor([[0.701, -0.587, -0.114], [-0.299, 0.413, -0.114], [-0.3, -0.588, 0.886]])
    b = torch.tensor([[0.168, 0.330, -0.497], [-0.328, 0.035, 0.292], [1.25, -1.05, -0.203]])
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return grey + saturation[:, None, None] * (cos * a + sin * b)


def _sobel(x):
    kernel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
    g = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.stack([kernel, kernel.T])[:, None])
    return g.pow(2).sum(1, keepdim=True).sqrt()


def _warp(x, mirror, size):
    """Scale, rotate, shift, stretch, shear, mirror and gently bend premultiplied RGBA; resample to `size`."""
    n = len(x)
    scale = 0.9 + _uniform(n) ** 1.5 * 0.6
    angle = _uniform(n, -1, 1) * math.radians(18)
    room = (scale - 1).clamp(min=0.04) * 0.8
    shift = [_uniform(n, -1, 1) * room for _ in range(2)]
    flip = torch.where(mirror & (torch.rand(n) < 0.4), -1.0, 1.0)
    stretch = torch.exp(_uniform(n, -0.15, 0.15))
    shear = _uniform(n, -0.15, 0.15) * (torch.rand(n) < 0.5)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [cos * stretch * flip, -sin * stretch + shear, shift[0], sin * flip / stretch, cos / stretch, shift[1]]
    grid = F.affine_grid(torch.stack(rows, 1).view(n, 2, 3), (n, 4, size, size), align_corners=False)
    bend = torch.randn(n, 2, 4, 4) * 0.045 * (torch.rand(n, 1, 1, 1) < 0.5)
    grid += F.interpolate(bend, size=(size, size), mode="bicubic").permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=False)


def _thicken(x, mono):
    """Make the strokes of some one-colour drawings bolder or finer, in place."""
    kind = torch.where(mono, torch.rand(len(x)), 1.0)
    bold, fine = kind < 0.2, (kind >= 0.2) & (kind < 0.35)
    x[bold] = F.max_pool2d(x[bold], 3, 1, 1)
    x[fine] = -F.max_pool2d(-x[fine], 2, 1, 1)[..., :-1, :-1]


def _recolour(rgb, alpha, mono, colour):
    """One affine colour map an image; one-colour drawings get a new ink."""
    n = len(rgb)
    turn = torch.where(torch.rand(n) < 0.2, math.pi, 0.3) * _uniform(n, -1, 1)
    saturation = torch.where(torch.rand(n) < 0.18, 0.0, _uniform(n, 0.2, 1.7))
    turn = torch.where(colour, turn, _uniform(n, -0.1, 0.1))
    saturation = torch.where(colour, saturation, _uniform(n, 0.7, 1.4))
    contrast, brightness = _uniform(n, 0.65, 1.35), _uniform(n, -0.18, 0.18)
    matrix = _hue_saturation(turn, saturation) * contrast[:, None, None]
    offset = (0.5 - 0.5 * contrast + brightness)[:, None].expand(n, 3).clone()
    invert = colour & (torch.rand(n) < 0.06)
    matrix[invert] *= -1
    offset[invert] = 1 - offset[invert]
    dark = torch.rand(n, 3) * 0.35
    dark = torch.where(torch.rand(n, 1) < 0.5, dark.mean(1, keepdim=True) * 0.6, dark)
    ink = torch.where((torch.rand(n, 1) < 0.6) | ~colour[:, None], dark, torch.rand(n, 3))
    flat = mono & (torch.rand(n) < 0.9)
    matrix[flat], offset[flat] = 0.0, ink[flat]
    rgb = torch.einsum("nij,njhw->nihw", matrix, rgb) + offset[:, :, None, None] * alpha
    return torch.minimum(rgb.clamp_(min=0), alpha)


def _background(n, size):
    """Mostly white; else one light colour, or soft blotches."""
    ground, kind = torch.ones(n, 3, size, size), torch.rand(n)
    plain, blotched = kind < 0.3, (kind >= 0.3) & (kind < 0.48)
    ground[plain] = torch.rand(int(plain.sum()), 3, 1, 1) * 0.6 + 0.4
    if k := int(blotched.sum()):
        ground[blotched] = F.interpolate(torch.rand(k, 3, 4, 4) * 0.8 + 0.2, size=(size, size), mode="bicubic").clamp(
            0, 1
        )
    return ground


def _as_lines(out, rgb, alpha, ground, chosen):
    """Turn the chosen colour drawings into line drawings, outlined drawings or silhouettes."""
    k = len(chosen)
    if not k:
        return
    rgb, a, ground = rgb[chosen], alpha[chosen], ground[chosen]
    luma = ((rgb + 1 - a) * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    edge = (_sobel(luma * 0.75 + (1 - a) * 0.25) * (1.2 + 2 * torch.rand(k, 1, 1, 1)) - 0.25).clamp(0, 1)
    edge = torch.where(torch.rand(k, 1, 1, 1) < 0.5, F.max_pool2d(edge, 3, 1, 1), edge)
    rim = F.max_pool2d((_sobel(a) * 1.5).clamp(0, 1), 3, 1, 1)
    ink = torch.rand(k, 3, 1, 1) * 0.3 * (torch.rand(k, 1, 1, 1) < 0.5)
    lines = ground * (1 - edge) + ink * edge
    outlined = out[chosen] * (1 - rim) + ink * rim
    silhouette = ground * (1 - a) + a * (ink * (1 - edge) + ground * edge)
    kind = torch.rand(k, 1, 1, 1)
    out[chosen] = torch.where(kind < 0.38, lines, torch.where(kind < 0.72, outlined, silhouette))


def _degrade(out):
    """Posterise, blur, coarsen, add noise, cover a patch: each now and then."""
    n, size = len(out), out.shape[-1]
    pick = lambda p: torch.where(torch.rand(n) < p)[0]  # noqa: E731
    i = pick(0.12)
    levels = torch.randint(2, 6, (len(i), 1, 1, 1)).float()
    out[i] = torch.round(out[i] * levels) / levels
    i = pick(0.12)
    out[i] = F.avg_pool2d(out[i], 3, 1, 1, count_include_pad=False)
    if len(i := pick(0.08)):
        out[i] = F.interpolate(F.avg_pool2d(out[i], 2), size=(size, size), mode="bilinear")
    i = pick(0.15)
    out[i] += torch.randn(len(i), 3, size, size) * 0.04
    for j in pick(0.12).tolist():
        side = size // 6 + int(torch.randint(size // 6, (1,)))
        y, x = torch.randint(size - side, (2,)).tolist()
        out[j, :, y : y + side, x : x + side] = torch.rand(3, 1, 1)


def augment(pictures, mono, mirror, colour, size):
    """uint8 (N, H, W, 4) and three boolean vectors -> (N, 3, size, size) training views."""
    x = pictures.permute(0, 3, 1, 2).float().div_(255)
    x[:, :3] *= x[:, 3:]
    x = _warp(x, mirror, size)
    _thicken(x, mono)
    rgb, alpha = x[:, :3], x[:, 3:]
    n = len(x)
    rgb = _recolour(rgb, alpha, mono, colour)
    if len(i := torch.where(torch.rand(n) < 0.3)[0]):  # soft shading
        shade = F.interpolate(torch.rand(len(i), 1, 3, 3) * 0.9 + 0.45, size=(size, size), mode="bilinear")
        rgb[i] = torch.minimum(rgb[i] * shade, alpha[i])
    ground = _background(n, size)
    out = rgb + (1 - alpha) * ground
    dark_mode = mono & (torch.rand(n) < 0.12)
    out[dark_mode] = 1 - out[dark_mode]
    _as_lines(out, rgb, alpha, ground, torch.where(~mono & colour & (torch.rand(n) < 0.28))[0])
    _degrade(out)
    return out.clamp_(0, 1)
