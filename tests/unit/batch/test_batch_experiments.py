"""Recordings of one field in a batch: analysed together, counted and listed each for itself."""

import csv
import os

import numpy as np
import pytest
import tifffile
from flashing_movie import ACTIVE, SILENT, make_movie

from cocuyo import Result
from cocuyo.batch import Search
from cocuyo.batch.run import share_done
from cocuyo.batch.work import perform
from cocuyo.core import Progress

TOGETHER = Search(experiment="(slice[0-9])", group="_([a-z]+)")


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def field(tmp_path):
    """Write a recording of one field, in which some cells flash and the others are seen."""

    def write(name, active, *, n_frames=120, offset=(0.0, 0.0), rows=slice(None)):
        movie = make_movie(
            active=active,
            silent=(*SILENT, *(cell for cell in ACTIVE if cell not in active)),
            n_frames=n_frames,
            shifts=np.broadcast_to(np.asarray(offset, float), (n_frames, 2)),
            rest=0.4,
        )
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, movie.frames[:, rows], photometric="minisblack")
        return path

    return write


@pytest.fixture
def slice1(field):
    """Two recordings of a field that moved between them, and a cell that is in both."""
    return (
        field("slice1_after.tif", ACTIVE[2:], n_frames=100, offset=(4.0, -3.0)),
        field("slice1_before.tif", ACTIVE[:3]),
    )


@pytest.mark.usefixtures("slice1")
def test_recordings_of_one_field_become_one_result_with_a_row_for_each(batch, field, out):
    field("slice2_before.tif", ACTIVE[:2])
    field("other.tif", ACTIVE[:1])
    counts, planned, used = batch(search=TOGETHER)
    assert (counts.n_done, counts.n_failed, counts.n_now) == (4, 0, 4)
    assert [(p.name, p.n_recordings, p.lengths) for p in planned] == [
        ("other", 1, (120,)),
        ("slice1", 2, (100, 120)),
        ("slice2", 1, (120,)),
    ]
    assert len(used.tasks) == 3
    result = Result.load(out / "recordings" / "slice1")
    assert [part.name for part in result.parts] == ["slice1_after", "slice1_before"]
    assert not Result.load(out / "recordings" / "slice2").parts
    rows = {row["recording"]: row for row in rows_of(out / "summary.csv")}
    assert [(r["recording"], r["experiment"], r["group"]) for r in rows.values()] == [
        ("other", "", ""),
        ("slice1_after", "slice1", "after"),
        ("slice1_before", "slice1", "before"),
        ("slice2_before", "slice2", "before"),
    ]
    after, before = rows["slice1_after"], rows["slice1_before"]
    accepted = result.rois.accepted
    assert before["n_neurons"] == str(accepted.sum()) == str(len(ACTIVE))
    for i, row in enumerate((after, before)):
        own = result.part(i)
        n_events = own.events.count(len(accepted))[accepted]
        assert (row["n_events"], row["n_active"]) == (
            str(n_events.sum()),
            str((n_events > 0).sum()),
        )
        assert row["n_frames"] == str(own.n_frames)
        assert float(row["active_share"]) == pytest.approx(own.raster[accepted].mean(), rel=1e-5)
        assert row["result"] == "recordings/slice1"
        assert (out / row["tables"] / "traces.csv").is_file()
    # The first is where the others are laid over; the field is said to have moved, not the frames.
    assert float(after["field_offset_px"]) == 0
    assert float(before["field_offset_px"]) == pytest.approx(5, abs=0.2)
    assert float(before["field_correlation"]) > 0.9
    assert float(before["largest_shift_px"]) < 0.5
    assert rows["other"]["field_correlation"] == ""
    page = (out / "index.html").read_text("utf-8")
    assert "2 recordings of one field" in page
    assert "of 4 recordings, 2 of them in 1 experiment" in page


@pytest.mark.usefixtures("slice1")
def test_the_long_table_follows_a_neuron_through_the_recordings(batch, out):
    batch(search=TOGETHER)
    result = Result.load(out / "recordings" / "slice1")
    rois = rows_of(out / "rois.csv")
    assert len(rois) == 2 * len(result.rois)
    own = {(r["id"], r["recording"]): r for r in rois}
    for i, name in enumerate(("slice1_after", "slice1_before")):
        part, seen = result.part(i), result.parts[i].in_view(result.rois)
        counts = part.events.count(len(result.rois))
        for k, roi in enumerate(result.rois.ids):
            row = own[roi, name]
            assert row["experiment"] == "slice1"
            assert row["in_view"] == str(int(seen[k]))
            assert row["n_events"] == (str(counts[k]) if seen[k] else "")


