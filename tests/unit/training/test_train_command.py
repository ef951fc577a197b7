"""The way of a training: commands, folder, model, and a run with it."""

import json
import sys

import cv2
import numpy as np
import pytest

import cocuyo
from cocuyo import segment
from cocuyo.cli import run_command_line
from cocuyo.core import SettingsError
from cocuyo.pipeline.model import load_model, write_settings
from cocuyo.pipeline.settings import PRESETS
from cocuyo.postprocessing import FEATURES, CandidateConfig
from cocuyo.segmentation.engine import GRAPHS, INT8_GRAPH
from cocuyo.training import TRAININGS, TrainingConfig, open_workshop
from cocuyo.training.dataset import DatasetConfig, training_simulation
from cocuyo.training.loop import Curve
from cocuyo.training.settings import (
    EventsRecipe,
    OutlineRecipe,
    TemporalRecipe,
    UNetRecipe,
    VerifierRecipe,
)

# With this seed, clearly active neurons lie among silent cells in every small recording.
SEED = 16

TINY = TrainingConfig(
    dataset=DatasetConfig(n_training=2, n_validation=1, n_frames=64, side_px=64),
    unet=UNetRecipe(epochs=2, batch=2, crop_px=32, frames_per_recording=2),
    temporal=TemporalRecipe(epochs=2, batch=1, crop_px=32, chunk_steps=5),
    # Long enough to draw neurons: the verifier learns from what it draws.
    outline=OutlineRecipe(n_training=3, n_validation=1, epochs=60, batch=8, learning_rate=1e-2),
    events=EventsRecipe(n_training=5, n_validation=3, width=4, epochs=2, batch=6),
    verifier=VerifierRecipe(n_training=2, n_validation=1, hidden=(4,), epochs=5),
)


@pytest.fixture(scope="module")
def pipeline(pipeline):
    """Settings that make candidates of noise, too: there are some of both kinds."""
    return pipeline.model_copy(update={"candidates": CandidateConfig(min_contrast=4.0)})


@pytest.fixture(scope="module")
def tiny(pipeline):
    """Make the preset `default` tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRAININGS, "default", TINY)
        patch.setitem(PRESETS, "default", pipeline)
        yield


def train(what, folder, *options):
    return run_command_line(
        ["train", what, "--work", str(folder), "--seed", str(SEED), "--workers", "1", *options]
    )


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Folder after all commands."""
    folder = tmp_path_factory.mktemp("training")
    for what in ("unet", "temporal", "outline", "events", "verifier"):
        assert train(what, folder) == 0
    return folder


def test_the_commands_make_a_whole_model_folder(trained):
    assert {path.name for path in (trained / "model").iterdir()} >= {
        "weights.safetensors",
        *(f"{graph}.{end}" for graph in (*GRAPHS, "outline") for end in ("xml", "bin")),
        "outline.safetensors",
        "verifier.safetensors",
        "events.safetensors",
        "model.json",
        "metrics.json",
        "unet_curve.png",
        "temporal_curve.png",
        "outline_curve.png",
        "events_curve.png",
    }


def test_the_model_holds_the_settings_of_its_run(trained, pipeline):
    model = load_model(trained / "model")
    assert model.settings.pipeline == pipeline
    assert model.settings.preset == "default"
    assert model.verifier.mean.shape == (len(FEATURES),)
    assert model.judge.layers["stem.bias"].shape == (4,)


def test_the_metrics_tell_how_the_training_went(trained):
    metrics = json.loads((trained / "model" / "metrics.json").read_text(encoding="utf-8"))
    for network in ("unet", "temporal", "outline", "events"):
        curve = metrics["curves"][network]
        assert len(curve["loss"]) == len(curve["score"]) == getattr(TINY, network).epochs
        assert np.isfinite(curve["loss"]).all()
        assert all(0 <= score <= 1 for score in curve["score"])
    assert metrics["training"]["seed"] == SEED
    assert TrainingConfig.model_validate(metrics["training"]["recipe"]) == TINY
    assert metrics["verifier"]["n_training"] > 0
    assert 0 <= metrics["verifier"]["validation_accuracy"] <= 1


@pytest.mark.parametrize("network", ["unet", "temporal", "outline", "events"])
def test_the_model_folder_shows_its_learning_curves(network, trained):
    picture = cv2.imread(str(trained / "model" / f"{network}_curve.png"))
    assert picture.shape == (420, 720, 3)


def test_segment_runs_with_the_model(trained):
    _, recording = training_simulation(
        7, split="test", n_frames=40, side_px=61, preparations="slices"
    )
    result = segment(recording, model=trained / "model", engine="openvino", precision="f32")
    assert result.probability.shape == (61, 61)
    assert result.raster.shape == (len(result.rois), 40)
    assert (result.info.model, result.info.engine) == ("default", "openvino")


def test_the_verifier_of_the_model_scores_the_candidates(trained, pipeline):
    # A recording of the verifier's own training: it holds candidates.
    _, recording = training_simulation(
        500_000 + 1000 * SEED, split="training", n_frames=64, side_px=64, preparations="all"
    )
    with_verifier = segment(recording, model=trained / "model", engine="openvino")
    (trained / "model" / "verifier.safetensors").rename(trained / "verifier.aside")
    try:
        without = segment(recording, model=trained / "model", engine="openvino")
    finally:
        (trained / "verifier.aside").rename(trained / "model" / "verifier.safetensors")
    assert len(with_verifier.rois) == len(without.rois) > 0
    assert (with_verifier.rois.score != without.rois.score).any()


