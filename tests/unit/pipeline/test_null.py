"""Surrogates of recordings: what they keep, and what a run finds in them."""

import csv
import json
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from cocuyo import segment
from cocuyo.cli import run_command_line
from cocuyo.core import FLAG_FLASH, Motion, Recording, RecordingError, SettingsError
from cocuyo.pipeline import NULLS, null_control
from cocuyo.pipeline import null as module
from cocuyo.pipeline.null import make_surrogate
from cocuyo.simulation import PRESETS, simulate

SIZE = {"n_frames": 90, "n_rows": 60, "n_columns": 72}


@pytest.fixture(scope="module")
def recording():
    settings = PRESETS["demo"].model_copy(update=SIZE)
    return simulate(settings, seed=2).recording()


@pytest.fixture(scope="module")
def result(recording):
    return segment(recording, preset="srname")


def surrogate_of(recording, result, kind, folder, seed=0):
    made = make_surrogate(recording, result, kind=kind, seed=seed, path=folder / kind)
    return made, made.movie.read(0, made.n_frames)


@pytest.mark.parametrize("kind", NULLS)
def test_a_surrogate_keeps_mean_and_variance_of_each_pixel(kind, recording, result, tmp_path):
    made, frames = surrogate_of(recording, result, kind, tmp_path)
    _, before = surrogate_of(recording, result, "frames", tmp_path)
    inside = result.valid
    assert made.movie.dtype == recording.movie.dtype
    assert made.frame_shape == recording.frame_shape
    # A pixel that flashes beyond what its type can hold is cut: very few do.
    moved = np.abs(frames.mean(0) - before.mean(0))[inside]
    spread = np.abs(frames.std(0) / before.std(0) - 1)[inside]
    assert np.quantile(moved, 0.999) < 0.6
    assert np.quantile(spread, 0.999) < 0.01


def test_shuffled_frames_are_the_same_pictures_in_another_order(recording, result, tmp_path):
    still = replace(
        result, motion=replace(result.motion, shifts=np.zeros_like(result.motion.shifts))
    )
    _, frames = surrogate_of(recording, still, "frames", tmp_path)
    original = recording.movie.read(0, recording.n_frames)
    order = [int(np.flatnonzero((original == frame).all(axis=(1, 2)))[0]) for frame in frames]
    assert sorted(order) == list(range(recording.n_frames))
    assert order != sorted(order)


@pytest.mark.parametrize("kind", ["phase", "shift"])
def test_neighbours_agree_no_longer(kind, recording, result, tmp_path):
    def agreement(frames):
        changes = frames - frames.mean(0)
        pairs = (changes[:, :, 1:] * changes[:, :, :-1]).mean(0)
        return (pairs / (changes[:, :, 1:].std(0) * changes[:, :, :-1].std(0)))[10:-10, 10:-10]

    _, before = surrogate_of(recording, result, "frames", tmp_path)
    _, after = surrogate_of(recording, result, kind, tmp_path)
    assert agreement(before.astype(float)).mean() > 0.05
    assert abs(agreement(after.astype(float)).mean()) < 0.02


def test_frames_that_are_flagged_are_left_out(recording, result, tmp_path):
    flags = np.array(result.motion.flags)
    flags[7] = FLAG_FLASH
    flashed = replace(result, motion=replace(result.motion, flags=flags))
    made, _ = surrogate_of(recording, flashed, "phase", tmp_path)
    assert made.n_frames == int((flags == 0).sum()) == recording.n_frames - 1


def test_bands_of_any_width_change_the_same_pixels_alike(recording, result, tmp_path, monkeypatch):
    for i, values in enumerate([4_000_000, 90 * 7]):
        monkeypatch.setattr(module, "_BAND_VALUES", values)
        (tmp_path / str(i)).mkdir()
        _, frames = surrogate_of(recording, result, "shift", tmp_path / str(i))
        _, same = surrogate_of(recording, result, "frames", tmp_path / str(i))
        np.testing.assert_array_equal(np.sort(frames, axis=0), np.sort(same, axis=0))


class Lazy:
    """A movie that is read in small blocks only, and counts none twice at a time."""

    def __init__(self, frames):
        self.frames, self.shape, self.dtype = frames, frames.shape, frames.dtype
        self.most = 0

    def read(self, start, stop):
        self.most = max(self.most, stop - start)
        return self.frames[start:stop]


def test_a_recording_is_read_in_blocks(recording, result, tmp_path, monkeypatch):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", 4 * 60 * 72 * 8)
    movie = Lazy(recording.movie.read(0, recording.n_frames))
    surrogate_of(replace(recording, movie=movie), result, "phase", tmp_path)
    assert 0 < movie.most <= 8


