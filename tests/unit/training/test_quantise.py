"""The int8 graph: made, checked against f32, and stored only where it finds the same."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cocuyo import segment
from cocuyo.cli import run_command_line
from cocuyo.core import MissingExtraError, ModelError, SettingsError
from cocuyo.pipeline.model import load_model, write_settings
from cocuyo.segmentation.engine import INT8_GRAPH
from cocuyo.simulation import PRESETS, simulate
from cocuyo.training import QuantiseRecipe, quantise
from cocuyo.training import quantise as command
from cocuyo.training.quantise import PrecisionCheck, _allowed, withdraw_int8

module = sys.modules[command.__module__]
# Too small to show that int8 agrees: that is the matter of the command, not of its tests.
SMALL = QuantiseRecipe(
    n_calibration=1,
    images_per_recording=6,
    n_validation=1,
    n_frames=64,
    side_px=96,
    min_sdc=0.5,
    max_loss=0.5,
)
GRAPH = {f"{INT8_GRAPH}.xml", f"{INT8_GRAPH}.bin"}
HERE = ("int8", "f32")


@pytest.fixture(scope="module", autouse=True)
def a_processor_with_vnni_and_without_bf16():
    """OpenVINO runs int8 on any processor; whether this one is quick at it does not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "processor_formats", lambda: HERE)
        patch.setattr("cocuyo.segmentation.engine.processor_formats", lambda: HERE)
        patch.setattr("cocuyo.segmentation.engine.computes_in_bf16", lambda: False)
        yield


