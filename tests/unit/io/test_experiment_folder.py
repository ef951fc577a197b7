"""The result folder of an experiment: tables joined in time, and those of each recording."""

import csv
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from synthetic_result import BORDER, make_experiment, make_result

from cocuyo.core import FLAG_UNPLACED, Motion, RecordingError, Result, ResultError
from cocuyo.io import (
    file_identity,
    inputs_of,
    open_recording,
    reopen_recording,
    save_result,
)
from cocuyo.io.reopen import refer_to_recording
from cocuyo.pipeline import with_inputs

N_FRAMES, SHAPE = 120, (40, 56)


@pytest.fixture(scope="module")
def result():
    return make_experiment()


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    return save_result(result, tmp_path_factory.mktemp("saved") / "experiment.cocuyo")


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def test_what_is_written_is_read_back_equal(result, folder):
    again = Result.load(folder)
    for one, other in zip(again.parts, result.parts, strict=True):
        for name in ("name", "start", "stop", "offset_px", "correlation", "found"):
            assert getattr(one, name) == getattr(other, name)
        np.testing.assert_array_equal(one.valid, other.valid)
        np.testing.assert_array_equal(one.mean, other.mean)


def test_a_single_recording_has_no_parts(tmp_path):
    folder = save_result(make_result(), tmp_path / "one.cocuyo")
    assert Result.load(folder).parts == ()
    assert not (folder / "recordings").exists()
    assert "recordings" not in json.loads((folder / "run.json").read_text())


def test_each_recording_has_its_tables(folder):
    assert sorted(path.name for path in (folder / "recordings").iterdir()) == ["a", "b"]
    for name in ("a", "b"):
        files = {path.name for path in (folder / "recordings" / name).iterdir()}
        assert files == {
            *("traces.csv", "traces_raw.csv", "raster.csv", "events.csv", "rois.csv", "shifts.csv")
        }


@pytest.mark.parametrize("name", ["traces.csv", "traces_raw.csv", "raster.csv"])
def test_tables_of_the_recordings_are_stretches_of_the_joined_one(folder, name):
    header, joined = table(folder / name)
    parts = [table(folder / "recordings" / part / name) for part in ("b", "a")]
    assert all(each[0] == header for each in parts)
    rows = [row[1:] for each in parts for row in each[1]]
    assert rows == [row[1:] for row in joined]
    assert [each[1][0][0] for each in parts] == ["0", "0"]
    assert [len(each[1]) for each in parts] == [BORDER, N_FRAMES - BORDER]


def test_events_of_the_recordings_are_those_of_the_experiment_with_their_own_times(result, folder):
    _, joined = table(folder / "events.csv")
    _, first = table(folder / "recordings" / "b" / "events.csv")
    _, second = table(folder / "recordings" / "a" / "events.csv")
    assert len(first) + len(second) == len(joined)
    start = result.times_s[BORDER]
    late = [row for row in joined if float(row[1]) >= start - 1e-9]
    assert [row[0] for row in late] == [row[0] for row in second]
    moved = [float(row[1]) + start for row in second]
    np.testing.assert_allclose(moved, [float(row[1]) for row in late])


def test_what_each_recording_shows_of_each_roi(result, folder):
    header, rows = table(folder / "recordings" / "a" / "rois.csv")
    assert header == ["id", "label", "in_view", "found", "n_events"]
    assert [row[0] for row in rows] == list(result.rois.ids)
    in_view = result.parts[1].in_view(result.rois)
    assert 0 < in_view.sum() < len(in_view)
    assert [row[2] == "1" for row in rows] == in_view.tolist()
    assert [row[0] for row in rows if row[3] == "1"] == list(result.parts[1].found)


def test_shifts_of_each_recording(result, folder):
    header, rows = table(folder / "recordings" / "a" / "shifts.csv")
    assert header == ["time_s", "dy_px", "dx_px", "confidence", "flags"]
    values = np.array(rows, float)
    np.testing.assert_allclose(values[:, 1:3], result.motion.shifts[BORDER:], rtol=1e-5)
    assert values[0, 0] == 0


