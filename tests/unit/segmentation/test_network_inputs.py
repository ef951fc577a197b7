"""What the networks are given, and the settings that say so."""

import numpy as np
import pytest
from pydantic import ValidationError

from cocuyo.core import ModelError
from cocuyo.segmentation import (
    TemporalConfig,
    UNetConfig,
    pad_to_multiple,
    temporal_inputs,
    unet_multiple,
)


def image_of(shape, seed=0):
    image = np.random.default_rng(seed).random(shape, np.float32)
    image.setflags(write=False)
    return image


@pytest.mark.parametrize("shape", [(45, 61), (16, 17), (1, 1), (3, 50)])
def test_padding_reaches_the_next_multiple_and_keeps_the_image(shape):
    image = image_of(shape)
    padded = pad_to_multiple(image, 16)
    assert all(
        side % 16 == 0 and 0 <= side - given < 16
        for side, given in zip(padded.shape, shape, strict=True)
    )
    np.testing.assert_array_equal(padded[: shape[0], : shape[1]], image)


def test_padding_mirrors_the_lower_and_right_border():
    padded = pad_to_multiple(np.arange(6, dtype=np.float32).reshape(2, 3), 4)
    np.testing.assert_array_equal(padded, [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]])


def test_an_image_that_fits_is_not_copied():
    image = image_of((32, 48))
    assert pad_to_multiple(image, 16) is image


@pytest.mark.parametrize(
    ("levels", "stride", "multiple"), [(1, 1, 2), (3, 1, 8), (3, 2, 16), (4, 1, 16)]
)
def test_the_input_is_a_multiple_of_all_strides(levels, stride, multiple):
    assert unet_multiple(UNetConfig(n_levels=levels, stem_stride=stride)) == multiple


def test_the_temporal_network_sees_probability_and_compressed_contrast():
    probability, contrast = image_of((5, 7)), 20 * image_of((5, 7), seed=1)
    inputs = temporal_inputs(probability, contrast, TemporalConfig(resolution="full"))
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[0], probability)
    np.testing.assert_allclose(np.sinh(inputs[1]) * 2, contrast, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (1, 9)])
def test_half_resolution_is_the_mean_of_squares_with_the_border_repeated(shape):
    image = image_of(shape)
    config = TemporalConfig(contrast_input=False, resolution="half")
    whole = np.pad(image, [(0, side % 2) for side in shape], mode="edge")
    rows, columns = whole.shape
    means = whole.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(temporal_inputs(image, None, config), [means], atol=1e-6)


def test_a_network_with_contrast_says_so_where_there_is_none():
    with pytest.raises(ModelError, match="needs the temporal contrast"):
        temporal_inputs(image_of((4, 4)), None, TemporalConfig())


def test_a_network_without_contrast_does_not_look_at_it():
    config = TemporalConfig(contrast_input=False, resolution="full")
    image = image_of((4, 6))
    np.testing.assert_array_equal(
        temporal_inputs(image, np.full((4, 6), np.nan, np.float32), config), [image]
    )


@pytest.mark.parametrize(
    ("step_s", "rate_hz", "frames"),
    [(0.6, 10.0, 6), (0.6, 6.67, 4), (0.6, 1.0, 1), (None, 50.0, 1)],
)
def test_a_step_holds_the_frames_of_its_duration_and_at_least_one(step_s, rate_hz, frames):
    assert TemporalConfig(step_s=step_s).frames_per_step(rate_hz) == frames


def test_an_even_kernel_is_refused():
    with pytest.raises(ValidationError, match="kernel is 4"):
        TemporalConfig(kernel=4)
