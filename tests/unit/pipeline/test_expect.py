"""What a run is expected to take: as measured, and from the size alone."""

import numpy as np
import pytest

from cocuyo.core import MissingFrameRateError, Recording
from cocuyo.pipeline import PRESETS, expect, expected_cost

SIDE = 512


class Unreadable:
    """A movie that must not be read."""

    dtype = np.dtype(np.uint16)

    def __init__(self, shape=(3600, SIDE, SIDE)):
        self.shape = shape

    def read(self, start, stop):
        raise AssertionError


def recording(**facts):
    return Recording(Unreadable(), **({"frame_rate_hz": 6.67} | facts))


def expected(preset="default", **facts):
    return expect(recording(**facts), PRESETS[preset])


# Frames, side, frames a step, magnification: highest resident memory, MB (one run each, of
# simulated recordings; `peak_memory_mb` in run.json).
MEASURED = [
    ((400, 256, 5, 1.0), 449),
    ((400, 512, 5, 1.0), 541),
    ((3600, 512, 6, 1.0), 590),
    ((36000, 512, 6, 1.0), 586),
    ((300, 1024, 6, 1.0), 825),
    ((300, 2048, 6, 1.0), 2257),
    ((400, 256, 5, 2.5), 711),
    ((400, 512, 5, 2.5), 1092),
]


@pytest.mark.parametrize(("run", "measured_mb"), MEASURED)
def test_the_memory_is_that_of_measured_runs(run, measured_mb):
    n_frames, side, per_step, factor = run
    found = expected_cost(n_frames, side, side, frames_per_step=per_step, factor=factor)
    assert found.memory_mb == pytest.approx(measured_mb, rel=0.15)


# Processor time in seconds (benchmarks/speed.py).
@pytest.mark.parametrize(
    ("run", "measured_s"),
    [
        ((300, 256, 4), 4.9),
        ((300, 512, 4), 9.5),
        ((600, 512, 4), 14.6),
        ((3600, 512, 4), 59.6),
        ((10800, 512, 4), 155.1),
    ],
)
def test_the_time_is_that_of_measured_runs(run, measured_s):
    n_frames, side, per_step = run
    found = expected_cost(n_frames, side, side, frames_per_step=per_step)
    assert found.core_s == pytest.approx(measured_s, rel=0.25)


def test_memory_does_not_grow_with_the_length():
    short, long = expected_cost(100, 512, 512), expected_cost(100_000, 512, 512)
    assert short.memory_mb == long.memory_mb
    assert short.core_s < long.core_s


def test_small_cells_are_magnified_and_take_more():
    usual, small = expected(pixel_size_um=1.4), expected(pixel_size_um=2.4)
    assert small.memory_mb > usual.memory_mb
    assert small.core_s > usual.core_s
    assert expected(pixel_size_um=2.4, diameter_um=20.0) == usual
    assert expected() == usual  # nothing known: taken as it is


def test_networks_on_each_frame_take_more_time_and_none_less_memory():
    assert expected("paper").core_s > expected("default").core_s
    assert expected("srname").memory_mb == pytest.approx(390, rel=0.15)  # as measured


def test_more_cores_take_less_but_not_in_proportion():
    found = expected()
    assert found.core_s == found.wall_s(1) > found.wall_s(2) > found.wall_s(16) > found.core_s / 4


def test_without_a_frame_rate_nothing_is_expected():
    with pytest.raises(MissingFrameRateError):
        expect(Recording(Unreadable()), PRESETS["default"])
