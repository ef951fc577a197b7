"""The whole job: results with every field right, also where there is nothing to find."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from fake_engine import use_fake_engine
from flashing_movie import ACTIVE, DIAMETER_PX, RATE_HZ, SHAPE, SILENT, make_movie

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_INVALID,
    Cancelled,
    MissingFrameRateError,
    ModelError,
    Recording,
    RecordingError,
    Result,
    RoiSet,
    SettingsError,
)
from cocuyo.pipeline import PRESETS, segment, with_inputs, write_part
from cocuyo.pipeline.run import warn_of_size, with_false_events
from cocuyo.postprocessing import FEATURES, ValidationConfig, Verifier

N_FRAMES = 160
WAYS = ("srname", "networks")


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=N_FRAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run one of two ways: SRNAME without networks, or the default with a fake engine."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_engine(patch, folder, diameter_px=DIAMETER_PX)

        def go(way, recording, **given):
            which = {"preset": "srname"} if way == "srname" else {"model": folder}
            return segment(recording, **(which | given))

        yield go


@pytest.fixture(scope="module")
def results(movie, run):
    return {way: run(way, movie.recording()) for way in WAYS}


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def result(results, way):
    return results[way]


def overlap(first, second):
    return (first & second).sum() / max(1, (first | second).sum())


class Unreadable:
    """A movie whose frames must not be read."""

    shape = (50, *SHAPE)
    dtype = np.dtype(np.uint16)

    def read(self, start, stop):
        msg = f"frames {start} to {stop} were read"
        raise AssertionError(msg)


def test_flashing_cells_are_accepted_and_silent_ones_are_not(result):
    mask = result.rois.mask()
    assert sum(mask[centre] for centre in ACTIVE) >= 4
    assert not any(mask[centre] for centre in SILENT)


def test_every_array_has_the_shape_of_rois_frames_or_pixels(result):
    n = len(result.rois)
    for name in ("raw", "neuropil", "corrected", "delta_f_over_f", "dog"):
        assert getattr(result.traces, name).shape == (n, N_FRAMES)
    for name in ("neuropil_coefficient", "threshold", "noise"):
        assert getattr(result.traces, name).shape == (n,)
    assert result.raster.shape == (n, N_FRAMES)
    assert result.rois.score.shape == result.rois.snr.shape == (n,)
    for image in (result.probability, result.valid, *result.projections.values()):
        assert image.shape == SHAPE
    assert result.motion.shifts.shape == (N_FRAMES, 2)


def test_the_raster_is_the_union_of_the_events_of_all_rois(result):
    union = np.zeros_like(result.raster)
    events = result.events
    for roi, onset, offset in zip(events.roi, events.onset, events.offset, strict=True):
        union[roi, onset : offset + 1] = True
    np.testing.assert_array_equal(result.raster, union)


def test_every_rejected_candidate_stays_with_a_reason_and_no_accepted_one_has_one(results):
    rois = results["srname"].rois
    assert 0 < rois.accepted.sum() < len(rois)
    for result in results.values():
        for accepted, reason in zip(result.rois.accepted, result.rois.reasons, strict=True):
            assert accepted == (reason == "")


def test_rois_lie_on_valid_pixels(result):
    assert result.valid.ravel()[result.rois.footprints.indices].all()


def test_name_times_and_sizes_are_those_of_the_recording(movie, result):
    assert result.name == "flashing"
    assert result.frame_rate_hz == RATE_HZ
    assert result.pixel_size_um == 1.5
    assert result.diameter_px == DIAMETER_PX
    np.testing.assert_allclose(result.times_s, np.arange(N_FRAMES) / RATE_HZ)


def test_the_information_says_what_was_run(results):
    for way, result in results.items():
        info = result.info
        assert info.engine == ("fake" if way == "networks" else "none")
        assert info.precision == "f32"
        assert info.model == ("fake" if way == "networks" else "srname")
        assert {"setting up", "segmenting", "finishing"} == set(info.timings_s)
        assert {"python", "cocuyo", "numpy", "scipy"} <= set(info.versions)
        assert info.peak_memory_mb >= 0  # 0 where the system does not tell


def test_the_settings_in_the_information_are_the_complete_ones_of_the_run(results):
    wanted = {
        "networks": PRESETS["default"].model_dump(mode="json"),
        "srname": PRESETS["srname"].model_dump(mode="json"),
    }
    for way, result in results.items():
        assert result.info.settings == wanted[way]
        assert json.loads(json.dumps(result.info.settings)) == result.info.settings


def test_given_settings_take_the_place_of_the_models(movie, run):
    strict = PRESETS["srname"].model_copy(
        update={"validation": ValidationConfig(threshold_sd=500.0)}
    )
    found = run("srname", movie.recording(), config=strict, seed=11)
    assert not found.rois.accepted.any()
    assert found.info.settings["validation"]["threshold_sd"] == 500.0
    assert found.info.seed == 11


def test_notes_of_the_reader_and_of_the_motion_reach_the_information(movie, run):
    noted = replace(movie.recording(), notes=("Grey was taken from colour.",))
    found = run("srname", noted)
    assert found.info.notes[0] == "Grey was taken from colour."
    assert any("Largest shift" in note for note in found.info.notes)


def test_a_given_diameter_is_said(results):
    assert any("as given: 12 µm, 8.0 px" in n for n in results["srname"].info.notes)


def test_without_pixel_size_the_diameter_is_measured_and_said(movie, run):
    bare = Recording.from_array(movie.frames, frame_rate_hz=RATE_HZ)
    found = run("srname", bare)
    assert found.diameter_px == pytest.approx(DIAMETER_PX, rel=0.25)
    assert found.pixel_size_um is None
    assert any("measured" in note for note in found.info.notes)
    assert not any("diameter" in warning for warning in found.info.warnings)


def test_where_no_cell_can_be_measured_a_warning_says_what_was_assumed(run):
    blank = np.random.default_rng(0).poisson(100, (24, *SHAPE)).astype(np.uint16)
    found = run("srname", Recording.from_array(blank, frame_rate_hz=RATE_HZ))
    assert found.diameter_px == 10.0
    assert any("10.0 px, the best guess" in warning for warning in found.info.warnings)


def test_with_the_pixel_size_alone_the_diameter_is_measured_and_said(movie, run):
    sized = Recording.from_array(movie.frames, frame_rate_hz=RATE_HZ, pixel_size_um=1.25)
    found = run("srname", sized)
    assert found.diameter_px == pytest.approx(DIAMETER_PX, rel=0.25)
    assert any("measured" in note and "µm" in note for note in found.info.notes)


def test_a_measured_diameter_that_no_soma_has_is_not_believed(movie, run):
    sized = Recording.from_array(movie.frames, frame_rate_hz=RATE_HZ, pixel_size_um=0.5)
    found = run("srname", sized)
    assert found.diameter_px == pytest.approx(11 / 0.5)
    assert any("assumed: 11 µm" in note for note in found.info.notes)


def test_rois_of_another_size_than_somata_were_taken_for_are_warned_about():
    masks = np.zeros((9, 60, 60), np.bool_)
    for i in range(9):
        masks[i, 6 * i : 6 * i + 5, 10:15] = True  # 5.6 px across
    rois, told = RoiSet.given(masks), []
    for diameter_px, pixel_size_um in ((5.0, 2.0), (4.0, 2.0), (3.5, None), (9.0, 2.0)):
        told.append([])
        warn_of_size(rois, diameter_px, pixel_size_um, told[-1])
    assert told[:2] == [[], []]
    assert "5.6 px across" in told[2][0]
    assert "measure 9.0 px (18.0 µm)" in told[3][0]


def test_with_the_pixel_size_and_no_visible_cell_the_usual_diameter_is_assumed(run):
    blank = np.random.default_rng(0).poisson(100, (24, *SHAPE)).astype(np.uint16)
    sized = Recording.from_array(blank, frame_rate_hz=RATE_HZ, pixel_size_um=1.25)
    found = run("srname", sized)
    assert found.diameter_px == pytest.approx(11 / 1.25)
    assert any("assumed: 11 µm" in note for note in found.info.notes)


def test_a_diameter_in_um_without_pixel_size_is_refused(movie, run):
    bare = Recording.from_array(movie.frames, frame_rate_hz=RATE_HZ)
    with pytest.raises(SettingsError, match=r"12 µm was given.*--pixel-size"):
        run("srname", bare.with_metadata(diameter_um=12.0))


@pytest.mark.parametrize("diameter_px", [1.0, 50.0])
def test_a_diameter_that_makes_no_sense_is_refused(run, diameter_px):
    recording = Recording(Unreadable(), frame_rate_hz=RATE_HZ, diameter_px=diameter_px)
    with pytest.raises(SettingsError, match=r"at least 2 px"):
        run("srname", recording)


@pytest.mark.parametrize("n_frames", [0, 1])
def test_fewer_than_two_frames_are_refused(run, way, n_frames):
    recording = Recording.from_array(np.ones((n_frames, *SHAPE), np.uint16), frame_rate_hz=RATE_HZ)
    with pytest.raises(RecordingError, match="two frames"):
        run(way, recording)


def test_without_frame_rate_nothing_is_read(run, way):
    with pytest.raises(MissingFrameRateError, match="frame rate"):
        run(way, Recording(Unreadable(), pixel_size_um=1.5))


def test_a_mask_of_another_shape_is_refused(movie, run, way):
    with pytest.raises(RecordingError, match="shape"):
        run(way, movie.recording(), exclude=np.zeros((4, 5), np.bool_))


def test_an_unknown_model_is_refused(movie):
    with pytest.raises(ModelError, match="nonesuch"):
        segment(movie.recording(), model="nonesuch")


def test_a_model_folder_with_damaged_settings_is_refused(movie, tmp_path):
    (tmp_path / "model.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.json"):
        segment(movie.recording(), model=tmp_path)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_number_format_without_networks_is_refused(movie, precision):
    with pytest.raises(
        SettingsError, match=f"srname has no networks that could run in {precision}"
    ):
        segment(movie.recording(), preset="srname", precision=precision)


def test_the_verifier_of_the_model_judges(movie, results, tmp_path, monkeypatch):
    use_fake_engine(monkeypatch, tmp_path, diameter_px=DIAMETER_PX)
    n = len(FEATURES)
    never = Verifier(
        np.zeros(n, np.float32),
        np.ones(n, np.float32),
        (np.zeros((1, n), np.float32),),
        (np.full(1, -20, np.float32),),
    )
    write_part(tmp_path, never)
    found = segment(movie.recording(), model=tmp_path)
    assert len(found.rois) == len(results["networks"].rois)
    assert not found.rois.accepted.any()
    assert all(found.rois.reasons)


@pytest.mark.parametrize("value", [0, 77])
def test_a_constant_movie_gives_an_empty_result_with_every_field(run, way, value):
    constant = np.full((40, 50, 61), value, np.uint16)
    recording = Recording.from_array(constant, frame_rate_hz=5.0, pixel_size_um=1.5, name="dark")
    found = run(way, recording)
    assert len(found.rois) == len(found.events) == 0
    assert found.rois.frame_shape == (50, 61)
    assert found.raster.shape == (0, 40)
    for field in fields(found.traces):
        expected = (0,) if getattr(found.traces, field.name).ndim == 1 else (0, 40)
        assert getattr(found.traces, field.name).shape == expected
    assert not found.probability.any()
    assert set(found.projections) == {"mean_raw", "max_raw", "mean", "max", "contrast"}
    for image in found.projections.values():
        assert image.shape == (50, 61)
        assert np.isfinite(image).all()
    assert (found.projections["mean_raw"] == value).all()
    assert (found.motion.flags & FLAG_INVALID).all()
    assert not found.motion.shifts.any()
    assert found.times_s[-1] == pytest.approx(39 / 5)
    assert any("No frame can be used" in warning for warning in found.info.warnings)


def test_noise_alone_gives_no_neuron_of_the_default_way(run):
    noise = np.random.default_rng(3).normal(1000, 20, (120, *SHAPE)).astype(np.float32)
    recording = Recording.from_array(noise, frame_rate_hz=RATE_HZ, pixel_size_um=1.5)
    assert not run("networks", recording.with_metadata(diameter_um=12)).rois.accepted.any()


def test_a_movie_without_structure_stays_where_it_is_and_a_warning_says_so(run, way):
    noise = np.random.default_rng(3).normal(1000, 20, (80, *SHAPE)).astype(np.float32)
    recording = Recording.from_array(noise, frame_rate_hz=RATE_HZ, pixel_size_um=1.5)
    found = run(way, recording)
    assert not found.motion.shifts.any()
    assert any("Motion was not corrected" in warning for warning in found.info.warnings)


def with_gaps(movie):
    frames = movie.frames.copy()
    frames[[4, 70, 71, 72, N_FRAMES - 1]] = np.nan
    return movie.recording(frames)


@pytest.fixture(scope="module")
def gaps(movie, run):
    """The same movie with frames that hold nothing, at the start, in the middle and at the end."""
    return {way: run(way, with_gaps(movie)) for way in WAYS}


def test_frames_without_values_are_flagged_and_warned_about(gaps, way):
    flags = gaps[way].motion.flags
    assert np.flatnonzero(flags & FLAG_INVALID).tolist() == [4, 70, 71, 72, N_FRAMES - 1]
    assert any("5 of 160 frames hold no usable values" in w for w in gaps[way].info.warnings)


def test_frames_without_values_change_no_roi(gaps, results, way):
    found, expected = gaps[way].rois, results[way].rois
    assert found.accepted.sum() == expected.accepted.sum()
    assert overlap(found.mask(), expected.mask()) > 0.95


def test_traces_are_interpolated_where_frames_hold_no_values(gaps, way):
    traces = gaps[way].traces
    for values in (traces.corrected, traces.delta_f_over_f, traces.dog, traces.noise):
        assert np.isfinite(values).all()
    middle = traces.corrected[:, [69, 70, 71, 72, 73]]
    np.testing.assert_allclose(np.diff(middle, 2, axis=1), 0, atol=0.01)


def test_all_maps_are_finite_though_frames_hold_no_values(gaps, way):
    for image in (gaps[way].probability, *gaps[way].projections.values()):
        assert np.isfinite(image).all()


def test_a_flash_of_the_lamp_is_flagged_noted_and_no_event(movie, run, results, way):
    frames = movie.frames.copy()
    frames[90:92] *= 1.4
    found = run(way, movie.recording(frames))
    assert (found.motion.flags[90:92] & FLAG_FLASH).all()
    assert any("flashes" in note for note in found.info.notes)
    assert found.rois.accepted.sum() == results[way].rois.accepted.sum()
    assert abs(len(found.events) - len(results[way].events)) <= 1


def test_no_roi_lies_on_excluded_pixels(movie, run, way):
    exclude = np.zeros(SHAPE, np.bool_)
    exclude[:30] = True
    exclude[50] = True
    found = run(way, movie.recording(), exclude=exclude)
    assert found.rois.accepted.any()
    assert not exclude.ravel()[found.rois.footprints.indices].any()
    assert not found.valid[exclude].any()
    assert not found.probability[exclude].any()


def test_where_all_pixels_are_excluded_there_is_no_roi(movie, run, way):
    found = run(way, movie.recording(movie.frames[:40]), exclude=np.ones(SHAPE, np.bool_))
    assert len(found.rois) == 0
    assert found.info.warnings


@pytest.fixture(scope="module")
def counts(movie, run):
    """Counts of 8 bits, and what is found in them as float32."""
    frames = np.rint(movie.frames[:100] / 8)
    return frames, {way: run(way, movie.recording(frames)) for way in WAYS}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_the_type_of_the_counts_does_not_matter(movie, run, counts, way, dtype):
    found, expected = run(way, movie.recording(counts[0].astype(dtype))), counts[1][way]
    np.testing.assert_array_equal(found.traces.delta_f_over_f, expected.traces.delta_f_over_f)
    np.testing.assert_array_equal(
        found.rois.footprints.toarray(), expected.rois.footprints.toarray()
    )
    np.testing.assert_array_equal(found.probability, expected.probability)


@pytest.mark.parametrize("shape", [(61, 75), (37, 90), (33, 33)])
@pytest.mark.parametrize("diameter_px", [5.0, 8.0, 16.0])
def test_frames_of_odd_sizes_and_cells_of_any_size_can_be_run(run, way, shape, diameter_px):
    odd = make_movie(n_frames=60, shape=shape, active=((14, 14), (20, 24)), silent=())
    recording = odd.recording().with_metadata(diameter_um=diameter_px * 1.5)
    found = run(way, recording)
    assert found.diameter_px == pytest.approx(diameter_px)
    assert found.rois.frame_shape == found.probability.shape == shape
    assert np.isfinite(found.traces.delta_f_over_f).all()


@pytest.mark.parametrize("n_frames", [2, 3, 6])
def test_a_recording_of_few_frames_can_be_run(movie, run, way, n_frames):
    found = run(way, movie.recording(movie.frames[:n_frames]))
    assert found.raster.shape[1] == n_frames
    assert np.isfinite(found.traces.dog).all()


def test_the_frame_rate_comes_from_timestamps_where_there_are_any(movie, run):
    times = 2.0 + np.arange(N_FRAMES) / 4.0
    found = run("srname", movie.recording().with_metadata(timestamps_s=times))
    assert found.frame_rate_hz == pytest.approx(4.0)
    np.testing.assert_allclose(found.times_s, times - 2.0)


def test_the_same_recording_gives_the_same_result(movie, run, result, way):
    again = run(way, movie.recording())
    for field in fields(result.traces):
        first, second = getattr(result.traces, field.name), getattr(again.traces, field.name)
        np.testing.assert_array_equal(first, second)
    assert again.rois.reasons == result.rois.reasons


def test_progress_ends_with_all_frames_in_every_stage(movie, run, way):
    seen = []
    run(way, movie.recording(), progress=seen.append)
    last = {p.stage: p for p in seen}
    assert "segmenting" in last
    assert "extracting traces" in last
    assert all(p.done == p.total == N_FRAMES for p in last.values())


def test_a_progress_callback_can_stop_the_run(movie, run, way):
    def stop(progress):
        raise Cancelled

    with pytest.raises(Cancelled):
        run(way, movie.recording(), progress=stop)


def test_the_frames_are_not_modified(movie, run, way):
    assert not movie.frames.flags.writeable
    before = movie.frames.copy()
    run(way, movie.recording())
    np.testing.assert_array_equal(movie.frames, before)


def test_inputs_are_added_to_the_information(results):
    inputs = ({"path": "a.tif", "bytes": 3, "sha256": "ab"},)
    told = with_inputs(results["srname"], inputs)
    assert told.info.inputs == inputs
    assert replace(told.info, inputs=()) == results["srname"].info


def test_a_saved_result_is_loaded_equal(result, tmp_path):
    loaded = Result.load(result.save(tmp_path / "result"))
    for part in ("traces", "events", "motion"):
        for field in fields(getattr(result, part)):
            np.testing.assert_array_equal(
                getattr(getattr(loaded, part), field.name),
                getattr(getattr(result, part), field.name),
            )
    for name in ("raster", "probability", "valid", "times_s"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))
    for name, image in result.projections.items():
        np.testing.assert_array_equal(loaded.projections[name], image)
    for name in ("ids", "reasons", "frame_shape"):
        assert getattr(loaded.rois, name) == getattr(result.rois, name)
    for name in ("accepted", "score", "snr"):
        np.testing.assert_array_equal(getattr(loaded.rois, name), getattr(result.rois, name))
    np.testing.assert_array_equal(
        loaded.rois.footprints.toarray(), result.rois.footprints.toarray()
    )
    assert loaded.info == result.info
    for name in ("frame_rate_hz", "pixel_size_um", "diameter_px", "name"):
        assert getattr(loaded, name) == getattr(result, name)


# --- Going on after a kill ---------------------------------------------------------------------


@pytest.fixture
def in_blocks(monkeypatch):
    """Read 20 frames at a time, and keep the first pass after each."""
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", 20 * 4 * SHAPE[0] * SHAPE[1])
    monkeypatch.setattr("cocuyo.pipeline.run._KEEP_S", -1.0)
    monkeypatch.setattr("cocuyo.pipeline.run._KEEP_SHARE", 1e9)


def stop_at(n_frames):
    """End the process, as a kill does: nothing is tidied up."""

    def progress(progress):
        if progress.stage == "segmenting" and progress.done >= n_frames:
            raise KeyboardInterrupt

    return progress


def expect_equal(found, expected):
    assert found.rois.ids == expected.rois.ids
    np.testing.assert_array_equal(found.rois.accepted, expected.rois.accepted)
    np.testing.assert_array_equal(
        found.rois.footprints.toarray(), expected.rois.footprints.toarray()
    )
    for name in ("raw", "neuropil", "corrected", "delta_f_over_f", "dog"):
        np.testing.assert_array_equal(getattr(found.traces, name), getattr(expected.traces, name))
    for name in ("raster", "probability", "valid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name, image in expected.projections.items():
        np.testing.assert_array_equal(found.projections[name], image)
    np.testing.assert_array_equal(found.motion.shifts, expected.motion.shifts)


def test_a_run_stopped_in_its_first_pass_goes_on_there(movie, way, run, tmp_path, in_blocks):
    for n in (40, 100):  # and is stopped again
        with pytest.raises(KeyboardInterrupt):
            run(way, movie.recording(), work=tmp_path, progress=stop_at(n))
    seen = []
    found = run(way, movie.recording(), work=tmp_path, progress=seen.append)
    assert (seen[0].stage, seen[0].total) == ("segmenting", N_FRAMES)
    assert 60 < seen[0].done <= 100
    assert "going on where a run was stopped" in seen[0].detail
    note = f"The first {seen[0].done} of {N_FRAMES} frames were taken over from a run that was"
    assert any(text.startswith(note) for text in found.info.notes)
    undisturbed = run(way, movie.recording())
    assert not any("taken over" in text for text in undisturbed.info.notes)
    expect_equal(found, undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["first_pass.npz"]


def test_what_was_kept_of_another_recording_is_not_gone_on_with(
    movie, way, run, tmp_path, in_blocks
):
    other = make_movie(n_frames=N_FRAMES, seed=9)
    with pytest.raises(KeyboardInterrupt):
        run(way, other.recording(), work=tmp_path, progress=stop_at(100))
    assert [path.name for path in tmp_path.iterdir()] == ["first_pass.so_far.npz"]
    found = run(way, movie.recording(), work=tmp_path)
    assert not any("taken over" in text for text in found.info.notes)
    expect_equal(found, run(way, movie.recording()))


def test_a_full_disk_does_not_end_a_run_that_keeps_its_first_pass(
    movie, run, tmp_path, in_blocks, monkeypatch
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cocuyo.pipeline.run.keep_first_pass", full)
    expect_equal(run("srname", movie.recording(), work=tmp_path), run("srname", movie.recording()))


def test_keeping_the_first_pass_takes_a_small_share_of_the_time(
    movie, run, tmp_path, in_blocks, monkeypatch
):
    kept = []
    monkeypatch.setattr("cocuyo.pipeline.run.keep_first_pass", lambda *_, **__: kept.append(1))
    run("srname", movie.recording(), work=tmp_path / "often")
    assert len(kept) > 3
    monkeypatch.setattr("cocuyo.pipeline.run._KEEP_S", 3600.0)
    kept.clear()
    run("srname", movie.recording(), work=tmp_path / "rarely")
    assert kept == []


def test_traces_on_disk_and_in_blocks_of_rois_are_those_in_memory(
    movie, run, way, gaps, tmp_path, monkeypatch
):
    whole = gaps[way]
    monkeypatch.setattr("cocuyo.io.scratch._SMALLEST", 0)
    monkeypatch.setattr("cocuyo.core.scratch._BLOCK_VALUES", 2 * N_FRAMES)
    parted = run(way, with_gaps(movie), work=tmp_path)
    for field in fields(whole.traces):
        one, other = (getattr(each.traces, field.name) for each in (whole, parted))
        np.testing.assert_array_equal(one, other, err_msg=field.name)
    np.testing.assert_array_equal(whole.raster, parted.raster)
    assert whole.rois.reasons == parted.rois.reasons
    np.testing.assert_array_equal(whole.rois.snr, parted.rois.snr)


def test_events_as_many_as_noise_gives_are_warned_about(results):
    result = results["networks"]
    clear = replace(result, info=replace(result.info, warnings=()))

    def warnings_of(threshold_sd):
        settings = PRESETS["default"]
        events = settings.validation.model_copy(
            update={"threshold_sd": threshold_sd, "active_sd": 0.8 * threshold_sd}
        )
        settings = settings.model_copy(update={"validation": events})
        return with_false_events(clear, judge=None, settings=settings).info.warnings

    assert warnings_of(20.0) == ()
    (told,) = warnings_of(1.0)
    assert "noise alone would give" in told