def test_run_json_lists_the_recordings(result, tmp_path):
    inputs = tuple(
        {"path": f"{part.name}.tif", "bytes": 7, "sha256": "0", "recording": part.name}
        for part in result.parts
    )
    folder = save_result(with_inputs(result, inputs), tmp_path / "x.cocuyo")
    first, second = json.loads((folder / "run.json").read_text())["recordings"]
    assert (first["name"], first["paths"]) == ("b", ["b.tif"])
    assert second == {
        "name": "a",
        "paths": ["a.tif"],
        "first_frame": BORDER,
        "n_frames": N_FRAMES - BORDER,
        "start_s": pytest.approx(7.0),
        "offset_yx_px": [1.5, -2.25],
        "correlation": 0.875,
        "n_found": 2,
    }


def test_a_frame_that_was_not_placed_is_filled_from_its_own_recording(result, tmp_path):
    flags = np.array(result.motion.flags)
    flags[BORDER : BORDER + 2] = FLAG_UNPLACED
    motion = Motion(result.motion.shifts, result.motion.confidence, flags)
    folder = save_result(replace(result, motion=motion), tmp_path / "x.cocuyo")
    _, rows = table(folder / "traces_raw.csv")
    assert rows[BORDER][1:] == rows[BORDER + 1][1:] == rows[BORDER + 2][1:]
    _, own = table(folder / "recordings" / "a" / "traces_raw.csv")
    assert [row[1:] for row in own] == [row[1:] for row in rows[BORDER:]]


def test_a_recording_without_any_good_frame_stays_finite(result, tmp_path):
    flags = np.array(result.motion.flags)
    flags[BORDER:] = FLAG_UNPLACED
    motion = Motion(result.motion.shifts, result.motion.confidence, flags)
    folder = save_result(replace(result, motion=motion), tmp_path / "x.cocuyo")
    assert np.isfinite(np.array(table(folder / "traces.csv")[1], float)).all()


def test_overwriting_leaves_no_table_of_the_experiment_before(result, tmp_path):
    folder = save_result(result, tmp_path / "x.cocuyo")
    save_result(make_experiment(("c", "d")), folder, overwrite=True)
    assert sorted(path.name for path in (folder / "recordings").iterdir()) == ["c", "d"]


@pytest.mark.parametrize("names", [("a", "A"), ("../a", "b"), ("", "b"), ("a", "..")])
def test_names_that_are_no_folders_are_refused(names, tmp_path):
    with pytest.raises(ResultError, match="name"):
        save_result(make_experiment(names), tmp_path / "x.cocuyo")
    assert list(tmp_path.iterdir()) == []


def test_parts_that_leave_frames_out_are_refused(result, tmp_path):
    with pytest.raises(ResultError, match="follow one another"):
        save_result(replace(result, parts=result.parts[:1]), tmp_path / "x.cocuyo")


def test_a_file_whose_recordings_do_not_fit_is_damaged(result, tmp_path):
    folder = save_result(result, tmp_path / "x.cocuyo")
    with h5py.File(folder / "result.h5", "r+") as file:
        file["recordings/n_frames"][0] = 3
    with pytest.raises(ResultError, match="do not follow one another"):
        Result.load(folder)


def test_a_part_saves_as_a_result_of_its_own(result, tmp_path):
    again = Result.load(save_result(result.part(1), tmp_path / "a.cocuyo"))
    assert (again.name, again.n_frames, again.parts) == ("a", N_FRAMES - BORDER, ())
    np.testing.assert_array_equal(again.traces.raw, result.traces.raw[:, BORDER:])


# --- The movie behind it -----------------------------------------------------------------------


