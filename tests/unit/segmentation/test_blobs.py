"""The blob detector: a soma stands out, an even frame is empty."""

import numpy as np
import pytest
from scipy import ndimage

from cocuyo.segmentation import BlobConfig, detect_blobs

DIAMETER = 9.0
SHAPE = (70, 91)
CENTRES = ((20, 25), (45, 60))


def disc(centre, diameter=DIAMETER):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= diameter / 2


def frame_with_discs(height=0.3, diameter=DIAMETER):
    frame = 0.4 + 0.03 * np.random.default_rng(0).standard_normal(SHAPE)
    for centre in CENTRES:
        frame += height * disc(centre, diameter)
    frame = frame.astype(np.float32)
    frame.setflags(write=False)
    return frame


def share_found(blobs, where):
    return blobs[where].mean()


@pytest.mark.parametrize("centre", CENTRES)
def test_a_planted_disc_is_one_blob_of_about_its_size(centre):
    labels, _ = ndimage.label(detect_blobs(frame_with_discs(), diameter_px=DIAMETER))
    label = labels[centre]
    assert label > 0
    found = labels == label
    union = (found | disc(centre)).sum()
    assert (found & disc(centre)).sum() / union > 0.6


def test_little_is_found_beside_the_discs():
    blobs = detect_blobs(frame_with_discs(), diameter_px=DIAMETER)
    near = np.any([disc(centre, 2 * DIAMETER) for centre in CENTRES], axis=0)
    # 2.5 robust standard deviations of Gaussian noise: 0.6 % on the bright side.
    assert share_found(blobs, ~near) < 0.03


def test_dark_discs_are_not_blobs():
    blobs = detect_blobs(frame_with_discs(height=-0.3), diameter_px=DIAMETER)
    assert not any(share_found(blobs, disc(centre)) for centre in CENTRES)


def test_a_slope_of_brightness_adds_no_blobs():
    even = frame_with_discs()
    slope = np.linspace(0, 1, SHAPE[1], dtype=np.float32)
    blobs, sloping = (detect_blobs(f, diameter_px=DIAMETER) for f in (even, even + slope))
    # The border is mirrored: there a slope has a bend.
    inner = (slice(12, -12), slice(12, -12))
    assert (blobs[inner] != sloping[inner]).mean() < 0.01


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0, 1234.5])
@pytest.mark.parametrize("shape", [(64, 64), (45, 61)])
def test_a_constant_frame_has_no_blobs(level, shape):
    assert not detect_blobs(np.full(shape, level, np.float32), diameter_px=DIAMETER).any()


@pytest.mark.parametrize("gain", [0.25, 8.0])
def test_the_gain_does_not_matter(gain):
    # Powers of two: the arithmetic is exact, and so is the equality.
    frame = frame_with_discs()
    np.testing.assert_array_equal(
        detect_blobs(np.float32(gain) * frame, diameter_px=DIAMETER),
        detect_blobs(frame, diameter_px=DIAMETER),
    )


def test_the_offset_does_not_matter():
    frame = frame_with_discs()
    moved = detect_blobs(frame + np.float32(0.5), diameter_px=DIAMETER)
    # A pixel on the very threshold may turn over with rounding.
    assert (moved != detect_blobs(frame, diameter_px=DIAMETER)).mean() < 1e-3


def test_a_higher_threshold_never_adds_a_pixel():
    frame = frame_with_discs(height=0.1)
    low, high = (
        detect_blobs(frame, diameter_px=DIAMETER, config=BlobConfig(threshold_sd=sd))
        for sd in (2.0, 4.0)
    )
    assert high.any()
    assert (low | ~high).all()
    assert low.sum() > high.sum()
