"""Curated results: new shapes get the traces that a run would give them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cocuyo.core import Recording, Result, ResultError
from cocuyo.core.curation import (
    Draw,
    Edit,
    EventThreshold,
    Merge,
    Part,
    Pixels,
    Reject,
    Reshape,
    Split,
    shape_of,
)
from cocuyo.io import TraceStore
from cocuyo.pipeline import curated_result, retrace, segment, shape_key
from cocuyo.simulation import PRESETS, simulate


@pytest.fixture(scope="module")
def recording() -> Recording:
    small = PRESETS["demo"].model_copy(update={"n_frames": 150, "n_rows": 96, "n_columns": 112})
    return simulate(small, seed=2).recording()


@pytest.fixture(scope="module")
def result(recording: Recording) -> Result:
    found = segment(recording, preset="srname")
    assert len(found.rois) >= 4
    return found


def _refuse() -> Recording:
    msg = "the recording must not be opened"
    raise AssertionError(msg)


def _absent() -> Recording:
    from cocuyo.core import RecordingError

    msg = "slice.tif is not found."
    raise RecordingError(msg)


def test_the_same_shape_drawn_again_has_the_same_traces(recording: Recording, result: Result):
    again = retrace(recording, result, result.rois)
    for name in ("raw", "neuropil", "corrected", "delta_f_over_f", "dog"):
        np.testing.assert_allclose(
            getattr(again.traces, name), getattr(result.traces, name), rtol=1e-4, atol=1e-4
        )
    np.testing.assert_array_equal(again.raster, result.raster)
    np.testing.assert_array_equal(again.events.onset, result.events.onset)


def test_a_shape_traced_alone_has_the_same_traces(recording: Recording, result: Result):
    row = _crowded(result)
    alone = shape_of(result.rois, result.rois.ids[row : row + 1])
    name = result.rois.ids[row]
    after = curated_result(result, [Reshape(roi=name, shape=alone)], recording=recording)
    for trace in ("raw", "neuropil"):
        found, expected = getattr(after.traces, trace)[row], getattr(result.traces, trace)[row]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def _crowded(result: Result) -> int:
    """The ROI that has another one nearest, and so within its ring."""
    gaps = np.hypot(*(result.rois.centroids[:, None] - result.rois.centroids).T)
    gaps[np.diag_indices_from(gaps)] = np.inf
    assert gaps.min() < 2 * result.diameter_px
    return int(np.argmin(gaps.min(axis=0)))


def test_traces_of_a_shape_do_not_depend_on_the_other_edits(recording: Recording, result: Result):
    first, second = result.rois.ids[:2]
    shape = shape_of(result.rois, [first, second])
    shrunk = Pixels(y=shape.y[:30], x=shape.x[:30])
    one: list[Edit] = [Reshape(roi=first, shape=shrunk)]
    two: list[Edit] = [*one, Draw(roi="mine", shape=shape), Reject(rois=(second,))]
    alone = curated_result(result, one, recording=recording)
    among = curated_result(result, two, recording=recording)
    np.testing.assert_allclose(alone.traces.raw[0], among.traces.raw[0], rtol=1e-5)
    np.testing.assert_allclose(alone.traces.neuropil[0], among.traces.neuropil[0], rtol=1e-5)


def test_a_drawn_roi_has_the_mean_of_its_pixels(recording: Recording, result: Result):
    still = replace(result, motion=replace(result.motion, shifts=result.motion.shifts * 0))
    shape = Pixels(y=(40, 40, 41), x=(50, 51, 50), weight=(1.0, 0.2, 0.5))
    after = curated_result(still, [Draw(roi="mine", shape=shape)], recording=recording)
    frames = recording.movie.read(0, recording.n_frames)
    mean = (frames[:, 40, 50].astype(float) + frames[:, 40, 51] + frames[:, 41, 50]) / 3
    np.testing.assert_allclose(after.traces.raw[-1], mean, rtol=1e-5)
    assert after.rois.ids[-1] == "mine"
    assert after.rois.accepted[-1]
    assert after.rois.snr[-1] > 0


def test_accepting_and_rejecting_need_no_recording(result: Result):
    edits = [Reject(rois=(result.rois.ids[0],))]
    after = curated_result(result, edits, recording=_refuse)
    assert not after.rois.accepted[0]
    assert "1 rejected" in after.info.notes[-1]


def test_a_moved_threshold_cuts_events_by_height_alone(result: Result):
    i = int(np.argmax(result.events.count(len(result.rois))))
    name, dog = result.rois.ids[i], result.traces.dog[i]
    highest = float(dog.max())
    at = curated_result(
        result, [EventThreshold(roi=name, threshold_sd=0.99 * highest)], recording=_refuse
    )
    events = at.events
    assert (events.roi == i).sum() == 1
    peak = int(np.argmax(dog))
    (onset,), (offset,) = events.onset[events.roi == i], events.offset[events.roi == i]
    assert onset <= peak <= offset
    np.testing.assert_allclose(at.traces.threshold[i], 0.99 * highest, rtol=1e-5)
    np.testing.assert_allclose(at.traces.dog[i], dog, atol=1e-4)
    above = curated_result(
        result, [EventThreshold(roi=name, threshold_sd=1.01 * highest)], recording=_refuse
    )
    assert not above.raster[i].any()
    others = np.arange(len(result.rois)) != i
    np.testing.assert_array_equal(at.raster[others], result.raster[others])


def test_a_threshold_counts_for_the_new_shape(recording: Recording, result: Result):
    name = result.rois.ids[0]
    edits: list[Edit] = [
        Reshape(roi=name, shape=shape_of(result.rois, result.rois.ids[:2])),
        EventThreshold(roi=name, threshold_sd=1e5),
    ]
    after = curated_result(result, edits, recording=recording)
    assert after.traces.threshold[0] == np.float32(1e5)
    assert not after.raster[0].any()
    assert not np.allclose(after.traces.raw[0], result.traces.raw[0])


def test_kept_traces_are_used_and_damaged_ones_read_again(
    recording: Recording, result: Result, tmp_path: Path
):
    half = shape_of(result.rois, result.rois.ids[:1])
    parts = (
        Part(roi="a", shape=Pixels(y=half.y[:20], x=half.x[:20])),
        Part(roi="b", shape=Pixels(y=half.y[20:], x=half.x[20:])),
    )
    edits = [Split(roi=result.rois.ids[0], parts=parts)]
    store = TraceStore(tmp_path)
    first = curated_result(result, edits, recording=recording, cache=store)
    second = curated_result(result, edits, recording=_refuse, cache=store)
    np.testing.assert_array_equal(first.traces.raw, second.traces.raw)
    np.testing.assert_array_equal(first.raster, second.raster)
    np.testing.assert_array_equal(first.events.peak, second.events.peak)
    kept = sorted((tmp_path / "edits.traces").iterdir())
    assert [path.stem for path in kept] == sorted(
        shape_key(first.rois, len(first.rois) - k) for k in (1, 2)
    )
    kept[0].write_bytes(b"nonsense")
    third = curated_result(result, edits, recording=recording, cache=store)
    np.testing.assert_allclose(third.traces.raw, first.traces.raw, rtol=1e-5)


def test_without_the_recording_a_merge_has_the_weighted_mean_and_says_so(
    recording: Recording, result: Result
):
    pair = result.rois.ids[:2]
    edits = [Merge(rois=pair, roi="both", shape=shape_of(result.rois, pair))]
    exact = curated_result(result, edits, recording=recording)
    after = curated_result(result, edits, recording=_absent)
    overlap = set(result.rois.footprints[[0]].indices) & set(result.rois.footprints[[1]].indices)
    assert not overlap  # so that the mean is exact
    np.testing.assert_allclose(after.traces.raw[-1], exact.traces.raw[-1], rtol=1e-5)
    assert "slice.tif is not found" in after.info.warnings[-1]
    assert "both" in after.info.warnings[-1]
    assert exact.info.warnings == result.info.warnings


def test_without_the_recording_a_new_shape_is_refused_in_one_line(result: Result):
    for edit in (
        Draw(roi="mine", shape=Pixels(y=(40,), x=(50,))),
        Merge(rois=result.rois.ids[:2], roi="mine", shape=Pixels(y=(40,), x=(50,))),
    ):
        with pytest.raises(ResultError, match=r"mine.*slice.tif is not found.*--recording"):
            curated_result(result, [edit], recording=_absent)


def test_another_recording_is_refused(recording: Recording, result: Result):
    other = Recording.from_array(recording.movie.read(0, 60), frame_rate_hz=20)
    with pytest.raises(ResultError, match="has 60 frames"):
        retrace(other, result, result.rois)
