"""Exports are read back by the other program's own reader, or a well-known one, and are equal."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from synthetic_result import make_result

from cocuyo.core import Result, ResultError, RoiSet, SettingsError, fill
from cocuyo.io import ExportOptions, ExternalMovie, NwbMetadata, load_ground_truth, read_metadata
from cocuyo.io.export import ExportName, check_export, export_path, export_result

RESULT = make_result(n_frames=400)  # six ROIs in frames of 40 x 56; roi_0005 is rejected
ROIS = RESULT.rois
ACCEPTED = np.flatnonzero(ROIS.accepted)
MASKS = ROIS.footprints.toarray().reshape(-1, 40, 56)
METADATA = NwbMetadata(session_start_time=datetime(2026, 5, 2, 14, 3, tzinfo=UTC))


def _export(folder: Path, to: ExportName, result: Result = RESULT, **options: object) -> Path:
    path = export_path(folder / "slice.cocuyo", to)
    return export_result(result, path, to=to, **options)  # type: ignore[arg-type]


# --- Tables, labels, GeoJSON, MATLAB -------------------------------------------------------------


def test_activity_is_one_row_for_each_neuron_and_frame(tmp_path: Path):
    folder = _export(tmp_path, "csv")
    with (folder / "activity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ACCEPTED) * 400
    assert sorted({row["id"] for row in rows}) == [ROIS.ids[i] for i in ACCEPTED]
    own = [row for row in rows if row["id"] == "roi_0003"]
    assert [int(row["frame"]) for row in own] == list(range(400))
    np.testing.assert_allclose([float(row["time_s"]) for row in own], RESULT.times_s)
    np.testing.assert_allclose([float(row["raw"]) for row in own], RESULT.traces.raw[2], rtol=1e-6)
    ratio = [float(row["delta_f_over_f"]) for row in own]
    np.testing.assert_allclose(ratio, RESULT.traces.delta_f_over_f[2], rtol=1e-5)
    assert [row["active"] == "1" for row in own] == RESULT.raster[2].tolist()
    with (folder / "rois.csv").open(newline="") as file:
        assert [row["accepted"] for row in csv.DictReader(file)] == list("111101")
    with (folder / "events.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(RESULT.events)


def test_labels_are_those_of_the_result_and_name_the_rois(tmp_path: Path):
    import tifffile

    path = _export(tmp_path, "labels")
    np.testing.assert_array_equal(tifffile.imread(path), ROIS.label_image())
    with tifffile.TiffFile(path) as file:
        info = file.imagej_metadata["Info"]  # type: ignore[index]
    assert info.splitlines() == [f"{k} {ROIS.ids[i]}" for k, i in enumerate(ACCEPTED, start=1)]


def _polygons(feature: dict) -> list[list[np.ndarray]]:
    geometry = feature["geometry"]
    coordinates = geometry["coordinates"]
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    return [[np.array(ring) for ring in polygon] for polygon in polygons]


def _area(ring: np.ndarray) -> float:
    x, y = ring[:-1].T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _check_geojson(path: Path, masks: np.ndarray) -> None:
    features = json.loads(path.read_text())["features"]
    assert len(features) == len(masks)
    for feature, mask in zip(features, masks, strict=True):
        polygons = _polygons(feature)
        rings = [ring for polygon in polygons for ring in polygon]
        np.testing.assert_array_equal(fill([ring[:-1] for ring in rings], mask.shape), mask)
        for outer, *holes in polygons:
            inner = fill([ring[:-1] for ring in (outer, *holes)], mask.shape)
            assert ndimage.label(inner)[1] == 1  # hangs together by more than corners
            assert _area(outer) > 0
            assert all(_area(hole) < 0 for hole in holes)
            inside = fill([outer[:-1]], mask.shape)
            assert all(inside[fill([hole[:-1]], mask.shape)].all() for hole in holes)
        for ring in rings:
            assert (ring[0] == ring[-1]).all()
            assert len(np.unique(ring[:-1], axis=0)) == len(ring) - 1  # touches itself nowhere


def test_outlines_in_geojson_fill_to_the_pixels(tmp_path: Path):
    path = _export(tmp_path, "geojson")
    _check_geojson(path, MASKS[ACCEPTED] > 0)
    first = json.loads(path.read_text())["features"][0]["properties"]
    assert first["name"] == "roi_0001"
    assert first["measurements"]["area_px"] == int(ROIS.area_px[0])


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.bool_, (7, 9), elements=st.booleans()))
def test_any_shape_has_simple_rings(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray):
    mask[3, 4] = True
    one = _with_rois(RoiSet.given(mask[None]))
    path = export_result(one, tmp_path_factory.mktemp("g") / "a.geojson", to="geojson")
    _check_geojson(path, mask[None])


def _with_rois(rois: RoiSet) -> Result:
    few = make_result(n_rois=len(rois), n_frames=20, frame_shape=rois.frame_shape, radius_px=2)
    return replace(few, rois=rois)


def test_matlab_reads_a_logical_raster_of_neurons_by_frames(tmp_path: Path):
    from scipy.io import loadmat, whosmat

    path = _export(tmp_path, "mat")
    kinds = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
    assert kinds["Raster"] == ((len(ACCEPTED), 400), "logical")
    assert kinds["Ids"] == ((len(ACCEPTED), 1), "cell")
    found = loadmat(str(path))
    np.testing.assert_array_equal(found["Raster"] != 0, RESULT.raster[ACCEPTED])
    np.testing.assert_array_equal(found["DeltaFOverF"], RESULT.traces.delta_f_over_f[ACCEPTED])
    np.testing.assert_allclose(found["TimeS"].ravel(), RESULT.times_s)
    assert [str(cell[0]) for cell in found["Ids"].ravel()] == [ROIS.ids[i] for i in ACCEPTED]
    # reshape(Footprints(:, k), [rows columns]) of MATLAB goes by columns.
    footprint = found["Footprints"][:, 2].toarray().reshape((40, 56), order="F")
    np.testing.assert_allclose(footprint, MASKS[ACCEPTED[2]], rtol=1e-6)
    events = found["Events"][0, 0]
    own = events["Neuron"].ravel() == 1
    expected = RESULT.events.onset[RESULT.events.roi == 0] + 1
    np.testing.assert_array_equal(events["Onset"].ravel()[own], expected)
    last = events["Neuron"].ravel() == 5  # roi_0006, as roi_0005 is rejected
    expected = RESULT.events.peak[RESULT.events.roi == 5] + 1
    np.testing.assert_array_equal(events["Peak"].ravel()[last], expected)


def test_an_imagej_set_holds_the_accepted_rois(tmp_path: Path):
    path = _export(tmp_path, "imagej")
    regions = load_ground_truth(path, frame_shape=(40, 56))
    assert regions.footprints is not None
    np.testing.assert_array_equal(
        regions.footprints.toarray() > 0, ROIS.footprints[ACCEPTED].toarray() > 0
    )


# --- Suite2p and CaImAn --------------------------------------------------------------------------


def _masks_of(extractor) -> np.ndarray:
    masks = np.zeros((extractor.get_num_rois(), 40, 56))
    for mask, pixels in zip(masks, extractor.get_roi_pixel_masks(), strict=True):
        mask[pixels[:, 0].astype(int), pixels[:, 1].astype(int)] = pixels[:, 2]
    return masks


def test_roiextractors_reads_the_suite2p_folder(tmp_path: Path):
    from roiextractors import Suite2pSegmentationExtractor

    extractor = Suite2pSegmentationExtractor(folder_path=_export(tmp_path, "suite2p"))
    assert extractor.get_num_rois() == 6
    assert extractor.get_frame_shape() == (40, 56)
    assert extractor.get_sampling_frequency() == RESULT.frame_rate_hz
    np.testing.assert_allclose(_masks_of(extractor), MASKS, rtol=1e-6)
    np.testing.assert_array_equal(extractor.get_traces(name="raw"), RESULT.traces.raw.T)
    np.testing.assert_array_equal(extractor.get_traces(name="neuropil"), RESULT.traces.neuropil.T)
    np.testing.assert_array_equal(extractor.get_traces(name="deconvolved"), RESULT.raster.T)
    np.testing.assert_array_equal(extractor.iscell[:, 0], ROIS.accepted)
    np.testing.assert_array_equal(extractor.get_image("mean"), RESULT.projections["mean"])


def test_our_reader_of_suite2p_reads_what_we_wrote(tmp_path: Path):
    regions = load_ground_truth(_export(tmp_path, "suite2p"))
    assert regions.footprints is not None
    assert regions.frame_rate_hz == RESULT.frame_rate_hz
    np.testing.assert_allclose(regions.footprints.toarray(), ROIS.footprints.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(regions.ignored, ~ROIS.accepted)
    expected = RESULT.traces.raw - 0.7 * RESULT.traces.neuropil
    np.testing.assert_allclose(regions.traces, expected, rtol=1e-5)


def test_roiextractors_reads_the_caiman_file(tmp_path: Path):
    from roiextractors import CaimanSegmentationExtractor

    path = _export(tmp_path, "caiman")
    extractor = CaimanSegmentationExtractor(file_path=path)
    assert tuple(extractor.get_frame_shape()) == (40, 56)
    assert extractor.get_sampling_frequency() == RESULT.frame_rate_hz
    np.testing.assert_allclose(_masks_of(extractor), MASKS, rtol=1e-6)
    np.testing.assert_array_equal(extractor.get_traces(name="dff"), RESULT.traces.delta_f_over_f.T)
    np.testing.assert_array_equal(extractor.get_traces(name="raw"), RESULT.traces.corrected.T)
    del extractor  # closes the file
    regions = load_ground_truth(path)
    assert regions.footprints is not None
    np.testing.assert_array_equal(regions.footprints.toarray() > 0, MASKS.reshape(6, -1) >= 0.5)
    np.testing.assert_array_equal(regions.ignored, ~ROIS.accepted)


# --- NWB -----------------------------------------------------------------------------------------


def _nwb(folder: Path, metadata: NwbMetadata = METADATA, result: Result = RESULT) -> Path:
    (folder / "raw").mkdir()
    movie = folder / "raw" / "slice.tif"
    movie.write_bytes(b"II*\0")
    refer = ExternalMovie((movie,), (0,), first_frame=20, n_frames=420)
    return export_result(
        result, folder / "a.nwb", to="nwb", options=ExportOptions(metadata=metadata, movie=refer)
    )


def _complaints(path: Path) -> dict[str, str]:
    from nwbinspector import inspect_nwbfile

    return {m.check_function_name: str(m.importance.name) for m in inspect_nwbfile(path)}


def test_nwbinspector_has_nothing_to_say_where_metadata_are_complete(tmp_path: Path):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "export.md").read_text("utf-8")
    told = page.partition("```toml\n")[2].partition("```")[0]
    assert "[subject]" in told
    (tmp_path / "session.toml").write_text(told)
    start = "2026-05-02T14:03:00+02:00"
    path = _nwb(tmp_path, read_metadata(tmp_path / "session.toml", session_start=start))
    assert _complaints(path) == {}


def test_nwbinspector_only_misses_what_nobody_said(tmp_path: Path):
    assert set(_complaints(_nwb(tmp_path))) == {
        "check_subject_exists",
        "check_experimenter_exists",
        "check_experiment_description",
        "check_institution",
        "check_keywords",
    }


def test_an_event_before_a_pause_of_the_recording_ends_with_its_frame(tmp_path: Path):
    import pynwb

    times = RESULT.times_s.copy()
    last = int(RESULT.events.offset[0])
    times[last + 1 :] += 3600
    path = _nwb(tmp_path, result=replace(RESULT, times_s=times))
    with pynwb.NWBHDF5IO(path, "r") as io:
        events = io.read().processing["ophys"]["Events"].to_dataframe()
        assert (events["stop_time"] > events["start_time"]).all()
        ends = times[last] + (20 + 1) / RESULT.frame_rate_hz
        assert np.isclose(events["stop_time"], ends, atol=1e-6).any()


def test_nwb_is_read_back_equal(tmp_path: Path):
    import pynwb

    path = _nwb(tmp_path)
    assert pynwb.validate(path=str(path)) in ([], None)
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        ophys = file.processing["ophys"]
        table = ophys["ImageSegmentation"]["PlaneSegmentation"].to_dataframe()
        assert table["roi_name"].tolist() == list(ROIS.ids)
        assert table["accepted"].tolist() == ROIS.accepted.tolist()
        assert table["reason"].tolist() == list(ROIS.reasons)
        for i, pixels in enumerate(table["pixel_mask"]):
            mask = np.zeros((40, 56))
            for x, y, weight in pixels:
                mask[y, x] = weight
            np.testing.assert_allclose(mask, MASKS[i], rtol=1e-6)
        for group, name, data in (
            ("Fluorescence", "RoiResponseSeries", RESULT.traces.raw),
            ("Fluorescence", "Neuropil", RESULT.traces.neuropil),
            ("Fluorescence", "Corrected", RESULT.traces.corrected),
            ("DfOverF", "RoiResponseSeries", RESULT.traces.delta_f_over_f),
            ("Activity", "Raster", RESULT.raster),
        ):
            series = ophys[group][name]
            np.testing.assert_array_equal(series.data[:], data.T)
            assert series.rate == RESULT.frame_rate_hz
            assert series.starting_time == 20 / RESULT.frame_rate_hz
        events = ophys["Events"].to_dataframe()
        assert len(events) == len(RESULT.events)
        assert (np.diff(events["start_time"]) >= 0).all()
        lasted = np.sort(events["stop_time"] - events["start_time"]) * RESULT.frame_rate_hz
        n_active = RESULT.events.offset - RESULT.events.onset + 1  # frames; none is empty
        np.testing.assert_allclose(lasted, np.sort(n_active), rtol=1e-6)
        names = sorted(frame["roi_name"].iloc[0] for frame in events["roi"])
        assert names == sorted(ROIS.ids[i] for i in RESULT.events.roi)
        # NWB puts x before y.
        shift = ophys["MotionShift"].data[:]
        np.testing.assert_array_equal(shift, RESULT.motion.shifts[:, ::-1])
        mean = ophys["SummaryImages"]["mean"].data[:]
        np.testing.assert_array_equal(mean, RESULT.projections["mean"].T)
        raw = file.acquisition["OnePhotonSeries"]
        assert list(raw.external_file) == ["raw/slice.tif"]
        assert list(raw.dimension) == [56, 40]
        assert raw.num_samples == 420
        assert raw.imaging_plane.grid_spacing[:].tolist() == [1.5, 1.5]


def test_nwb_says_unknown_where_nobody_said_anything(tmp_path: Path):
    import pynwb

    with pynwb.NWBHDF5IO(_nwb(tmp_path, result=replace(RESULT, pixel_size_um=None)), "r") as io:
        file = io.read()
        plane = file.imaging_planes["ImagingPlane"]
        assert (plane.indicator, plane.location) == ("unknown", "unknown")
        assert np.isnan(plane.excitation_lambda)
        assert np.isnan(plane.optical_channel[0].emission_lambda)
        assert plane.grid_spacing is None
        for name in ("subject", "experimenter", "institution", "lab", "keywords", "session_id"):
            assert getattr(file, name) is None


def test_times_that_are_not_regular_are_written_one_by_one(tmp_path: Path):
    import pynwb

    times = np.cumsum(np.random.default_rng(1).uniform(0.05, 0.2, 400))
    jittered = replace(RESULT, times_s=times - times[0])
    options = ExportOptions(metadata=METADATA)
    path = export_result(jittered, tmp_path / "a.nwb", to="nwb", options=options)
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        series = file.processing["ophys"]["DfOverF"]["RoiResponseSeries"]
        np.testing.assert_array_equal(series.timestamps[:], jittered.times_s)
        assert not file.acquisition
    assert not {"check_regular_timestamps", "check_timestamps_ascending"} & set(_complaints(path))


@pytest.mark.parametrize(
    ("told", "start", "said"),
    [
        ("", None, "when the session started"),
        ("", "2026-05-02T14:03:00", "give date, time and zone"),
        ("", "yesterday", "The session's start is yesterday"),
        ('colour = "red"', "2026-05-02T14:03:00Z", "no metadata field colour"),
        ("[subject]\nsex = 'X'\nsubject_id = 'a'", "2026-05-02T14:03:00Z", "subject.sex"),
        ("excitation_nm = -3", "2026-05-02T14:03:00Z", "excitation_nm"),
        ("[subject]\nage = '21 days'\nsubject_id = 'a'", "2026-05-02T14:03:00Z", "subject.age"),
        ("[subject]\nspecies = 'mouse'\nsubject_id = 'a'", "2026-05-02T14:03:00Z", "species"),
        ("[subject]\nsubject_id = 'a/b'", "2026-05-02T14:03:00Z", "subject.subject_id"),
        ('session_id = "a/b"', "2026-05-02T14:03:00Z", "session_id"),
        ("a = = 1", "2026-05-02T14:03:00Z", "is not a TOML file"),
    ],
)
def test_bad_metadata_are_refused_in_one_line(
    tmp_path: Path, told: str, start: str | None, said: str
):
    path = tmp_path / "session.toml"
    path.write_text(told)
    with pytest.raises(SettingsError, match=said) as caught:
        read_metadata(path, session_start=start)
    assert "\n" not in str(caught.value)


def test_a_session_in_the_future_is_refused():
    with pytest.raises(SettingsError, match="future"):
        read_metadata(None, session_start=(datetime.now(UTC) + timedelta(days=2)).isoformat())
    with pytest.raises(SettingsError, match="cannot be read"):
        read_metadata("absent.toml", session_start="2026-05-02T14:03:00Z")


def test_nwb_without_its_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import sys

    from cocuyo.core import MissingExtraError

    monkeypatch.setitem(sys.modules, "pynwb", None)
    options = ExportOptions(metadata=METADATA)
    with pytest.raises(MissingExtraError, match=r"cocuyo\[nwb\]"):
        export_result(RESULT, tmp_path / "a.nwb", to="nwb", options=options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingExtraError, match=r"cocuyo\[nwb\]"):  # before it asks for more
        read_metadata(None)


# --- All of them ---------------------------------------------------------------------------------

EVERY: tuple[ExportName, ...] = (
    "nwb",
    "suite2p",
    "imagej",
    "caiman",
    "mat",
    "csv",
    "geojson",
    "labels",
)


@pytest.mark.parametrize("to", EVERY)
def test_rois_without_a_pixel_are_left_out(tmp_path: Path, to: ExportName):
    masks = np.zeros((3, 12, 15), np.bool_)
    masks[0, 2:5, 3:7] = masks[2, 8:10, 3:9] = True
    rois = RoiSet.given(masks, ids=["a", "nowhere", "c"])
    given_rois = _with_rois(rois)
    raw = given_rois.traces.raw.copy()
    raw[1] = np.nan
    given_rois = replace(given_rois, traces=replace(given_rois.traces, raw=raw))
    options = ExportOptions(metadata=METADATA)
    path = _export(tmp_path, to, given_rois, options=options)
    text = b"".join(p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file())
    assert b"nowhere" not in text
    if to == "caiman":
        assert load_ground_truth(path).n_rois == 2


@pytest.mark.parametrize("to", ["zscore", "denoised", "deconvolved"])
def test_derived_traces_are_written_in_the_layout_of_the_traces(tmp_path: Path, to: ExportName):
    values = np.arange(len(ACCEPTED) * 400, dtype=np.float32).reshape(-1, 400) / 7
    path = _export(tmp_path, to, options=ExportOptions(derived=values))
    assert path.name == f"slice_{to}.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["time_s", *(ROIS.ids[i] for i in ACCEPTED)]
    found = np.array(rows[1:], np.float64)
    np.testing.assert_allclose(found[:, 0], RESULT.times_s, rtol=1e-9)
    np.testing.assert_allclose(found[:, 1:].T, values, rtol=1e-5)


def test_derived_traces_that_are_absent_or_of_another_result_are_refused(tmp_path: Path):
    with pytest.raises(ResultError, match="derived_traces"):
        _export(tmp_path, "zscore")
    options = ExportOptions(derived=np.zeros((2, 9), np.float32))
    with pytest.raises(ResultError, match=r"shape \(2, 9\).*\(5, 400\)"):
        _export(tmp_path, "zscore", options=options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", [to for to in EVERY if to != "nwb"])
def test_a_result_without_rois_is_a_valid_empty_export(tmp_path: Path, to: ExportName):
    empty = make_result(n_rois=0, n_frames=30)
    path = _export(tmp_path, to, empty)
    if to in ("suite2p", "caiman"):
        assert load_ground_truth(path).n_rois == 0
    elif to == "csv":
        assert (path / "activity.csv").read_text().count("\n") == 1
    else:
        assert path.stat().st_size > 0


def test_an_nwb_file_of_nothing_is_refused(tmp_path: Path):
    options = ExportOptions(metadata=METADATA)
    with pytest.raises(ResultError, match="has no ROI"):
        _export(tmp_path, "nwb", make_result(n_rois=0, n_frames=30), options=options)


@pytest.mark.parametrize("to", ["labels", "csv"])
def test_nothing_is_replaced_unless_it_is_wished(tmp_path: Path, to: ExportName):
    path = _export(tmp_path, to)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(ResultError, match=r"exists.*--overwrite"):
        _export(tmp_path, to)
    assert _export(tmp_path, to, overwrite=True) == path
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path):
    (tmp_path / "slice.tables").mkdir()
    (tmp_path / "slice.tables" / "thesis.txt").write_text("years of work")
    with pytest.raises(ResultError, match="holds no export of cocuyo"):
        _export(tmp_path, "csv", overwrite=True)
    (tmp_path / "labels.tif").mkdir()
    with pytest.raises(ResultError, match="is a folder"):
        export_result(RESULT, tmp_path / "labels.tif", to="labels", overwrite=True)


def test_a_name_that_other_programs_would_not_know_is_refused(tmp_path: Path):
    with pytest.raises(ResultError, match=r"must end in \.nwb"):
        check_export(tmp_path / "slice", "nwb")


def test_what_is_read_is_never_replaced(tmp_path: Path):
    recording = tmp_path / "slice.tif"
    recording.write_bytes(b"II*\0")
    with pytest.raises(ResultError, match="not changed"):
        check_export(recording, "labels", overwrite=True, inputs=[recording])
    (tmp_path / "slice.cocuyo").mkdir()
    inside = tmp_path / "slice.cocuyo" / "mask.tif"
    with pytest.raises(ResultError, match="not changed"):
        check_export(inside, "labels", overwrite=True, inputs=[tmp_path / "slice.cocuyo"])


@pytest.mark.parametrize("to", ["csv", "mat", "suite2p"])
def test_a_failed_export_leaves_nothing(
    tmp_path: Path, to: ExportName, monkeypatch: pytest.MonkeyPatch
):
    kept = _export(tmp_path, to)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    broken = replace(RESULT, raster=RESULT.raster[:, :7])  # too short: writing fails half-way
    if to == "mat":
        monkeypatch.setattr("scipy.io.savemat", _full_disk)
    elif to == "suite2p":
        monkeypatch.setattr("numpy.save", _full_disk)
    with pytest.raises((ResultError, IndexError)):
        _export(tmp_path, to, broken, overwrite=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert kept.exists()


def _full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def test_exports_are_named_after_the_result(tmp_path: Path):
    folder = tmp_path / "day 1.slice.cocuyo"
    assert export_path(folder, "nwb") == tmp_path / "day 1.slice.nwb"
    assert export_path(folder, "imagej") == tmp_path / "day 1.slice_rois.zip"
    assert len({export_path(folder, to) for to in EVERY}) == len(EVERY)
