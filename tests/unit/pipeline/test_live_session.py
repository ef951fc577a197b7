"""Following a source in this process: interruptions, losses, ends, and what is told."""

import json
import time

import numpy as np
import pytest
from flashing_movie import DIAMETER_PX, RATE_HZ, SHAPE, make_movie

from cocuyo.core import MissingFrameRateError, RecordingError
from cocuyo.io.live import LiveFacts, LiveFrame
from cocuyo.io.livefolder import LiveFolder
from cocuyo.pipeline import PRESETS, segment
from cocuyo.pipeline.live import Latencies, LiveOptions, complete, follow
from cocuyo.pipeline.provisional import ProvisionalConfig

N_FRAMES = 120
FACTS = LiveFacts(SHAPE, "<u2", RATE_HZ, 1.5, "flashing")
OPTIONS = LiveOptions(
    preset="srname",
    config=PRESETS["srname"],
    diameter_um=DIAMETER_PX * 1.5,
    publish=True,
    provisional=ProvisionalConfig(refresh_s=1.0, warm_up_s=1.0, keep_s=1.0),
)


class Frames:
    """A source with some frames, that then ends, fails or falls silent."""

    def __init__(self, frames, *, facts=FACTS, end="ends", numbers=None):
        self.facts = facts
        self.left = frames
        self.end = end
        self.numbers = range(len(frames)) if numbers is None else numbers
        self.published = []
        self.closed = False

    def open(self, stopped):
        return self.facts

    def frames(self, start):
        for number in self.numbers[start:]:
            yield LiveFrame(number, np.nan, self.left[number])
        if self.end == "fails":
            msg = "the camera is gone"
            raise RecordingError(msg)
        while self.end == "falls silent":
            time.sleep(0.01)
            yield None

    def publish(self, message):
        self.published.append(json.loads(json.dumps(message)))

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=N_FRAMES)


@pytest.fixture(scope="module")
def frames(movie):
    return movie.frames.astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    return lambda: LiveFolder(tmp_path / "s.live", {"settings": "these"})


def test_a_recording_that_broke_off_goes_on_from_what_was_kept(folder, frames, movie):
    broken = Frames(frames[:100], end="fails")
    with pytest.raises(RecordingError, match="the camera is gone"):
        follow(broken, folder(), OPTIONS)
    assert broken.closed
    again = folder()
    followed = follow(Frames(frames), again, OPTIONS)
    # Every second it was kept how far the first pass was: nothing before is analysed again.
    assert 100 - 3 * RATE_HZ <= again.record["taken_up_at"] <= 100
    assert (followed.n_frames, followed.n_dropped) == (N_FRAMES, 0)
    result = complete(followed, OPTIONS)
    assert "The maps are those made while the recording ran." in result.info.notes
    expected = segment(movie.recording(frames), preset="srname")
    np.testing.assert_array_equal(result.probability, expected.probability)
    np.testing.assert_array_equal(result.traces.raw, expected.traces.raw)
    np.testing.assert_array_equal(result.raster, expected.raster)
    assert result.rois.ids == expected.rois.ids


def test_what_was_kept_with_other_frames_is_not_taken_up(folder, frames, tmp_path):
    follow(Frames(frames), folder(), OPTIONS)
    for name in ("frames.npy", "frames.times"):
        (tmp_path / "s.live" / name).unlink()
    again = folder()
    followed = follow(Frames(np.ascontiguousarray(frames[:, ::-1])), again, OPTIONS)
    assert "taken_up_at" not in again.record
    assert followed.first.n_frames == N_FRAMES


def test_what_is_published_is_what_is_in_the_tables(folder, frames, tmp_path):
    source = Frames(frames)
    followed = follow(source, folder(), OPTIONS)
    kinds = [message["type"] for message in source.published]
    assert kinds[-1] == "closed"
    assert kinds.count("event") == followed.n_events
    told = [message for message in source.published if message["type"] == "rois"][-1]["rois"]
    rows = [line.split(",") for line in (tmp_path / "s.live" / "rois.csv").read_text().splitlines()]
    assert [roi["id"] for roi in told] == [row[0] for row in rows[1:] if row[1] != "0"]
    assert len(told) == followed.n_rois > 0


def test_the_recording_ends_when_no_frame_came_for_a_while(folder, frames):
    options = LiveOptions(preset="srname", config=PRESETS["srname"], diameter_um=12.0, idle_s=0.3)
    followed = follow(Frames(frames[:60], end="falls silent"), folder(), options)
    assert followed.recording.n_frames == 60


def test_the_recording_ends_when_somebody_says_so(folder, frames):
    seen = []

    def stopped():
        return any(status.n_analysed == 60 for status in seen)

    source = Frames(frames[:60], end="falls silent")
    followed = follow(source, folder(), OPTIONS, show=seen.append, stopped=stopped)
    assert followed.n_frames == 60
    assert [s.stage for s in seen][-1] == "finishing"


def test_lost_frames_are_counted_over_an_interruption_too(folder, frames):
    numbers = [*range(50), *range(53, 90), *range(95, 120)]
    with pytest.raises(RecordingError):
        follow(Frames(frames, numbers=numbers[:80], end="fails"), folder(), OPTIONS)
    followed = follow(Frames(frames, numbers=numbers), folder(), OPTIONS)
    assert (followed.n_frames, followed.n_dropped) == (112, 8)
    assert followed.recording.times_s[50] == pytest.approx(53 / RATE_HZ)


def test_too_few_frames_to_begin_are_left_to_the_last_pass(folder, frames):
    followed = follow(Frames(frames[:1]), folder(), OPTIONS)
    assert (followed.n_frames, followed.first, followed.recording) == (1, None, None)
    with pytest.raises(RecordingError, match="two frames"):
        complete(followed, OPTIONS)


def test_an_unknown_rate_is_said_at_the_first_frame(folder, frames):
    facts = LiveFacts(SHAPE, "<u2", None, 1.5, "flashing")
    source = Frames(frames, facts=facts, end="falls silent")
    with pytest.raises(MissingFrameRateError, match="--frame-rate"):
        follow(source, folder(), OPTIONS)


def test_latencies_are_told_within_a_percent():
    random = np.random.default_rng(0)
    latencies, values = Latencies(), random.lognormal(-3.5, 0.5, 5000)
    assert latencies.summary()["p99_ms"] is None
    for value in values:
        latencies.add(float(value))
    told = latencies.summary()
    assert told["n_frames"] == 5000
    assert told["p50_ms"] == pytest.approx(1e3 * np.percentile(values, 50), rel=0.02)
    assert told["p99_ms"] == pytest.approx(1e3 * np.percentile(values, 99), rel=0.02)
    assert told["max_ms"] == pytest.approx(1e3 * values.max(), abs=0.01)
