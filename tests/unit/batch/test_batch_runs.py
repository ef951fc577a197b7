"""A batch does what is to do, once, and loses nothing when something breaks."""

import csv
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from cocuyo import Result
from cocuyo.batch import BatchStoppedError, Search, prepare_folder, start_folder
from cocuyo.batch.executors import ExecutorLostError
from cocuyo.batch.work import perform
from cocuyo.core import ResultError


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_each_recording_has_its_result_and_its_row(write, batch, out):
    write("drug/a.tif")
    write("control/b.tif", seed=9)
    counts, _, _ = batch(search=Search(group="folder"))
    assert (counts.n_done, counts.n_failed, counts.n_now) == (2, 0, 2)
    rows = rows_of(out / "summary.csv")
    assert [(r["recording"], r["group"], r["state"]) for r in rows] == [
        ("control__b", "control", "done"),
        ("drug__a", "drug", "done"),
    ]
    for row in rows:
        result = Result.load(out / row["result"])
        accepted = result.rois.accepted
        assert int(row["n_neurons"]) == accepted.sum() > 0
        assert int(row["n_candidates"]) == len(accepted)
        raster = np.asarray(result.raster)[accepted]
        assert float(row["active_share"]) == pytest.approx(raster.mean(), rel=1e-5)
    rois = rows_of(out / "rois.csv")
    assert len(rois) == sum(int(row["n_candidates"]) for row in rows)
    own = [r for r in rois if r["recording"] == "drug__a" and r["accepted"] == "1"]
    events = rows_of(out / "recordings" / "drug__a" / "events.csv")
    assert sum(int(r["n_events"]) for r in own) == len(events)
    assert "drug__a" in (out / "index.html").read_text("utf-8")


def test_a_result_of_a_batch_is_that_of_run(write, batch, out, tmp_path):
    from cocuyo.cli import run_command_line

    path = write("a.tif")
    batch()
    words = ["run", str(path), "--preset", "srname", "--frame-rate", "6.67", "--pixel-size", "1.5"]
    assert run_command_line([*words, "--out", str(tmp_path / "alone")]) == 0
    for name in ("mask.tif", "labels.tif", "probability.tif", "rois.csv", "traces.csv"):
        of_batch = (out / "recordings" / "a" / name).read_bytes()
        assert of_batch == (tmp_path / "alone" / name).read_bytes()


def test_a_broken_recording_is_listed_and_the_others_are_done(write, batch, out, tmp_path):
    write("a.tif")
    (tmp_path / "in" / "empty.tif").touch()
    (tmp_path / "in" / "noise.tif").write_bytes(b"\x01\x02" * 600)
    counts, _, _ = batch()
    assert (counts.n_done, counts.n_failed) == (1, 2)
    errors = {r["recording"]: r["error"] for r in rows_of(out / "summary.csv")}
    assert errors["a"] == ""
    assert "empty (0 bytes)" in errors["empty"]
    assert "not a recording" in errors["noise"]
    page = (out / "index.html").read_text("utf-8")
    assert "2 recordings could not be analysed" in page


def test_what_breaks_only_in_the_work_is_listed_too(write, batch, out, tmp_path):
    write("a.tif")
    tifffile.imwrite(tmp_path / "in" / "mask.png.tif", np.ones((5, 5), np.uint8))
    source = tmp_path / "list.csv"
    source.write_text("recording,exclude\nin/a.tif,in/mask.png.tif\n", encoding="utf-8")
    counts, _, _ = batch(source=source)
    assert counts.n_failed == 1
    (row,) = rows_of(out / "summary.csv")
    assert "mask.png.tif" in row["error"]


def test_an_error_of_ours_is_one_line_and_keeps_its_traceback(write, batch, out, monkeypatch):
    def broken(*arguments, **options):
        msg = "a bug"
        raise ZeroDivisionError(msg)

    write("a.tif")
    monkeypatch.setattr("cocuyo.pipeline.segment", broken)
    counts, _, _ = batch()
    assert counts.n_failed == 1
    assert rows_of(out / "summary.csv")[0]["error"] == "ZeroDivisionError: a bug"
    assert "Traceback" in (out / "state" / "a.log").read_text("utf-8")


