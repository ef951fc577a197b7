"""Exporting as a user does it: curated state, names, refusals, a recording that was moved."""

import json
import shutil
import sys

import numpy as np
import pytest
import tifffile

from cocuyo import Result
from cocuyo.core.curation import Draw, EventThreshold, Merge, Pixels, Reject, Split, shape_of
from cocuyo.core.curation import Part as SplitPart
from cocuyo.io import EditLog, load_ground_truth

START = ("--session-start", "2026-05-02T14:03:00+02:00")


@pytest.fixture
def place(finished, tmp_path):
    """A folder with the recording and its result, to be curated."""
    shutil.copytree(finished.path, tmp_path / "slice.cocuyo")
    shutil.copy(finished.path.parent / "slice.tif", tmp_path / "slice.tif")
    # The result names the recording by a path from where it was run.
    record = (tmp_path / "slice.cocuyo" / "run.json").read_text()
    record = record.replace(str(finished.path.parent / "slice.tif"), "slice.tif")
    (tmp_path / "slice.cocuyo" / "run.json").write_text(record)
    return tmp_path


@pytest.fixture
def curate(place):
    """Append edits as the curation page does."""
    log = EditLog(place / "slice.cocuyo")
    return lambda *edits: [log.append(edit) for edit in edits]


def _accepted(folder):
    result = Result.load(folder / "slice.cocuyo")
    return result, [result.rois.ids[i] for i in np.flatnonzero(result.rois.accepted)]


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("suite2p", "slice.suite2p"),
        ("imagej", "slice_rois.zip"),
        ("caiman", "slice_caiman.hdf5"),
        ("mat", "slice.mat"),
        ("csv", "slice.tables"),
        ("geojson", "slice.geojson"),
        ("labels", "slice_labels.tif"),
        ("result", "slice.curated.cocuyo"),
        ("nwb", "slice.nwb"),
        ("zscore", "slice_zscore.csv"),
        ("denoised", "slice_denoised.csv"),
        ("deconvolved", "slice_deconvolved.csv"),
    ],
)
def test_each_format_is_made_beside_the_result_which_stays_as_it_was(
    cocuyo, place, state_of, to, name
):
    before = state_of(place / "slice.cocuyo")
    _, accepted = _accepted(place)
    outcome = cocuyo("export", place / "slice.cocuyo", "--to", to, *(START if to == "nwb" else ()))
    assert outcome.status == 0
    if to not in ("zscore", "denoised", "deconvolved"):  # these show their progress
        assert outcome.err == ""
    assert outcome.out.startswith(f"{place / name}: {len(accepted)} neurons, ")
    assert outcome.out.endswith("(as found).\n")
    assert (place / name).exists()
    assert state_of(place / "slice.cocuyo") == before


def test_exports_hold_what_a_person_decided(cocuyo, place, curate):
    from scipy.io import loadmat

    result, accepted = _accepted(place)
    assert len(accepted) >= 4
    merged = shape_of(result.rois, accepted[1:3])
    drawn = Pixels(y=(70, 70, 71, 71), x=(10, 11, 10, 11))
    curate(
        Reject(rois=(accepted[0],)),
        Merge(rois=tuple(accepted[1:3]), roi="both", shape=merged),
        EventThreshold(roi=accepted[3], threshold_sd=1e5),
        Draw(roi="mine", shape=drawn),
    )
    outcome = cocuyo("export", place / "slice.cocuyo", "--to", "mat")
    assert outcome.status == 0
    assert outcome.out.endswith("(curated).\n")
    found = loadmat(place / "slice.mat")
    names = [str(cell[0]) for cell in found["Ids"].ravel()]
    assert names == [*accepted[3:], "both", "mine"]
    assert found["Raster"].shape == (len(names), result.n_frames)
    assert not found["Raster"][0].any()
    assert (found["Labels"][70:72, 10:12] == len(names)).all()
    frames = tifffile.imread(place / "slice.tif")
    still = np.abs(result.motion.shifts).max(axis=1) < 0.01
    if still.any():
        expected = frames[:, 70:72, 10:12].mean(axis=(1, 2))
        np.testing.assert_allclose(found["Raw"][-1][still], expected[still], rtol=1e-3)
    as_found = cocuyo("export", place / "slice.cocuyo", "--to", "mat", "--as-found", "--overwrite")
    assert as_found.status == 0
    assert len(loadmat(place / "slice.mat")["Ids"]) == len(accepted)


