"""Several recordings of one field: one set of ROIs, and what each recording shows of it."""

from dataclasses import fields, replace

import numpy as np
import pytest
from flashing_movie import ACTIVE, DIAMETER_PX, RATE_HZ, SHAPE, SILENT, make_movie
from scipy import sparse

from cocuyo.core import (
    FLAG_FLASH,
    Cancelled,
    MissingFrameRateError,
    Quality,
    Recording,
    RecordingError,
    RoiSet,
)
from cocuyo.core.curation import Draw, EventThreshold, Merge, Pixels
from cocuyo.pipeline import (
    curated_result,
    events_from,
    merge_candidates,
    retrace,
    retrace_one,
    segment_experiment,
)

N_FRAMES = (160, 120)
OFFSET = (4.0, -3.0)
FIRST, SECOND = ACTIVE[:3], ACTIVE[2:]
"""Cells that flash in each recording; one does in both."""


def flashing(active, n_frames, *, offset=(0.0, 0.0), **given):
    """A recording of the field; what does not flash is there all the same."""
    silent = (*SILENT, *(cell for cell in ACTIVE if cell not in active))
    shifts = np.broadcast_to(np.asarray(offset, float), (n_frames, 2))
    return make_movie(
        active=active, silent=silent, n_frames=n_frames, shifts=shifts, rest=0.4, **given
    )


def analysed(recordings, **given):
    return segment_experiment(recordings, **{"preset": "srname"} | given)


@pytest.fixture(scope="module")
def movies():
    return flashing(FIRST, N_FRAMES[0]), flashing(SECOND, N_FRAMES[1], offset=OFFSET)


@pytest.fixture(scope="module")
def recordings(movies):
    return [
        movie.recording(name=name) for movie, name in zip(movies, ("before", "after"), strict=True)
    ]


@pytest.fixture(scope="module")
def result(recordings):
    return analysed(recordings)


def at(rois, centre):
    """Index of the accepted ROI at a place."""
    away = np.hypot(*(rois.centroids - np.array(centre)).T)
    away[~rois.accepted] = np.inf
    assert away.min() < 2, centre
    return int(away.argmin())


# --- One set of ROIs ---------------------------------------------------------------------------


def test_what_flashes_in_any_recording_is_one_neuron_of_the_experiment(result):
    places = [at(result.rois, cell) for cell in ACTIVE]
    assert len(set(places)) == len(ACTIVE) == result.rois.accepted.sum()


def test_each_recording_says_which_neurons_it_shows_alone(result):
    ids = result.rois.ids
    for part, cells in zip(result.parts, (FIRST, SECOND), strict=True):
        assert set(part.found) == {ids[at(result.rois, cell)] for cell in cells}


def test_coordinates_are_those_of_the_first_recording(result, movies):
    truth = flashing(ACTIVE, 60).masks
    for cell, mask in zip(ACTIVE, truth, strict=True):
        found = np.zeros(SHAPE, np.bool_)
        rows, columns, _ = result.rois.pixels(at(result.rois, cell))
        found[rows, columns] = True
        assert (found & mask).sum() / (found | mask).sum() > 0.6


def test_false_events_are_counted_in_the_traces_of_both(result):
    found, accepted = result.info.false_events, int(result.rois.accepted.sum())
    frames = accepted * result.n_frames
    assert found["n_rois"] == accepted
    copies = found["whole_min"] * 60 * result.frame_rate_hz / frames
    assert copies == pytest.approx(round(copies), rel=0.05)
    assert found["at_rest_per_min"] is not None


def test_the_field_is_followed_to_a_tenth_of_a_pixel(result):
    first, second = result.parts
    assert first.offset_px == (0.0, 0.0)
    assert first.correlation == 1.0
    assert second.offset_px == pytest.approx(OFFSET, abs=0.1)
    assert second.correlation > 0.9
    np.testing.assert_allclose(result.motion.shifts[second.start], OFFSET, atol=0.1)
    note = next(note for note in result.info.notes if "The field lies" in note)
    assert note.startswith("after: The field lies 4.0 px down and 3.0 px left of where it lay in b")


