"""The command ``cocuyo evaluate``."""

import json

import numpy as np
import pytest
import tifffile

from cocuyo.cli import run_command_line

SHAPE = (24, 32)
CENTRES = [(6, 6), (6, 20), (17, 10)]


@pytest.fixture
def files(tmp_path):
    """A truth of three cells (one silent), drawings of it, and other programs' findings."""
    footprints = np.zeros((3, *SHAPE), np.float32)
    for footprint, (y, x) in zip(footprints, CENTRES, strict=True):
        footprint[y - 3 : y + 4, x - 3 : x + 4] = 0.4  # below half maximum: not the cell
        footprint[y - 2 : y + 3, x - 2 : x + 3] = 1.0
    raster = np.zeros((3, 50), bool)
    raster[:2, 10:14] = raster[:2, 30:33] = True
    traces = np.cumsum(raster * 1.0, axis=1).astype(np.float32)
    labels = np.zeros(SHAPE, np.uint16)
    for label, footprint in enumerate(footprints, start=1):
        labels[footprint == 1.0] = label
    everything = {"footprints": footprints, "raster": raster, "traces": traces}
    np.savez(tmp_path / "truth.npz", **everything, fps=10.0, ignore=np.array([0, 0, 1], bool))
    np.savez(tmp_path / "found.npz", **everything)
    np.savez(tmp_path / "no_rate.npz", **everything)
    np.savez(tmp_path / "other_frame.npz", footprints=footprints.transpose(0, 2, 1))
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    tifffile.imwrite(tmp_path / "mask.tif", np.isin(labels, (1, 2)).astype(np.uint8) * 255)
    tifffile.imwrite(tmp_path / "unsure.tif", (labels == 3).astype(np.uint8) * 255)
    return tmp_path


def run(capsys, *arguments):
    status = run_command_line(["evaluate", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


def scores_of(capsys, *arguments):
    status, output, errors = run(capsys, *arguments, "--json")
    assert (status, errors) == (0, "")
    return json.loads(output)


def test_all_scores_of_a_complete_pair_are_printed_with_denominators(files, capsys):
    status, output, errors = run(capsys, files / "found.npz", "--truth", files / "truth.npz")
    assert (status, errors) == (0, "")
    assert "0.667 (2/3)" in output  # strict precision: one ROI is on the silent cell
    assert "silent cells accepted  1.000 (1/1)" in output
    assert "event recall           1.000 (4/4)" in output
    assert "Not scored" not in output


def test_json_holds_the_same_scores(files, capsys):
    scores = scores_of(capsys, files / "found.npz", "--truth", files / "truth.npz")
    assert scores["instances"]["distance"]["precision"] == pytest.approx(2 / 3)
    assert scores["instances"]["distance_silent_ignored"]["precision"] == 1.0
    assert scores["pixels"]["tp"] == 50
    assert scores["events"]["f1"] == 1.0
    assert scores["truth"] == str(files / "truth.npz")


def test_a_picture_of_labels_is_scored_by_cells(files, capsys):
    scores = scores_of(capsys, files / "labels.tif", "--truth", files / "truth.npz")
    assert scores["instances"]["iou"]["tp"] == 2
    assert scores["traces"] is None


def test_a_mask_is_scored_by_pixels_and_says_what_is_missing(files, capsys):
    status, output, _ = run(capsys, files / "mask.tif", "--truth", files / "truth.npz")
    assert status == 0
    assert "1.000 (100/100)" in output
    assert "Cells: the prediction is a mask" in output
    assert (
        scores_of(capsys, files / "mask.tif", "--truth", files / "mask.tif")["pixels"]["sdc"] == 1
    )


def test_pixels_of_the_ignore_mask_are_left_out(files, capsys):
    scores = scores_of(
        capsys,
        *(files / "labels.tif", "--truth", files / "mask.tif"),
        *("--ignore-mask", files / "unsure.tif"),
    )
    assert scores["pixels"]["fp"] == 0


def test_the_frame_rate_may_be_given_where_no_file_says_it(files, capsys):
    pair = (files / "found.npz", "--truth", files / "no_rate.npz")
    assert "no frame rate" in scores_of(capsys, *pair)["not_scored"][0]
    assert scores_of(capsys, *pair, "--frame-rate", 10)["events"]["f1"] == 1.0


def test_the_distance_may_be_chosen(files, capsys):
    pair = (files / "found.npz", "--truth", files / "truth.npz")
    assert scores_of(capsys, *pair, "--max-distance", 2)["criteria"]["max_distance_px"] == 2.0


@pytest.mark.parametrize(
    ("prediction", "options", "words"),
    [
        ("other_frame.npz", [], ["32 x 24", "24 x 32"]),
        ("absent.npz", [], ["absent.npz"]),
        ("found.npz", ["--max-distance", "-1"], ["-1"]),
        ("found.npz", ["--frame-rate", "0"], ["--frame-rate"]),
        ("found.npz", ["--ignore-mask", "absent.png"], ["absent.png"]),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_status_1(files, capsys, prediction, options, words):
    status, output, errors = run(
        capsys, files / prediction, "--truth", files / "truth.npz", *options
    )
    assert (status, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert all(word in errors for word in words)


def test_a_missing_truth_is_wrong_usage(files, capsys):
    status, _, errors = run(capsys, files / "found.npz")
    assert status == 2
    assert "--truth" in errors


def test_the_help_shows_examples(capsys):
    status, output, _ = run(capsys, "--help")
    assert status == 0
    assert "cocuyo evaluate slice.cocuyo --truth" in output
