"""The commands `simulate`, `evaluate` and `demo`: what they make, refuse and leave."""

import errno
import importlib
import json
import zipfile

import numpy as np
import pytest
import tifffile

from cocuyo.io import open_recording
from cocuyo.simulation import PRESETS

SIMULATION = ["recording.tif", "simulation.json", "truth.npz"]
SMALL = ("--preset", "sparse", "--n-frames", 20, "--size", 48, 64)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- simulate ----------------------------------------------------------------------------------


def test_a_simulation_needs_no_options_to_be_run_and_evaluated(cocuyo, tmp_path):
    place = tmp_path / "mine"
    small = ("--preset", "sparse", "--seed", 2, "--n-frames", 100, "--size", 80, 96)
    assert cocuyo("simulate", *small, "--out", place).status == 0
    assert names_in(place) == SIMULATION
    assert cocuyo("run", "--preset", "srname", place / "recording.tif").status == 0
    scores = cocuyo("evaluate", place / "recording.cocuyo", "--truth", place / "truth.npz")
    assert scores.status == 0
    for words in ("Pixels", "Cells", "trace correlation", "event F1"):
        assert words in scores.out
    assert "Not scored" not in scores.out


def test_a_simulation_that_is_there_is_kept_without_overwrite(cocuyo, refused, tmp_path):
    assert cocuyo("simulate", *SMALL, "--out", tmp_path).status == 0
    line = refused("simulate", *SMALL, "--seed", 5, "--out", tmp_path)
    assert "already holds recording.tif, truth.npz, simulation.json" in line
    assert "--overwrite" in line
    assert cocuyo("simulate", *SMALL, "--seed", 5, "--out", tmp_path, "--overwrite").status == 0
    assert json.loads((tmp_path / "simulation.json").read_text())["seed"] == 5


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_no_half_of_a_simulation(
    cocuyo, refused, monkeypatch, tmp_path, overwrite
):
    place = tmp_path / "mine"
    if overwrite:
        assert cocuyo("simulate", *SMALL, "--out", place).status == 0
    written = []

    def full(*arguments, **options):
        written.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in (
        ("tifffile", "imwrite"),
        ("cocuyo.io.atomic", "save_npz_atomic"),
        ("cocuyo.io.atomic", "write_json"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(importlib.import_module(module), name, full)
            line = refused("simulate", *SMALL, "--seed", 5, "--out", place, "--overwrite")
        assert "cannot be written: No space left on device. Free some space" in line
    assert len(written) == 3


@pytest.mark.parametrize("below", [".", "below/it"])
def test_a_simulation_in_the_place_of_a_file_is_refused(refused, tmp_path, below):
    (tmp_path / "file").write_text("x")
    line = refused("simulate", *SMALL, "--out", tmp_path / "file" / below)
    assert "is not a folder; choose another folder with --out" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", -1), "--seed is -1; it must be 0 or more"),
        (("--n-frames", 1), "n_frames"),
        (("--size", 4, 4), "n_rows"),
        (("--n-frames", 10**9), "a TIFF that ImageJ reads holds 4 GB"),
        (("--config", "absent.toml"), "absent.toml cannot be read: No such file"),
    ],
)
def test_a_simulation_that_makes_no_sense_is_refused(refused, tmp_path, options, words):
    assert words in refused("simulate", *SMALL, *options, "--out", tmp_path / "mine")


# --- evaluate ----------------------------------------------------------------------------------


@pytest.fixture
def truth(simulated, tmp_path):
    np.savez_compressed(tmp_path / "truth.npz", **simulated.truth.arrays())
    return tmp_path / "truth.npz"


def test_evaluating_changes_nothing(cocuyo, state_of, finished, truth):
    before = state_of(finished.path), state_of(truth.parent)
    outcome = cocuyo("evaluate", finished.path, "--truth", truth, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out)["instances"]["distance"]["tp"] > 0
    assert (state_of(finished.path), state_of(truth.parent)) == before


def test_a_result_agrees_with_its_own_pictures(cocuyo, finished):
    for name in ("labels.tif", "rois.zip", "mask.tif"):
        outcome = cocuyo("evaluate", finished.path, "--truth", finished.path / name, "--json")
        assert (outcome.status, outcome.err) == (0, "")
        assert json.loads(outcome.out)["pixels"]["sdc"] == 1.0


def test_a_result_without_neurons_can_be_evaluated(cocuyo, run, write_tiff, truth, tmp_path):
    assert run(write_tiff(np.full((60, 80, 96), 7, np.uint8))).status == 0
    outcome = cocuyo("evaluate", tmp_path / "slice.cocuyo", "--truth", truth, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out)["instances"]["distance"]["recall"] == 0.0