def test_the_first_recording_lies_as_it_does_alone(result, recordings):
    assert not result.motion.shifts[0].any()
    assert result.parts[0].valid.all()
    # Rows at the top and columns at the right went out of view in the second one.
    assert not result.parts[1].valid[-4:].any()
    assert not result.parts[1].valid[:, :3].any()
    assert result.valid.all()


def test_candidates_that_nobody_accepts_stay_with_their_reason(result):
    rejected = np.flatnonzero(~result.rois.accepted)
    assert all(result.rois.reasons[i] for i in rejected)
    assert not any(result.rois.reasons[i] for i in np.flatnonzero(result.rois.accepted))


# --- Traces of each recording ------------------------------------------------------------------


def test_frames_follow_one_another_from_0(result):
    assert result.n_frames == sum(N_FRAMES)
    assert [(part.start, part.stop) for part in result.parts] == [(0, 160), (160, 280)]
    np.testing.assert_allclose(result.times_s, np.arange(280) / RATE_HZ)


def test_each_trace_is_that_of_its_cell_in_each_recording(result, movies):
    for part, movie, cells in zip(result.parts, movies, (FIRST, SECOND), strict=True):
        for cell, course in zip(cells, movie.courses, strict=True):
            trace = result.traces.delta_f_over_f[at(result.rois, cell), part.start : part.stop]
            assert np.corrcoef(trace, course)[0, 1] > 0.96


def test_a_neuron_is_silent_where_it_does_not_flash(result):
    for part, cells in zip(result.parts, (FIRST, SECOND), strict=True):
        for cell in ACTIVE:
            active = result.raster[at(result.rois, cell), part.start : part.stop].any()
            assert active == (cell in cells)


def test_no_event_crosses_from_one_recording_to_the_next(result):
    border = result.parts[1].start
    assert not ((result.events.onset < border) & (result.events.offset >= border)).any()
    order = np.lexsort((result.events.onset, result.events.roi))
    assert (order == np.arange(len(order))).all()


def test_the_light_of_one_recording_does_not_change_the_trace_of_another(
    result, recordings, movies
):
    brighter = movies[1].recording(movies[1].frames * 2, name="after")
    again = analysed([recordings[0], brighter])
    for cell in FIRST:
        one, other = (
            each.part(0).traces.delta_f_over_f[at(each.rois, cell)] for each in (result, again)
        )
        np.testing.assert_allclose(other, one, atol=0.01)


def test_a_step_of_the_lamp_in_one_recording_is_said_with_its_name_and_makes_no_event(
    result, recordings, movies
):
    light = np.where(np.arange(N_FRAMES[0]) < 80, 1.0, 0.9)[:, None, None]
    dimmed = (movies[0].frames * light).astype(movies[0].frames.dtype)
    again = analysed([movies[0].recording(dimmed, name="before"), recordings[1]])
    (note,) = [note for note in again.info.notes if "The light" in note]
    assert note.startswith("before: The light of the whole field changed by -10")
    assert "at 10.0 s (frame 80)" in note
    assert not any("The light" in note for note in result.info.notes)
    for cell in ACTIVE:
        one, other = at(result.rois, cell), at(again.rois, cell)
        expected = result.events.onset[result.events.roi == one]
        found = again.events.onset[again.events.roi == other]
        assert len(found) == len(expected)
        assert np.abs(found - expected).max(initial=0) <= 2
        if cell not in FIRST:  # silent before and after the step
            assert not again.raster[other, : N_FRAMES[0]].any()