@pytest.mark.usefixtures("slice1")
def test_what_leaves_the_view_does_not_count_as_silent(batch, field, out):
    # A quarter of the field is out of view: what lies there has no activity to be measured.
    field("slice1_far.tif", ACTIVE[:3], offset=(0.0, 15.5))
    batch(search=TOGETHER)
    result = Result.load(out / "recordings" / "slice1")
    far = next(i for i, part in enumerate(result.parts) if part.name == "slice1_far")
    seen = result.parts[far].in_view(result.rois) & result.rois.accepted
    assert 0 < seen.sum() < result.rois.accepted.sum()
    (row,) = (r for r in rows_of(out / "summary.csv") if r["recording"] == "slice1_far")
    assert row["n_neurons"] == str(seen.sum())
    counts = result.part(far).events.count(len(result.rois))[seen]
    minutes = float(row["duration_s"]) / 60
    assert float(row["events_per_min"]) == pytest.approx(counts.mean() / minutes, rel=1e-4)


def test_noise_is_that_of_each_recording(batch, slice1, out):
    frames = tifffile.imread(slice1[0])
    noisy = np.random.default_rng(1).normal(frames, 30).clip(0)
    tifffile.imwrite(slice1[0], noisy.astype(np.uint16), photometric="minisblack")
    batch(search=TOGETHER)
    after, before = rows_of(out / "summary.csv")
    assert float(after["median_noise"]) > 1.5 * float(before["median_noise"])
    assert float(after["median_snr"]) < float(before["median_snr"])


@pytest.mark.usefixtures("slice1")
def test_a_result_of_an_experiment_is_that_of_run(batch, slice1, out, tmp_path):
    from cocuyo.cli import run_command_line

    batch(search=TOGETHER)
    words = ["run", *map(str, slice1), "--preset", "srname", "--out", str(tmp_path / "alone")]
    assert run_command_line([*words, "--frame-rate", "6.67", "--pixel-size", "1.5"]) == 0
    alone, ours = tmp_path / "alone", out / "recordings" / "slice1"
    files = sorted(path.relative_to(alone) for path in alone.rglob("*.[ct][si][vf]"))
    assert len(files) > 12
    for name in files:
        assert (ours / name).read_bytes() == (alone / name).read_bytes()
    one, other = Result.load(alone), Result.load(ours)
    assert one.info.inputs == other.info.inputs
    assert one.info.reading == other.info.reading


def test_an_experiment_is_done_again_when_any_of_its_recordings_changed(batch, field, slice1):
    assert batch(search=TOGETHER)[1][0].why == "new"
    os.utime(slice1[0], (1, 1))
    assert [p.state for p in batch(search=TOGETHER)[1]] == ["done"]
    field("slice1_before.tif", ACTIVE[:2])
    assert batch(search=TOGETHER)[1][0].why == "its recordings changed"
    field("slice1_washout.tif", ACTIVE[:2])
    _, (planned,), used = batch(search=TOGETHER)
    assert (planned.state, planned.n_recordings) == ("to do", 3)
    assert [len(task.recordings) for task in used.tasks] == [3]


def test_taken_alone_before_they_are_analysed_anew_together(batch, slice1, out):
    batch()
    assert "earlier starts" not in (out / "index.html").read_text("utf-8")
    counts, planned, _ = batch(search=TOGETHER)
    assert [(p.name, p.why) for p in planned] == [("slice1", "new")]
    assert counts.n_now == len(slice1)
    assert {r["result"] for r in rows_of(out / "summary.csv")} == {"recordings/slice1"}
    page = (out / "index.html").read_text("utf-8")
    assert "are analysed otherwise now: slice1_after, slice1_before." in page


def test_a_broken_recording_fails_its_experiment_and_no_other(batch, field, slice1, out):
    field("slice2_before.tif", ACTIVE[:2])
    slice1[0].write_bytes(b"")
    counts, planned, _ = batch(search=TOGETHER)
    assert (counts.n_done, counts.n_failed) == (1, 2)
    rows = rows_of(out / "summary.csv")
    assert [r["state"] for r in rows] == ["failed", "failed", "done"]
    for row in rows[:2]:
        assert "slice1_after.tif is empty (0 bytes)" in row["error"]
        assert "\n" not in row["error"]
    assert planned[0].problem
    assert "(2 recordings)" in (out / "index.html").read_text("utf-8")
    field("slice1_after.tif", ACTIVE[2:])
    assert batch(search=TOGETHER)[0].n_done == 3


def test_frames_of_another_size_are_told_before_anything_is_analysed(batch, field, slice1, out):
    field("slice1_before.tif", ACTIVE[:3], rows=slice(4, None))
    _, (planned,), used = batch(search=TOGETHER)
    assert used.tasks == []
    assert "the recordings of an experiment have frames of one size" in planned.problem


