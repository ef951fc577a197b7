"""Laws of whole runs: blocks, mirrors, gain and drift change nothing that they should not."""

from dataclasses import fields

import numpy as np
import pytest
from fake_engine import use_fake_engine
from flashing_movie import DIAMETER_PX, make_movie

from cocuyo.pipeline import segment

N_FRAMES = 200


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=N_FRAMES)


@pytest.fixture(scope="module", params=["srname", "networks"])
def run(request, movie, tmp_path_factory):
    """Run frames one of two ways: SRNAME without networks, or the default with a fake engine."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_engine(patch, folder, diameter_px=DIAMETER_PX)
        which = {"preset": "srname"} if request.param == "srname" else {"model": folder}
        yield lambda frames: segment(movie.recording(frames), **which)


@pytest.fixture(scope="module")
def drifting():
    """A movie with motion, so that blocks end within it."""
    time = np.arange(N_FRAMES)
    y, x = 3 * np.sin(time / 60) * np.minimum(1, time / 20), -4 * time / N_FRAMES
    return make_movie(n_frames=N_FRAMES, shifts=np.column_stack([y, x]))


@pytest.fixture(scope="module")
def still_result(run, movie):
    return run(movie.frames)


@pytest.fixture(scope="module")
def drifting_result(run, drifting):
    return run(drifting.frames)


def pairs(found, expected):
    """Index of each accepted ROI, and of the one within 2 pixels in the other result."""
    for i in np.flatnonzero(expected.rois.accepted):
        away = np.hypot(*(found.rois.centroids - expected.rois.centroids[i]).T)
        near = np.flatnonzero((away < 2) & found.rois.accepted)
        assert len(near) == 1
        yield int(near[0]), int(i)


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("frames_read", [1, 13, 50])
def test_blocks_of_any_size_give_the_same_result(
    run, drifting, drifting_result, monkeypatch, frames_read
):
    frame_bytes = 4 * drifting.frames[0].size
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", frames_read * frame_bytes)
    found, expected = run(drifting.frames), drifting_result
    for part in ("traces", "events", "motion"):
        for field in fields(getattr(expected, part)):
            np.testing.assert_array_equal(
                getattr(getattr(found, part), field.name),
                getattr(getattr(expected, part), field.name),
            )
    for name in ("raster", "probability", "valid", "times_s"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name, image in expected.projections.items():
        np.testing.assert_array_equal(found.projections[name], image)
    assert found.rois.ids == expected.rois.ids
    assert found.rois.reasons == expected.rois.reasons
    for name in ("indptr", "indices"):
        np.testing.assert_array_equal(
            getattr(found.rois.footprints, name), getattr(expected.rois.footprints, name)
        )
    # Images of candidates are sums over all frames in float32: the last digits know the blocks.
    np.testing.assert_allclose(found.rois.footprints.data, expected.rois.footprints.data, atol=1e-5)
    np.testing.assert_allclose(found.rois.score, expected.rois.score, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mirrored_movie_gives_mirrored_rois(run, movie, still_result, axis):
    found = run(np.flip(movie.frames, axis))
    mirrored = np.flip(found.rois.mask(), axis - 1)
    # Ties and pixels at a threshold may change sides.
    assert overlap(mirrored, still_result.rois.mask()) > 0.97
    assert found.rois.accepted.sum() == still_result.rois.accepted.sum()
    # Of each accepted ROI: a rejected candidate of noise at the threshold may come or go.
    counts = []
    for result, flip in ((found, True), (still_result, False)):
        kept = np.flatnonzero(result.rois.accepted)
        places = result.rois.centroids[kept]
        if flip:
            places[:, axis - 1] = movie.frames.shape[axis] - 1 - places[:, axis - 1]
        order = np.lexsort(np.rint(places).T)
        counts.append(result.events.count(len(result.rois))[kept][order].tolist())
    assert counts[0] == counts[1]


def test_twice_the_gain_changes_neither_rois_nor_events_nor_delta_f_over_f(
    run, movie, still_result
):
    # A power of two is exact in floating point.
    found = run(2 * movie.frames)
    np.testing.assert_array_equal(found.rois.mask(), still_result.rois.mask())
    np.testing.assert_array_equal(found.raster, still_result.raster)
    np.testing.assert_array_equal(found.traces.delta_f_over_f, still_result.traces.delta_f_over_f)
    np.testing.assert_array_equal(found.probability, still_result.probability)
    np.testing.assert_array_equal(found.traces.raw, 2 * still_result.traces.raw)


@pytest.mark.parametrize("gain", [0.037, 3.7])
def test_any_gain_changes_delta_f_over_f_in_its_last_digits_only(run, movie, still_result, gain):
    found = run((gain * movie.frames).astype(np.float32))
    assert overlap(found.rois.mask(), still_result.rois.mask()) > 0.97
    for here, there in pairs(found, still_result):
        np.testing.assert_allclose(
            found.traces.delta_f_over_f[here],
            still_result.traces.delta_f_over_f[there],
            atol=2e-3,  # a sixth of the noise
        )


def test_motion_is_undone(drifting, drifting_result):
    found = drifting_result.motion
    assert not found.flags.any()
    assert np.abs(found.shifts - drifting.shifts).max() < 0.15


def test_a_drifting_movie_gives_the_rois_of_the_still_one(drifting_result, still_result):
    in_view = drifting_result.valid
    expected = still_result.rois.mask() & in_view
    # Detections in single frames move some pixels at the edge of each cell.
    assert overlap(drifting_result.rois.mask(), expected) > 0.8


def test_a_drifting_movie_gives_the_traces_of_the_still_one(drifting_result, still_result):
    n_pairs = 0
    for here, there in pairs(drifting_result, still_result):
        moved = drifting_result.traces.delta_f_over_f[here]
        still = still_result.traces.delta_f_over_f[there]
        assert np.corrcoef(moved, still)[0, 1] > 0.98
        assert np.polyfit(still, moved, 1)[0] == pytest.approx(1, abs=0.06)
        n_pairs += 1
    assert n_pairs >= 4


def test_a_drifting_movie_gives_the_events_of_the_still_one(drifting_result, still_result):
    for here, there in pairs(drifting_result, still_result):
        onsets = [
            r.events.onset[r.events.roi == roi]
            for r, roi in ((drifting_result, here), (still_result, there))
        ]
        assert len(onsets[0]) == len(onsets[1])
        assert np.abs(onsets[0] - onsets[1]).max() <= 2
