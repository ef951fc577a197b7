"""What a result folder holds, and what happens when writing it fails."""

import csv
import dataclasses
import errno
import json
from contextlib import suppress

import h5py
import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_result import make_result

import cocuyo.io.results as results_module
from cocuyo.core import (
    FLAG_UNPLACED,
    Cancelled,
    Events,
    Quality,
    Result,
    ResultError,
    RoiSet,
    Traces,
)
from cocuyo.io import (
    check_destination,
    load_result,
    partial_folder,
    save_result,
    start_partial,
    work_folder,
)
from cocuyo.io.tables import write_trace_table

FILES = {
    "mask.tif",
    "labels.tif",
    "probability.tif",
    "rois.csv",
    "traces.csv",
    "traces_raw.csv",
    "raster.csv",
    "events.csv",
    "result.h5",
    "rois.zip",
    "report.html",
    "run.json",
}


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def empty_result():
    full = make_result()
    return dataclasses.replace(
        full,
        rois=RoiSet.empty(full.rois.frame_shape),
        traces=Traces.empty(full.n_frames),
        raster=np.zeros((0, full.n_frames), np.bool_),
        events=Events.empty(),
    )


def assert_equal(first, second, path="result"):
    """Compare two results field by field, with types and shapes."""
    assert type(first) is type(second), path
    if dataclasses.is_dataclass(first):
        for field in dataclasses.fields(first):
            name = field.name
            assert_equal(getattr(first, name), getattr(second, name), f"{path}.{name}")
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, path
        np.testing.assert_array_equal(first, second, err_msg=path)
    elif hasattr(first, "indptr"):
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(first, part), getattr(second, part), path)
        assert first.shape == second.shape
        assert first.dtype == second.dtype
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_equal(first[key], second[key], f"{path}[{key}]")
    else:
        assert first == second, path


def test_a_folder_holds_every_file_and_nothing_else(tmp_path):
    folder = save_result(make_result(), tmp_path / "a" / "b.cocuyo")
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["b.cocuyo"]


def test_what_is_saved_is_loaded_back_equal(tmp_path):
    result = make_result()
    assert_equal(load_result(save_result(result, tmp_path / "r")), result)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    n_rois=st.integers(0, 5),
    n_frames=st.integers(1, 30),
    frame_shape=st.tuples(st.integers(3, 17), st.integers(3, 17)),
    pixel_size_um=st.none() | st.floats(0.1, 10),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
def test_any_result_survives_the_round_trip(tmp_path, seed, **shape):
    result = make_result(seed=seed, radius_px=1.5, **shape)
    folder = save_result(result, tmp_path / "r", overwrite=True)
    assert_equal(load_result(folder), result)


def test_pictures_have_the_types_and_the_scale_that_imagej_reads(tmp_path):
    result = make_result(pixel_size_um=2.0)
    folder = save_result(result, tmp_path / "r")
    for name, dtype in (("mask", "u1"), ("labels", "u2"), ("probability", "f4")):
        with tifffile.TiffFile(folder / f"{name}.tif") as file:
            assert file.is_imagej
            assert file.imagej_metadata["unit"] == "um"
            numerator, denominator = file.pages[0].tags["XResolution"].value
            assert numerator / denominator == pytest.approx(0.5)
            image = file.asarray()
        assert image.dtype == dtype
        assert image.shape == result.rois.frame_shape
    labels = tifffile.imread(folder / "labels.tif")
    assert set(np.unique(labels)) == set(range(int(result.rois.accepted.sum()) + 1))
    mask = tifffile.imread(folder / "mask.tif")
    np.testing.assert_array_equal(mask, np.where(result.rois.mask(), 255, 0))


def test_the_roi_table_has_a_row_for_each_candidate_and_label_0_for_the_rejected(tmp_path):
    result = make_result()
    header, *rows = read_table(save_result(result, tmp_path / "r") / "rois.csv")
    assert ",".join(header) == (
        "id,label,y_px,x_px,area_px,diameter_um,score,snr,n_events,accepted,reason"
    )
    assert [row[0] for row in rows] == list(result.rois.ids)
    assert [int(row[1]) for row in rows] == [1, 2, 3, 4, 0, 5]
    assert [int(row[9]) for row in rows] == [1, 1, 1, 1, 0, 1]
    assert rows[4][10] == result.rois.reasons[4]
    area = float(rows[0][4])
    assert float(rows[0][5]) == pytest.approx(1.5 * 2 * np.sqrt(area / np.pi), rel=1e-5)