@pytest.mark.parametrize("what", ["events", "verifier"])
def test_what_comes_last_waits_for_the_outline_network(what, trained, capsys):
    graph = trained / "model" / "outline.xml"
    graph.rename(trained / "outline.aside")
    try:
        assert train(what, trained) == 1
    finally:
        (trained / "outline.aside").rename(graph)
    assert "run `cocuyo train outline` first" in capsys.readouterr().err


def test_a_preset_without_outline_network_says_so(tmp_path, capsys):
    assert train("outline", tmp_path, "--preset", "paper") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'paper' has no outline network" in error


def test_drawn_candidates_are_not_drawn_again(trained, monkeypatch):
    fitted = (trained / "model" / "outline.safetensors").read_bytes()

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("cocuyo.training.outline.label_views", fail)
    assert train("outline", trained) == 0
    assert (trained / "model" / "outline.safetensors").read_bytes() == fitted


@pytest.mark.parametrize("what", ["events", "verifier"])
def test_what_was_collected_is_not_collected_again(what, trained, monkeypatch):
    fitted = (trained / "model" / f"{what}.safetensors").read_bytes()

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(f"cocuyo.training.{what}._collect_one", fail)
    assert train(what, trained) == 0
    assert (trained / "model" / f"{what}.safetensors").read_bytes() == fitted


def test_a_network_that_is_fitted_again_takes_its_int8_graph_back(trained):
    model = trained / "model"
    for what in ("temporal", "outline", "verifier"):
        settings = load_model(model).settings
        write_settings(model, settings.model_copy(update={"precisions": ("int8", "f32")}))
        for end in ("xml", "bin"):
            (model / f"{INT8_GRAPH}.{end}").write_bytes(b"of the networks before")
        assert train(what, trained) == 0
        assert load_model(model).settings.precisions == ("bf16", "f32")
        assert not list(model.glob(f"{INT8_GRAPH}.*"))


def test_a_finished_training_is_not_done_again(trained, monkeypatch, capsys):
    weights = (trained / "unet.safetensors").read_bytes()

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("cocuyo.training.dataset.make_example", fail)
    monkeypatch.setattr("cocuyo.training.networks.segmentation_loss", fail)
    assert train("unet", trained) == 0
    assert "unet of preset default is trained" in capsys.readouterr().out
    assert (trained / "unet.safetensors").read_bytes() == weights


def test_a_folder_of_another_training_is_refused_in_one_line(trained, capsys):
    assert train("temporal", trained, "--seed", "2") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds a training with other settings; choose another folder" in error


@pytest.mark.parametrize(
    ("what", "first"),
    [
        ("temporal", "cocuyo train unet"),
        ("outline", "cocuyo train temporal"),
        ("events", "cocuyo train temporal"),
        ("verifier", "cocuyo train temporal"),
    ],
)
def test_a_command_too_early_names_the_one_before(what, first, tiny, tmp_path, capsys):
    assert train(what, tmp_path / "empty") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"run `{first}` first" in error


def test_training_without_its_extra_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(cocuyo, "training")
    monkeypatch.setitem(sys.modules, "cocuyo.training", None)  # cannot be imported
    assert train("unet", tmp_path) == 1
    assert 'pip install "cocuyo[train]"' in capsys.readouterr().err


@pytest.fixture
def begun(tmp_path, pipeline):
    """A folder in which a training was begun, and how to open it."""

    def reopen(**changed):
        given = {"pipeline": pipeline, "training": TINY, "seed": 1}
        return open_workshop(tmp_path / "work", **(given | changed))

    reopen()
    return reopen


def changed_recipe(**parts):
    return TINY.model_copy(update=parts)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2},
        {"preset": "paper"},
        {"pipeline": PRESETS["paper"]},
        {"training": changed_recipe(dataset=DatasetConfig())},
        {"training": changed_recipe(unet=UNetRecipe())},
        {"training": changed_recipe(temporal=TemporalRecipe())},
    ],
    ids=["seed", "preset", "networks", "data", "recipe of the unet", "recipe of the temporal"],
)
def test_a_folder_begun_with_other_settings_is_refused(other, begun):
    with pytest.raises(SettingsError, match="other settings"):
        begun(**other)


@pytest.mark.parametrize(
    "other",
    [{}, {"n_workers": 3}, {"training": changed_recipe(verifier=VerifierRecipe())}],
    ids=["nothing", "workers", "recipe of the verifier"],
)
def test_a_folder_is_reopened_where_the_networks_stay_the_same(other, begun):
    shop = begun(**other)
    assert shop.model.parent == shop.folder
    assert shop.training == other.get("training", TINY)


def test_a_preset_without_networks_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no networks to train"):
        open_workshop(tmp_path / "work", preset="srname")
    assert not (tmp_path / "work").exists()


def test_each_preset_trains_the_networks_of_its_pipeline(tmp_path):
    for preset in ("default", "paper"):
        shop = open_workshop(tmp_path / preset, preset=preset)
        assert shop.pipeline == PRESETS[preset]
        assert shop.training == TRAININGS[preset]


def test_a_curve_has_as_many_scores_as_epochs(trained):
    stored = json.loads((trained / "temporal_curve.json").read_text(encoding="utf-8"))
    curve = Curve(tuple(stored["loss"]), tuple(stored["score"]), stored["best_epoch"])
    assert curve.score[curve.best_epoch] == max(curve.score)