@pytest.mark.parametrize("to", ["zscore", "denoised", "deconvolved"])
def test_derived_traces_have_the_layout_of_the_traces_and_what_a_person_decided(
    cocuyo, place, curate, look, to
):
    result, accepted = _accepted(place)
    curate(Reject(rois=(accepted[0],)), EventThreshold(roi=accepted[1], threshold_sd=1e5))
    assert cocuyo("export", place / "slice.cocuyo", "--to", to).status == 0
    heads, *rows = (place / f"slice_{to}.csv").read_text().splitlines()
    usual = (place / "slice.cocuyo" / "traces.csv").read_text().splitlines()
    assert heads.split(",") == ["time_s", *accepted[1:]]
    assert [row.split(",")[0] for row in rows] == [row.split(",")[0] for row in usual[1:]]
    found = np.array([row.split(",")[1:] for row in rows], np.float64).T
    assert np.isfinite(found).all()
    traces = result.traces.delta_f_over_f[[result.rois.ids.index(n) for n in accepted[1:]]]
    if to == "deconvolved":
        assert (found >= 0).all()
    else:
        assert np.corrcoef(found[1], traces[1])[0, 1] > 0.5
    if to == "denoised":  # without its events a trace is smoothed as if it had none
        assert found[0].std() < traces[0].std()


def test_without_oasis_the_extra_is_named_before_anything_is_made(refused, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "oasis", None)
    error = refused("export", place / "slice.cocuyo", "--to", "deconvolved")
    assert 'pip install "cocuyo[oasis]"' in error
    assert not (place / "slice_deconvolved.csv").exists()


def test_a_curated_result_serves_the_other_commands(cocuyo, place, curate, look, simulated):
    result, accepted = _accepted(place)
    curate(Reject(rois=(accepted[0],), reason="a vessel"))
    assert cocuyo("export", place / "slice.cocuyo", "--to", "result").status == 0
    folder = look(place / "slice.curated.cocuyo")
    folder.expect_whole(result.n_frames, result.rois.frame_shape)
    assert folder.record["n_accepted"] == len(accepted) - 1
    assert "1 rejected" in folder.record["notes"][-1]
    row = next(row for row in folder.table("rois.csv")[1] if row[0] == accepted[0])
    assert row[-1] == "a vessel"
    scores = cocuyo("evaluate", place / "slice.curated.cocuyo", "--truth", place / "slice.cocuyo")
    assert scores.status == 0


def test_a_recording_that_was_moved_is_asked_for(cocuyo, refused, place, curate):
    _, accepted = _accepted(place)
    curate(Draw(roi="mine", shape=Pixels(y=(70, 71), x=(10, 10))))
    (place / "elsewhere").mkdir()
    moved = (place / "slice.tif").rename(place / "elsewhere" / "renamed.tif")
    error = refused("export", place / "slice.cocuyo", "--to", "csv")
    assert "mine have new shapes" in error
    assert "slice.tif" in error
    assert error.endswith("Say where it lies with --recording.")
    words = ("export", place / "slice.cocuyo", "--to", "csv", "--recording", moved)
    outcome = cocuyo(*words)
    assert outcome.status == 0, outcome
    assert f"{len(accepted) + 1} neurons" in outcome.out
    # Traces were kept: the recording is not needed any more.
    moved.unlink()
    assert cocuyo(*words[:4], "--overwrite").status == 0


def test_another_recording_of_the_same_name_is_not_taken(refused, place, curate):
    curate(Draw(roi="mine", shape=Pixels(y=(70, 71), x=(10, 10))))
    frames = tifffile.imread(place / "slice.tif")
    tifffile.imwrite(place / "slice.tif", frames[:-1], photometric="minisblack")
    error = refused("export", place / "slice.cocuyo", "--to", "csv")
    assert "has not the size that the recording" in error
    given = refused(
        "export", place / "slice.cocuyo", "--to", "csv", "--recording", place / "slice.tif"
    )
    assert "99 frames" in given


def test_a_merge_without_the_recording_warns(cocuyo, place, curate):
    result, accepted = _accepted(place)
    pair = tuple(accepted[:2])
    curate(Merge(rois=pair, roi="both", shape=shape_of(result.rois, pair)))
    (place / "slice.tif").unlink()
    outcome = cocuyo("export", place / "slice.cocuyo", "--to", "labels")
    assert outcome.status == 0
    assert "cocuyo: warning: The recording could not be read" in outcome.err
    assert "both are the mean of those of the ROIs that were merged" in outcome.err