def test_numbers_that_are_not_known_are_left_empty(tmp_path):
    result = make_result(pixel_size_um=None)
    snr = result.rois.snr.copy()
    snr[1] = np.nan
    result = dataclasses.replace(result, rois=dataclasses.replace(result.rois, snr=snr))
    rows = read_table(save_result(result, tmp_path / "r") / "rois.csv")
    assert rows[1][5] == rows[2][5] == ""
    assert rows[2][7] == ""


def test_trace_tables_have_a_row_per_frame_and_a_column_per_accepted_roi(tmp_path):
    result = make_result(n_frames=2100)  # more than one block of rows
    folder = save_result(result, tmp_path / "r")
    accepted = np.flatnonzero(result.rois.accepted)
    placed = result.motion.flags & FLAG_UNPLACED == 0
    for name, values in (
        ("traces.csv", result.traces.delta_f_over_f),
        ("traces_raw.csv", result.traces.raw),
        ("raster.csv", result.raster),
    ):
        header, *rows = read_table(folder / name)
        assert header == ["time_s", *(result.rois.ids[i] for i in accepted)]
        table = np.array(rows, dtype=np.float64)
        np.testing.assert_allclose(table[:, 0], result.times_s, rtol=1e-9)
        np.testing.assert_allclose(table[placed, 1:], values[accepted].T[placed], rtol=1e-5)
        assert len(table) == 2100


def test_unplaced_frames_are_interpolated_in_the_tables_and_flagged_in_the_file(tmp_path):
    result = make_result()
    raw = result.traces.raw.copy()
    raw[:, 30:32] = np.nan
    raw[:, 29], raw[:, 32] = 100.0, 400.0
    result = dataclasses.replace(result, traces=dataclasses.replace(result.traces, raw=raw))
    folder = save_result(result, tmp_path / "r")
    table = np.array(read_table(folder / "traces_raw.csv")[1:], dtype=np.float64)
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table[30:32, 1:].T, np.tile([[200.0, 300.0]], (5, 1)))
    loaded = load_result(folder)
    assert np.isnan(loaded.traces.raw[:, 30:32]).all()
    assert list(np.flatnonzero(loaded.motion.flags & FLAG_UNPLACED)) == [30, 31]


@pytest.mark.parametrize("flagged", [slice(0, 5), slice(115, 120), slice(0, 120)])
def test_tables_are_finite_even_where_the_ends_or_all_frames_are_unplaced(tmp_path, flagged):
    result = make_result()
    flags = np.zeros(120, np.uint8)
    flags[flagged] = FLAG_UNPLACED
    raw = result.traces.raw.copy()
    raw[:, flagged] = np.nan
    raw[2] = np.nan
    motion = dataclasses.replace(result.motion, flags=flags)
    write_trace_table(tmp_path / "t.csv", dataclasses.replace(result, motion=motion), raw, digits=7)
    table = np.array(read_table(tmp_path / "t.csv")[1:], dtype=np.float64)
    assert np.isfinite(table).all()
    assert (table[:, 3] == 0).all()


def test_interpolation_does_not_depend_on_where_blocks_end(tmp_path, monkeypatch):
    result = make_result()
    raw = result.traces.raw.copy()
    raw[1, 60:70] = np.inf
    tables = []
    for block in (1, 7, 1000):
        monkeypatch.setattr("cocuyo.io.tables.BLOCK_FRAMES", block)
        write_trace_table(tmp_path / "t.csv", result, raw, digits=7)
        tables.append((tmp_path / "t.csv").read_bytes())
    assert tables[0] == tables[1] == tables[2]


def test_counts_above_a_million_keep_their_units(tmp_path):
    result = make_result()
    raw = np.full_like(result.traces.raw, 1234567.0)
    write_trace_table(tmp_path / "t.csv", result, raw, digits=7)
    assert read_table(tmp_path / "t.csv")[1][1] == "1234567"


def test_the_event_table_gives_seconds_and_permanent_ids_of_accepted_rois(tmp_path):
    result = make_result()
    header, *rows = read_table(save_result(result, tmp_path / "r") / "events.csv")
    assert header == ["id", "onset_s", "peak_s", "offset_s", "amplitude"]
    assert len(rows) == len(result.events)  # the synthetic rejected ROIs have none
    first = result.events.roi[0]
    assert rows[0][0] == result.rois.ids[first]
    assert float(rows[0][1]) == pytest.approx(result.times_s[result.events.onset[0]])
    assert float(rows[0][3]) == pytest.approx(result.times_s[result.events.offset[0]])


