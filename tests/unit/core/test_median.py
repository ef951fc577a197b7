"""The quick median is that of NumPy."""

import numpy as np
import pytest

from cocuyo.core import median


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 10, 4096, 4097])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_quick_median_is_that_of_numpy_to_the_last_bit(size, kind):
    values = np.random.default_rng(size).normal(100, 30, size).astype(kind)
    assert median(values) == float(np.median(values))


def test_the_median_of_an_image_and_of_a_part_of_it():
    image = np.random.default_rng(0).integers(0, 9, (31, 18)).astype(np.float32)
    assert median(image) == np.median(image)
    assert median(image[::3, ::4]) == np.median(image[::3, ::4])
