"""The command ``cocuyo simulate``."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cocuyo.cli import run_command_line
from cocuyo.cli.simulate import simulate as simulate_command
from cocuyo.io import load_ground_truth, open_recording
from cocuyo.simulation import PRESETS, broad_training_config, simulate

SMALL = ("--n-frames", "8", "--size", "48", "64")


def run(*arguments: object) -> int:
    return run_command_line(["simulate", *map(str, arguments)])


def test_it_writes_a_recording_and_its_truth(tmp_path: Path) -> None:
    assert run("--preset", "sparse", "--seed", 3, *SMALL, "--out", tmp_path / "new" / "it") == 0
    folder = tmp_path / "new" / "it"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["recording.tif", "simulation.json", "truth.npz"]
    small = {"n_frames": 8, "n_rows": 48, "n_columns": 64}
    expected = simulate(PRESETS["sparse"].model_copy(update=small), seed=3)
    recording = open_recording(folder / "recording.tif")
    np.testing.assert_array_equal(recording.movie.read(0, 8), expected.frames)
    assert recording.rate_hz == pytest.approx(6.67, rel=1e-4)
    assert recording.pixel_size_um == pytest.approx(1.5, rel=1e-4)
    truth = load_ground_truth(folder / "truth.npz")
    np.testing.assert_array_equal(truth.union(), expected.truth.mask())
    np.testing.assert_array_equal(truth.ignored, expected.truth.regions().ignored)
    assert json.loads((folder / "simulation.json").read_text())["seed"] == 3


def test_imagej_finds_the_frame_interval(tmp_path: Path) -> None:
    assert run(*SMALL, "--out", tmp_path) == 0
    with tifffile.TiffFile(tmp_path / "recording.tif") as file:
        assert file.is_imagej
        metadata = file.imagej_metadata
        assert metadata is not None
        assert metadata["frames"] == 8
        assert metadata["finterval"] == pytest.approx(1 / 6.67)
        assert metadata["unit"] == "um"


def test_it_does_not_overwrite_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truth.npz").write_text("precious")
    assert run(*SMALL, "--out", tmp_path) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["truth.npz"]
    assert (tmp_path / "truth.npz").read_text() == "precious"
    assert run(*SMALL, "--out", tmp_path, "--overwrite") == 0
    assert load_ground_truth(tmp_path / "truth.npz").frame_shape == (48, 64)


def test_a_settings_file_replaces_settings_of_the_preset(tmp_path: Path) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text("n_active = 2\nframe_rate_hz = 10.0\n")
    assert run("--config", settings, *SMALL, "--out", tmp_path) == 0
    written = json.loads((tmp_path / "simulation.json").read_text())["settings"]
    assert (written["n_active"], written["frame_rate_hz"]) == (2, 10.0)
    assert written["n_silent"] == PRESETS["slice"].n_silent


def test_random_settings_follow_the_seed_and_the_split(tmp_path: Path) -> None:
    assert run("--random", "test", "--seed", 4, *SMALL, "--out", tmp_path) == 0
    assert json.loads((tmp_path / "simulation.json").read_text())["settings"]["split"] == "test"


def test_broad_settings_are_drawn_for_the_size_that_is_asked(tmp_path: Path) -> None:
    assert run("--random", "test", "--broad", "--seed", 4, *SMALL, "--out", tmp_path) == 0
    written = json.loads((tmp_path / "simulation.json").read_text())["settings"]
    drawn = broad_training_config(4, split="test", n_frames=8, shape=(48, 64))
    assert written == drawn.model_dump(mode="json")


def test_a_miniscope_is_written_with_all_that_is_true_of_it(tmp_path: Path) -> None:
    assert run("--preset", "miniscope", "--seed", 2, *SMALL, "--out", tmp_path) == 0
    movie = tifffile.imread(tmp_path / "recording.tif")
    assert (movie.dtype, movie.shape) == (np.uint8, (8, 48, 64))
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as truth:
        n = len(truth["footprints"])
        assert truth["planted"].shape == (n, 48, 64)
        assert truth["cell_shifts"].shape == (n, 8, 2)
        assert truth["dropped"].shape == (8,)
    assert load_ground_truth(tmp_path / "truth.npz").frame_shape == (48, 64)


def test_every_preset_can_be_chosen() -> None:
    option = next(each for each in simulate_command.params if each.name == "preset")
    assert tuple(option.type.choices) == tuple(PRESETS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("n_activ = 2", "n_activ"),
        ("pixel_size_um = -1.0", "pixel_size_um"),
        ("drift_px = nan", "drift_px"),
        ("what is this", "not a TOML file"),
        ("decay_min_s = 9.0", "decay"),
        ("jpeg_quality = 80", "JPEG holds 8 bits"),
        ('indicator = "GCaMP9"', "indicator"),
    ],
)
def test_settings_that_make_no_sense_are_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, complaint: str
) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text(content)
    assert run("--config", settings, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seed", -1),
        ("--n-frames", 1),
        ("--size", 4, 4),
        ("--n-frames", 100000, "--size", 512, 512),
        ("--config", "absent.toml"),
    ],
)
def test_values_that_cannot_be_used_are_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...]
) -> None:
    assert run(*arguments, "--out", tmp_path / "out") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_broad_without_random_is_wrong_usage(tmp_path: Path) -> None:
    assert run("--broad", "--out", tmp_path / "out") == 2


def test_two_kinds_of_settings_at_once_are_wrong_usage(tmp_path: Path) -> None:
    assert run("--preset", "dim", "--random", "test", "--out", tmp_path / "out") == 2