def test_the_roi_set_is_named_by_id_and_lies_on_the_mask(tmp_path):
    result = make_result()
    rois = roifile.roiread(save_result(result, tmp_path / "r") / "rois.zip")
    accepted = np.flatnonzero(result.rois.accepted)
    assert [roi.name for roi in rois] == [result.rois.ids[i] for i in accepted]
    for roi, index in zip(rois, accepted, strict=True):
        rows, columns, _ = result.rois.pixels(int(index))
        assert (roi.top, roi.left) == (rows.min(), columns.min())
        assert (roi.bottom, roi.right) == (rows.max() + 1, columns.max() + 1)


def test_a_result_without_rois_has_every_file(tmp_path):
    result = empty_result()
    folder = save_result(result, tmp_path / "r")
    assert {path.name for path in folder.iterdir()} == FILES
    assert not tifffile.imread(folder / "labels.tif").any()
    header, *rows = read_table(folder / "traces.csv")
    assert header == ["time_s"]
    assert len(rows) == result.n_frames
    assert len(read_table(folder / "rois.csv")) == 1
    import zipfile

    with zipfile.ZipFile(folder / "rois.zip") as archive:
        assert archive.namelist() == []
    assert_equal(load_result(folder), result)


def test_run_json_says_complete_and_holds_the_settings(tmp_path):
    result = make_result(warnings=("Dim.",))
    record = json.loads((save_result(result, tmp_path / "r") / "run.json").read_text("utf-8"))
    assert record["status"] == "complete"
    assert record["settings"] == result.info.settings
    assert record["inputs"][0]["sha256"] == "ab" * 32
    assert record["warnings"] == ["Dim."]
    assert (record["n_candidates"], record["n_accepted"]) == (6, 5)


def test_the_result_file_reads_as_documented(tmp_path):
    result = make_result()
    with h5py.File(save_result(result, tmp_path / "r") / "result.h5") as file:
        assert file.attrs["format_version"] == 1
        roi, y, x = (file[f"rois/pixels/{name}"][()] for name in ("roi", "y", "x"))
        image = np.zeros(file.attrs["frame_shape"])
        image[y[roi == 0], x[roi == 0]] = 1
        rows, columns, _ = result.rois.pixels(0)
        assert image.sum() == len(rows)
        assert image[rows, columns].all()
        assert file["rois/id"].asstr()[0] == "roi_0001"
        assert file["traces/raw"].shape == (6, 120)
        np.testing.assert_allclose(file["events/onset_s"][()], result.times_s[result.events.onset])


def test_an_existing_folder_is_refused_without_overwrite(tmp_path):
    folder = save_result(make_result(), tmp_path / "r")
    with pytest.raises(ResultError, match="--overwrite"):
        save_result(make_result(seed=4), folder)
    with pytest.raises(ResultError, match="--overwrite"):
        check_destination(folder, False)
    assert_equal(load_result(folder), make_result())


def test_overwrite_replaces_a_result_of_ours(tmp_path):
    folder = save_result(make_result(), tmp_path / "r")
    save_result(make_result(seed=4), folder, overwrite=True)
    assert_equal(load_result(folder), make_result(seed=4))
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("run_json", [None, "{}", "not json", '{"status": "complete"}'])
def test_overwrite_never_replaces_a_folder_that_is_not_ours(tmp_path, run_json):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "precious.txt").write_text("x")
    if run_json is not None:
        (folder / "run.json").write_text(run_json)
    with pytest.raises(ResultError, match="not replaced"):
        save_result(make_result(), folder, overwrite=True)
    assert (folder / "precious.txt").read_text() == "x"


def test_a_partial_folder_of_somebody_else_is_left_alone(tmp_path):
    partial = partial_folder(tmp_path / "r")
    partial.mkdir()
    (partial / "precious.txt").write_text("x")
    with pytest.raises(ResultError, match="move it away"):
        save_result(make_result(), tmp_path / "r")
    assert (partial / "precious.txt").exists()


def test_a_file_in_the_place_of_a_parent_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResultError, match="not a folder"):
        check_destination(tmp_path / "file" / "r", False)


