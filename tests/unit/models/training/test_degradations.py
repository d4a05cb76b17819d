"""Tests of the degradations: their effects and reproducibility."""

import cv2
import numpy as np
import pytest

from models.degradation_head import LABELS
from models.training.degradations import REGISTRY
from models.training.degradations.base import Degrade, degradation
from models.training.degradations.files import SAMPLINGS, jpeg
from models.training.degradations.mixtures import rain_jpeg
from models.training.degradations.noise import NOISE_LEVELS, camera_noise, correlated_noise, noise
from models.training.degradations.weather import deep_haze, falling_rain, fine_rain, haze, heavy_rain, rain
from models.training.evaluation_sets import EVALUATION, fast_nl_means
from models.training.pictures import dead_leaves

GREY = np.full((96, 128, 3), 0.5, np.float32)


def texture(height: int = 96, width: int = 128) -> np.ndarray:
    return np.random.default_rng(7).random((height, width, 3), dtype=np.float32)


@pytest.mark.parametrize("kind", sorted(EVALUATION))
def test_every_degradation_keeps_shape_range_and_eight_bit_steps(kind: str) -> None:
    clean = np.round(texture() * 255).astype(np.float32) / np.float32(255)
    spoiled = EVALUATION[kind](clean, np.random.default_rng(1))
    assert spoiled.shape == (96, 128, 3)
    assert spoiled.dtype == np.float32
    assert spoiled.min() >= 0.0
    assert spoiled.max() <= 1.0
    np.testing.assert_allclose(spoiled * 255, np.round(spoiled * 255), atol=1e-4)


@pytest.mark.parametrize("kind", sorted(EVALUATION))
def test_a_seed_gives_the_same_image_again_and_another_seed_another(kind: str) -> None:
    degrade, clean = EVALUATION[kind], texture()
    first = degrade(clean, np.random.default_rng(1))
    np.testing.assert_array_equal(first, degrade(clean, np.random.default_rng(1)))
    if kind not in ("clean", "jpeg20", "jpeg40"):  # these are not random
        assert not np.array_equal(first, degrade(clean, np.random.default_rng(2)))


@pytest.mark.parametrize("kind", sorted(EVALUATION))
def test_the_clean_image_is_left_alone(kind: str) -> None:
    clean = texture()
    kept = clean.copy()
    EVALUATION[kind](clean, np.random.default_rng(1))
    np.testing.assert_array_equal(clean, kept)


@pytest.mark.parametrize("sigma", NOISE_LEVELS)
def test_noise_has_the_standard_deviation_it_is_named_after(sigma: int) -> None:
    spoiled = noise(sigma)(GREY, np.random.default_rng(3))
    assert np.std((spoiled - GREY) * 255) == pytest.approx(sigma, rel=0.03)
    assert np.mean(spoiled - GREY) == pytest.approx(0.0, abs=2e-3)


def test_rain_only_brightens_and_leaves_most_of_the_photo_untouched() -> None:
    dark = np.full((128, 128, 3), 51 / 255, np.float32)
    spoiled = rain(dark, np.random.default_rng(0))
    assert (spoiled >= dark - 1e-6).all()
    assert 0.005 < (spoiled > dark + 0.02).any(axis=2).mean() < 0.7


def test_rain_streaks_are_longer_than_wide() -> None:
    dark = np.zeros((256, 256, 3), np.float32)
    seeds = range(8)
    down = across = 0.0
    for seed in seeds:
        streaks = rain(dark, np.random.default_rng(seed))[..., 0]
        down += float(np.abs(np.diff(streaks, axis=0)).sum())
        across += float(np.abs(np.diff(streaks, axis=1)).sum())
    assert across > 2 * down, "brightness changes faster across a near-vertical streak than along it"


def test_haze_lowers_contrast_and_pulls_black_towards_the_airlight() -> None:
    black = np.zeros((96, 128, 3), np.float32)
    veiled_black = haze(black, np.random.default_rng(5))
    veiled_white = haze(np.ones_like(black), np.random.default_rng(5))
    assert veiled_black.mean() > 0.05
    transmission = veiled_white - veiled_black
    assert transmission.min() > 0.0
    assert transmission.max() < 1.0


