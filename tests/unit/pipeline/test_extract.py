"""Traces of given ROIs: all stay, nothing is judged, and their numbers are those of a run."""

from dataclasses import fields, replace

import numpy as np
import pytest
from fake_engine import use_fake_engine
from fake_judge import still_judge
from flashing_movie import ACTIVE, DIAMETER_PX, RATE_HZ, SHAPE, SILENT, disc, make_movie
from scipy import ndimage

from cocuyo.core import (
    Cancelled,
    MissingFrameRateError,
    Recording,
    RecordingError,
    Result,
    ResultError,
    RoiSet,
)
from cocuyo.pipeline import PRESETS, extract, segment, write_part
from cocuyo.preprocessing import MotionConfig

N_FRAMES = 160
CENTRES = (*ACTIVE, *SILENT)
IDS = ("left", "b", "a", "7", "cell µ", "s1", "s2", "s3", "s4")
STILL = PRESETS["srname"].model_copy(update={"motion": MotionConfig(method="none")})


def drawn(centres=CENTRES, **given):
    weights = np.array([disc(centre, DIAMETER_PX / 2) for centre in centres])
    return RoiSet.given(np.where(weights >= 0.5, weights, 0), **given)


def traced(recording, rois, **given):
    return extract(recording, rois, **{"preset": "srname"} | given)


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=N_FRAMES)


@pytest.fixture(scope="module")
def rois():
    return drawn(ids=IDS)


@pytest.fixture(scope="module")
def result(movie, rois):
    return traced(movie.recording(), rois)


# --- What comes back ---------------------------------------------------------------------------


def test_every_roi_stays_with_its_id_order_and_weights(result, rois):
    assert result.rois.ids == IDS
    assert result.rois.accepted.all()
    assert not any(result.rois.reasons)
    np.testing.assert_allclose(result.rois.footprints.toarray(), rois.footprints.toarray())


def test_each_trace_is_that_of_its_cell(movie, result):
    for trace, course in zip(result.traces.delta_f_over_f, movie.courses, strict=False):
        assert np.corrcoef(trace, course)[0, 1] > 0.97


def test_an_roi_without_any_event_stays_accepted(result):
    counts = result.events.count(len(result.rois))
    assert (counts[: len(ACTIVE)] == 3).all()
    assert (counts[len(ACTIVE) :] == 0).any()
    assert result.rois.accepted.all()


def test_an_roi_beside_its_cell_agrees_less_with_what_flashes(movie, result):
    beside = drawn([(y, x + 0.5 * DIAMETER_PX) for y, x in ACTIVE])
    agreement = result.rois.quality.agreement[: len(ACTIVE)]
    assert (agreement > 0.7).all()
    assert (traced(movie.recording(), beside).rois.quality.agreement < agreement - 0.2).all()


def test_false_events_are_counted_in_given_rois_too(result):
    assert result.info.false_events["n_rois"] == int(result.rois.accepted.sum())


def test_nothing_is_made_up_where_no_network_ran(result):
    assert not result.probability.any()
    assert np.isnan(result.rois.score).all()
    assert result.info.engine == "none"
    assert result.info.task == "extract"
    assert any("No network was run" in note for note in result.info.notes)


@pytest.mark.parametrize("preset", ["default", "srname"])
def test_no_network_is_loaded(movie, rois, tmp_path, monkeypatch, preset):
    use_fake_engine(monkeypatch, tmp_path, diameter_px=DIAMETER_PX, config=PRESETS[preset])
    monkeypatch.setattr("cocuyo.pipeline.run.load_engine", None)
    assert len(extract(movie.recording(), rois, model=tmp_path).rois) == len(rois)


@pytest.mark.parametrize("preset", ["default", "srname"])
def test_all_candidates_of_a_run_have_the_numbers_of_the_run(movie, tmp_path, monkeypatch, preset):
    use_fake_engine(monkeypatch, tmp_path, diameter_px=DIAMETER_PX, config=PRESETS[preset])
    moves = 0.4 * np.random.default_rng(1).standard_normal((N_FRAMES, 2)).cumsum(axis=0).clip(-4, 4)
    recording = make_movie(n_frames=N_FRAMES, shifts=moves - moves[0]).recording()
    run = segment(recording, model=tmp_path)
    again = extract(recording, run.rois, model=tmp_path, include_rejected=True)
    for field in fields(run.traces):
        name = field.name
        np.testing.assert_array_equal(getattr(again.traces, name), getattr(run.traces, name))
    np.testing.assert_array_equal(again.raster, run.raster)
    np.testing.assert_array_equal(again.motion.shifts, run.motion.shifts)
    for name, image in run.projections.items():
        np.testing.assert_array_equal(again.projections[name], image)
    np.testing.assert_array_equal(again.rois.snr, run.rois.snr)


