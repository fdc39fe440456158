"""Crops, mirroring, borders and colours, as pure functions of their draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbones.convention import InputConvention
from backbones.images import resize
from backbones.normalization import Normalize
from backbones.pretraining.augmentation import (
    EIGENVALUES,
    EIGENVECTORS,
    crop_and_mirror,
    draws_needed,
    lighting_shift,
    resized_crop,
    scale_jitter,
    standard_normal,
)
from backbones.pretraining.graph_steps import ImagePool
from backbones.pretraining.steps import DeviceData
from backbones.pretraining.streams import cut
from backbones.running.keyed_random import generator


def slow_crop_and_mirror(image: np.ndarray, draws: np.ndarray, mirrored: bool) -> np.ndarray:
    """One image [C, H, W], the obvious way: pad, cut, perhaps mirror."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
    top, left = int(draws[0] * 9), int(draws[1] * 9)
    cut_out = padded[:, top : top + height, left : left + width]
    return cut_out[:, :, ::-1] if mirrored and draws[2] < 0.5 else cut_out


def some_draws(count: int) -> torch.Tensor:
    draws = torch.rand(count, 3)
    draws[0], draws[1] = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.999, 0.999, 0.999])
    return draws


@pytest.mark.parametrize("mirrored", [True, False])
def test_crops_by_gather_equal_the_loop(mirrored: bool) -> None:
    images, draws = torch.randn(40, 3, 8, 10), some_draws(40)
    expected = [slow_crop_and_mirror(i.numpy(), d.numpy(), mirrored) for i, d in zip(images, draws, strict=True)]
    assert np.array_equal(crop_and_mirror(images, draws, mirrored).numpy(), np.stack(expected))


@pytest.mark.parametrize("mirrored", [True, False])
def test_the_pool_gives_the_same_crops(mirrored: bool) -> None:
    pixels = torch.randint(0, 256, (50, 3, 8, 10), dtype=torch.uint8)
    normalize = Normalize(InputConvention((120, 110, 100), (1, 1, 1)), torch.rand(3, 8, 10) * 255)
    pool = ImagePool(DeviceData(pixels, torch.zeros(50, dtype=torch.int64), mirrored), normalize)
    index, draws = torch.randint(0, 50, (40,)), some_draws(40)
    assert torch.equal(pool.crop(index, draws), crop_and_mirror(normalize(pixels[index]), draws, mirrored))


def test_the_border_is_the_mean() -> None:
    normalize = Normalize(InputConvention((120, 110, 100), (1, 1, 1)))
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    (corner,) = crop_and_mirror(normalize(white), torch.tensor([[0.0, 0.0, 0.9]]))
    assert (corner[:, :4] == 0).all(), "padding follows the subtraction of the mean"
    assert (corner[:, :, :4] == 0).all()
    assert (corner[:, 4:, 4:] == torch.tensor([135.0, 145.0, 155.0])[:, None, None]).all()


def test_scale_jitter_draws_every_shorter_side_alike() -> None:
    assert scale_jitter((0.0, 0.0, 0.0, 0.9), (256, 512)).box == (0, 0, 224, 224)
    largest = scale_jitter((0.9999, 0.9999, 0.9999, 0.1), (480, 640))
    assert largest.box == (640 - 224, 480 - 224, 640, 480)
    assert largest.mirrored
    sides = [224 / scale_jitter((draw, 0, 0, 0), (1000, 1000)).box[2] * 1000 for draw in np.linspace(0, 0.99999, 225)]
    assert np.allclose(sides, np.arange(256, 481)), "from 256 to 480, both included"


def test_a_mapped_window_is_the_crop_of_the_resized_picture() -> None:
    picture = generator(1).integers(0, 256, (300, 420, 3)).astype(np.uint8)
    picture = resize(resize(picture, (30, 42)), (300, 420))  # smooth, as photographs are
    crop = scale_jitter((0.3, 0.4, 0.7, 0.8), (300, 420))
    shorter = 256 + int(0.3 * 225)
    whole = resize(picture, (shorter, round(420 * shorter / 300)))
    top, left = int(0.4 * (whole.shape[0] - 223)), int(0.7 * (whole.shape[1] - 223))
    difference = np.abs(cut(picture, crop).astype(int) - whole[top : top + 224, left : left + 224])
    assert difference[2:-2, 2:-2].max() <= 1, "the filter's taps differ at the window's edge only"


def test_a_mirrored_cut_is_the_mirror_image() -> None:
    picture = generator(2).integers(0, 256, (280, 300, 3)).astype(np.uint8)
    crops = [scale_jitter((0.5, 0.5, 0.5, draw), (280, 300)) for draw in (0.1, 0.9)]
    assert np.array_equal(cut(picture, crops[0]), cut(picture, crops[1])[:, ::-1])


@pytest.mark.parametrize("size", [(100, 100), (40, 400), (333, 500), (500, 333), (1, 1)])
def test_resized_crops_stay_inside(size: tuple[int, int]) -> None:
    for seed in range(200):
        draws = tuple(generator(3, seed).random(draws_needed("resized-crop")).tolist())
        left, top, right, bottom = resized_crop(draws, size).box
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
        if size == (333, 500):
            area, aspect = (right - left) * (bottom - top) / (333 * 500), (right - left) / (bottom - top)
            assert 0.079 <= area <= 1
            assert 0.74 <= aspect <= 1.35


def test_lighting_moves_along_the_principal_components() -> None:
    one = lighting_shift(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))[:, :, 0, 0]
    assert one[0].tolist() == pytest.approx([255 * 0.1 * EIGENVALUES[0] * row[0] for row in EIGENVECTORS], rel=1e-5)
    assert one[1].tolist() == pytest.approx([255 * 0.2 * EIGENVALUES[1] * row[1] for row in EIGENVECTORS], rel=1e-5)
    vectors = torch.tensor(EIGENVECTORS)
    assert torch.allclose(vectors.T @ vectors, torch.eye(3), atol=1e-3)


def test_lighting_has_the_stated_magnitude() -> None:
    draws = torch.from_numpy(generator(4).random((20_000, 6))).float()
    normal = standard_normal(draws)
    assert normal.mean(0).abs().max() < 0.03
    assert normal.std(0).tolist() == pytest.approx([1, 1, 1], abs=0.03)
    spread = lighting_shift(normal)[:, :, 0, 0].std(0)
    expected = [25.5 * sum((v * e) ** 2 for v, e in zip(row, EIGENVALUES, strict=True)) ** 0.5 for row in EIGENVECTORS]
    assert spread.tolist() == pytest.approx(expected, rel=0.03)


def test_a_draw_that_float32_rounds_to_one_stays_finite() -> None:
    draws = torch.from_numpy(np.full((1, 6), 1 - 2.0**-30).astype(np.float32))
    assert draws.max() == 1
    assert standard_normal(draws).isfinite().all()