def test_a_truth_of_another_size_is_refused(refused, finished, tmp_path):
    tifffile.imwrite(tmp_path / "drawn.tif", np.ones((40, 50), np.uint16))
    line = refused("evaluate", finished.path, "--truth", tmp_path / "drawn.tif")
    assert "40 x 50" in line
    assert "80 x 96" in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.npz", "absent.npz does not exist; give a result of cocuyo"),
        ("empty.npz", "it is no such archive, or is cut"),
        ("garbage.npz", "it is no such archive, or is cut"),
        ("cut.npz", "it is no such archive, or is cut"),
        ("other.npz", "it needs footprints (n, Y, X)"),
        ("damaged.npz", "cannot be read as .npz"),
        ("damaged.zip", "cannot be read as an ROI set"),
        ("garbage.tif", "cannot be read as a picture"),
        ("garbage.png", "cannot be read as a picture"),
        ("garbage.zip", "cannot be read as an ROI set"),
        ("notes.txt", "is of no kind that states cells"),
        ("movie.tif", "needs a single picture"),
        ("folder", "holds no run.json of cocuyo"),
    ],
)
def test_what_states_no_cells_is_refused(refused, finished, truth, small, name, words):
    path = truth.with_name(name)
    if name == "folder":
        path.mkdir()
    elif name == "movie.tif":
        tifffile.imwrite(path, small)
    elif name == "other.npz":
        np.savez(path, images=np.zeros((2, 3)))
    elif name.startswith("damaged"):
        whole = truth if name == "damaged.npz" else finished.path / "rois.zip"
        with zipfile.ZipFile(whole) as archive:
            first = archive.infolist()[0]
        content = bytearray(whole.read_bytes())
        start = first.header_offset + 30 + len(first.filename) + 30
        content[start : start + 20] = bytes(20)
        path.write_bytes(content)
    elif name != "absent.npz":
        content = {"empty.npz": b"", "cut.npz": truth.read_bytes()[:-100], "notes.txt": b"a cell"}
        path.write_bytes(content.get(name, np.random.default_rng(0).bytes(3000)))
    assert words in refused("evaluate", finished.path, "--truth", path)
    if name != "folder":
        assert words in refused("evaluate", path, "--truth", truth)


def test_a_damaged_result_is_refused(refused, run, write_tiff, truth, tmp_path, small):
    assert run(write_tiff(small)).status == 0
    file = tmp_path / "slice.cocuyo" / "result.h5"
    file.write_bytes(file.read_bytes()[:2000])
    line = refused("evaluate", tmp_path / "slice.cocuyo", "--truth", truth)
    assert "result.h5 is damaged or incomplete" in line
    assert "Run the recording again" in line


# --- demo --------------------------------------------------------------------------------------


@pytest.fixture
def short_demo(monkeypatch):
    """Let the demo simulate something short."""
    update = {"n_frames": 80, "n_rows": 64, "n_columns": 80}
    monkeypatch.setitem(PRESETS, "demo", PRESETS["demo"].model_copy(update=update))


@pytest.mark.usefixtures("short_demo")
def test_the_demo_simulates_analyses_compares_and_names_the_report(
    cocuyo, look, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    outcome = cocuyo("demo", "--preset", "srname")
    assert outcome.status == 0
    assert names_in(tmp_path) == ["cocuyo-demo"]
    assert names_in(tmp_path / "cocuyo-demo") == sorted([*SIMULATION, "result"])
    look(tmp_path / "cocuyo-demo" / "result").expect_whole(80, (64, 80))
    assert open_recording("cocuyo-demo/recording.tif").rate_hz == pytest.approx(6.67, rel=1e-3)
    order = ["recording.tif: 80 frames", "functional neuron", "Compared with the truth"]
    order += ["Pixels", "Cells", "result/report.html in a browser"]
    places = [outcome.out.replace("\\", "/").index(words) for words in order]
    assert places == sorted(places)


@pytest.mark.usefixtures("short_demo")
def test_an_earlier_demo_is_kept_without_overwrite_and_replaced_with_it(cocuyo, refused, tmp_path):
    words = ("demo", "--preset", "srname", "--out", tmp_path / "tour")
    assert cocuyo(*words).status == 0
    assert "--overwrite" in refused(*words)
    assert cocuyo(*words, "--overwrite").status == 0
    assert names_in(tmp_path / "tour") == sorted([*SIMULATION, "result"])


@pytest.mark.usefixtures("short_demo")
def test_a_demo_replaces_nothing_of_somebody_else(refused, tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "precious.txt").write_text("x")
    words = ("demo", "--preset", "srname", "--out", tmp_path, "--overwrite")
    assert "not replaced" in refused(*words)


def test_a_demo_without_its_model_is_refused_before_it_simulates(refused, monkeypatch, tmp_path):
    monkeypatch.setattr("cocuyo.pipeline.model.resources.files", lambda package: tmp_path)
    line = refused("demo", "--out", tmp_path / "tour")
    assert "There is no model 'default'" in line


def test_an_unknown_preset_of_the_demo_is_wrong_usage(cocuyo, tmp_path):
    assert cocuyo("demo", "--preset", "best", "--out", tmp_path / "tour").status == 2
    assert list(tmp_path.iterdir()) == []
