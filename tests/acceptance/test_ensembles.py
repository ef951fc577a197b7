"""Ensembles of a saved result, as a user asks for them: found, empty, refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from planted_ensembles import planted_raster
from synthetic_result import make_result

from cocuyo.core import Result
from cocuyo.core.curation import Reject
from cocuyo.io import EditLog

FILES = {
    "coactivity.csv",
    "peaks.csv",
    "correlations.csv",
    "ensembles.csv",
    "ensemble_activity.csv",
    "ensembles.json",
    "ensembles.html",
}
STIMULUS_FILES = {"stimuli.csv", "peristimulus.csv", "peristimulus_coactivity.csv"}


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def saved(tmp_path):
    """A result with two ensembles among its accepted ROIs."""
    result = make_result(n_rois=60, n_frames=1500)
    accepted = np.flatnonzero(result.rois.accepted)
    raster = np.zeros((60, 1500), np.bool_)
    raster[accepted] = planted_raster(seed=1, n_neurons=len(accepted))
    raster[~result.rois.accepted] = True  # rejected ROIs play no part
    return replace(result, raster=raster).save(tmp_path / "slice.cocuyo")


@pytest.fixture
def ensembles(cocuyo, saved):
    return lambda *words: cocuyo("ensembles", saved, "--shuffles", "100", *words)


def test_ensembles_are_written_beside_the_result_which_stays_as_it_was(
    ensembles, saved, tmp_path, state_of
):
    before = state_of(saved)
    outcome = ensembles()
    assert outcome.status == 0, outcome
    assert outcome.out.startswith("2 ensembles of 48 neurons, ")
    assert state_of(saved) == before
    folder = tmp_path / "slice.ensembles"
    assert {path.name for path in folder.iterdir()} == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slice.cocuyo", "slice.ensembles"]
    record = json.loads((folder / "ensembles.json").read_text("utf-8"))
    assert (record["status"], record["n_ensembles"], record["seed"]) == ("complete", 2, 0)
    assert record["settings"]["n_shuffles"] == 100
    assert record["inputs"][0]["role"] == "result"


def test_what_a_person_rejected_plays_no_part(ensembles, saved):
    accepted = Result.load(saved).rois
    ids = tuple(accepted.ids[i] for i in np.flatnonzero(accepted.accepted)[:3])
    EditLog(saved).append(Reject(rois=ids))
    outcome = ensembles()
    assert outcome.status == 0, outcome
    assert " of 45 neurons, " in outcome.out


def test_tables_agree_with_each_other_and_with_the_result(ensembles, saved, tmp_path):
    assert ensembles().status == 0
    folder = tmp_path / "slice.ensembles"
    coactivity = table(folder / "coactivity.csv")
    with (saved / "raster.csv").open(encoding="utf-8") as file:
        ids, *rows = csv.reader(file)
    assert [int(row["n_active"]) for row in coactivity] == [sum(map(int, row[1:])) for row in rows]
    assert [row["time_s"] for row in coactivity] == [row[0] for row in rows]
    for row in coactivity:
        assert int(row["significant"]) == (int(row["n_active"]) >= int(row["threshold"]))
        assert float(row["share"]) == pytest.approx(int(row["n_active"]) / 48, abs=1e-5)
    members = table(folder / "ensembles.csv")
    assert [row["id"] for row in members] == ids[1:]
    core = [{row["id"] for row in members if row[f"ensemble_{k}"] == "1"} for k in (1, 2)]
    planted = [set(ids[1:10]), set(ids[10:18])]
    assert max(len(core[0] & group) for group in planted) >= 7
    assert len(table(folder / "correlations.csv")) == 48 * 47 // 2
    assert {row["ensemble"] for row in table(folder / "peaks.csv")} >= {"1", "2"}
    assert len(table(folder / "ensemble_activity.csv")) == 1500


def test_stimuli_add_their_tables(ensembles, tmp_path):
    stimuli = tmp_path / "light.csv"
    stimuli.write_text("time,name\n" + "".join(f"{t},light\n" for t in range(10, 140, 8)))
    outcome = ensembles("--stimuli", stimuli, "--before", "1", "--after", "2")
    assert outcome.status == 0, outcome
    assert "Stimulus light: " in outcome.out
    folder = tmp_path / "slice.ensembles"
    assert {path.name for path in folder.iterdir()} == FILES | STIMULUS_FILES
    assert len(table(folder / "stimuli.csv")) == 48
    lags = [float(row["lag_s"]) for row in table(folder / "peristimulus_coactivity.csv")]
    assert (lags[0], lags[-1], len(lags)) == (-1.0, 2.0, 31)
    assert len(table(folder / "peristimulus.csv")) == 48 * 31


def test_the_same_seed_gives_the_same_tables(ensembles, tmp_path):
    for name in ("a", "b"):
        assert ensembles("--seed", "4", "--out", tmp_path / name).status == 0
    for name in FILES - {"ensembles.html"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(("n_rois", "n_frames"), [(0, 60), (1, 60), (2, 3)])
def test_nothing_to_find_is_no_failure(cocuyo, tmp_path, n_rois, n_frames):
    folder = make_result(n_rois=n_rois, n_frames=n_frames).save(tmp_path / "few.cocuyo")
    outcome = cocuyo("ensembles", folder)
    assert outcome.status == 0, outcome
    assert "No ensemble: " in outcome.out
    assert {path.name for path in (tmp_path / "few.ensembles").iterdir()} == FILES


# --- Refusals ------------------------------------------------------------------------------------


def test_an_earlier_analysis_is_replaced_only_when_asked(ensembles, refused, saved, tmp_path):
    assert ensembles().status == 0
    assert "--overwrite" in refused("ensembles", saved)
    (tmp_path / "slice.ensembles" / "peaks.csv").unlink()
    assert ensembles("--overwrite").status == 0
    assert (tmp_path / "slice.ensembles" / "peaks.csv").exists()


def test_another_folder_is_never_replaced(refused, saved, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    for folder in (tmp_path / "mine", saved):
        line = refused("ensembles", saved, "--out", folder, "--overwrite")
        assert "holds no ensemble analysis of cocuyo" in line


def test_nothing_is_written_into_the_result(refused, saved):
    line = refused("ensembles", saved, "--out", saved / "ensembles")
    assert "which is not changed" in line


def test_a_foreign_partial_folder_is_left_alone(refused, saved, tmp_path):
    (tmp_path / "slice.ensembles.partial").mkdir()
    (tmp_path / "slice.ensembles.partial" / "notes.txt").write_text("precious")
    assert "move it away" in refused("ensembles", saved)


def test_what_a_killed_analysis_left_is_cleared(ensembles, tmp_path):
    partial = tmp_path / "slice.ensembles.partial"
    partial.mkdir()
    (partial / "ensembles.json").write_text('{"format": "cocuyo-ensembles", "status": "partial"}')
    assert ensembles().status == 0
    assert not partial.exists()


def test_a_failure_while_writing_leaves_nothing(ensembles, tmp_path, monkeypatch):
    from cocuyo.io import ensembles as module

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_tables", full)
    outcome = ensembles()
    assert outcome.status == 1
    assert "No space left on device" in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["slice.cocuyo"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shuffles", "3"), "n_shuffles"),
        (("--bin", "-1"), "bin_s"),
        (("--after", "0"), "after_s"),
        (("--seed", "-1"), "--seed is -1"),
        (("--stimuli", "none.csv"), "No such file"),
    ],
)
def test_values_that_make_no_sense_are_refused(refused, saved, words, message):
    assert message in refused("ensembles", saved, *words)


def test_stimuli_beyond_the_recording_are_refused(refused, saved, tmp_path):
    (tmp_path / "late.csv").write_text("100000\n")
    line = refused("ensembles", saved, "--stimuli", tmp_path / "late.csv")
    assert "None of 1 stimuli" in line


def test_what_is_no_result_is_refused(refused, tmp_path):
    assert "does not exist" in refused("ensembles", tmp_path / "none.cocuyo")