def test_the_judge_of_the_model_judges_events_but_no_roi(movie, rois, tmp_path, monkeypatch):
    use_fake_engine(monkeypatch, tmp_path, diameter_px=DIAMETER_PX)
    write_part(tmp_path, still_judge())
    found = extract(movie.recording(), rois, model=tmp_path)
    assert len(found.events) == 0
    assert found.rois.accepted.all()


def test_a_result_of_given_rois_is_saved_and_loaded_equal(movie, tmp_path):
    some = drawn((ACTIVE[0], (200, 200), ACTIVE[1]), ids=("x", "beyond", "y"))
    result = traced(movie.recording(), some)
    loaded = Result.load(result.save(tmp_path / "result"))
    for field in fields(result.traces):
        name = field.name
        np.testing.assert_array_equal(getattr(loaded.traces, name), getattr(result.traces, name))
    np.testing.assert_array_equal(loaded.rois.score, result.rois.score)
    assert loaded.rois.ids == result.rois.ids
    assert loaded.rois.reasons == result.rois.reasons
    assert loaded.info == result.info


# --- Which ROIs --------------------------------------------------------------------------------


def test_rejected_rois_are_left_out_and_that_is_said(movie):
    two = replace(drawn(CENTRES[:2]), accepted=np.array([False, True]), reasons=("dim", ""))
    kept = traced(movie.recording(), two)
    assert kept.rois.ids == ("roi_0002",)
    assert any("left out (1;" in note for note in kept.info.notes)
    both = traced(movie.recording(), two, include_rejected=True)
    assert both.rois.accepted.tolist() == [True, True]
    assert both.rois.reasons == ("", "")


def test_one_without_pixels_stays_rejected_with_its_reason_and_without_numbers(movie):
    given = drawn((ACTIVE[0], (200, 200), (-50, 9), ACTIVE[1]), reasons=("", "", "is a point", ""))
    found = traced(movie.recording(), given)
    assert found.rois.accepted.tolist() == [True, False, False, True]
    assert found.rois.reasons == ("", "has no pixel in the frame", "is a point", "")
    for field in fields(found.traces):
        assert np.isnan(getattr(found.traces, field.name)[1:3]).all()
        assert np.isfinite(getattr(found.traces, field.name)[[0, 3]]).all()
    assert set(found.events.roi.tolist()) == {0, 3}
    assert any("roi_0002, roi_0003" in warning for warning in found.info.warnings)


def test_one_without_pixels_changes_nothing_for_the_others(movie):
    alone = traced(movie.recording(), drawn(ACTIVE[:2]))
    beside = traced(movie.recording(), drawn(((200, 200), *ACTIVE[:2])))
    np.testing.assert_array_equal(beside.traces.corrected[1:], alone.traces.corrected)
    np.testing.assert_array_equal(beside.raster[1:], alone.raster)


def test_rois_that_all_lie_beyond_the_frame_give_a_result_without_traces(movie, tmp_path):
    found = traced(movie.recording(), drawn(((200, 200), (-90, 3))))
    assert not found.rois.accepted.any()
    assert np.isnan(found.traces.raw).all()
    assert Result.load(found.save(tmp_path / "r")).raster.shape == (2, N_FRAMES)


def test_what_is_not_in_view_at_all_times_is_cut_or_rejected(movie):
    moves = np.zeros((N_FRAMES, 2))
    moves[60:90] = (-8, 0)
    drifting = make_movie(n_frames=N_FRAMES, shifts=moves)
    given = drawn(((3, 20), (7, 40), (40, 40)), ids=("out", "half", "in"))
    found = traced(drifting.recording(), given)
    assert found.rois.accepted.tolist() == [False, True, True]
    assert found.rois.reasons[0] == "is not in view at all times"
    kept = found.valid.ravel()[found.rois.footprints.indices]
    assert not kept[: found.rois.area_px[0]].any()
    assert kept[found.rois.area_px[0] :].all()
    assert found.rois.area_px[0] == given.area_px[0]
    assert found.rois.area_px[1] < given.area_px[1]
    assert any("Cut to the pixels" in note and "half" in note for note in found.info.notes)


