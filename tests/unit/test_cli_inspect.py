"""``cocuyo inspect`` on good and bad recordings."""

import json

import numpy as np
import pytest
import tifffile

from cocuyo.cli import run_command_line

N, Y, X = 10, 6, 9


@pytest.fixture
def tif(tmp_path):
    path = tmp_path / "slice.tif"
    frames = np.arange(N * Y * X, dtype=np.uint16).reshape(N, Y, X)
    metadata = {"axes": "TYX", "finterval": 0.2}
    tifffile.imwrite(path, frames, imagej=True, metadata=metadata)
    return path


def test_facts_are_printed(tif, capsys):
    assert run_command_line(["inspect", str(tif)]) == 0
    out = capsys.readouterr().out
    assert "frames        10\n" in out
    assert "6 rows x 9 columns" in out
    assert "5 Hz (ImageJ's frame interval)" in out
    assert "--pixel-size" in out


def test_facts_are_printed_as_json(tif, capsys):
    assert run_command_line(["inspect", str(tif), "--json", "--pixel-size", "1.5"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n_frames"] == N
    assert facts["pixel_size_um"] == 1.5
    assert facts["missing"] == []


def test_several_recordings_are_described_one_by_one_or_joined(tif, tmp_path, capsys):
    other = tmp_path / "slice2.tif"
    other.write_bytes(tif.read_bytes())
    assert run_command_line(["inspect", str(tif), str(other), "--json"]) == 0
    assert [facts["n_frames"] for facts in json.loads(capsys.readouterr().out)] == [N, N]
    assert run_command_line(["inspect", str(tif), str(other), "--join", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_frames"] == 2 * N


def test_a_cut_recording_names_the_frames_to_go_on_with(tif, capsys):
    start = tif.stat().st_size
    with tifffile.TiffFile(tif) as file:
        start = file.pages[0].dataoffsets[0]
    tif.write_bytes(tif.read_bytes()[: start + 4 * Y * X * 2 + 1])
    assert run_command_line(["inspect", str(tif)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cocuyo: error: ")
    assert err.count("\n") == 1
    assert "--frames 0:4" in err
    assert run_command_line(["inspect", str(tif), "--frames", "0:4"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["absent.tif"], 1),
        (["SLICE", "--frame-rate", "-3"], 1),
        (["SLICE", "--frames", "5:2"], 1),
        (["SLICE", "--channel", "3"], 1),
        (["SLICE", "--timestamps", "absent.csv"], 1),
        (["SLICE", "--frame-rate", "fast"], 2),
        (["SLICE", "--exclude", "x.tif"], 2),
    ],
)
def test_unusable_input_and_wrong_usage_have_their_status(arguments, status, tif, capsys):
    words = [str(tif) if word == "SLICE" else word for word in arguments]
    assert run_command_line(["inspect", *words]) == status
    assert "Traceback" not in capsys.readouterr().err
