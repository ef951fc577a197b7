"""The piecewise mode through the pipeline: both passes, a kill, live, several recordings, files."""

from dataclasses import replace

import numpy as np
import pytest

from cocuyo.core import Result
from cocuyo.io.live import LiveFacts, LiveFrame
from cocuyo.io.livefolder import LiveFolder
from cocuyo.pipeline import PRESETS, analyse, segment, segment_experiment
from cocuyo.pipeline.analysis import FirstPass, keep_analysis, kept_analysis
from cocuyo.pipeline.checkpoint import keep_first_pass, take_up_first_pass
from cocuyo.pipeline.live import LiveOptions, complete, follow
from cocuyo.pipeline.stream import corrected_blocks, set_up
from cocuyo.preprocessing import MotionConfig
from cocuyo.simulation import PRESETS as SCENES
from cocuyo.simulation import simulate

DIAMETER_PX = 9.0
PIECES = MotionConfig(piecewise=True, patch_px=64.0)
CONFIG = PRESETS["srname"].model_copy(update={"motion": PIECES})
SHAPE, N_FRAMES = (96, 112), 150


def film(nonrigid_px):
    config = SCENES["slice"].model_copy(
        update={
            "n_frames": N_FRAMES,
            "n_rows": SHAPE[0],
            "n_columns": SHAPE[1],
            "drift_px": 2.0,
            "nonrigid_px": nonrigid_px,
            "split": "validation",
        }
    )
    return simulate(config, seed=12)


@pytest.fixture(scope="module")
def simulation():
    return film(2.0)


@pytest.fixture(scope="module")
def recording(simulation):
    return replace(simulation.recording(), diameter_px=DIAMETER_PX, pixel_size_um=None)


@pytest.fixture(scope="module")
def result(recording):
    return segment(recording, preset="srname", config=CONFIG)


def in_blocks_of(monkeypatch, n_frames):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", n_frames * 4 * SHAPE[0] * SHAPE[1])