def test_excluded_pixels_belong_to_no_accepted_roi(movie, rois):
    exclude = np.zeros(SHAPE, np.bool_)
    exclude[:24, :24] = True
    exclude[:, 32:] = True
    found = traced(movie.recording(), rois, exclude=exclude)
    assert found.rois.reasons[0] == "lies in excluded pixels"
    assert not (found.rois.mask() & exclude).any()
    assert found.rois.accepted[2]
    assert found.rois.footprints[[2]].max() == 1


def test_little_that_is_left_of_an_roi_is_warned_about(movie, rois):
    exclude = np.ones(SHAPE, np.bool_)
    exclude[:, 32:] = False  # a third of "a" is left
    found = traced(movie.recording(), rois, exclude=exclude)
    assert found.rois.accepted[2]
    assert any("Less than half" in w and w.endswith(" a.") for w in found.info.warnings)


# --- The soma's diameter -----------------------------------------------------------------------


def test_without_pixel_size_the_diameter_is_that_of_the_rois(movie):
    bare = Recording.from_array(movie.frames, frame_rate_hz=RATE_HZ)
    found = traced(bare, drawn())
    assert found.diameter_px == pytest.approx(DIAMETER_PX, rel=0.05)
    assert any("median of the given ROIs" in note for note in found.info.notes)


def test_what_the_recording_says_of_the_diameter_goes_before_the_rois(movie):
    large = RoiSet.given(np.ones((1, *SHAPE)))
    assert traced(movie.recording(), large).diameter_px == DIAMETER_PX
    bare = Recording.from_array(movie.frames, frame_rate_hz=RATE_HZ)
    assert traced(replace(bare, diameter_px=9.0), drawn()).diameter_px == 9.0
    assert traced(bare, large).diameter_px < 20  # measured: no soma fills the frame


# --- Another recording of the field ------------------------------------------------------------


@pytest.fixture(scope="module")
def before(result):
    return result.projections["mean"]


@pytest.fixture(scope="module")
def later():
    """The same field, 4 px further down and 6 px further left."""
    return make_movie(n_frames=120, shifts=np.tile((4.2, -5.9), (120, 1)))


def test_rois_follow_a_field_that_has_moved(later, before):
    found = traced(later.recording(), drawn(ACTIVE), reference=before, align=True)
    np.testing.assert_allclose(found.rois.centroids, np.add(ACTIVE, (4, -6)), atol=0.1)
    for trace, course in zip(found.traces.delta_f_over_f, later.courses, strict=True):
        assert np.corrcoef(trace, course)[0, 1] > 0.97
    (said,) = (note for note in found.info.notes if "The field lies" in note)
    assert "4.2 px down and 5.9 px left" in said


def test_a_field_that_has_moved_is_warned_about_where_the_rois_stay(later, before):
    found = traced(later.recording(), drawn(ACTIVE), reference=before)
    np.testing.assert_allclose(found.rois.centroids, ACTIVE, atol=0.1)
    assert any("down and" in w and "--align moves them" in w for w in found.info.warnings)


def test_a_field_that_has_not_moved_is_not_warned_about(movie, rois, before):
    for align in (False, True):
        found = traced(movie.recording(), rois, reference=before, align=align)
        assert not found.info.warnings
        np.testing.assert_allclose(found.rois.footprints.toarray(), rois.footprints.toarray())


def test_another_field_is_not_aligned(before):
    other = make_movie(n_frames=80, active=((20, 30), (44, 44)), silent=((40, 12),), seed=5)
    with pytest.raises(ResultError, match="same field of view"):
        traced(other.recording(), drawn(), reference=before, align=True)
    found = traced(other.recording(), drawn(), reference=before)
    assert any("does not resemble" in warning for warning in found.info.warnings)