def test_what_a_run_keeps_to_resume_is_removed_at_the_end(tmp_path):
    partial = start_partial(tmp_path / "r")
    (partial / "work").mkdir()
    (partial / "work" / "shifts.bin").write_bytes(b"x")
    folder = save_result(make_result(), tmp_path / "r")
    assert {path.name for path in folder.iterdir()} == FILES


def stop_in_work_folder(folder):
    """Write a file into the work folder and stop; give what lay there before."""
    seen = []
    with suppress(KeyboardInterrupt), work_folder(folder) as work:
        seen += [path.name for path in work.iterdir()]
        (work / "shifts.bin").write_bytes(b"x")
        raise KeyboardInterrupt
    return seen


def test_the_work_folder_of_a_run_that_fails_is_taken_away(tmp_path):
    assert stop_in_work_folder(tmp_path / "r") == []
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_there_for_the_next_and_stays_when_that_one_fails(tmp_path):
    left = start_partial(tmp_path / "r") / "work"
    left.mkdir()
    (left / "maps.npz").write_bytes(b"x")
    assert stop_in_work_folder(tmp_path / "r") == ["maps.npz"]
    assert (left / "maps.npz").exists()


def test_a_saved_result_has_no_work_folder(tmp_path):
    with work_folder(tmp_path / "r") as work:
        (work / "maps.npz").write_bytes(b"x")
        folder = save_result(make_result(), tmp_path / "r")
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def failing(error):
    def write(*args, **kwargs):
        raise error

    return write