def expect_equal(found, expected):
    np.testing.assert_array_equal(found.motion.shifts, expected.motion.shifts)
    for name in ("frames", "grid", "y_px", "x_px"):
        np.testing.assert_array_equal(
            getattr(found.motion.deformation, name), getattr(expected.motion.deformation, name)
        )
    for name in ("valid", "probability", "raster"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name, image in expected.projections.items():
        np.testing.assert_array_equal(found.projections[name], image)
    np.testing.assert_array_equal(found.traces.raw, expected.traces.raw)


def test_blocks_equal_whole(recording, result, monkeypatch):
    in_blocks_of(monkeypatch, 17)
    expect_equal(segment(recording, preset="srname", config=CONFIG), result)


def test_the_notes_say_what_was_undone_and_what_it_gained(result):
    (note,) = [text for text in result.info.notes if "deformation" in text]
    assert note.startswith("Slow deformation was undone: ")
    assert "frames correlate with the reference by" in note


def test_the_second_pass_stands_stiller_than_with_shifts_alone(recording, result):
    def spread_of(motion):
        frames = np.concatenate([f for _, f in corrected_blocks(recording, motion, stage="again")])
        steps = frames[:150].reshape(10, 15, *SHAPE).mean(axis=1)
        steps -= steps.mean(axis=(1, 2), keepdims=True)
        return np.median(steps[:, result.valid].std(axis=0))

    rigid = spread_of(replace(result.motion, deformation=None))
    assert spread_of(result.motion) < 0.9 * rigid


def test_a_recording_that_moves_as_a_whole_gives_what_shifts_alone_give():
    recording = replace(film(0.0).recording(), diameter_px=DIAMETER_PX, pixel_size_um=None)
    plain = CONFIG.model_copy(update={"motion": PIECES.model_copy(update={"piecewise": False})})
    found = segment(recording, preset="srname", config=CONFIG)
    expected = segment(recording, preset="srname", config=plain)
    assert found.motion.deformation is None
    np.testing.assert_array_equal(found.traces.raw, expected.traces.raw)
    np.testing.assert_array_equal(found.projections["mean"], expected.projections["mean"])
    (note,) = [text for text in found.info.notes if "deformation" in text]
    assert note.startswith("No slow deformation was undone")


def test_it_is_saved_and_loaded_back(result, tmp_path):
    loaded = Result.load(result.save(tmp_path / "r"))
    for name in ("frames", "grid", "y_px", "x_px"):
        expected = getattr(result.motion.deformation, name)
        found = getattr(loaded.motion.deformation, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_it_is_kept_with_the_maps(recording, tmp_path):
    analysis = analyse(recording, config=CONFIG, diameter_px=DIAMETER_PX, engine=None)
    keep_analysis(tmp_path / "kept.npz", analysis, key="this")
    again = kept_analysis(tmp_path / "kept.npz", key="this")
    np.testing.assert_array_equal(again.motion.deformation.grid, analysis.motion.deformation.grid)
    np.testing.assert_array_equal(again.motion.shifts, analysis.motion.shifts)
    assert again.fit_after == analysis.fit_after


@pytest.mark.parametrize("at", [16, 100])
def test_a_pass_that_was_killed_goes_on_as_if_nothing_had_been(recording, tmp_path, at):
    frames = recording.movie.read(0, N_FRAMES)
    setup = set_up(recording, config=CONFIG, diameter_px=DIAMETER_PX)
    at -= at % setup.frames_per_step
    undisturbed, killed, again = (FirstPass(setup, None, frame_shape=SHAPE) for _ in range(3))
    undisturbed.push(frames)
    undisturbed.end()
    killed.push(frames[:at])
    keep_first_pass(tmp_path / "so_far.npz", killed, killed.stream, key="this")
    assert take_up_first_pass(tmp_path / "so_far.npz", again, key="this", n_frames=N_FRAMES)
    again.push(frames[at:])
    again.end()
    found, expected = again.analysis(), undisturbed.analysis()
    np.testing.assert_array_equal(found.motion.deformation.grid, expected.motion.deformation.grid)
    np.testing.assert_array_equal(found.maps.mean, expected.maps.mean)


class Frames:
    """A source that gives some frames and ends."""

    def __init__(self, frames, facts):
        self.left, self.facts = frames, facts

    def open(self, stopped):
        return self.facts

    def frames(self, start):
        for number in range(start, len(self.left)):
            yield LiveFrame(number, np.nan, self.left[number])

    def publish(self, message):
        pass

    def close(self):
        pass


def test_live_ends_with_what_run_gives(recording, tmp_path):
    frames = recording.movie.read(0, N_FRAMES)
    # The pixel size says the diameter, to both.
    size = 11.0 / DIAMETER_PX
    facts = LiveFacts(SHAPE, frames.dtype.str, recording.rate_hz, size, "bending")
    options = LiveOptions(preset="srname", config=CONFIG, diameter_um=11.0)
    followed = follow(Frames(frames, facts), LiveFolder(tmp_path / "s.live", {}), options)
    found = complete(followed, options)
    assert "The maps are those made while the recording ran." in found.info.notes
    same = replace(recording, pixel_size_um=size, diameter_um=11.0, diameter_px=None)
    expect_equal(found, segment(same, preset="srname", config=CONFIG))


def test_two_recordings_of_a_field_keep_their_own_deformations(recording, monkeypatch):
    # So short a recording does not tell for sure; here it is believed all the same.
    monkeypatch.setattr("cocuyo.preprocessing.deformation._believed", lambda facts: True)
    half = N_FRAMES // 2
    parts = [recording.cut(0, half), recording.cut(half, N_FRAMES)]
    two = segment_experiment(parts, preset="srname", config=CONFIG)
    alone = segment(parts[0], preset="srname", config=CONFIG).motion.deformation
    every = np.arange(half)
    np.testing.assert_allclose(two.motion.deformation.at(every), alone.at(every), atol=1e-6)
    for i, part in enumerate(two.parts):
        own = two.part(i).motion
        assert len(own.flags) == half
        at = every + part.start
        np.testing.assert_array_equal(own.deformation.at(every), two.motion.deformation.at(at))
    assert np.isfinite(two.traces.raw).all()
