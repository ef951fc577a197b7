"""Model folders: what is written is read back, and what cannot be used is said."""

import json

import numpy as np
import pytest
from fake_judge import random_judge
from safetensors.numpy import save_file

from cocuyo.core import ModelError
from cocuyo.pipeline import (
    FORMAT_VERSION,
    PRESETS,
    ModelSettings,
    PipelineConfig,
    ScaleConfig,
    hash_weights,
    load_model,
    write_part,
    write_settings,
)
from cocuyo.postprocessing import FEATURES, Verifier


def settings(**changes):
    config = PRESETS["default"].model_copy(update={"mask_threshold": 0.37})
    given = {
        "format_version": FORMAT_VERSION,
        "name": "mine",
        "preset": "default",
        "pipeline": config,
    }
    return ModelSettings(**(given | changes))


def verifier():
    n = len(FEATURES)
    random = np.random.default_rng(0)
    return Verifier(
        random.normal(0, 1, n).astype(np.float32),
        np.full(n, 2, np.float32),
        (random.normal(0, 1, (1, n)).astype(np.float32),),
        (np.ones(1, np.float32),),
    )


def write_text(folder, **changes):
    """Write a model.json whose text has been changed by hand; None removes a key."""
    text = json.loads(settings().model_dump_json()) | changes
    text = {key: value for key, value in text.items() if value is not None}
    (folder / "model.json").write_text(json.dumps(text), encoding="utf-8")


@pytest.mark.parametrize("preset", PRESETS)
def test_written_settings_are_read_back_equal(tmp_path, preset):
    written = settings(preset=preset, pipeline=PRESETS[preset])
    write_settings(tmp_path, written)
    assert load_model(tmp_path).settings == written


def test_a_folder_may_be_named_by_text(tmp_path):
    write_settings(tmp_path, settings())
    assert load_model(str(tmp_path)).settings.pipeline.mask_threshold == 0.37


def test_a_written_verifier_is_read_back_equal(tmp_path):
    write_settings(tmp_path, settings())
    write_part(tmp_path, verifier())
    described = np.random.default_rng(1).normal(0, 1, (5, len(FEATURES))).astype(np.float32)
    read = load_model(tmp_path).verifier
    np.testing.assert_array_equal(read.score(described), verifier().score(described))


def test_a_written_judge_of_events_is_read_back_beside_the_verifier(tmp_path):
    written = random_judge()
    write_settings(tmp_path, settings())
    write_part(tmp_path, verifier())
    write_part(tmp_path, written)
    read = load_model(tmp_path)
    np.testing.assert_array_equal(read.judge.layers["mix.weight"], written.layers["mix.weight"])
    assert read.verifier.mean.shape == (len(FEATURES),)


def test_a_model_without_verifier_or_judge_has_none(tmp_path):
    write_settings(tmp_path, settings())
    assert load_model(tmp_path).verifier is None
    assert load_model(tmp_path).judge is None


def test_srname_needs_no_networks():
    model = load_model("srname")
    assert model.settings.preset == "srname"
    assert model.settings.pipeline.method == "blobs"
    assert model.verifier is None


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match=r"no model 'nonesuch'.*srname"):
        load_model("nonesuch")


def test_a_folder_without_settings_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "7", '"text"', "null"])
def test_a_damaged_settings_file_is_a_model_error(tmp_path, text):
    (tmp_path / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(tmp_path)


def test_a_settings_file_that_is_not_text_is_a_model_error(tmp_path):
    (tmp_path / "model.json").write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_another_format_version_is_refused_with_what_to_do(tmp_path, version):
    write_text(tmp_path, format_version=version)
    with pytest.raises(ModelError, match=r"format version.*Train"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "another"},
        {"pipeline": None},
        {"pipeline": {"mask_treshold": 0.5}},
        {"pipeline": {"first_frames": 0}},
        {"surplus": 1},
        {"precisions": ["int4"]},
    ],
)
def test_settings_that_are_missing_unknown_or_out_of_range_are_a_model_error(tmp_path, change):
    write_text(tmp_path, **change)
    with pytest.raises(ModelError, match="not a model of cocuyo"):
        load_model(tmp_path)


def test_a_setting_of_another_version_is_named(tmp_path):
    write_text(tmp_path, pipeline={"validation": {"proposal_sd": 1.0}})
    with pytest.raises(ModelError, match=r"pipeline\.validation\.proposal_sd.*Train"):
        load_model(tmp_path)


def test_a_setting_that_the_file_lacks_has_its_default(tmp_path):
    write_text(tmp_path, pipeline={"mask_threshold": 0.4})
    expected = PipelineConfig(mask_threshold=0.4)
    assert load_model(tmp_path).settings.pipeline == expected


def test_a_model_that_nobody_quantised_may_run_in_bf16_and_f32(tmp_path):
    write_text(tmp_path, precisions=None)
    assert load_model(tmp_path).settings.precisions == ("bf16", "f32")


def test_number_formats_are_read_back_in_their_order(tmp_path):
    write_settings(tmp_path, settings(precisions=("bf16", "int8", "f32")))
    assert load_model(tmp_path).settings.precisions == ("bf16", "int8", "f32")


def test_a_quantised_graph_and_its_permission_change_the_hash_of_the_weights(tmp_path):
    def hashed():
        return hash_weights(load_model(tmp_path), method="networks")

    write_settings(tmp_path, settings())
    seen = {hashed()}
    (tmp_path / "unet_int8.bin").write_bytes(b"1")
    seen.add(hashed())
    (tmp_path / "unet_int8.bin").write_bytes(b"2")
    seen.add(hashed())
    write_settings(tmp_path, settings(precisions=("int8", "f32")))
    seen.add(hashed())
    assert len(seen) == 4


def test_a_damaged_verifier_is_a_model_error(tmp_path):
    write_settings(tmp_path, settings())
    write_part(tmp_path, verifier())
    file = tmp_path / "verifier.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path)


def test_a_judge_of_another_version_is_a_model_error_that_names_the_file(tmp_path):
    write_settings(tmp_path, settings())
    save_file({"mean": np.zeros(3, np.float32)}, tmp_path / "events.safetensors")
    with pytest.raises(ModelError, match=r"events\.safetensors cannot be used.*Train it again"):
        load_model(tmp_path)


@pytest.mark.parametrize(("diameter", "factor"), [(6.5, 1), (10, 1), (15, 1), (5, 2), (20, 0.5)])
def test_cells_of_unusual_size_are_magnified_to_the_usual_one(diameter, factor):
    assert ScaleConfig().factor(diameter) == pytest.approx(factor)