def test_a_step_of_the_lamp_in_the_second_recording_stands_at_its_own_time(recordings, movies):
    light = np.where(np.arange(N_FRAMES[1]) < 60, 1.0, 1.08)[:, None, None]
    brighter = (movies[1].frames * light).astype(movies[1].frames.dtype)
    again = analysed([recordings[0], movies[1].recording(brighter, name="after")])
    (note,) = [note for note in again.info.notes if "The light" in note]
    assert note.startswith("after: The light of the whole field changed by +8")
    assert "at 7.5 s (frame 60)" in note


def test_the_quality_of_each_roi_is_known(result):
    quality = result.rois.quality
    assert len(quality) == len(result.rois)
    assert np.isfinite(quality.skewness).all()
    assert (quality.skewness[result.rois.accepted] > 0.5).all()
    assert np.isfinite(quality.compactness).all()


def test_a_part_is_a_result_with_times_from_0(result):
    second = result.part(1)
    assert second.n_frames == N_FRAMES[1]
    assert second.times_s[0] == 0.0
    assert second.name == "after"
    assert not second.parts
    np.testing.assert_array_equal(second.raster, result.raster[:, 160:])
    assert len(result.part(0).events) + len(second.events) == len(result.events)
    for roi, onset, offset in zip(
        second.events.roi, second.events.onset, second.events.offset, strict=True
    ):
        assert second.raster[roi, onset : offset + 1].all()


def test_one_recording_is_an_experiment_of_one(recordings):
    alone = analysed(recordings[:1])
    assert [part.name for part in alone.parts] == ["before"]
    assert alone.name == "before"
    assert alone.rois.accepted.sum() == len(FIRST)


def test_recordings_without_any_activity_give_nothing():
    quiet = [flashing((), 60).recording(name=name) for name in ("a", "b")]
    found = analysed(quiet)
    assert not found.rois.accepted.any()
    assert found.traces.raw.shape == (len(found.rois), 120)
    assert found.raster.shape == (len(found.rois), 120)


# --- What leaves the view ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def far():
    """The second recording lies so far up that the cells of the first rows are not in it."""
    movies = flashing(ACTIVE, 120), flashing(SECOND, 120, offset=(-15.5, 0.0))
    pair = [m.recording(name=name) for m, name in zip(movies, ("here", "there"), strict=True)]
    return pair, analysed(pair)


def test_what_leaves_the_view_has_zeros_and_a_warning(far):
    _, result = far
    gone = at(result.rois, ACTIVE[0])
    there = result.parts[1]
    assert not there.in_view(result.rois)[gone]
    assert result.parts[0].in_view(result.rois)[gone]
    for name in ("raw", "neuropil", "corrected", "delta_f_over_f", "dog"):
        values = getattr(result.traces, name)
        assert np.isfinite(values).all()
        assert not values[gone, there.start :].any()
        assert values[gone, : there.start].any()
    assert not result.raster[gone, there.start :].any()
    name = result.rois.ids[gone]
    assert any(
        text.startswith("there: not in view") and name in text for text in result.info.warnings
    )


def test_figures_of_what_leaves_the_view_are_those_of_where_it_is(far):
    _, result = far
    gone = at(result.rois, ACTIVE[0])
    alone = analysed(far[0][:1])
    same = at(alone.rois, ACTIVE[0])
    assert result.traces.noise[gone] == pytest.approx(alone.traces.noise[same], rel=0.05)
    assert result.rois.snr[gone] == pytest.approx(alone.rois.snr[same], rel=0.05)


# --- What does not belong together -------------------------------------------------------------


def test_another_field_is_refused_with_the_figure(recordings):
    other = make_movie(
        active=((20, 20), (40, 60)), silent=((12, 40), (55, 20)), n_frames=60, seed=7
    ).recording(name="elsewhere")
    with pytest.raises(RecordingError, match=r"elsewhere does not show the field of before.*0\.\d"):
        analysed([recordings[0], other])


