"""Events that a judge found: apart, in order, and what the raster shows, whatever it answers."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cocuyo.postprocessing import ValidationConfig, find_events


@dataclass
class FixedJudge:
    """Answers what it was given."""

    answer: np.ndarray

    def probability(self, scaled, usable, *, frame_rate_hz):
        return self.answer.copy()


@given(
    seed=st.integers(0, 2**32 - 1),
    n_frames=st.integers(1, 120),
    rate_hz=st.sampled_from([2.0, 5.0, 6.67, 20.0, 60.0]),
    sparse=st.sampled_from([0.2, 1.0, 4.0, 20.0]),
    least=st.sampled_from([0.0, 1e-4, 0.4, 1.0]),
    measured=st.floats(0, 1),
)
def test_judged_events_are_apart_and_make_the_raster(
    seed, n_frames, rate_hz, sparse, least, measured
):
    rng = np.random.default_rng(seed)
    traces = rng.normal(size=(2, n_frames)).cumsum(axis=1).astype(np.float32)
    judge = FixedJudge((rng.random((2, n_frames)) ** sparse).astype(np.float32))
    found = find_events(
        traces,
        frame_rate_hz=rate_hz,
        usable=rng.random(n_frames) < measured,
        judge=judge,
        config=ValidationConfig(min_probability=least),
    )
    events = found.events
    assert np.isfinite(events.amplitude).all()
    assert (events.onset <= events.peak).all()
    assert (events.peak <= events.offset).all()
    raster = np.zeros_like(found.raster)
    for roi, onset, offset in zip(events.roi, events.onset, events.offset, strict=True):
        assert not raster[roi, onset : offset + 1].any()  # no two share a frame
        raster[roi, onset : offset + 1] = True
    np.testing.assert_array_equal(raster, found.raster)
