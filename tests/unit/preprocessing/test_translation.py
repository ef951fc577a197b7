"""Moving an image as a whole."""

import numpy as np
import pytest

from cocuyo.preprocessing.translation import translate


def _by_definition(image, dy, dx, weights):
    """Interpolate at each place, one axis after the other, with the border repeated."""
    for axis, move in ((0, dy), (1, dx)):
        whole = int(np.floor(move))
        places = np.arange(image.shape[axis]) + whole
        image = sum(
            weight * np.take(image, np.clip(places + tap, 0, image.shape[axis] - 1), axis=axis)
            for tap, weight in weights(move - whole)
        )
    return image


def _linear(f):
    return ((0, 1 - f), (1, f))


def _catmull_rom(f):
    return (
        (-1, 0.5 * (-f + 2 * f**2 - f**3)),
        (0, 0.5 * (2 - 5 * f**2 + 3 * f**3)),
        (1, 0.5 * (f + 4 * f**2 - 3 * f**3)),
        (2, 0.5 * (-(f**2) + f**3)),
    )


@pytest.mark.parametrize(
    ("dy", "dx"),
    [(0.3, -0.4), (-7.25, 9.5), (3.0, -2.0), (40.6, -0.2), (-35.5, 61.1), (-500.0, 0.5)],
)
@pytest.mark.parametrize(("cubic", "weights"), [(False, _linear), (True, _catmull_rom)])
def test_an_image_is_interpolated_where_the_shift_says(dy, dx, cubic, weights):
    image = np.random.default_rng(0).normal(100, 20, (60, 47)).astype(np.float32)
    expected = _by_definition(image.astype(float), dy, dx, weights)
    np.testing.assert_allclose(translate(image, dy, dx, cubic=cubic), expected, atol=1e-3)


def test_the_result_can_be_written_into_a_given_array():
    image = np.random.default_rng(0).normal(100, 20, (60, 47)).astype(np.float32)
    for shift in (0.3, 40.3):
        out = np.empty_like(image)
        translate(image, shift, shift, out=out)
        np.testing.assert_array_equal(out, translate(image, shift, shift))
