"""The soma diameter measured on pictures whose diameters are known."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cocuyo.core import SettingsError
from cocuyo.preprocessing import ScaleConfig, measure_diameter


def discs(diameter, *, shape=(170, 190), n_frames=20, photons=100.0, seed=0):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 1.0 - 0.6 * np.hypot(y / shape[0] - 0.5, x / shape[1] - 0.5)
    haze = cv2.GaussianBlur(random.standard_normal(shape), (0, 0), 2.0 * diameter)
    image = image * (1 + 0.1 * haze / haze.std())
    for _ in range(shape[0] * shape[1] // round(12 * diameter**2)):
        centre = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        radius = 0.5 * diameter * random.uniform(0.85, 1.15)
        soft = 1 / (1 + np.exp((np.hypot(y - centre[0], x - centre[1]) - radius) / 0.7))
        image = image + random.uniform(0.2, 0.6) * soft
    return random.poisson(photons * image, (n_frames, *shape)).astype(np.uint16)


@pytest.mark.parametrize("diameter", [6, 9, 14, 22])
@pytest.mark.parametrize("photons", [30, 1000])
def test_the_diameter_of_discs_is_found_within_a_quarter(diameter, photons):
    found = measure_diameter(discs(diameter, photons=photons))
    assert found.diameter_px == pytest.approx(diameter, rel=0.25)
    assert found.n_blobs == len(found.blobs)


def test_many_equal_discs_are_reliable():
    assert measure_diameter(discs(9, photons=1000)).reliable


def test_brightness_and_offset_scale_do_not_matter():
    movie = discs(9).astype(np.float32)
    first, second = measure_diameter(movie), measure_diameter(1000 * movie)
    assert second.diameter_px == pytest.approx(first.diameter_px, rel=0.01)


@pytest.mark.parametrize(
    "movie",
    [
        np.full((12, 40, 50), 7, np.uint8),
        np.full((12, 40, 50), np.nan, np.float32),
        np.random.default_rng(0).poisson(50, (30, 90, 90)),
        np.zeros((3, 1, 5)),
    ],
    ids=["constant", "missing", "noise", "tiny"],
)
def test_nothing_to_measure_gives_the_default_and_says_so(movie):
    found = measure_diameter(movie, config=ScaleConfig(default_diameter_px=11.0))
    assert found.diameter_px == 11.0
    assert not found.reliable
    assert found.n_blobs == 0


def test_one_picture_is_enough():
    found = measure_diameter(discs(10, photons=1000).mean(axis=0))
    assert found.diameter_px == pytest.approx(10, rel=0.25)


def test_missing_values_do_not_spread():
    movie = discs(10).astype(np.float32)
    movie[:, 20:30, 20:30] = np.nan
    movie[3] = np.nan
    assert measure_diameter(movie).diameter_px == pytest.approx(10, rel=0.25)


def test_excluded_pixels_are_not_looked_at():
    exclude = np.zeros((170, 190), np.bool_)
    exclude[:, :100] = True
    found = measure_diameter(discs(9), exclude=exclude)
    assert found.n_blobs > 0
    assert found.blobs[:, 1].min() >= 100


def test_what_is_no_movie_is_refused():
    with pytest.raises(SettingsError, match="T, Y, X"):
        measure_diameter(np.zeros(5))
    with pytest.raises(SettingsError, match="mask of the frames' size"):
        measure_diameter(np.zeros((5, 8, 8)), exclude=np.zeros((2, 2), np.bool_))


def test_real_somata_get_a_plausible_diameter():
    folder = os.environ.get("COCUYO_REAL_DATA")
    if not folder:
        pytest.skip("COCUYO_REAL_DATA does not name the folder of real recordings")
    with tifffile.TiffFile(Path(folder) / "minian_demo_1p" / "raw.tif") as file:
        movie = np.stack([page.asarray() for page in file.pages[::5]])
    # Footprints of the reference have a median equivalent diameter of 13.9 px.
    assert measure_diameter(movie).diameter_px == pytest.approx(13.9, rel=0.25)