def test_haze_is_thicker_at_the_top_on_average() -> None:
    black = np.zeros((96, 96, 3), np.float32)
    veils = np.mean([haze(black, np.random.default_rng(seed)) for seed in range(12)], axis=0)
    assert veils[:24].mean() > veils[-24:].mean()


@pytest.mark.parametrize("blur", [0.5, 0.8, 1.3])
def test_correlated_noise_keeps_its_standard_deviation_and_neighbours_agree(blur: float) -> None:
    sample = correlated_noise(15, blur)(GREY, np.random.default_rng(3)) - GREY
    assert np.std(sample * 255) == pytest.approx(15, rel=0.06)
    white = noise(15)(GREY, np.random.default_rng(3)) - GREY

    def correlation(values: np.ndarray) -> float:
        return float((values[:, 1:] * values[:, :-1]).mean() / values.var())

    assert abs(correlation(white)) < 0.05
    assert correlation(sample) > 0.2


def test_camera_noise_grows_with_the_light_and_demosaicing_makes_neighbours_agree() -> None:
    bright, dark = np.full((96, 96, 3), 0.8, np.float32), np.full((96, 96, 3), 0.3, np.float32)
    photon = camera_noise(0.002, 0.0, bayer=False)
    deviation = [float(np.std(photon(side, np.random.default_rng(0)) ** 2.2)) for side in (dark, bright)]
    assert deviation[1] > 2 * deviation[0]
    mosaic = camera_noise(0.002, 0.0, bayer=True)(bright, np.random.default_rng(0)) - bright
    red = mosaic[..., 0]
    assert (red[:, 1:] * red[:, :-1]).mean() / red.var() > 0.2


def test_heavy_rain_covers_more_than_rain() -> None:
    dark = np.full((128, 128, 3), 51 / 255, np.float32)
    light, heavy = (
        np.mean([np.abs(kind(dark, np.random.default_rng(seed)) - dark).mean() for seed in range(12)])
        for kind in (rain, heavy_rain)
    )
    assert heavy > 3 * light


def test_streaks_of_fine_rain_are_shorter_than_those_of_heavy_rain() -> None:
    dark = np.full((160, 160, 3), 51 / 255, np.float32)

    def reach(kind: Degrade) -> float:
        """Return the correlation of pixels twenty rows apart."""
        added = [(kind(dark, np.random.default_rng(seed)) - dark).mean(axis=2) for seed in range(12)]
        detail = [layer - cv2.GaussianBlur(layer, (0, 0), 20) for layer in added]
        return float(np.mean([(side[20:] * side[:-20]).mean() / side.var() for side in detail]))

    assert reach(fine_rain) < 0.5 * reach(heavy_rain)


def test_falling_rain_has_long_streaks_and_is_seen_less_before_a_bright_background() -> None:
    dark, bright = np.zeros((160, 160, 3), np.float32), np.full((160, 160, 3), 0.9, np.float32)
    contrast = {0.0: 0.0, 0.9: 0.0}
    down = across = 0.0
    for seed in range(12):
        for picture in (dark, bright):
            added = falling_rain(picture, np.random.default_rng(seed)) - picture
            detail = added - cv2.GaussianBlur(added, (0, 0), 20)  # without the veil
            contrast[round(float(picture[0, 0, 0]), 1)] += float(detail.std())
        streaks = falling_rain(dark, np.random.default_rng(seed))[..., 0]
        down += float(np.abs(np.diff(streaks, axis=0)).sum())
        across += float(np.abs(np.diff(streaks, axis=1)).sum())
    assert contrast[0.9] < 0.6 * contrast[0.0]
    assert across > 2 * down


def test_rain_that_was_saved_is_labelled_as_rain_and_mostly_as_jpeg() -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    found = [rain_jpeg(grey, np.random.default_rng(seed)) for seed in range(40)]
    assert all("rain" in pair.labels and np.array_equal(pair.target, grey) for pair in found)
    assert 20 < sum("jpeg" in pair.labels for pair in found) < 40  # above quality 85 it is hardly visible