def test_parts_of_a_split_are_exported_and_the_whole_is_not(cocuyo, place, curate):
    result, accepted = _accepted(place)
    whole = shape_of(result.rois, accepted[:1])
    half = len(whole.y) // 2
    parts = (
        SplitPart(roi="left", shape=Pixels(y=whole.y[:half], x=whole.x[:half])),
        SplitPart(roi="right", shape=Pixels(y=whole.y[half:], x=whole.x[half:])),
    )
    curate(Split(roi=accepted[0], parts=parts))
    assert cocuyo("export", place / "slice.cocuyo", "--to", "suite2p").status == 0
    regions = load_ground_truth(place / "slice.suite2p")
    assert regions.n_rois == len(result.rois) + 1
    assert (~regions.ignored).sum() == len(accepted) + 1


def test_nwb_refers_to_the_recording_or_says_that_it_cannot(cocuyo, place):
    import pynwb

    words = ("export", place / "slice.cocuyo", "--to", "nwb", *START)
    assert cocuyo(*words, "--out", place / "sub" / "a.nwb").status == 0
    with pynwb.NWBHDF5IO(place / "sub" / "a.nwb", "r") as io:
        series = io.read().acquisition["OnePhotonSeries"]
        assert list(series.external_file) == ["../slice.tif"]
        assert series.num_samples == 100
    (place / "slice.tif").unlink()
    outcome = cocuyo(*words)
    assert outcome.status == 0
    assert "warning: The recording slice.tif of" in outcome.err
    with pynwb.NWBHDF5IO(place / "slice.nwb", "r") as io:
        assert not io.read().acquisition


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "nwb"), "NWB needs to know when the session started"),
        (("--to", "nwb", "--metadata", "absent.toml"), "absent.toml cannot be read"),
        (("--to", "labels", "--out", "slice.cocuyo/mask.tif"), "which is not changed"),
        (("--to", "labels", "--out", "labels.png"), "must end in .tif"),
        (("--to", "result", "--out", "slice.cocuyo", "--overwrite"), "slice.cocuyo"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(refused, place, monkeypatch, words, said):
    monkeypatch.chdir(place)
    assert said in refused("export", "slice.cocuyo", *words)


@pytest.mark.parametrize("to", ["nwb", "mat", "result"])
def test_a_recording_in_place_of_a_result_is_refused_first(refused, place, monkeypatch, to):
    monkeypatch.chdir(place)
    assert "slice.tif is a file, not a result" in refused("export", "slice.tif", "--to", to)


def test_running_again_keeps_a_persons_edits_aside(run, place, curate, monkeypatch):
    _, accepted = _accepted(place)
    curate(Reject(rois=(accepted[0],)))
    edits = (place / "slice.cocuyo" / "edits.jsonl").read_bytes()
    monkeypatch.chdir(place)
    assert run("slice.tif", "--overwrite").status == 0
    assert not (place / "slice.cocuyo" / "edits.jsonl").exists()
    assert (place / "slice.cocuyo" / "edits.replaced.jsonl").read_bytes() == edits


def test_damaged_edits_are_refused(refused, place):
    (place / "slice.cocuyo" / "edits.jsonl").write_text('{"version": 9, "kind": "paint"}\n')
    error = refused("export", place / "slice.cocuyo", "--to", "csv")
    assert "version 9" in error
    assert "update cocuyo" in error


def test_wrong_usage_has_status_2(cocuyo, place):
    assert cocuyo("export", place / "slice.cocuyo").status == 2
    assert cocuyo("export", place / "slice.cocuyo", "--to", "word").status == 2
    assert cocuyo("export", place / "slice.cocuyo", "--to", "csv", *START).status == 2
    assert cocuyo("export", place / "absent", "--to", "csv").status == 1


def test_results_of_other_programs_are_scored(cocuyo, place):
    traces = _accepted(place)[0].traces
    # CaImAn's file holds our ΔF/F₀; Suite2p takes 0.7 of the surround from the counts.
    for to, name, expected in (
        ("suite2p", "slice.suite2p", traces.raw - 0.7 * traces.neuropil),
        ("caiman", "slice_caiman.hdf5", traces.delta_f_over_f),
    ):
        assert cocuyo("export", place / "slice.cocuyo", "--to", to).status == 0
        read = load_ground_truth(place / name).traces
        np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-6)
        outcome = cocuyo("evaluate", place / name, "--truth", place / "slice.cocuyo", "--json")
        assert outcome.status == 0
        scores = json.loads(outcome.out)
        assert scores["pixels"]["sdc"] == 1
        assert scores["instances"]["iou"]["f1"] == 1
        assert scores["silent"] == {"accepted": 0, "silent": 16, "share": 0.0}
        each = [
            np.corrcoef(ours, theirs)[0, 1]
            for ours, theirs in zip(traces.delta_f_over_f, expected, strict=True)
        ]
        median = scores["traces"]["median_correlation"]
        assert min(each) - 1e-4 <= median <= max(each) + 1e-4
