"""Tests of the masks: every scale, sums over an image's own pixels, and the resize to its own size."""

import pytest
import torch
import torch.nn.functional as F

from models.validity import EVERYWHERE, Validity, kept, scales

EXACT = 1e-12
SIZES = [(8, 24), (24, 16), (32, 24)]


@pytest.fixture
def padded() -> torch.Tensor:
    return torch.rand(3, 4, 32, 24, dtype=torch.float64)


@pytest.fixture
def valid(padded: torch.Tensor) -> Validity:
    heights, widths = torch.tensor(SIZES).unbind(dim=1)
    return Validity.within(padded, heights, widths, padded.dtype)


def test_at_every_scale_each_image_has_its_own_rows_and_columns(padded: torch.Tensor) -> None:
    heights, widths = torch.tensor(SIZES).unbind(dim=1)
    for level, valid in enumerate(scales(padded, heights, widths, torch.float32)):
        assert valid is not None
        assert valid.mask.shape == (3, 1, 32 >> level, 24 >> level)
        for mask, (height, width) in zip(valid.mask[:, 0], SIZES, strict=True):
            assert mask[: height >> level, : width >> level].all()
            assert mask.sum() == (height >> level) * (width >> level)


def test_what_is_outside_becomes_zero_and_what_is_inside_stays(padded: torch.Tensor, valid: Validity) -> None:
    found = kept(padded, valid)
    for image, whole, (height, width) in zip(found, padded, SIZES, strict=True):
        assert torch.equal(image[:, :height, :width], whole[:, :height, :width])
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()


def test_without_an_outside_nothing_is_touched(padded: torch.Tensor) -> None:
    assert all(kept(padded, valid) is padded for valid in EVERYWHERE)


def test_the_mean_is_of_the_pixels_of_the_image_alone(padded: torch.Tensor, valid: Validity) -> None:
    alone = [image[:, :height, :width].mean(dim=(1, 2)) for image, (height, width) in zip(padded, SIZES, strict=True)]
    torch.testing.assert_close(valid.mean(padded), torch.stack(alone), atol=EXACT, rtol=0)


def test_the_shape_of_features_is_known_at_every_scale(padded: torch.Tensor, valid: Validity) -> None:
    assert valid.shape(5) == (3, 5, 32, 24)
    assert valid.halved().halved().shape(7) == (3, 7, 8, 6)


def test_at_half_the_resolution_maps_are_resized_to_half_the_image(padded: torch.Tensor, valid: Validity) -> None:
    maps = torch.randn(3, 5, 16, 16, dtype=torch.float64)
    found = valid.halved().halved().resized(maps)
    for image, one, (height, width) in zip(found, maps, SIZES, strict=True):
        expected = F.interpolate(one[None], (height // 4, width // 4), mode="bilinear")[0]
        torch.testing.assert_close(image[:, : height // 4, : width // 4], expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("side", [1, 4, 16, 64])
def test_maps_are_resized_to_each_image_as_interpolation_does(valid: Validity, side: int) -> None:
    maps = torch.randn(3, 5, side, side, dtype=torch.float64)
    found = valid.resized(maps)
    assert found.shape == (3, 5, 32, 24)
    for image, one, (height, width) in zip(found, maps, SIZES, strict=True):
        expected = F.interpolate(one[None], (height, width), mode="bilinear")[0]
        torch.testing.assert_close(image[:, :height, :width], expected, atol=EXACT, rtol=0)
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()


def test_the_masks_have_the_dtype_of_the_features_and_counts_stay_exact(padded: torch.Tensor) -> None:
    valid = Validity.within(padded.half(), torch.tensor([32, 32, 32]), torch.tensor([24, 24, 24]), torch.float16)
    assert valid.mask.dtype == torch.float16
    assert valid.vertical.lengths.dtype == valid.vertical.interpolation(4).dtype == torch.float32
