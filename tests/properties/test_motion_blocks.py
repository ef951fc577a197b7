"""Blocks of any size give the shifts of the whole, bit for bit."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocuyo.preprocessing import MotionConfig, place_frames, start_motion


def _movie():
    random = np.random.default_rng(4)
    field = cv2.GaussianBlur(random.standard_normal((80, 90)).astype(np.float32), (0, 0), 2.5)
    field = 1 + 0.3 * field / field.std()
    frames = [
        random.poisson(100 * np.clip(np.roll(field, (i // 8, -(i // 12)), (0, 1)), 0, None))
        for i in range(56)
    ]
    movie = np.asarray(frames, dtype=np.float32)
    movie[21] *= 2
    movie[25] = np.nan
    movie[30] = random.poisson(100, movie.shape[1:])
    return movie[:, 8:61, 8:73]


MOVIE = _movie()
WHOLE = {}


@pytest.mark.parametrize("method", ["template_correlation", "lucas_kanade", "none"])
@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, 56), max_size=6))
def test_blocks_equal_whole(method, cuts):
    start = start_motion(MOVIE[:32], config=MotionConfig(method=method), diameter_px=7.0)
    if method not in WHOLE:
        WHOLE[method] = place_frames(MOVIE, start)[0]
    whole = WHOLE[method]
    state, parts = start, []
    edges = [0, *sorted(cuts), 56]
    for first, last in pairwise(edges):
        part, state = place_frames(MOVIE[first:last], state)
        parts.append(part)
    for name in ("shifts", "confidence", "flags"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(joined, getattr(whole, name))


def test_placing_does_not_change_the_state_it_starts_from():
    start = start_motion(MOVIE[:32], diameter_px=7.0)
    first, _ = place_frames(MOVIE, start)
    again, _ = place_frames(MOVIE, start)
    assert np.array_equal(first.shifts, again.shifts)