def unquantised(folder):
    """Copy the shipped model as its training left it."""
    shutil.copytree(load_model("default").folder, folder)
    withdraw_int8(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return unquantised(tmp_path / "model")


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """Folder after the command, and the figures."""
    folder = unquantised(tmp_path_factory.mktemp("int8") / "model")
    return folder, quantise(folder, recipe=SMALL, seed=3)


def check(mask=0.99, of_map=0.99, truth=0.8, ms=1.0):
    return PrecisionCheck(mask, of_map, truth, {"512 x 512, 1 thread": ms}, ())


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_the_graph_the_permission_and_the_figures_are_stored(quantised, tmp_path):
    folder, checks = quantised
    before = unquantised(tmp_path / "before")
    assert names_in(folder) == names_in(before) | GRAPH
    assert set(load_model(folder).settings.precisions) == {"int8", "bf16", "f32"}
    stored = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["precision"]
    assert stored["recipe"] == SMALL.model_dump(mode="json")
    assert stored["seed"] == 3
    assert stored["n_images"] == 6
    assert set(stored["formats"]) == {"int8", "f32"}
    for name, found in stored["formats"].items():
        assert found["mask_sdc"] == round(checks[name].mask_sdc, 4) >= 0.5
        assert len(found["call_ms"]) == 4
        assert [row["seed"] for row in found["rows"]] == [3000]
    assert stored["formats"]["f32"]["map_sdc"] == 1


def test_everything_else_in_the_folder_stays(quantised, tmp_path):
    folder, _ = quantised
    before = unquantised(tmp_path / "before")
    for name in names_in(before) - {"model.json", "metrics.json"}:
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    then, now = (json.loads((f / "metrics.json").read_text("utf-8")) for f in (before, folder))
    assert {k: v for k, v in now.items() if k != "precision"} == then
    assert load_model(folder).settings.pipeline == load_model(before).settings.pipeline


def test_the_graph_is_a_fraction_of_the_other_one_and_nearly_the_same_network(quantised):
    folder, _ = quantised
    sizes = [(folder / f"{name}.bin").stat().st_size for name in (INT8_GRAPH, "unet")]
    assert sizes[0] < 0.4 * sizes[1]
    small = PRESETS["demo"].model_copy(update={"n_frames": 60, "n_rows": 96, "n_columns": 96})
    recording = simulate(small, seed=1).recording()
    results = {
        name: segment(recording, model=folder, engine="openvino", precision=name, n_threads=1)
        for name in HERE
    }
    assert results["int8"].info.precision == "int8+f32"
    assert results["f32"].info.precision == "f32"
    maps = [results[name].probability for name in HERE]
    assert 0 < np.abs(maps[0] - maps[1]).mean() < 0.02


def test_what_does_not_agree_is_not_kept_and_the_figures_say_so(folder, monkeypatch, capsys):
    for name in GRAPH:  # of an earlier time
        (folder / name).write_bytes(b"old")
    settings = load_model(folder).settings
    write_settings(folder, settings.model_copy(update={"precisions": ("int8", "f32")}))
    found = {"f32": check(1, 1), "bf16": check(0.999, 0.995), "int8": check(0.9712, 0.99)}
    monkeypatch.setattr(module, "_check", lambda *_: found)
    monkeypatch.setattr(module, "_calibration_images", lambda *_: [np.zeros((96, 96), np.float32)])
    assert run_command_line(["train", "quantise", "--model", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "int8 graph is not kept: against f32 its masks reach an SDC of 0.9712" in error
    assert not GRAPH & names_in(folder)
    assert set(load_model(folder).settings.precisions) == {"bf16", "f32"}
    stored = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["precision"]
    assert stored["formats"]["int8"]["mask_sdc"] == 0.9712


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ({"f32": check(ms=5), "bf16": check(ms=3), "int8": check(ms=2)}, ("int8", "bf16", "f32")),
        ({"f32": check(ms=5), "bf16": check(ms=2), "int8": check(ms=3)}, ("bf16", "int8", "f32")),
        ({"f32": check(ms=5), "int8": check(ms=3)}, ("int8", "bf16", "f32")),
        ({"f32": check(ms=2), "int8": check(ms=3)}, ("bf16", "f32", "int8")),
        ({"f32": check(ms=5), "bf16": check(0.97, ms=3), "int8": check(ms=2)}, ("int8", "f32")),
        ({"f32": check(ms=5), "int8": check(of_map=0.979)}, ("bf16", "f32")),
        ({"f32": check(ms=5), "int8": check(truth=0.794)}, ("bf16", "f32")),
        ({"f32": check(ms=5), "int8": check(truth=0.796)}, ("int8", "bf16", "f32")),
    ],
)
def test_formats_that_agree_are_allowed_the_fastest_first(checks, expected):
    assert _allowed(checks, QuantiseRecipe()) == expected


def test_a_processor_without_int8_checks_nothing(folder, monkeypatch):
    monkeypatch.setattr(module, "processor_formats", lambda: ("bf16", "f32"))
    before = (folder / "model.json").read_bytes()
    with pytest.raises(SettingsError, match="no VNNI"):
        quantise(folder)
    assert (folder / "model.json").read_bytes() == before


def test_a_folder_without_networks_is_refused(folder):
    (folder / "unet.xml").unlink()
    with pytest.raises(ModelError, match="no networks to quantise"):
        quantise(folder)


def test_without_nncf_the_extra_is_named_before_any_recording_is_made(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setattr(module, "_calibration_images", lambda *_: pytest.fail("made recordings"))
    with pytest.raises(MissingExtraError, match=r'pip install "cocuyo\[train\]"'):
        quantise(folder)


def test_withdrawing_leaves_a_folder_as_before(quantised, tmp_path):
    folder = shutil.copytree(quantised[0], tmp_path / "model")
    before = unquantised(tmp_path / "before")
    withdraw_int8(folder)
    assert names_in(folder) == names_in(before)
    assert load_model(folder).settings == load_model(before).settings
    metrics = "metrics.json"
    assert (folder / metrics).read_text("utf-8") == (before / metrics).read_text("utf-8")


QUANTISE = """
import pathlib, sys
import numpy as np
from openvino_telemetry.utils.sender import TelemetrySender

reports = []
TelemetrySender.send = lambda self, backend, message: reports.append(message)
from cocuyo.training.quantise import _write_int8

_write_int8(pathlib.Path(sys.argv[1]), [np.zeros((64, 64), np.float32)], 16)
sys.exit(len(reports))
"""


def test_nncf_reports_to_nobody_and_prints_nothing(folder, tmp_path):
    # In a process of its own, as for OpenVINO: a home in which nobody was asked, and no CI.
    kept = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT"}
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name in kept}
    done = subprocess.run(
        [sys.executable, "-c", QUANTISE, str(folder)],
        env=environment | {"HOME": str(home), "USERPROFILE": str(home)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(home.iterdir()) == []
