"""What a successful run leaves: the documented files, as documented."""

import re

import h5py
import numpy as np
import pytest
import roifile

from cocuyo.cli.analyse import _rough_duration
from cocuyo.io import file_identity


def test_the_folder_holds_exactly_the_documented_files(finished):
    assert finished.files == finished.documented_files()


def test_beside_the_recording_lies_the_result_and_nothing_else(finished):
    place = finished.path.parent
    assert sorted(path.name for path in place.iterdir()) == ["slice.cocuyo", "slice.tif"]


def test_the_files_of_a_result_say_the_same(finished):
    finished.expect_whole(100, (80, 96))
    result = finished.result
    accepted = np.flatnonzero(result.rois.accepted)
    assert len(accepted) == finished.record["n_accepted"] > 0
    assert finished.record["n_candidates"] == len(finished.table("rois.csv")[1]) > len(accepted)
    labels = finished.image("labels.tif")
    np.testing.assert_array_equal(np.unique(labels), np.arange(len(accepted) + 1))
    np.testing.assert_array_equal(finished.image("mask.tif"), np.where(labels > 0, 255, 0))
    names = [roi.name for roi in roifile.roiread(finished.path / "rois.zip")]
    assert names == [result.rois.ids[i] for i in accepted]


def test_the_result_says_which_file_it_came_from(finished):
    (identity,) = file_identity(finished.path.parent / "slice.tif")
    assert finished.record["inputs"] == [identity] == list(finished.result.info.inputs)


@pytest.mark.parametrize("name", ["traces.csv", "traces_raw.csv", "raster.csv"])
def test_a_table_has_a_row_for_each_frame_and_a_column_for_each_neuron(finished, name):
    result = finished.result
    header, rows = finished.table(name)
    assert header == ["time_s", *np.array(result.rois.ids)[result.rois.accepted]]
    time_s = [float(row[0]) for row in rows]
    np.testing.assert_allclose(time_s, np.arange(100) / 6.67, rtol=1e-9)
    values = {
        "traces.csv": result.traces.delta_f_over_f,
        "traces_raw.csv": result.traces.raw,
        "raster.csv": result.raster,
    }[name]
    np.testing.assert_allclose(finished.traces(name), values[result.rois.accepted], rtol=1e-5)


def test_the_raster_is_1_from_onset_to_offset_of_each_event(finished):
    header, rows = finished.table("raster.csv")
    assert {cell for row in rows for cell in row[1:]} == {"0", "1"}
    time_s = np.array([row[0] for row in rows], np.float64)
    columns, events = finished.table("events.csv")
    assert columns == ["id", "onset_s", "peak_s", "offset_s", "amplitude"]
    assert events
    active = np.zeros((len(header) - 1, len(time_s)), bool)
    for name, onset, peak, offset, amplitude in events:
        active[header.index(name) - 1] |= (time_s >= float(onset)) & (time_s <= float(offset))
        assert float(onset) <= float(peak) <= float(offset)
        assert float(amplitude) > 0
    np.testing.assert_array_equal(finished.traces("raster.csv"), active)


def test_the_report_is_one_page_that_needs_no_network(finished):
    page = (finished.path / "report.html").read_text("utf-8")
    assert len(page.encode()) <= 15e6
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


# --- Camera counts -----------------------------------------------------------------------------


def means_of_pixels(folder, frames):
    """Mean of each accepted ROI's pixels, straight from the frames."""
    rois = folder.result.rois
    found = np.flatnonzero(rois.accepted)
    assert len(found) > 0
    pixels = [rois.pixels(i)[:2] for i in found]
    return np.array([frames[:, y, x].mean(axis=1, dtype=np.float64) for y, x in pixels])


@pytest.mark.parametrize("offset", [0, -2500], ids=["counts", "negative values"])
def test_raw_traces_without_motion_correction_are_the_means_of_the_pixels(
    run, write_tiff, look, tmp_path, simulated, offset
):
    frames = simulated.frames if offset == 0 else simulated.frames.astype(np.float32) + offset
    (tmp_path / "still.toml").write_text('[motion]\nmethod = "none"\n')
    assert run(write_tiff(frames), "--config", tmp_path / "still.toml").status == 0
    folder = look(tmp_path / "slice.cocuyo")
    raw = folder.traces()
    assert (raw.max() > 255) if offset == 0 else (raw.min() < 0)
    np.testing.assert_allclose(raw, means_of_pixels(folder, frames), rtol=2e-6, atol=2e-4)


def test_motion_correction_leaves_the_counts_of_a_still_movie(
    run, write_tiff, look, tmp_path, simulated
):
    n_frames, rng = 80, np.random.default_rng(0)
    still = np.repeat(simulated.frames[:1].astype(np.float64), n_frames, axis=0)
    y, x = np.mgrid[:80, :96]
    for cell, (row, column) in enumerate([(20, 24), (20, 70), (56, 30), (60, 72)]):
        disc = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18.0)
        time = np.arange(n_frames) - 12 * (cell + 1)
        transient = np.where(time < 0, 0, 0.6 * np.exp(-time / 10))
        still += transient[:, None, None] * disc * still[0]
    frames = rng.normal(still, 8).round().astype(np.uint16)
    assert run(write_tiff(frames)).status == 0
    folder = look(tmp_path / "slice.cocuyo")
    with h5py.File(folder.path / "result.h5") as file:
        assert np.abs(file["motion/shift_yx"][()]).max() < 0.2
    np.testing.assert_allclose(folder.traces(), means_of_pixels(folder, frames), rtol=0.01)


# --- What is said before the start -------------------------------------------------------------


def test_time_and_memory_are_said_before_anything_else(run, write_tiff, small):
    first, *others = run(write_tiff(small)).err.splitlines()
    assert re.fullmatch(r"60 frames of 64 x 72: about \d+ s and 0\.\d GB", first)
    assert others[-1].startswith("finishing") or ": 60 of 60" in others[-1]
    assert not any("warning" in line for line in others)


def test_a_machine_with_less_memory_is_warned_of_and_the_run_goes_on(
    run, write_tiff, small, monkeypatch
):
    monkeypatch.setattr("cocuyo.core.machine.available_memory_mb", lambda: 140.0)
    outcome = run(write_tiff(small))
    assert outcome.status == 0
    assert outcome.err.splitlines()[1].startswith(
        "cocuyo: warning: Only 0.1 GB of memory are free, and the run may need 0.3 GB; close other"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "5 s"),
        (22, "20 s"),
        (54.9, "55 s"),
        (55, "1 min"),
        (89, "1 min"),
        (91, "2 min"),
        (3600, "60 min"),
        (5400, "2 h"),
        (36_000, "10 h"),
    ],
)
def test_a_time_that_is_known_roughly_is_written_roughly(seconds, said):
    assert _rough_duration(seconds) == said
