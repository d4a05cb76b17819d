"""The degradations do to a photo what their names say, and the same seed does it again."""

import numpy as np
import pytest

from models.training import degradations

GREY = np.full((96, 128, 3), 0.5, np.float32)


def texture(height: int = 96, width: int = 128) -> np.ndarray:
    return np.random.default_rng(7).random((height, width, 3), dtype=np.float32)


@pytest.mark.parametrize("kind", sorted(degradations.EVALUATION))
def test_every_degradation_keeps_shape_range_and_eight_bit_steps(kind: str) -> None:
    spoiled = degradations.EVALUATION[kind](texture(), np.random.default_rng(1))
    assert spoiled.shape == (96, 128, 3)
    assert spoiled.dtype == np.float32
    assert spoiled.min() >= 0.0
    assert spoiled.max() <= 1.0
    np.testing.assert_allclose(spoiled * 255, np.round(spoiled * 255), atol=1e-4)


@pytest.mark.parametrize("kind", sorted(degradations.EVALUATION))
def test_a_seed_gives_the_same_image_again_and_another_seed_another(kind: str) -> None:
    degrade, clean = degradations.EVALUATION[kind], texture()
    first = degrade(clean, np.random.default_rng(1))
    np.testing.assert_array_equal(first, degrade(clean, np.random.default_rng(1)))
    assert not np.array_equal(first, degrade(clean, np.random.default_rng(2)))


@pytest.mark.parametrize("kind", sorted(degradations.EVALUATION))
def test_the_clean_image_is_left_alone(kind: str) -> None:
    clean = texture()
    kept = clean.copy()
    degradations.EVALUATION[kind](clean, np.random.default_rng(1))
    np.testing.assert_array_equal(clean, kept)


@pytest.mark.parametrize("sigma", degradations.NOISE_LEVELS)
def test_noise_has_the_standard_deviation_it_is_named_after(sigma: int) -> None:
    spoiled = degradations.noise(sigma)(GREY, np.random.default_rng(3))
    assert np.std((spoiled - GREY) * 255) == pytest.approx(sigma, rel=0.03)
    assert np.mean(spoiled - GREY) == pytest.approx(0.0, abs=2e-3)


def test_rain_only_brightens_and_leaves_most_of_the_photo_untouched() -> None:
    dark = np.full((128, 128, 3), 51 / 255, np.float32)
    spoiled = degradations.rain(dark, np.random.default_rng(0))
    assert (spoiled >= dark - 1e-6).all()
    assert 0.005 < (spoiled > dark + 0.02).any(axis=2).mean() < 0.7


def test_rain_streaks_are_longer_than_wide() -> None:
    dark = np.zeros((256, 256, 3), np.float32)
    seeds = range(8)
    down = across = 0.0
    for seed in seeds:
        streaks = degradations.rain(dark, np.random.default_rng(seed))[..., 0]
        down += float(np.abs(np.diff(streaks, axis=0)).sum())
        across += float(np.abs(np.diff(streaks, axis=1)).sum())
    assert across > 2 * down, "brightness changes faster across a near-vertical streak than along it"


def test_haze_lowers_contrast_and_pulls_black_towards_the_airlight() -> None:
    black = np.zeros((96, 128, 3), np.float32)
    veiled_black = degradations.haze(black, np.random.default_rng(5))
    veiled_white = degradations.haze(np.ones_like(black), np.random.default_rng(5))
    assert veiled_black.mean() > 0.05
    transmission = veiled_white - veiled_black
    assert transmission.min() > 0.0
    assert transmission.max() < 1.0


def test_haze_is_thicker_at_the_top_on_average() -> None:
    black = np.zeros((96, 96, 3), np.float32)
    veils = np.mean([degradations.haze(black, np.random.default_rng(seed)) for seed in range(12)], axis=0)
    assert veils[:24].mean() > veils[-24:].mean()


def test_a_jpeg_of_halved_colour_blurs_the_colour_of_noise_and_keeps_its_brightness() -> None:
    noisy = degradations.noise(25)(GREY, np.random.default_rng(3)) - GREY
    saved = degradations.as_jpeg(degradations.noise(25), 95, halved_colour=True)(GREY, np.random.default_rng(3)) - GREY
    assert np.std(saved.mean(axis=2)) == pytest.approx(np.std(noisy.mean(axis=2)), rel=0.15)
    assert np.std(saved[..., 0] - saved[..., 2]) < 0.6 * np.std(noisy[..., 0] - noisy[..., 2])


def test_a_jpeg_of_high_quality_and_full_colour_is_nearly_the_image() -> None:
    smooth = np.dstack([np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (96, 1))] * 3)
    saved = degradations.as_jpeg(degradations.noise(0), 97, halved_colour=False)(smooth, np.random.default_rng(0))
    assert np.abs(saved - smooth).max() * 255 < 6


def test_the_blocks_of_a_jpeg_do_not_always_begin_at_the_corner() -> None:
    save = degradations.as_jpeg(degradations.noise(0), 60, halved_colour=True)
    saved = [save(texture(64, 64), np.random.default_rng(seed)) for seed in range(4)]
    assert all(not np.array_equal(saved[0], other) for other in saved[1:])