@pytest.mark.parametrize(("share", "is_same"), [(0.9, True), (0.5, False)])
def test_a_shift_is_believed_only_where_it_explains_most_of_the_picture(share, is_same):
    rng = np.random.default_rng(2)
    common, own, other = ndimage.gaussian_filter(rng.standard_normal((3, 160, 180)), (0, 2, 2))
    first = 1000 + 100 * (share * common + (1 - share) * own) / common.std()
    moved = 1000 + 100 * (share * common + (1 - share) * other) / common.std()
    still = np.repeat(np.roll(moved, (5, -3), axis=(0, 1))[None], 60, axis=0)
    still += 5 * rng.standard_normal(still.shape)
    recording = Recording.from_array(still.astype(np.float32), frame_rate_hz=RATE_HZ)
    given = RoiSet.given(np.pad(np.ones((1, 6, 6)), ((0, 0), (70, 84), (80, 94))))
    found = traced(recording, given, reference=first.astype(np.float32))
    said = " ".join(found.info.warnings)
    assert ("5.0 px down and 3.0 px left" in said) == is_same
    assert ("does not resemble" in said) != is_same


def test_an_roi_that_the_shift_moves_beyond_the_frame_stays_without_pixels(later, before):
    found = traced(later.recording(), drawn(((34, 1), (34, 31))), reference=before, align=True)
    assert found.rois.accepted.tolist() == [False, True]
    assert found.rois.reasons[0] == "has no pixel in the frame"


# --- Refusals and odd recordings ---------------------------------------------------------------


def test_rois_of_another_frame_size_are_refused_with_both_sizes(movie, before):
    other = RoiSet.given(np.ones((1, 20, 30)))
    with pytest.raises(ResultError, match=r"20 x 30 .* 64 x 72"):
        traced(movie.recording(), other)
    with pytest.raises(ResultError, match=r"20 x 30 .* 64 x 72"):
        traced(movie.recording(), drawn(), reference=before[:20, :30])


def test_no_accepted_roi_is_refused(movie):
    none = replace(drawn(), accepted=np.zeros(len(CENTRES), np.bool_))
    with pytest.raises(ResultError, match="--all takes the 9 rejected ones"):
        traced(movie.recording(), none)
    with pytest.raises(ResultError, match="no accepted ROI"):
        traced(movie.recording(), RoiSet.empty(SHAPE))


def test_aligning_needs_a_reference(movie):
    with pytest.raises(ResultError, match="give it as reference"):
        traced(movie.recording(), drawn(), align=True)


def test_a_recording_without_rate_or_frames_is_refused(movie):
    with pytest.raises(MissingFrameRateError):
        traced(Recording.from_array(movie.frames), drawn())
    with pytest.raises(RecordingError, match="two frames"):
        traced(movie.recording(movie.frames[:1]), drawn())
    with pytest.raises(RecordingError, match="shape"):
        traced(movie.recording(), drawn(), exclude=np.zeros((4, 5), np.bool_))


def test_a_constant_movie_has_flat_traces_and_no_event(rois):
    constant = Recording.from_array(
        np.full((40, *SHAPE), 77, np.uint16), frame_rate_hz=5.0, pixel_size_um=1.5
    )
    found = traced(constant, rois)
    assert len(found.events) == 0
    assert found.rois.accepted.all()
    assert not found.traces.delta_f_over_f.any()
    assert any("No frame can be used" in warning for warning in found.info.warnings)


def test_unusable_frames_are_interpolated(movie, rois):
    frames = movie.frames.copy()
    frames[70:73] = np.nan
    found = traced(movie.recording(frames), rois, config=STILL)
    assert np.isfinite(found.traces.delta_f_over_f).all()


def test_progress_names_what_is_done_and_can_stop_it(movie, rois):
    seen = []
    traced(movie.recording(), rois, progress=seen.append)
    stages = list(dict.fromkeys(told.stage for told in seen))
    assert (stages[0], stages[-1]) == ("correcting motion", "comparing footprints")
    assert "segmenting" not in stages

    def stop(progress):
        raise Cancelled

    with pytest.raises(Cancelled):
        traced(movie.recording(), rois, progress=stop)


def test_neither_the_frames_nor_the_rois_are_modified(movie):
    rois = drawn(((0, 0), *ACTIVE))
    before = rois.footprints.toarray()
    rois.footprints.data.flags.writeable = False
    traced(movie.recording(), rois)
    np.testing.assert_array_equal(rois.footprints.toarray(), before)
