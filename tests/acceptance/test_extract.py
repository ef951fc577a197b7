"""Traces of given ROIs, as a user asks for them: before and after, drawn by hand, refused."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile

from cocuyo import Result
from cocuyo.io import file_identity

KNOWN = ("--preset", "srname", "--frame-rate", "6.67", "--pixel-size", "1.5")
DOWN, LEFT = 3, 5
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def extract(cocuyo):
    """Extract traces without networks, with rate and pixel size given."""
    return lambda *words: cocuyo("extract", *words, *KNOWN)


@pytest.fixture
def extract_refused(refused):
    """Ask for what must be refused; give the line."""
    return lambda *words: refused("extract", *words, *KNOWN)


@pytest.fixture
def recording(write_tiff, simulated):
    return write_tiff(simulated.frames, "again.tif")


def square(name, top, left, side=8):
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    return roifile.ImagejRoi.frompoints(np.array(corners, np.float32), name=name)


@pytest.fixture
def drawn(tmp_path):
    """ROIs as a person draws them: two squares, a forgotten point, one outside."""
    point = square("mark", 5, 5)
    point.roitype = roifile.ROI_TYPE.POINT
    rois = [square("soma 2", 40, 50), point, square("soma 1", 20, 24), square("out", 300, 300)]
    roifile.roiwrite(tmp_path / "RoiSet.zip", rois)
    return tmp_path / "RoiSet.zip"


# --- Results -----------------------------------------------------------------------------------


def test_hand_drawn_rois_give_a_whole_result_folder(
    extract, look, recording, drawn, simulated, tmp_path
):
    (tmp_path / "still.toml").write_text('[motion]\nmethod = "none"\n')
    outcome = extract(recording, "--rois", drawn, "--config", tmp_path / "still.toml")
    assert outcome.status == 0
    assert outcome.out.startswith("2 given ROIs with ")
    folder = look(tmp_path / "again.cocuyo")
    folder.expect_whole(100, (80, 96))
    header, _ = folder.table("traces_raw.csv")
    assert header == ["time_s", "soma 2", "soma 1"]
    expected = [
        simulated.frames[:, y : y + 8, x : x + 8].mean(axis=(1, 2), dtype=np.float64)
        for y, x in ((40, 50), (20, 24))
    ]
    np.testing.assert_allclose(folder.traces(), expected, rtol=2e-6)


def test_every_given_roi_has_a_row_with_its_reason(extract, look, recording, drawn, tmp_path):
    assert extract(recording, "--rois", drawn).status == 0
    _, rows = look(tmp_path / "again.cocuyo").table("rois.csv")
    assert [row[0] for row in rows] == ["soma 2", "mark", "soma 1", "out"]
    assert [row[9] for row in rows] == ["1", "0", "1", "0"]
    assert rows[1][10] == "is a point, which has no area"
    assert rows[3][10] == "has no pixel in the frame"
    assert rows[3][2:8] == ["", "", "0", "0", "", ""]


def test_a_name_that_is_there_twice_gets_a_number_and_a_note(extract, look, recording, tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for i in range(2):
            archive.writestr(f"{i}.roi", square("cell", 20 * i, 9).tobytes())
    assert extract(recording, "--rois", tmp_path / "twice.zip").status == 0
    folder = look(tmp_path / "again.cocuyo")
    assert folder.table("traces.csv")[0] == ["time_s", "cell", "cell_2"]
    assert "'cell' is called 'cell_2'" in " ".join(folder.record["notes"])


def test_run_json_says_what_was_done_and_of_what(extract, look, recording, drawn, tmp_path):
    assert extract(recording, "--rois", drawn).status == 0
    record = look(tmp_path / "again.cocuyo").record
    assert (record["task"], record["engine"], record["preset"]) == ("extract", "none", "srname")
    (movie,), (rois,) = file_identity(recording), file_identity(drawn)
    assert record["inputs"] == [movie, {**rois, "role": "rois"}]
    assert "No network was run" in " ".join(record["notes"])
    assert "mark, out" in " ".join(record["warnings"])


def test_the_report_speaks_of_given_rois_and_shows_no_probability(
    extract, look, recording, drawn, tmp_path
):
    assert extract(recording, "--rois", drawn).status == 0
    page = (look(tmp_path / "again.cocuyo").path / "report.html").read_text("utf-8")
    assert "All given ROIs" in page
    assert "<dd>2<small>of 4 given" in page
    assert "pic-probability" not in page
    said = page.partition("</style>")[2].partition("Complete settings")[0]
    assert "candidate" not in said


def test_the_neurons_of_a_result_keep_their_ids_and_diameter(
    extract, look, finished, recording, tmp_path
):
    assert extract(recording, "--rois", finished.path).status == 0
    before, after = finished.result, look(tmp_path / "again.cocuyo").result
    kept = np.flatnonzero(before.rois.accepted)
    assert after.rois.ids == tuple(before.rois.ids[i] for i in kept)
    assert after.rois.accepted.all()
    assert after.diameter_px == before.diameter_px
    weights = before.rois.footprints[kept].toarray()
    np.testing.assert_array_equal(after.rois.footprints.toarray(), weights)
    np.testing.assert_array_equal(after.traces.raw, before.traces.raw[kept])


def test_all_candidates_of_a_result_give_its_numbers_again(
    extract, look, finished, recording, tmp_path
):
    assert extract(recording, "--rois", finished.path, "--all").status == 0
    before, after = finished.result, look(tmp_path / "again.cocuyo").result
    assert after.rois.ids == before.rois.ids
    assert after.rois.accepted.all()
    np.testing.assert_array_equal(after.traces.delta_f_over_f, before.traces.delta_f_over_f)
    np.testing.assert_array_equal(after.raster, before.raster)


def test_labels_and_roi_set_of_a_result_give_the_traces_of_its_neurons(
    extract, finished, recording, tmp_path
):
    found = []
    for name in ("labels.tif", "rois.zip"):
        words = ("--rois", finished.path / name, "--out", tmp_path / name.replace(".", "_"))
        assert extract(recording, *words).status == 0
        found.append(Result.load(words[-1]))
    before = finished.result
    assert found[1].rois.ids == tuple(np.array(before.rois.ids)[before.rois.accepted])
    for result in found:
        np.testing.assert_array_equal(result.rois.mask(), before.rois.mask())
    np.testing.assert_array_equal(found[1].traces.raw, before.traces.raw[before.rois.accepted])


@pytest.mark.parametrize(
    ("name", "shape"), [("suite2p_1.1", (64, 80)), ("minian_2.0/minian", (30, 44))]
)
def test_a_folder_of_another_program_is_named_by_its_content(
    extract, look, write_tiff, tmp_path, name, shape
):
    source = shutil.copytree(DATA / name, tmp_path / "theirs")
    frames = np.random.default_rng(1).poisson(300, (40, *shape)).astype(np.uint16)
    path, hashes = write_tiff(frames), []
    for change in ("nothing", "what is not read", "what is read"):
        if change == "what is not read":
            (source / "registered.bin").write_bytes(bytes(100))
        elif change == "what is read":
            file = next(file for file in source.rglob("*") if file.name in ("iscell.npy", "0.0.0"))
            content = bytearray(file.read_bytes())
            content[-2] ^= 1  # the last bits of a number
            file.write_bytes(content)
        words = ("--rois", source, "--out", tmp_path / "out", "--overwrite")
        assert extract(path, *words).status == 0
        _, rois = look(tmp_path / "out").record["inputs"]
        assert (rois["path"], rois["role"]) == (str(source), "rois")
        assert rois["files"] > 1
        hashes.append(rois["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


# --- A recording of the same field -------------------------------------------------------------


@pytest.fixture
def moved(write_tiff, simulated):
    """The recording again, 3 px further down and 5 px further left."""
    frames = np.roll(simulated.frames, (DOWN, -LEFT), axis=(1, 2))
    return write_tiff(frames, "moved.tif")


def test_align_moves_the_rois_with_the_field(extract, look, finished, moved, tmp_path):
    assert extract(moved, "--rois", finished.path, "--align").status == 0
    folder = look(tmp_path / "moved.cocuyo")
    assert "3.0 px down and 5.0 px left" in " ".join(folder.record["notes"])
    before, after = finished.result.rois, folder.result.rois
    centres = dict(zip(before.ids, before.centroids, strict=True))
    areas = dict(zip(before.ids, before.area_px, strict=True))
    whole = [i for i, name in enumerate(after.ids) if after.area_px[i] == areas[name]]
    assert len(whole) >= 3  # others are cut by the border
    expected = np.array([centres[after.ids[i]] + (DOWN, -LEFT) for i in whole])
    np.testing.assert_allclose(after.centroids[whole], expected, atol=1e-3)


def test_without_align_a_moved_field_is_warned_about(extract, finished, moved):
    outcome = extract(moved, "--rois", finished.path)
    assert outcome.status == 0
    assert "3.0 px down and 5.0 px left" in outcome.out
    assert "--align moves them" in outcome.out


def test_another_field_cannot_be_aligned(extract_refused, finished, write_tiff):
    other = np.random.default_rng(1).poisson(300, (40, 80, 96)).astype(np.uint16)
    line = extract_refused(write_tiff(other), "--rois", finished.path, "--align")
    assert "cannot be aligned; is it the same field of view?" in line


# --- Refusals ----------------------------------------------------------------------------------


def test_an_absent_source_is_named(extract_refused, recording, tmp_path):
    line = extract_refused(recording, "--rois", tmp_path / "nothing.zip", "--align")
    assert "nothing.zip does not exist; give a result of cocuyo" in line


def test_a_folder_that_is_no_result_is_refused(extract_refused, recording, tmp_path):
    (tmp_path / "other").mkdir()
    line = extract_refused(recording, "--rois", tmp_path / "other")
    assert "holds no run.json of cocuyo" in line


def test_random_bytes_are_no_rois(extract_refused, recording, tmp_path):
    for name in ("r.zip", "r.roi", "r.tif", "r.png", "r.npz", "r.txt"):
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
        assert name in extract_refused(recording, "--rois", tmp_path / name)


def test_a_mask_is_refused_and_labels_are_asked_for(extract_refused, finished, recording):
    line = extract_refused(recording, "--rois", finished.path / "mask.tif")
    assert "is a mask" in line
    assert "labels" in line


@pytest.mark.parametrize("name", ["", "labels.tif"])
def test_rois_of_another_frame_size_are_refused_with_both_sizes(
    extract_refused, finished, write_tiff, small, name
):
    line = extract_refused(write_tiff(small), "--rois", finished.path / name)
    assert "80 x 96" in line
    assert "64 x 72" in line


def test_a_result_without_neurons_names_the_option(
    run, extract, extract_refused, write_tiff, small, tmp_path
):
    path = write_tiff(small)
    (tmp_path / "strict.toml").write_text("[validation]\nthreshold_sd = 500.0\n")
    assert run(path, "--config", tmp_path / "strict.toml").status == 0
    words = (path, "--rois", tmp_path / "slice.cocuyo", "--out", tmp_path / "all")
    assert "--all takes the " in extract_refused(*words)
    assert extract(*words, "--all").status == 0


def test_the_result_that_gives_the_rois_is_never_replaced(
    extract_refused, finished, recording, tmp_path
):
    source = shutil.copytree(finished.path, tmp_path / "again.cocuyo")
    assert "exists; choose another folder" in extract_refused(recording, "--rois", source)
    line = extract_refused(recording, "--rois", source, "--overwrite")
    assert "which the result would replace" in line


def test_wrong_usage_is_status_2(cocuyo, recording, drawn, tmp_path):
    for words, said in (
        ((), "Missing option '--rois'"),
        (("--rois", drawn, "--align"), "--align needs a result folder"),
    ):
        outcome = cocuyo("extract", recording, *words)
        assert (outcome.status, outcome.out) == (2, "")
        assert said in outcome.err.splitlines()[-1]
    assert not list(tmp_path.glob("*.cocuyo*"))


def test_rois_of_a_recording_without_activity_stay_accepted(extract, look, write_tiff, tmp_path):
    labels = np.zeros((64, 72), np.uint16)
    labels[10:18, 10:18], labels[40:48, 50:58] = 1, 2
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    silent = np.full((30, 64, 72), 100, np.uint16)
    assert extract(write_tiff(silent), "--rois", tmp_path / "labels.tif").status == 0
    folder = look(tmp_path / "slice.cocuyo")
    folder.expect_whole(30, (64, 72))
    assert folder.record["n_accepted"] == 2
    assert folder.table("events.csv")[1] == []