def test_deep_haze_steps_where_the_picture_does() -> None:
    halves = np.full((96, 96, 3), 0.2, np.float32)
    halves[:, 48:] = 0.7
    steps, elsewhere = [], []
    for seed in range(12):
        hazy = deep_haze(halves, np.random.default_rng(seed))
        transmission = (hazy - hazy[..., :1].mean()).mean(axis=2)
        slope = np.abs(np.diff(transmission, axis=1)).mean(axis=0)
        steps.append(slope[47])
        elsewhere.append(slope[:40].mean())
    assert np.mean(steps) > 5 * np.mean(elsewhere)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_jpeg_blurs_the_colour_of_noise_by_its_sampling_and_keeps_its_brightness(sampling: str) -> None:
    noisy = noise(25)(GREY, np.random.default_rng(3))
    saved = jpeg(95, sampling)(noisy, np.random.default_rng(3))
    assert np.std(saved.mean(axis=2)) == pytest.approx(np.std(noisy.mean(axis=2)), rel=0.15)
    colour = np.std(saved[..., 0] - saved[..., 2]) / np.std(noisy[..., 0] - noisy[..., 2])
    low, high = {"4:2:0": (0.2, 0.6), "4:2:2": (0.5, 0.8), "4:4:4": (0.85, 1.1)}[sampling]
    assert low < colour < high


def test_a_jpeg_of_high_quality_and_full_colour_is_nearly_the_image() -> None:
    smooth = np.dstack([np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (96, 1))] * 3)
    saved = jpeg(97, "4:4:4")(smooth, np.random.default_rng(0))
    assert np.abs(saved - smooth).max() * 255 < 6


def test_the_blocks_of_a_jpeg_do_not_always_begin_at_the_corner() -> None:
    saved = [jpeg(60)(texture(64, 64), np.random.default_rng(seed)) for seed in range(4)]
    assert all(not np.array_equal(saved[0], other) for other in saved[1:])


@pytest.mark.parametrize("name", REGISTRY)
def test_every_registered_degradation_gives_a_pair_of_pictures_and_known_labels(name: str) -> None:
    clean = texture(64, 64)
    kept = clean.copy()
    for seed in range(6):
        pair = REGISTRY[name].make(clean, np.random.default_rng(seed))
        for side in (pair.image, pair.target):
            assert side.shape == clean.shape
            assert side.dtype == np.float32
            assert 0 <= side.min() <= side.max() <= 1
        assert pair.labels <= set(LABELS)
        again = REGISTRY[name].make(clean, np.random.default_rng(seed))
        np.testing.assert_array_equal(pair.image, again.image)
    np.testing.assert_array_equal(clean, kept)


@pytest.mark.parametrize("name", ["clean", "low_contrast", "soft", "flat"])
def test_pictures_without_labels_are_to_be_left_alone(name: str) -> None:
    clean, untouched = texture(64, 64), 0
    for seed in range(20):
        pair = REGISTRY[name].make(clean, np.random.default_rng(seed))
        if not pair.labels:
            untouched += 1
            assert np.abs(pair.image - pair.target).max() < 0.1
    assert untouched >= 5


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'haze' is registered twice"):
        degradation("haze", share=1.0)(REGISTRY["haze"].make)


def test_dead_leaves_have_edges_and_flat_parts() -> None:
    picture = dead_leaves(64, np.random.default_rng(0))
    assert picture.shape == (64, 64, 3)
    steps = np.abs(np.diff(picture, axis=1)).max(axis=2)
    assert (steps > 0.1).mean() > 0.02
    assert (steps < 0.02).mean() > 0.2


def test_non_local_means_removes_noise() -> None:
    noisy = noise(25)(GREY, np.random.default_rng(0))
    assert np.std(fast_nl_means(noisy) - GREY) < 0.5 * np.std(noisy - GREY)