@pytest.mark.parametrize("kind", NULLS)
def test_a_surrogate_takes_no_more_memory_than_its_bands(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", 200_000)
    monkeypatch.setattr(module, "_BAND_VALUES", 60_000)
    frames = np.random.default_rng(0).integers(300, 900, (3000, 48, 48)).astype(np.uint16)
    still = Motion(
        np.zeros((3000, 2), np.float32), np.ones(3000, np.float32), np.zeros(3000, np.uint8)
    )
    found = SimpleNamespace(motion=still, diameter_px=9.0)
    long = Recording.from_array(frames, frame_rate_hz=6.0)
    tracemalloc.start()
    make_surrogate(long, found, kind=kind, seed=0, path=tmp_path / "frames")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < frames.nbytes / 3


def test_no_room_on_the_disk_is_said_before_anything_is_written(
    recording, result, tmp_path, monkeypatch
):
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(RecordingError, match="--work"):
        surrogate_of(recording, result, "phase", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_control_counts_and_leaves_no_file(recording, tmp_path):
    control = null_control(
        recording, kinds=("phase", "shift"), repeats=2, seed=3, work=tmp_path, preset="srname"
    )
    assert [(one.kind, one.seed) for one in control.surrogates] == [
        ("phase", 3),
        ("phase", 4),
        ("shift", 3),
        ("shift", 4),
    ]
    assert list(tmp_path.iterdir()) == []
    json.dumps(control.record(), allow_nan=False)
    with pytest.raises(SettingsError, match="0 of each"):
        null_control(recording, repeats=0, preset="srname")


def test_the_default_finds_neurons_in_a_recording_and_almost_none_in_its_surrogates():
    settings = PRESETS["demo"].model_copy(update={"n_frames": 400})
    control = null_control(simulate(settings, seed=5).recording(), kinds=("phase", "shift"))
    record = control.record()
    assert record["recording"]["n_accepted"] >= 10
    for one in control.surrogates:
        assert one.n_accepted <= 0.1 * record["recording"]["n_accepted"]
    assert record["false_events"]["at_rest_per_min"] < 1


@pytest.fixture
def tif(recording, tmp_path):
    path = tmp_path / "slice.tif"
    tifffile.imwrite(path, recording.movie.read(0, 60))
    return path


COMMON = ("--frame-rate", "6.67", "--pixel-size", "1.5", "--preset", "srname")


def test_the_command_prints_a_table_or_json_and_writes_what_is_asked_for(tif, tmp_path, capsys):
    out = tmp_path / "null.csv"
    assert run_command_line(["null", str(tif), *COMMON, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "phases random" in text
    assert "in 2 surrogates that hold none" in text
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert [row["kind"] for row in rows] == ["recording", *NULLS]
    arguments = ["null", str(tif), *COMMON, "--surrogate", "phase", "--json"]
    assert run_command_line([*arguments, "--out", str(tmp_path / "null.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "null.json").read_text(encoding="utf-8"))
    assert [one["kind"] for one in printed["surrogates"]] == ["phase"]
    assert printed["n_frames"] == 60


def test_wrong_files_are_refused_before_the_work(tif, tmp_path, capsys):
    (tmp_path / "there.csv").write_text("mine", encoding="utf-8")
    for option, value, why in (
        ("--out", tmp_path / "there.csv", "exists"),
        ("--out", tmp_path / "null.txt", ".json"),
        ("--out", tmp_path / "absent" / "null.csv", "does not exist"),
        ("--work", tmp_path / "absent", "not a folder"),
    ):
        assert run_command_line(["null", str(tif), *COMMON, option, str(value)]) == 1
        assert why in capsys.readouterr().err
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "mine"
    assert run_command_line(["null", str(tif), str(tif), *COMMON]) == 2


def test_a_recording_without_activity_is_no_failure(tmp_path, capsys):
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, np.full((40, 48, 48), 7, np.uint16))
    assert run_command_line(["null", str(path), *COMMON, "--surrogate", "shift"]) == 0
    assert "the recording" in capsys.readouterr().out


def test_float_recordings_stay_float(result, recording, tmp_path):
    frames = recording.movie.read(0, recording.n_frames).astype(np.float32) / 7 - 40
    floats = Recording.from_array(frames, frame_rate_hz=6.67)
    made, changed = surrogate_of(floats, result, "phase", tmp_path)
    assert made.movie.dtype == np.float32
    assert changed.min() < 0