def test_another_field_is_told_by_its_file(batch, slice1, out):
    tifffile.imwrite(slice1[1], tifffile.imread(slice1[1])[:, ::-1], photometric="minisblack")
    assert batch(search=TOGETHER)[0].n_failed == 2
    assert (
        "slice1_before.tif does not show the field of" in rows_of(out / "summary.csv")[0]["error"]
    )


def test_an_experiment_needs_the_memory_of_its_largest_and_the_time_of_all(batch, field, slice1):
    _, (together,), _ = batch(search=TOGETHER)
    _, alone, _ = batch(redo=True)
    assert together.task.memory_mb == max(p.task.memory_mb for p in alone)
    assert together.task.expected_s == pytest.approx(sum(p.task.expected_s for p in alone))


def test_recordings_of_one_field_are_one_unit_of_observation(batch, field, slice1, out):
    field("slice2_before.tif", ACTIVE[:2])
    batch(search=Search(experiment="(slice[0-9])", group="([.])"))
    units = rows_of(out / "comparisons" / "units.csv")
    assert [(u["unit"], u["n_recordings"]) for u in units] == [("slice1", "2"), ("slice2", "1")]
    batch(search=Search(experiment="(slice[0-9])", group="([.])", animal="(slice)"))
    units = rows_of(out / "comparisons" / "units.csv")
    assert [(u["unit"], u["n_recordings"]) for u in units] == [("slice", "3")]


def test_a_mask_counts_in_the_coordinates_of_the_first(batch, slice1, out, tmp_path):
    frames = tifffile.imread(slice1[0])
    mask = np.zeros(frames.shape[1:], np.uint8)
    y, x = ACTIVE[3]
    mask[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    source = tmp_path / "list.csv"
    text = "recording,experiment,exclude\nin/slice1_before.tif,e,{}\nin/slice1_after.tif,e,\n"
    source.write_text(text.format(""), encoding="utf-8")
    batch(source=source)
    before = Result.load(out / "recordings" / "e").rois
    source.write_text(text.format("mask.tif"), encoding="utf-8")
    assert batch(source=source)[1][0].why == "settings or model changed"
    after = Result.load(out / "recordings" / "e").rois
    assert after.accepted.sum() == before.accepted.sum() - 1
    assert not (after.mask() & (mask > 0)).any()


def test_each_recording_may_leave_out_other_frames(batch, slice1, out, tmp_path):
    from cocuyo.io import reopen_recording

    source = tmp_path / "list.csv"
    text = "recording,experiment,frames\nin/slice1_before.tif,e,10:\nin/slice1_after.tif,e,:90\n"
    source.write_text(text, encoding="utf-8")
    batch(source=source)
    result = Result.load(out / "recordings" / "e")
    assert [part.n_frames for part in result.parts] == [110, 90]
    movie = reopen_recording(result, out / "recordings" / "e").movie
    frames = [tifffile.imread(path) for path in reversed(slice1)]
    np.testing.assert_array_equal(movie.read(105, 115)[:5], frames[0][115:])
    np.testing.assert_array_equal(movie.read(105, 115)[5:], frames[1][:5])
    assert [p.state for p in batch(source=source)[1]] == ["done"]
    source.write_text(text.replace("10:", "9:"), encoding="utf-8")
    assert batch(source=source)[1][0].why == "settings or model changed"


def test_a_killed_experiment_goes_on_with_the_maps_of_its_first_recordings(
    batch, slice1, executor, out
):
    tries = []

    def killed_once(task):
        def progress(report):
            if not tries and report.stage.startswith("extracting traces of all"):
                tries.append(1)
                raise KeyboardInterrupt

        return perform(task, progress=progress)

    with pytest.raises(KeyboardInterrupt):
        batch(search=TOGETHER, using=executor(killed_once))
    assert list((out / "state" / "slice1" / "work").glob("first_pass_*.npz"))
    batch(search=TOGETHER)
    notes = Result.load(out / "recordings" / "slice1").info.notes
    assert sum("taken over from a run that was stopped" in note for note in notes) == 2
    assert not (out / "state" / "slice1").exists()


def test_the_share_of_an_experiment_that_is_done_grows():
    stages = [
        ("comparing fields", 1, 2),
        ("segmenting (recording 1 of 2)", 50, 100),
        ("extracting traces (recording 1 of 2)", 1, 2),
        ("segmenting (recording 2 of 2)", 50, 100),
        ("extracting traces (recording 2 of 2)", 1, 2),
        ("extracting traces of all ROIs (recording 1 of 2)", 1, 2),
    ]
    shares = [share_done(Progress(*stage)) for stage in stages]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 1
    assert 0 < shares[1] < share_done(Progress("segmenting", 50, 100)) / 2