WRITERS = ["write_result_file", "write_tiff", "write_roi_table", "write_trace_table", "write_json"]
FAILURES = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), Cancelled()]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("error", FAILURES, ids=lambda e: type(e).__name__)
def test_a_failure_leaves_the_previous_result_and_nothing_that_looks_finished(
    tmp_path, monkeypatch, writer, error
):
    folder = save_result(make_result(), tmp_path / "r")
    expected = ResultError if isinstance(error, OSError) else type(error)
    with monkeypatch.context() as patch:
        patch.setattr(results_module, writer, failing(error))
        with pytest.raises(expected, match="No space" if expected is ResultError else None):
            save_result(make_result(seed=4), folder, overwrite=True)
        with pytest.raises(expected):
            save_result(make_result(seed=4), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert_equal(load_result(folder), make_result())


def test_a_report_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        save_result(make_result(), tmp_path / "r", report_html=lambda result: str(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_the_last_step_puts_the_previous_result_back(tmp_path, monkeypatch):
    folder = save_result(make_result(), tmp_path / "r")
    partial = partial_folder(folder)
    replace = type(folder).replace

    def refuse(self, target):
        if self == partial:
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(type(folder), "replace", refuse)
    with pytest.raises(ResultError, match="Permission denied"):
        save_result(make_result(seed=4), folder, overwrite=True)
    assert_equal(load_result(folder), make_result())
    assert not partial.exists()


def test_a_failure_keeps_what_the_run_needs_to_resume(tmp_path, monkeypatch):
    partial = start_partial(tmp_path / "r")
    (partial / "work").mkdir()
    (partial / "work" / "shifts.bin").write_bytes(b"x")
    monkeypatch.setattr(results_module, "write_roi_set", failing(FAILURES[0]))
    with pytest.raises(ResultError):
        save_result(make_result(), tmp_path / "r")
    assert {path.name for path in partial.iterdir()} == {"run.json", "work"}
    with pytest.raises(ResultError, match="unfinished"):
        load_result(partial)


def test_too_many_rois_for_the_label_picture_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "MAX_ROIS", 4)
    with pytest.raises(ResultError, match=r"5 ROIs are accepted; labels.tif holds at most 4"):
        save_result(make_result(), tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_contradict_each_other_are_refused_before_writing(tmp_path):
    result = dataclasses.replace(make_result(), raster=np.zeros((6, 119), np.bool_))
    with pytest.raises(ResultError, match=r"raster has shape \(6, 119\)"):
        save_result(result, tmp_path / "r")


def edit_record(folder, **changes):
    record = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(json.dumps({**record, **changes}), encoding="utf-8")


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(ResultError, match=r"absent does not exist; give a result folder"):
        load_result(tmp_path / "absent")
    (tmp_path / "slice.tif").write_bytes(b"II*")
    with pytest.raises(ResultError, match=r"slice.tif is a file, not a result"):
        load_result(tmp_path / "slice.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match=r"holds no run.json"):
        load_result(tmp_path / "empty")
    folder = save_result(make_result(), tmp_path / "r")
    edit_record(folder, format_version=99)
    with pytest.raises(ResultError, match="update cocuyo"):
        load_result(folder)
    edit_record(folder, format_version=1, status="partial")
    with pytest.raises(ResultError, match="unfinished"):
        load_result(folder)
    edit_record(folder, status="complete")
    with h5py.File(folder / "result.h5", "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(ResultError, match="update cocuyo"):
        load_result(folder)
    with h5py.File(folder / "result.h5", "a") as file:
        file.attrs["format_version"] = 1
        del file["events/peak"]
    with pytest.raises(ResultError, match="incomplete"):
        load_result(folder)
    (folder / "result.h5").write_bytes((folder / "result.h5").read_bytes()[:1000])
    with pytest.raises(ResultError, match="damaged"):
        load_result(folder)
    (folder / "result.h5").unlink()
    with pytest.raises(ResultError, match="missing"):
        load_result(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_frames", -5),
        ("n_frames", 10**6),
        ("n_frames", "many"),
        ("n_accepted", -1),
        ("n_accepted", 10**6),
        ("n_candidates", 2.5),
        ("frame_shape", [-3, 4]),
        ("frame_rate_hz", float("nan")),
        ("frame_rate_hz", -6.67),
        ("pixel_size_um", 0),
        ("diameter_px", float("inf")),
        ("peak_memory_mb", float("nan")),
        ("timings_s", {"segmenting": -1.0}),
        ("timings_s", "long"),
    ],
)
def test_numbers_that_no_run_can_have_written_are_damage(tmp_path, name, value):
    folder = save_result(make_result(), tmp_path / "r")
    edit_record(folder, **{name: value})
    with pytest.raises(ResultError, match=r"run.json is damaged: .*Run the recording again"):
        load_result(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("frame_rate_hz", -1.0), ("frame_rate_hz", np.nan), ("diameter_px", 0.0), ("time_s", np.nan)],
)
def test_impossible_numbers_of_the_result_file_are_damage(tmp_path, name, value):
    folder = save_result(make_result(), tmp_path / "r")
    with h5py.File(folder / "result.h5", "a") as file:
        if name == "time_s":
            file[name][3] = value
        else:
            file.attrs[name] = value
    with pytest.raises(ResultError, match=r"result.h5 is damaged or incomplete \(.*\)"):
        load_result(folder)


def test_save_and_load_are_methods_of_the_result(tmp_path):
    result = make_result()
    assert_equal(Result.load(result.save(tmp_path / "r")), result)


def test_values_that_json_lacks_are_written_as_plain_ones(tmp_path):
    result = make_result()
    info = dataclasses.replace(
        result.info,
        settings={"a": np.float32(0.5), "b": tmp_path, "c": float("inf"), "d": (1, 2)},
    )
    folder = save_result(dataclasses.replace(result, info=info), tmp_path / "r")
    settings_read = load_result(folder).info.settings
    assert settings_read == {"a": 0.5, "b": str(tmp_path), "c": None, "d": [1, 2]}


def with_quality(result):
    values = np.random.default_rng(0).random((6, len(result.rois))).astype(np.float32)
    values[2, 1] = np.nan
    return dataclasses.replace(
        result, rois=dataclasses.replace(result.rois, quality=Quality(*values))
    )


def test_the_quality_of_rois_is_read_back_equal(tmp_path):
    result = with_quality(make_result())
    loaded = load_result(result.save(tmp_path / "r"))
    assert_equal(loaded.rois.quality, result.rois.quality)


def test_a_result_of_an_earlier_version_has_no_quality_and_is_read(tmp_path):
    folder = with_quality(make_result()).save(tmp_path / "r")
    with h5py.File(folder / "result.h5", "a") as file:
        del file["rois/quality"]
    assert load_result(folder).rois.quality is None


def test_however_often_a_result_is_replaced_every_edit_of_a_person_is_kept(tmp_path):
    folder = save_result(make_result(), tmp_path / "r")
    texts = [f"edits {i}\n" for i in range(11)]
    for text in texts:
        (folder / "edits.jsonl").write_text(text)
        save_result(make_result(seed=4), folder, overwrite=True)
    save_result(make_result(), folder, overwrite=True)  # nothing was edited since
    assert not (folder / "edits.jsonl").exists()
    kept = results_module.replaced_edits(folder)
    assert [path.read_text() for path in kept] == texts
    assert [kept[0].name, kept[1].name] == ["edits.replaced.jsonl", "edits.replaced-2.jsonl"]