def test_another_field_is_told_before_anything_is_analysed(recordings, monkeypatch):
    other = make_movie(
        active=((33, 18), (50, 40)), silent=((24, 42), (10, 62)), n_frames=60, seed=6
    ).recording(name="elsewhere")
    monkeypatch.setattr("cocuyo.pipeline.experiment.first_pass", None)
    with pytest.raises(RecordingError, match="run it alone"):
        analysed([recordings[0], other])


def test_frames_of_another_size_are_refused(recordings, movies):
    smaller = movies[1].recording(movies[1].frames[:, :-2], name="small")
    with pytest.raises(RecordingError, match=r"small has frames of 62 x 72 .* before of 64 x 72"):
        analysed([recordings[0], smaller])


def test_another_rate_is_refused_with_both(recordings, movies):
    slower = movies[1].recording(frame_rate_hz=4.0, name="slow")
    with pytest.raises(RecordingError, match=r"slow has 4 frames per second, before 8"):
        analysed([recordings[0], slower])


def test_rates_that_differ_by_less_than_a_percent_are_one(recordings):
    almost = replace(recordings[1], frame_rate_hz=RATE_HZ * 1.005)
    result = analysed([recordings[0], almost])
    assert result.frame_rate_hz == RATE_HZ
    step = np.diff(result.times_s)
    np.testing.assert_allclose(step[:160], 1 / RATE_HZ)
    np.testing.assert_allclose(step[160:], 1 / (RATE_HZ * 1.005))


def test_another_magnification_is_refused(recordings):
    with pytest.raises(RecordingError, match=r"pixels of 2 µm, before of 1\.5 µm"):
        analysed([recordings[0], replace(recordings[1], pixel_size_um=2.0)])


def test_a_rate_that_nobody_knows_is_refused(recordings):
    with pytest.raises(MissingFrameRateError):
        analysed([recordings[0], replace(recordings[1], frame_rate_hz=None)])


def test_no_recording_is_refused():
    with pytest.raises(RecordingError, match="at least one"):
        analysed([])


def test_names_become_folders_that_differ(recordings):
    one, two = recordings
    named = [replace(one, name="a"), replace(two, name="A"), replace(one, name="../x:y. ")]
    names = [part.name for part in analysed(named).parts]
    assert names == ["a", "A-2", "_x_y"]


# --- How it runs -------------------------------------------------------------------------------


def test_pixels_that_are_left_out_are_left_out_of_all_where_the_field_lies(recordings):
    exclude = np.zeros(SHAPE, np.bool_)
    exclude[40:, 40:] = True  # around a cell that flashes in the second recording only
    result = analysed(recordings, exclude=exclude)
    assert not result.valid[exclude].any()
    assert not exclude.ravel()[result.rois.footprints.indices].any()
    assert result.rois.accepted.sum() == len(ACTIVE) - 1


def test_pixels_that_are_left_out_hide_nothing_else_where_the_field_moved(movies):
    up = flashing(SECOND, 120, offset=(-15.5, 0.0)).recording(name="up")
    exclude = np.zeros(SHAPE, np.bool_)
    exclude[28:42, 50:64] = True  # where a cell lies that flashes in the second recording only
    result = analysed([movies[0].recording(name="still"), up], exclude=exclude)
    assert result.rois.ids[at(result.rois, ACTIVE[3])] in result.parts[1].found


def test_a_run_that_was_killed_goes_on_from_the_maps(recordings, result, tmp_path):
    def stop(progress):
        if progress.stage.startswith("extracting") and "2 of 2" in progress.stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        analysed(recordings, work=tmp_path, progress=stop)
    again = analysed(recordings, work=tmp_path)
    taken = [note for note in again.info.notes if "taken over from a run" in note]
    assert [note.partition(":")[0] for note in taken] == ["before", "after"]
    np.testing.assert_array_equal(again.traces.raw, result.traces.raw)


def test_the_progress_names_the_recording(recordings):
    stages = []
    analysed(recordings, progress=lambda told: stages.append(told.stage))
    assert {"segmenting (recording 1 of 2)", "segmenting (recording 2 of 2)"} <= set(stages)