@pytest.fixture
def movies(result, tmp_path):
    """Write the recordings of the experiment; their names are not in their order."""
    frames = np.random.default_rng(1).integers(0, 999, (N_FRAMES, *SHAPE)).astype(np.uint16)
    np.save(tmp_path / "b.npy", frames[:BORDER])
    np.save(tmp_path / "a.npy", frames[BORDER:])
    inputs = tuple(
        {**entry, "recording": part.name}
        for part in result.parts
        for entry in file_identity(tmp_path / f"{part.name}.npy")
    )
    return frames, with_inputs(result, inputs)


def test_the_recordings_are_opened_as_one_movie_in_their_order(movies, tmp_path):
    frames, result = movies
    opened = reopen_recording(result, tmp_path / "x.cocuyo")
    assert opened.n_frames == N_FRAMES
    np.testing.assert_array_equal(opened.movie.read(60, 80), frames[60:80])


def test_the_folder_in_which_they_lie_now_may_be_given(movies, tmp_path):
    frames, result = movies
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a.npy", "b.npy"):
        (tmp_path / name).rename(moved / name)
    with pytest.raises(RecordingError, match="is not found"):
        reopen_recording(result, tmp_path / "x.cocuyo")
    opened = reopen_recording(result, tmp_path / "x.cocuyo", recording=moved)
    np.testing.assert_array_equal(opened.movie.read(0, N_FRAMES), frames)
    with pytest.raises(RecordingError, match="name the folder in which they lie"):
        reopen_recording(result, tmp_path / "x.cocuyo", recording=moved / "a.npy")


def test_a_recording_of_another_length_is_refused(movies, tmp_path):
    frames, result = movies
    size = (tmp_path / "a.npy").stat().st_size
    np.save(tmp_path / "a.npy", frames[BORDER:-1])
    entries = tuple(
        {**entry, "bytes": (tmp_path / f"{entry['recording']}.npy").stat().st_size}
        for entry in result.info.inputs
    )
    assert size != entries[1]["bytes"]
    with pytest.raises(RecordingError, match=r"a\.npy has 49 frames"):
        reopen_recording(with_inputs(result, entries), tmp_path / "x.cocuyo")


def test_a_part_finds_its_own_recording(movies, tmp_path):
    frames, result = movies
    opened = reopen_recording(result.part(1), tmp_path / "x.cocuyo")
    np.testing.assert_array_equal(opened.movie.read(0, 50), frames[BORDER:])


def test_recordings_of_which_other_frames_were_read_are_opened_so_again(result, movies, tmp_path):
    frames, _ = movies
    np.save(tmp_path / "b.npy", np.concatenate([frames[:BORDER], frames[:10]]))
    np.save(tmp_path / "a.npy", np.concatenate([frames[:5], frames[BORDER:]]))
    chosen = ((None, BORDER), (5, None))
    opened = [
        open_recording(tmp_path / f"{name}.npy", frame_rate_hz=1.0, frames=part)
        for name, part in zip("ba", chosen, strict=True)
    ]
    made = with_inputs(result, inputs_of(result, opened, frames=chosen))
    assert [entry["frames"] for entry in made.info.inputs] == [[None, BORDER], [5, None]]
    again = reopen_recording(made, tmp_path / "x.cocuyo")
    np.testing.assert_array_equal(again.movie.read(0, N_FRAMES), frames)
    alone = reopen_recording(made.part(1), tmp_path / "x.cocuyo")
    np.testing.assert_array_equal(alone.movie.read(0, 50), frames[BORDER:])
    with pytest.raises(RecordingError, match="some frames of each of 2 recordings"):
        refer_to_recording(made, tmp_path / "x.cocuyo")


def test_a_file_that_refers_to_the_movie_names_all_recordings(movies, tmp_path):
    _, result = movies
    movie = refer_to_recording(result, tmp_path / "x.cocuyo")
    assert [path.name for path in movie.files] == ["b.npy", "a.npy"]
    assert movie.starting_frames == (0, BORDER)
    chosen = with_inputs(result, result.info.inputs, reading={"frames": (0, 50)})
    with pytest.raises(RecordingError, match="some frames of each of 2 recordings"):
        refer_to_recording(chosen, tmp_path / "x.cocuyo")
