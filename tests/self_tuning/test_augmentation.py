"""Changes of inputs with a strength per example."""

import colorsys

import pytest
import torch

from skhpo.self_tuning._augmentation import IMAGES, INPUTS, _turn, augment


def apply(x, names, seed=0, **values):
    columns = {k: torch.as_tensor(v, dtype=torch.float32).view(-1, 1) for k, v in values.items()}
    return augment(x, names, columns, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [*IMAGES, *INPUTS])
def test_each_example_has_its_own_strength_and_none_is_none(name):
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    strength = {"rotation": 90, "shear": 60, "cutout_length": 6, "cutout_holes": 2}.get(name, 0.5)
    out = apply(x, [name], **{name: [0.0, strength, strength]})
    torch.testing.assert_close(out[0], x[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(out[1], x[1], atol=1e-2)
    assert not torch.allclose(out[1] - x[1], out[2] - x[2], atol=1e-2)
    assert out.shape == x.shape


def test_gray_images():
    x = torch.rand(4, 8, 8)
    names = ["rotation", "contrast", "cutout_length"]
    out = apply(x, names, rotation=[10.0] * 4, contrast=[0.2] * 4, cutout_length=[2] * 4)
    assert out.shape == x.shape


def test_cutout_has_the_size_and_the_number():
    x = torch.ones(200, 1, 16, 16)
    out = apply(
        x, ["cutout_length", "cutout_holes"], cutout_length=[3] * 200, cutout_holes=[1] * 200
    )
    cut = (out == 0).flatten(1).sum(1)
    assert cut.max() == 9
    assert cut.min() >= 4, "at a corner"
    assert (cut == 9).float().mean() > 0.6
    twice = apply(
        x, ["cutout_length", "cutout_holes"], cutout_length=[3] * 200, cutout_holes=[2] * 200
    )
    assert (twice == 0).flatten(1).sum(1).max() == 18


def test_shift_and_scale_against_known_pictures():
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3:5, 3:5] = 1
    for seed in range(5):
        moved = apply(x, ["translation"], seed, translation=[0.25])
        assert moved.sum() == pytest.approx(4, rel=1e-3), "a shift keeps the mass"
        scaled = apply(x, ["scale"], seed, scale=[0.3])
        assert 4 * 0.7**2 * 0.8 < scaled.sum() < 4 * 1.3**2 * 1.2
        turned = apply(x, ["rotation"], seed, rotation=[45.0])
        assert turned.sum() == pytest.approx(4, rel=0.1)


def test_hue_keeps_grays_and_turns_like_the_colour_circle():
    gray = torch.full((1, 3, 1, 1), 0.4)
    torch.testing.assert_close(_turn(gray, torch.tensor([1.0])), gray)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    third = _turn(red, torch.tensor([2 * torch.pi / 3])).view(3)
    torch.testing.assert_close(third, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    assert colorsys.rgb_to_hsv(*third.tolist())[0] == pytest.approx(1 / 3, abs=1e-5)


def test_noise_has_the_standard_deviation():
    out = apply(torch.zeros(2, 50000), ["input_noise"], input_noise=[0.5, 2.0])
    torch.testing.assert_close(out.std(1), torch.tensor([0.5, 2.0]), rtol=0.02, atol=0)