# --- Merging -----------------------------------------------------------------------------------


def candidates(*entries):
    """Make a set of rectangles: (rows, columns, score, accepted, reason)."""
    masks = np.zeros((len(entries), 20, 20), np.float32)
    for mask, (rows, columns, *_) in zip(masks, entries, strict=True):
        mask[slice(*rows), slice(*columns)] = 1
    given = RoiSet.given(sparse.csr_array(masks.reshape(len(masks), -1)), (20, 20))
    return replace(
        given,
        accepted=np.array([entry[3] for entry in entries], np.bool_),
        reasons=tuple(entry[4] for entry in entries),
        score=np.array([entry[2] for entry in entries], np.float32),
        snr=np.ones(len(entries), np.float32),
    )


HERE, NEAR, AWAY = ((2, 8), (2, 8)), ((3, 8), (2, 8)), ((12, 18), (12, 18))


def test_the_better_of_two_accepted_ones_keeps_its_outline():
    merged = merge_candidates(
        [candidates((*HERE, 0.7, True, "")), candidates((*NEAR, 0.9, True, ""))]
    )
    assert merged.rois.area_px.tolist() == [30]
    assert merged.rois.score.tolist() == pytest.approx([0.9])
    assert merged.found == (("roi_0001",), ("roi_0001",))


def test_an_accepted_one_goes_before_a_rejected_one_of_better_score():
    merged = merge_candidates(
        [candidates((*HERE, 0.9, False, "no event")), candidates((*NEAR, 0.6, True, ""))]
    )
    assert merged.rois.accepted.tolist() == [True]
    assert merged.rois.area_px.tolist() == [30]
    assert merged.found == ((), ("roi_0001",))


def test_what_nobody_accepts_keeps_the_reason_of_the_best():
    merged = merge_candidates(
        [candidates((*HERE, 0.2, False, "blurred")), candidates((*NEAR, 0.4, False, "too small"))]
    )
    assert merged.rois.accepted.tolist() == [False]
    assert merged.rois.reasons == ("too small",)


def test_a_reason_that_names_another_roi_names_it_by_its_new_id():
    beside = ((7, 10), (7, 10))
    second = candidates(
        (*NEAR, 0.9, True, ""), (*beside, 0.1, False, "shows the same neuron as roi_0001")
    )
    merged = merge_candidates([candidates((*AWAY, 0.9, True, "")), second])
    assert merged.rois.reasons == ("", "", "shows the same neuron as roi_0002")
    assert merged.found == (("roi_0001",), ("roi_0002",))


def test_what_is_known_of_the_quality_goes_with_the_outline_that_is_kept():
    first, second = (
        candidates((*AWAY, 0.6, True, ""), (*HERE, 0.7, True, "")),
        candidates((*NEAR, 0.9, True, "")),
    )
    known = replace(Quality.unknown(2), agreement=np.array([0.5, 0.6], np.float32))
    merged = merge_candidates([replace(first, quality=known), second])
    np.testing.assert_array_equal(merged.rois.quality.agreement, np.array([0.5, np.nan], "f4"))


def test_no_candidate_at_all_merges_to_none():
    merged = merge_candidates([RoiSet.empty((20, 20)), RoiSet.empty((20, 20))])
    assert len(merged.rois) == 0
    assert merged.found == ((), ())


# --- Curation ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joined(movies):
    """The recordings one after the other, as a result folder opens them."""
    return Recording.from_array(
        np.concatenate([movie.frames for movie in movies]), frame_rate_hz=RATE_HZ
    )


def test_new_shapes_are_traced_in_each_recording_alone(result, joined):
    rows = np.flatnonzero(result.rois.accepted)
    rois = RoiSet.given(result.rois.footprints[rows], SHAPE, ids=[result.rois.ids[i] for i in rows])
    again = retrace(joined, result, rois)
    for each in fields(again.traces):
        values = getattr(result.traces, each.name)[rows]
        np.testing.assert_allclose(getattr(again.traces, each.name), values, atol=1e-4)
    np.testing.assert_array_equal(again.raster, result.raster[rows])