def test_a_second_start_does_nothing_again(write, batch, out):
    write("a.tif")
    (out.parent / "in" / "empty.tif").touch()
    batch()
    before = (out / "recordings" / "a" / "run.json").read_bytes()
    counts, planned, used = batch()
    assert [p.state for p in planned] == ["done", "failed"]
    assert used.tasks == []
    assert (counts.n_done, counts.n_failed, counts.n_now) == (1, 1, 0)
    assert (out / "recordings" / "a" / "run.json").read_bytes() == before


def test_what_failed_is_done_again_only_when_asked_for_or_changed(write, batch, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").touch()
    assert batch()[0].n_failed == 1
    assert [p.state for p in batch()[1]] == ["failed"]
    assert [p.why for p in batch(retry_failed=True)[1]] == ["failed before"]
    write("a.tif")
    counts, planned, _ = batch()
    assert planned[0].why == "recording changed"
    assert counts.n_done == 1


def test_a_recording_is_done_again_when_its_content_changed_and_not_when_only_touched(write, batch):
    path = write("a.tif")
    batch()
    os.utime(path, (1, 1))
    assert [p.state for p in batch()[1]] == ["done"]
    write("a.tif", seed=5)
    counts, planned, _ = batch()
    assert (planned[0].why, counts.n_now) == ("recording changed", 1)


def test_a_recording_is_done_again_when_settings_or_model_changed(write, batch, method):
    write("a.tif")
    batch()
    changed = method.config.model_copy(update={"mask_threshold": 0.6})
    _, planned, _ = batch(method=replace(method, config=changed))
    assert planned[0].why == "settings or model changed"
    _, planned, _ = batch(method=replace(method, config=changed, model_hash="other"))
    assert planned[0].why == "settings or model changed"
    _, planned, _ = batch(method=replace(method, config=changed, model_hash="other"))
    assert planned[0].state == "done"


def test_what_was_corrected_is_kept_when_a_recording_is_done_again(write, batch, out, method):
    write("a.tif")
    batch()
    (out / "recordings" / "a" / "edits.jsonl").write_text("by hand\n")
    stricter = method.config.model_copy(update={"mask_threshold": 0.6})
    batch(method=replace(method, config=stricter))
    assert (out / "recordings" / "a" / "edits.replaced.jsonl").read_text() == "by hand\n"


def test_a_mask_counts_by_its_content(write, batch, tmp_path):
    write("a.tif")
    source, mask = tmp_path / "list.csv", tmp_path / "mask.tif"
    source.write_text("recording,exclude\nin/a.tif,mask.tif\n", encoding="utf-8")
    tifffile.imwrite(mask, np.zeros((48, 56), np.uint8))
    batch(source=source)
    assert [p.state for p in batch(source=source)[1]] == ["done"]
    tifffile.imwrite(mask, np.eye(48, 56, dtype=np.uint8))
    assert batch(source=source)[1][0].why == "settings or model changed"


def test_a_result_that_was_deleted_is_made_again_and_redo_makes_all(write, batch, out):
    write("a.tif")
    batch()
    shutil.rmtree(out / "recordings" / "a")
    assert batch()[1][0].why == "its result is gone"
    assert batch(redo=True)[1][0].why == "asked for again"


def test_a_recording_whose_process_dies_is_tried_again_and_given_up_the_third_time(
    write, batch, executor, out
):
    write("a.tif")
    write("b.tif")
    deaths = {"a": 2, "b": 9}

    def dying(task):
        deaths[task.name] -= 1
        if deaths[task.name] < 0:
            return perform(task)
        key = task.settings_key
        return {"name": task.name, "kind": "died", "error": "killed", "settings_key": key}

    counts, _, used = batch(using=executor(dying))
    assert (counts.n_done, counts.n_failed) == (1, 1)
    assert sorted(task.name for task in used.tasks) == ["a"] * 3 + ["b"] * 3
    states = {r["recording"]: r["state"] for r in rows_of(out / "summary.csv")}
    assert states == {"a": "done", "b": "failed"}


def test_a_full_disk_ends_the_batch_and_the_next_start_goes_on(write, batch, executor, monkeypatch):
    for name in "abc":
        write(f"{name}.tif")

    def full_for_b(task):
        if task.name != "b":
            return perform(task)
        with monkeypatch.context() as patched:
            patched.setattr("cocuyo.io.results._write_files", no_room)
            return perform(task)

    def no_room(*arguments):
        raise OSError(28, "No space left on device")

    using = executor(full_for_b)
    with pytest.raises(BatchStoppedError, match=r"full .*1 of 3 recordings are done"):
        batch(using=using)
    assert using.cancelled
    counts, planned, _ = batch()
    assert [p.state for p in planned] == ["done", "to do", "to do"]
    assert (counts.n_done, counts.n_failed) == (3, 0)


def test_workers_that_are_gone_end_the_batch_and_the_next_start_goes_on(write, batch, executor):
    write("a.tif")
    write("b.tif")

    class Lost(executor):
        def wait(self, timeout_s):
            if len(list((self.folder / "state").glob("*.json"))) > 0:
                msg = "The Dask scheduler has gone"
                raise ExecutorLostError(msg)
            return super().wait(timeout_s)

    using = Lost()
    using.folder = write("a.tif").parents[1] / "out"
    with pytest.raises(BatchStoppedError, match=r"has gone\. 1 of 2 .* same command again"):
        batch(using=using)
    assert batch()[0].n_now == 1


def test_ctrl_c_writes_the_pages_and_ends_the_workers(write, batch, executor, out):
    write("a.tif")

    def interrupted(task):
        raise KeyboardInterrupt

    using = executor(interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch(using=using)
    assert using.cancelled
    assert rows_of(out / "summary.csv")[0]["state"] == "to do"


def test_a_recording_that_changes_while_it_is_read_is_not_taken(write, batch, out, monkeypatch):
    path = write("a.tif")
    from cocuyo.pipeline import segment

    def growing(*arguments, **options):
        result = segment(*arguments, **options)
        path.write_bytes(path.read_bytes() + b"more")
        return result

    monkeypatch.setattr("cocuyo.pipeline.segment", growing)
    assert batch()[0].n_failed == 1
    assert "changed while it was read" in rows_of(out / "summary.csv")[0]["error"]
    assert not (out / "recordings" / "a").exists()


def test_unfinished_results_of_a_killed_start_are_removed_and_nothing_else(write, batch, out):
    write("a.tif")
    batch()
    for name in (".b-0123abcd.partial", ".b-0123abcd", ".mine"):
        (out / "recordings" / name).mkdir()
    batch()
    assert sorted(p.name for p in (out / "recordings").iterdir()) == [".mine", "a"]


def test_only_one_batch_at_a_time_works_in_a_folder(out):
    with start_folder(out, {}), pytest.raises(ResultError, match="Another cocuyo batch"):
        start_folder(out, {}).__enter__()
    with start_folder(out, {}):
        pass


def test_a_folder_that_is_not_of_a_batch_is_refused(tmp_path, out):
    out.mkdir()
    assert prepare_folder(out, []) == out
    (out / "thesis.doc").touch()
    with pytest.raises(ResultError, match="holds no batch"):
        prepare_folder(out, [])
    with pytest.raises(ResultError, match="apart from the recordings"):
        prepare_folder(tmp_path / "x", [tmp_path / "x" / "in"])


def test_animals_are_the_unit_of_observation(write, batch, out):
    for name in ("drug/rat1_a.tif", "drug/rat1_b.tif", "drug/rat2.tif", "control/rat3.tif"):
        write(name, seed=len(name))
    batch(search=Search(group="folder", animal="(rat[0-9])"))
    units = rows_of(out / "comparisons" / "units.csv")
    assert [(u["group"], u["unit"], u["n_recordings"]) for u in units] == [
        ("control", "rat3", "1"),
        ("drug", "rat1", "2"),
        ("drug", "rat2", "1"),
    ]
    n = {r["recording"]: int(r["n_neurons"]) for r in rows_of(out / "summary.csv")}
    mean = (n["drug__rat1_a"] + n["drug__rat1_b"]) / 2
    assert float(units[1]["n_active"]) == pytest.approx(mean)
    groups = {
        g["group"]: g
        for g in rows_of(out / "comparisons" / "groups.csv")
        if g["measure"] == "n_active"
    }
    assert groups["drug"]["n_units"] == "2"
    assert float(groups["drug"]["mean"]) == pytest.approx((mean + n["drug__rat2"]) / 2, rel=1e-5)
    assert groups["control"]["sd"] == ""
    batch()  # without groups they are not compared
    assert not (out / "comparisons").exists()
