"""Several recordings of one field on the command line: one set of ROIs, activity in each."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cocuyo import Result
from cocuyo.cli import run_command_line
from cocuyo.core import Recording
from cocuyo.server.session import Session
from cocuyo.simulation import PRESETS, simulate

RUN = ("run", "--preset", "srname", "--frame-rate", "6.67", "--pixel-size", "1.5")
N_FRAMES, HALF = 240, 120


@pytest.fixture(scope="module")
def simulation():
    size = {"n_frames": N_FRAMES, "n_rows": 112, "n_columns": 128}
    return simulate(PRESETS["sparse"].model_copy(update=size), seed=4)


@pytest.fixture(scope="module")
def place(simulation, tmp_path_factory):
    """A folder with one recording whole and in two parts, analysed both ways; not to be changed."""
    folder = tmp_path_factory.mktemp("experiment")
    frames = simulation.frames
    for name, part in (("whole", frames), ("b", frames[:HALF]), ("a", frames[HALF:])):
        tifffile.imwrite(folder / f"{name}.tif", part, photometric="minisblack")
    np.savez(folder / "truth.npz", **simulation.truth.arrays())
    parts = (str(folder / "b.tif"), str(folder / "a.tif"))
    assert run_command_line([*RUN, str(folder / "whole.tif")]) == 0
    assert run_command_line([*RUN, *parts, "--out", str(folder / "two")]) == 0
    return folder


@pytest.fixture(scope="module")
def two(place):
    return Result.load(place / "two")


def expect_pages_and_tables(look, folder, n_frames):
    seen = look(folder)
    assert seen.files == seen.documented_files() | {"recordings"}
    n = seen.record["n_accepted"]
    for name in ("traces.csv", "traces_raw.csv", "raster.csv"):
        assert seen.traces(name).shape == (n, n_frames)
        assert np.isfinite(seen.traces(name)).all()


def test_two_parts_of_a_recording_find_nearly_the_neurons_of_the_whole(place, two):
    whole = Result.load(place / "whole.cocuyo")
    one, other = (each.rois.centroids[each.rois.accepted] for each in (whole, two))
    away = np.hypot(*(one[:, None] - other[None]).transpose(2, 0, 1))
    assert len(one) >= 8
    assert (away.min(axis=1) < 4).mean() >= 0.85
    assert (away.min(axis=0) < 4).mean() >= 0.85
    mask, both = whole.rois.mask(), two.rois.mask()
    assert 2 * (mask & both).sum() / (mask.sum() + both.sum()) > 0.8


def test_frames_lie_where_they_lie_in_the_whole(place, two):
    whole = Result.load(place / "whole.cocuyo")
    np.testing.assert_array_equal(two.motion.shifts[:HALF], whole.motion.shifts[:HALF])
    apart = two.motion.shifts[HALF:] - whole.motion.shifts[HALF:]
    assert np.sqrt((apart**2).mean()) < 0.1


def test_traces_are_those_of_the_same_neurons_in_the_whole(place, two):
    whole = Result.load(place / "whole.cocuyo")
    rows = np.flatnonzero(whole.rois.accepted)
    alike = []
    for roi in np.flatnonzero(two.rois.accepted):
        away = np.hypot(*(whole.rois.centroids[rows] - two.rois.centroids[roi]).T)
        if away.min() < 2:
            trace = whole.traces.delta_f_over_f[rows[away.argmin()]]
            alike.append(np.corrcoef(trace, two.traces.delta_f_over_f[roi])[0, 1])
    assert np.median(alike) > 0.95


def test_the_folder_holds_the_experiment_and_each_recording(place, look):
    expect_pages_and_tables(look, place / "two", N_FRAMES)
    joined = look(place / "two").traces()
    each = [look(place / "two" / "recordings" / name).traces() for name in ("b", "a")]
    np.testing.assert_array_equal(np.concatenate(each, axis=1), joined)


def test_run_json_says_which_recordings_and_where_their_files_lie(place, look):
    record = look(place / "two").record
    assert [entry["name"] for entry in record["recordings"]] == ["b", "a"]
    assert [entry["n_frames"] for entry in record["recordings"]] == [HALF, HALF]
    assert [entry["recording"] for entry in record["inputs"]] == ["b", "a"]
    assert [Path(entry["path"]).name for entry in record["inputs"]] == ["b.tif", "a.tif"]
    assert all(len(entry["sha256"]) == 64 for entry in record["inputs"])


def test_the_report_names_the_recordings_and_draws_the_border(place):
    page = (place / "two" / "report.html").read_text("utf-8")
    assert "Recordings of the experiment" in page
    assert page.count('class="border"') == 2  # in the shifts and in the raster
    assert f'"borders":[{HALF / 6.67:.6g}]' in page
    whole = (place / "whole.cocuyo" / "report.html").read_text("utf-8")
    assert "Recordings of the experiment" not in whole
    assert '"borders":[]' in whole


def test_it_is_scored_like_one_recording(cocuyo, place):
    outcome = cocuyo("evaluate", place / "two", "--truth", place / "truth.npz", "--json")
    assert outcome.status == 0
    scores = json.loads(outcome.out)
    assert scores["pixels"]["sdc"] > 0.3


@pytest.mark.parametrize("to", ["suite2p", "imagej", "mat", "csv", "geojson", "labels", "result"])
def test_it_is_exported_like_one_recording(cocuyo, place, tmp_path, to):
    folder = shutil.copytree(place / "two", tmp_path / "two")
    outcome = cocuyo("export", folder, "--to", to)
    assert outcome.status == 0, outcome.err


def test_a_curated_export_is_an_experiment_again(cocuyo, place, look, two, tmp_path):
    folder = shutil.copytree(place / "two", tmp_path / "two")
    accepted = np.flatnonzero(two.rois.accepted)
    y, x, _ = two.rois.pixels(int(accepted[1]))
    edits = [
        {"kind": "reject", "rois": [two.rois.ids[accepted[0]]], "reason": "by a person"},
        {
            "kind": "reshape",
            "roi": two.rois.ids[accepted[1]],
            "shape": {"kind": "pixels", "y": y[1:].tolist(), "x": x[1:].tolist()},
        },
        {"kind": "event_threshold", "roi": two.rois.ids[accepted[2]], "threshold_sd": 6.0},
    ]
    lines = [
        json.dumps({"version": 1, "id": f"e{i}", "time": "2026-01-01T00:00:00+00:00", **edit})
        for i, edit in enumerate(edits)
    ]
    (folder / "edits.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert cocuyo("export", folder, "--to", "result", "--out", tmp_path / "new").status == 0
    after = Result.load(tmp_path / "new")
    assert after.rois.accepted.sum() == two.rois.accepted.sum() - 1
    assert [part.name for part in after.parts] == ["b", "a"]
    expect_pages_and_tables(look, tmp_path / "new", N_FRAMES)


def test_ensembles_are_looked_for_in_all_recordings(cocuyo, place, tmp_path):
    outcome = cocuyo(
        "ensembles", place / "two", "--shuffles", 100, "--out", tmp_path / "two.ensembles"
    )
    assert outcome.status == 0, outcome.err


def test_the_page_scrubs_the_frames_of_all_recordings(place, simulation):
    from cocuyo.io import reopen_recording

    folder = place / "two"
    session = Session(folder, lambda result: reopen_recording(result, folder))
    assert session.no_movie == ""
    assert session.frames.n_frames == N_FRAMES
    assert session.facts()["recordings"] == [
        {"name": "b", "start": 0},
        {"name": "a", "start": HALF},
    ]
    np.testing.assert_array_equal(
        session.frames.read("raw", HALF - 2, HALF + 2), simulation.frames[HALF - 2 : HALF + 2]
    )


def test_a_batch_does_not_take_its_files_for_recordings(place, tmp_path):
    from cocuyo.batch.listing import find_recordings

    names = [entry.name for entry in find_recordings(place, out=tmp_path / "batch")]
    assert sorted(names) == ["a", "b", "whole"]


def test_rois_of_an_experiment_serve_a_later_recording(cocuyo, place, two, tmp_path):
    outcome = cocuyo(
        *("extract", place / "a.tif", "--rois", place / "two", "--align", "--preset", "srname"),
        *("--frame-rate", 6.67, "--pixel-size", 1.5, "--out", tmp_path / "later"),
    )
    assert outcome.status == 0, outcome.err
    ids = [two.rois.ids[i] for i in np.flatnonzero(two.rois.accepted)]
    assert set(Result.load(tmp_path / "later").rois.ids) == set(ids)


def test_python_gives_what_the_command_gives(two, simulation):
    import cocuyo

    parts = [
        Recording.from_array(frames, frame_rate_hz=6.67, pixel_size_um=1.5, name=name)
        for name, frames in (("b", simulation.frames[:HALF]), ("a", simulation.frames[HALF:]))
    ]
    again = cocuyo.segment_experiment(parts, preset="srname")
    np.testing.assert_array_equal(again.traces.raw, two.traces.raw)
    np.testing.assert_array_equal(again.rois.accepted, two.rois.accepted)


# --- Where it goes, and what is refused --------------------------------------------------------


@pytest.fixture
def pair(write_tiff, small):
    return write_tiff(small[:30], name="a.tif"), write_tiff(small[30:], name="b.tif")


def test_without_out_it_lies_beside_the_first_and_in_the_way_of_no_other(run, pair, tmp_path):
    assert run(*pair).status == 0
    assert run(pair[0]).status == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.cocuyo", "a.experiment.cocuyo", "a.tif", "b.tif"]


def test_recordings_of_one_name_get_folders_of_their_own(run, pair, tmp_path):
    (tmp_path / "later").mkdir()
    shutil.copy(pair[1], tmp_path / "later" / "a.tif")
    out = tmp_path / "out"
    assert run(pair[0], tmp_path / "later" / "a.tif", "--out", out).status == 0
    assert sorted(path.name for path in (out / "recordings").iterdir()) == ["a", "a-2"]


def test_frames_are_chosen_in_each_recording(run, pair, tmp_path):
    assert run(*pair, "--frames", "5:25", "--out", tmp_path / "out").status == 0
    result = Result.load(tmp_path / "out")
    assert [part.n_frames for part in result.parts] == [20, 20]
    assert result.info.reading["frames"] == [5, 25]


def test_an_experiment_is_replaced_with_overwrite_only(run, pair, tmp_path, state_of):
    out = tmp_path / "out"
    assert run(*pair, "--out", out).status == 0
    before = state_of(out)
    outcome = run(*pair, "--out", out)
    assert outcome.status == 1
    assert "--overwrite" in outcome.error
    assert state_of(out) == before
    (out / "recordings" / "stale").mkdir()
    assert run(*pair, "--out", out, "--overwrite").status == 0
    assert sorted(path.name for path in (out / "recordings").iterdir()) == ["a", "b"]


def test_another_field_is_refused_by_file_and_figure(run_refused, write_tiff, small, simulation):
    there = simulation.frames[:60, 40:104, 50:122]
    line = run_refused(
        write_tiff(small, name="here.tif"), write_tiff(there, name="there.tif"), "--out", "x"
    )
    assert "there.tif does not show the field of" in line
    assert "(needed: 0.7)" in line
    assert "run it alone" in line


def test_frames_of_another_size_are_refused_by_file(run_refused, write_tiff, small):
    line = run_refused(
        write_tiff(small[:30], name="a.tif"), write_tiff(small[30:, 4:], name="b.tif")
    )
    assert "b.tif has frames of 60 x 72 pixels (rows x columns)" in line
    assert "Run it alone" in line


def test_a_recording_given_twice_is_refused(run_refused, pair):
    assert "was given twice" in run_refused(pair[0], pair[1], pair[0])


def test_one_that_is_no_recording_is_refused_by_name(run_refused, pair, tmp_path):
    (tmp_path / "empty.tif").write_bytes(b"")
    assert "empty.tif" in run_refused(pair[0], tmp_path / "empty.tif")
    assert "absent.tif does not exist" in run_refused(pair[0], tmp_path / "absent.tif")


def test_times_of_one_recording_are_wrong_usage_for_several(run, pair, tmp_path):
    outcome = run(*pair, "--timestamps", tmp_path / "times.csv")
    assert outcome.status == 2
    assert "--timestamps holds the times of one recording" in outcome.err


def test_extract_takes_one_recording(cocuyo, pair):
    outcome = cocuyo("extract", *pair, "--rois", "labels.tif", "--frame-rate", 6.67)
    assert outcome.status == 2
    assert "2 recordings were given. If they are parts of one recording, add --join" in outcome.err