def test_one_shape_is_traced_as_all_are(far):
    pair, result = far
    frames = np.concatenate([one.movie.read(0, one.n_frames) for one in pair])
    whole = Recording.from_array(frames, frame_rate_hz=RATE_HZ)
    for cell in (ACTIVE[0], ACTIVE[3]):  # the first is not in view of the second recording
        row = at(result.rois, cell)
        rois = RoiSet.given(result.rois.footprints[[row]], SHAPE)
        index = result.rois.footprints[[row]].indices
        one, every = retrace_one(whole, result, index), retrace(whole, result, rois)
        np.testing.assert_allclose(
            one.traces.delta_f_over_f, every.traces.delta_f_over_f, atol=1e-4
        )
        np.testing.assert_array_equal(one.raster, every.raster)
        assert one.traces.raw.shape == (1, result.n_frames)


def test_events_at_a_moved_threshold_stay_in_their_recording(result):
    rows = slice(0, 2)
    traces = replace(
        result.traces,
        **{each.name: getattr(result.traces, each.name)[rows] for each in fields(result.traces)},
    )
    low = events_from(result, traces, result.rois.ids[rows], np.array([0.5, 0.5], np.float32))
    border = result.parts[1].start
    assert not ((low.events.onset < border) & (low.events.offset >= border)).any()
    assert (low.events.onset >= border).any()
    assert low.raster.shape == (2, result.n_frames)


def test_flagged_frames_of_a_recording_hold_no_event_at_a_moved_threshold(result):
    row = at(result.rois, ACTIVE[3])
    active = np.flatnonzero(result.raster[row])
    assert active.min() >= result.parts[1].start
    flags = np.array(result.motion.flags)
    flags[active[0] - 2 : active[0] + 30] = FLAG_FLASH
    flagged = replace(result, motion=replace(result.motion, flags=flags))
    traces = replace(
        result.traces,
        **{each.name: getattr(result.traces, each.name)[[row]] for each in fields(result.traces)},
    )
    found = [
        events_from(each, traces, ["x"], np.array([4.0], np.float32)).raster[0]
        for each in (result, flagged)
    ]
    assert found[0][active[0] : active[0] + 20].any()
    assert not found[1][active[0] : active[0] + 20].any()


def test_a_curated_experiment_is_one_with_the_same_parts(result, joined):
    one, other = (result.rois.ids[at(result.rois, cell)] for cell in ACTIVE[:2])
    rows = [result.rois.footprints[[result.rois.ids.index(name)]].indices for name in (one, other)]
    y, x = np.divmod(np.concatenate(rows), SHAPE[1])
    shape = Pixels(y=tuple(y.tolist()), x=tuple(x.tolist()))
    drawn = Pixels(y=(30, 30, 31, 31), x=(30, 31, 30, 31))
    edits = (
        Merge(rois=(one, other), roi="roi_9001", shape=shape),
        Draw(roi="roi_9002", shape=drawn),
        EventThreshold(roi=result.rois.ids[at(result.rois, ACTIVE[3])], threshold_sd=6.0),
    )
    after = curated_result(result, edits, recording=joined)
    assert after.parts == result.parts
    assert {"roi_9001", "roi_9002"} <= set(after.rois.ids)
    assert after.part(1).n_frames == N_FRAMES[1]
    # Without the recording the traces of a merge are made of those that are there.
    without = curated_result(result, edits[:1])
    row = without.rois.ids.index("roi_9001")
    assert np.isfinite(without.traces.delta_f_over_f[row]).all()


def test_the_diameter_is_that_of_the_first_for_all(recordings):
    result = analysed(recordings)
    assert result.diameter_px == pytest.approx(DIAMETER_PX)
