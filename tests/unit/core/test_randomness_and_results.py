"""Named random streams; empty traces and events."""

import numpy as np
import pytest

from cocuyo.core import Events, Traces, stream


def test_a_stream_depends_on_seed_and_name_alone():
    first = stream(3, "simulation.noise").random(4)
    stream(3, "another step").random(100)
    np.testing.assert_array_equal(stream(3, "simulation.noise").random(4), first)


@pytest.mark.parametrize(("seed", "name"), [(4, "a"), (3, "b"), (3, "a "), (0, "a")])
def test_another_seed_or_name_is_another_stream(seed, name):
    assert not np.array_equal(stream(3, "a").random(4), stream(seed, name).random(4))


def test_a_stream_stays_the_same_from_version_to_version():
    # Results name their seed; this pins what the seed means.
    assert stream(1, "a").integers(0, 1000, 4).tolist() == [974, 731, 947, 371]


def test_no_roi_has_empty_traces_of_the_recordings_length():
    traces = Traces.empty(9)
    assert traces.raw.shape == traces.dog.shape == (0, 9)
    assert traces.threshold.shape == (0,)


def test_events_are_counted_for_every_roi_also_those_without():
    three = np.array([0, 2, 2], np.int32)
    events = Events(three, three, three, three, np.ones(3, np.float32))
    assert len(events) == 3
    assert events.count(4).tolist() == [1, 0, 2, 0]
    assert Events.empty().count(2).tolist() == [0, 0]
