"""Data augmentation with a strength per example, for a whole batch at once."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from .layers import drop

__all__ = ["IMAGES", "INPUTS", "augment"]

# In the order of application.
_PLACES = ("scale", "rotation", "shear", "translation")
_COLOURS = ("brightness", "contrast", "saturation", "hue")
_CUTOUT = ("cutout_length", "cutout_holes")
IMAGES = (*_PLACES, *_COLOURS, *_CUTOUT)
INPUTS = ("input_noise", "input_dropout")

# Weights of red, green and blue in luma: ITU-R BT.601.
_GRAY = (0.299, 0.587, 0.114)


def augment(x, names, values, generator):
    """Augment a batch of inputs by names, in the order of application, of strengths per example.

    Images are (n, height, width) or (n, channels, height, width); strengths have the shape (n, 1)
    or (1, 1), in these units: "scale", "translation": largest relative change of the size, shift as
    a share of it; "rotation", "shear": largest angle in degrees; "brightness": largest shift of all
    pixels; "contrast", "saturation": largest relative change; "hue": largest turn around the gray
    axis as a share of the full circle; "cutout_length": side of the squares set to 0 in pixels;
    "cutout_holes": their number; "input_noise": standard deviation; "input_dropout": probability.
    """
    present = set(names)
    if present & set(IMAGES):
        gray = x.ndim == 3
        images = x.unsqueeze(1) if gray else x
        draw = _Draws(images, generator)
        if present.intersection(_PLACES):
            images = _move(images, values, present, draw)
        if present.intersection(_COLOURS):
            images = _colour(images, values, present, draw)
        if present.intersection(_CUTOUT):
            images = _cut_out(images, values, draw)
        x = images.squeeze(1) if gray else images
    for name in INPUTS:
        if name in present:
            x = _CHANGES[name](x, values[name], generator)
    return x


class _Draws:
    """Draws random numbers per example."""

    def __init__(self, x, generator):
        self.n, self.like, self.generator = x.shape[0], x, generator

    def uniform(self, *shape):
        """Return numbers in [0, 1)."""
        x = self.like
        return torch.rand(
            (self.n, *shape), generator=self.generator, device=x.device, dtype=x.dtype
        )

    def signed(self, strength):
        """Return numbers in [-strength, strength) of shape (n,)."""
        return (2 * self.uniform() - 1) * strength[:, 0]


def _move(x, values, names, draw):
    """Scale, rotate, shear and shift by one affine map per example, bilinearly, with zeros."""
    zero = x.new_zeros(draw.n)

    def signed(name):
        return draw.signed(values[name]) if name in names else zero

    factor = 1 + signed("scale")
    angle, slope = torch.deg2rad(signed("rotation")), torch.deg2rad(signed("shear"))
    cos, sin, tan = torch.cos(angle) / factor, torch.sin(angle) / factor, torch.tan(slope)
    # The grid reaches from -1 to 1.
    right, down = 2 * signed("translation"), 2 * signed("translation")
    first = torch.stack((cos, cos * tan - sin, right), 1)
    second = torch.stack((sin, sin * tan + cos, down), 1)
    grid = F.affine_grid(torch.stack((first, second), 1), x.shape, align_corners=False)
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def _colour(x, values, names, draw):
    def signed(name):
        return draw.signed(values[name]).view(-1, 1, 1, 1)

    if "brightness" in names:
        x = x + signed("brightness")
    if "contrast" in names:
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * (1 + signed("contrast"))
    if "saturation" in names:
        gray = (x * x.new_tensor(_GRAY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = gray + (x - gray) * (1 + signed("saturation"))
    if "hue" in names:
        x = _turn(x, 2 * math.pi * draw.signed(values["hue"]))
    return x


def _turn(x, angle):
    """Turn colours around the axis of the grays (Rodrigues' formula)."""
    cos, sin = torch.cos(angle), torch.sin(angle) / math.sqrt(3)
    rest = (1 - cos) / 3
    diagonal, after, before = cos + rest, rest + sin, rest - sin
    rows = torch.stack(
        (diagonal, before, after, after, diagonal, before, before, after, diagonal), 1
    ).view(-1, 3, 3)
    return torch.einsum("nij,njhw->nihw", rows, x)


def _cut_out(x, values, draw):
    """Set squares to zero whose centres lie anywhere in the image (DeVries and Taylor 2017)."""
    length = values["cutout_length"][:, 0] if "cutout_length" in values else None
    holes = values["cutout_holes"][:, 0] if "cutout_holes" in values else x.new_ones(1)
    height, width = x.shape[-2:]
    if length is None:
        length = x.new_full((1,), max(1, min(height, width) // 4))
    # No draws for holes beyond the largest number in the batch.
    for number in range(int(holes.max())):
        cut = None
        for size in (height, width):
            start = torch.floor(draw.uniform() * size) - torch.floor(length / 2)
            place = torch.arange(size, device=x.device, dtype=x.dtype) - start.unsqueeze(1)
            inside = (place >= 0) & (place < length.unsqueeze(1))
            cut = inside if cut is None else cut.unsqueeze(2) & inside.unsqueeze(1)
        cut &= (holes > number).view(-1, 1, 1)
        x = x.masked_fill(cut.unsqueeze(1), 0)
    return x


def _along(strength, x):
    return strength if x.ndim == 2 else strength.view(-1, *[1] * (x.ndim - 1))


def _noise(x, strength, generator):
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.addcmul(x, _along(strength, x), noise)


def _dropout(x, strength, generator):
    return drop(x, _along(strength, x), generator)


_CHANGES = {"input_noise": _noise, "input_dropout": _dropout}
