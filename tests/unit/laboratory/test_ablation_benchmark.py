"""The ablation: every difference of the two presets is a switch, and the command does it all."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cocuyo.pipeline import PRESETS
from cocuyo.training import TRAININGS


@pytest.fixture(scope="module")
def ablation():
    path = Path(__file__).parents[3] / "benchmarks" / "ablation.py"
    spec = importlib.util.spec_from_file_location("ablation_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def leaves(tree, path=""):
    if not isinstance(tree, dict):
        return {path: tree}
    found = {}
    for name, part in tree.items():
        found |= leaves(part, f"{path}.{name}" if path else name)
    return found


def settings(name):
    tree = {"pipeline": PRESETS[name].model_dump(), "training": TRAININGS[name].model_dump()}
    return leaves(tree)


def as_leaves(variant, scale):
    pipeline, training = variant.settings(scale)
    return leaves({"pipeline": pipeline.model_dump(), "training": training.model_dump()})


def differences(one, other):
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def within(path, held):
    return any(path == name or path.startswith(f"{name}.") for name in held)


def test_every_difference_of_the_two_presets_is_a_switch_or_named_as_held(ablation):
    switched = {path for paths in ablation.SWITCHES.values() for path in paths}
    differing = differences(settings("paper"), settings("default"))
    assert {path for path in differing - switched if not within(path, ablation.HELD)} == set()
    assert switched <= differing


def test_each_row_of_the_ladder_changes_the_fields_of_its_switch_alone(ablation):
    rows = list(ablation.ladder().values())
    scale = ablation.SCALES["standard"]
    for (name, paths), row, following in zip(
        ablation.SWITCHES.items(), rows[:-1], rows[1:], strict=True
    ):
        changed = differences(as_leaves(row, scale), as_leaves(following, scale))
        # As many updates need fewer epochs where every frame is a step.
        budget = {"training.temporal.epochs", "training.temporal.patience"}
        assert changed - budget == set(paths)
        assert not changed & budget or name == ablation.COSTLY


def test_the_ladder_begins_at_paper_and_ends_at_the_default(ablation):
    rows, scale = list(ablation.ladder().values()), ablation.SCALES["standard"]
    switched = {path for paths in ablation.SWITCHES.values() for path in paths}
    for preset, row in (("paper", rows[0]), ("default", rows[-1])):
        wanted, own = settings(preset), as_leaves(row, scale)
        assert {path: own[path] for path in switched} == {p: wanted[p] for p in switched}


def test_a_row_without_a_switch_differs_from_the_default_in_its_fields_alone(ablation):
    scale = ablation.SCALES["standard"]
    whole = as_leaves(list(ablation.ladder().values())[-1], scale)
    rows = ablation.without_one()
    assert list(rows) == [f"- {name}" for name in ablation.SWITCHES if name != ablation.COSTLY]
    for name, row in rows.items():
        changed = differences(whole, as_leaves(row, scale))
        assert changed == set(ablation.SWITCHES[name.removeprefix("- ")])


def test_no_recording_of_the_test_is_of_the_kind_or_the_seeds_of_training(ablation):
    sources = ablation.make_sources(ablation.SCALES["standard"])
    tests = [source for source in sources if source.split == "test"]
    others = [source for source in sources if source.split != "test"]
    assert {source.name.rpartition("-")[0] for source in tests} == {
        *ablation.ORDINARY,
        *ablation.HARD,
    }
    assert all(source.config.split == source.split for source in sources)
    assert len({source.seed for source in sources}) == len(sources)
    assert len(others) == 21


def test_ordinary_and_hard_recordings_are_summed_up_apart(ablation):
    scores = {"slice-1": 0.5, "sparse-1": 0.7, "dim-1": 0.1, "dim-2": 0.3, "crowded-1": 0.5}
    assert ablation.summary(scores) == pytest.approx((0.6, 0.3))


def test_the_threshold_is_chosen_on_validation_and_not_on_the_test(ablation, tmp_path):
    truth = np.zeros((8, 8), np.bool_)
    truth[2:5, 2:5] = True
    paths, sources = {}, []
    for name, split in (("held", "validation"), ("dim-1", "test")):
        paths[name] = tmp_path / name
        paths[name].mkdir()
        np.save(paths[name] / "truth.npy", truth)
        np.save(paths[name] / "ignore.npy", np.zeros_like(truth))
        sources.append(ablation.Source(name, split, PRESETS, 0))
    # The same picture, half as bright in the test: its own best threshold would be another.
    maps = {"held": truth * 0.8 + 0.1, "dim-1": (truth * 0.8 + 0.1) / 2}
    found = ablation.cut_and_score(
        sources, lambda s: maps[s.name], np.array([0.2, 0.6, 0.85], np.float32), paths
    )
    assert found["threshold"] == pytest.approx(0.2)
    maps["held"] = truth * 0.2 + 0.61
    found = ablation.cut_and_score(
        sources, lambda s: maps[s.name], np.array([0.2, 0.6, 0.8], np.float32), paths
    )
    assert found["threshold"] == pytest.approx(0.8)
    assert found["SDC"] == {"dim-1": 0.0}


def test_the_quick_ablation_writes_its_tables_and_goes_on_where_it_stopped(
    ablation, tmp_path, monkeypatch, capsys
):
    whole, alone = ablation.ladder(), ablation.without_one()
    few = {name: whole[name] for name in ("+ half resolution", list(whole)[-1])}
    monkeypatch.setattr(ablation, "ladder", lambda: few)
    monkeypatch.setattr(ablation, "without_one", lambda: {"- starts": alone["- starts"]})
    out = tmp_path / "results" / "ablation.md"
    command = ["ablation", "--quick", "--seeds", "1", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*command, "--work", str(tmp_path / "work")])
    ablation.main()
    text = out.read_text("utf-8")
    for row in (*few, "- starts", "**hard, mean**", "crowded-1"):
        assert f"| {row}" in text
    assert "(ablation.png)" in text
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    results = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert list(results["ladder"]) == ["1", "2"]
    scores = results["ladder"]["1"]["+ half resolution"]
    assert set(scores["temporal network"]["SDC"]) == {f"{name}-1" for name in ablation.HARD}
    for name in ("fit_unet", "fit_temporal", "simulate"):
        monkeypatch.setattr(ablation, name, None)
    out.unlink()
    ablation.main()
    assert out.read_text("utf-8") == text
    assert text in capsys.readouterr().out
    monkeypatch.setattr(ablation, "ladder", lambda: whole)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--report"])
    with pytest.raises(SystemExit, match="9 rows of the ladder are not finished"):
        ablation.main()


def test_the_shipped_default_is_scored_without_any_training(ablation, tmp_path, monkeypatch):
    for name in ("fit_unet", "fit_temporal"):
        monkeypatch.setattr(ablation, name, None)
    out = tmp_path / "unlearned.md"
    command = ["ablation", "--quick", "--shipped", "--work", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    ablation.main()
    text = out.read_text("utf-8")
    for name, why in ablation.HARD.items():
        assert f"| {name} ({why}) | 1 | " in text
    assert "| **all hard** | 5 | " in text
    assert "ordinary" not in text
    scores = json.loads(out.with_suffix(".json").read_text("utf-8"))["shipped"]
    learned, plain = (scores[m]["SDC"] for m in (ablation.LEARNED, ablation.BASELINE))
    change = np.mean([learned[name] - plain[name] for name in learned])
    assert f"| {change:+.3f} ± " in text.splitlines()[-1]
