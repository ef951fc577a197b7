"""Reading NWB files that pynwb wrote."""

from datetime import UTC, datetime

import numpy as np
import pytest
import tifffile
from pynwb import NWBHDF5IO, NWBFile
from pynwb.image import ImageSeries
from pynwb.ophys import OnePhotonSeries, OpticalChannel, TwoPhotonSeries

from cocuyo.core import RecordingError
from cocuyo.io import file_identity, inspect_recording, open_recording

N, Y, X = 14, 6, 9
FRAMES = np.random.default_rng(2).integers(0, 4000, (N, Y, X)).astype(np.uint16)
AS_STORED = FRAMES.transpose(0, 2, 1)  # the schema: time, x, y

pytestmark = pytest.mark.filterwarnings("ignore")  # of pynwb, about details of small files


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


class Session:
    """An NWB file in the making."""

    def __init__(self, path, **plane):
        self.path = path
        start = datetime(2026, 1, 1, tzinfo=UTC)
        self.file = NWBFile(session_description="slice", identifier="1", session_start_time=start)
        device = self.file.create_device(name="microscope")
        channel = OpticalChannel(name="green", description="green", emission_lambda=510.0)
        self.plane = self.file.create_imaging_plane(
            name="plane",
            optical_channel=channel,
            description="field of view",
            device=device,
            excitation_lambda=470.0,
            indicator="GCaMP6f",
            location="CA1",
            **plane,
        )

    def add(self, kind, name, data=AS_STORED, *, processed=False, **more):
        fields = {"name": name, "unit": "a.u.", **more}
        if data is not None:
            fields["data"] = data
        if kind is not ImageSeries:
            fields["imaging_plane"] = self.plane
        series = kind(**fields)
        if processed:
            module = self.file.create_processing_module(name="ophys", description="results")
            module.add(series)
        else:
            self.file.add_acquisition(series)
        return self

    def save(self):
        with NWBHDF5IO(str(self.path), "w") as io:
            io.write(self.file)
        return self.path


@pytest.fixture
def session(tmp_path):
    def make(**plane):
        return Session(tmp_path / "session.nwb", **plane)

    return make


@pytest.mark.parametrize("kind", [OnePhotonSeries, TwoPhotonSeries, ImageSeries])
def test_a_series_is_turned_to_rows_and_columns_and_says_so(session, kind):
    recording = open_recording(session().add(kind, "movie", rate=20.0).save())
    assert recording.movie.shape == (N, Y, X)
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    np.testing.assert_array_equal(recording.movie.read(3, 5), FRAMES[3:5])
    assert recording.frame_rate_hz == 20.0
    assert any("NWB stores the columns" in note for note in recording.notes)


def test_axes_that_the_user_knows_better_go_first(session):
    path = session().add(OnePhotonSeries, "movie", FRAMES, rate=20.0).save()
    recording = open_recording(path, axes="TYX")
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    assert not any("NWB stores" in note for note in recording.notes)


def test_a_field_dimension_that_contradicts_is_pointed_out(session):
    right = session().add(OnePhotonSeries, "movie", rate=20.0, dimension=[X, Y]).save()
    assert not any("dimension" in note for note in open_recording(right).notes)
    wrong = session().add(OnePhotonSeries, "movie", rate=20.0, dimension=[Y, X]).save()
    assert any("dimension (6, 9)" in note for note in open_recording(wrong).notes)


def test_the_pixel_size_comes_from_the_grid_in_metres(session):
    made = session(grid_spacing=[1.46e-6, 1.46e-6], grid_spacing_unit="meters")
    facts = inspect_recording(made.add(OnePhotonSeries, "movie", rate=20.0).save())
    assert facts.pixel_size_um == pytest.approx(1.46)
    assert facts.pixel_size_origin == "grid_spacing of the NWB imaging plane"


def test_pixels_that_are_not_square_are_replaced_and_noted(session):
    made = session(grid_spacing=[1.0, 4.0], grid_spacing_unit="micrometers")
    recording = open_recording(made.add(OnePhotonSeries, "movie", rate=20.0).save())
    assert recording.pixel_size_um == pytest.approx(2.0)
    assert any("1 x 4 µm" in note for note in recording.notes)


def test_irregular_timestamps_are_the_times_of_the_frames(session):
    times = 100.0 + np.cumsum(np.random.default_rng(0).uniform(0.04, 0.06, N))
    path = session().add(OnePhotonSeries, "movie", timestamps=times).save()
    facts = inspect_recording(path)
    assert facts.frame_rate_hz == pytest.approx(1 / np.median(np.diff(times)))
    assert facts.frame_rate_origin == "timestamps of the NWB series"
    np.testing.assert_allclose(open_recording(path).times_s, times - times[0])
    part = open_recording(path, frames=(4, 9))
    np.testing.assert_allclose(part.timestamps_s, times[4:9])
    given = open_recording(path, frame_rate_hz=20.0)
    assert given.timestamps_s is None
    assert given.rate_hz == 20.0


def test_timestamps_that_do_not_rise_are_left_aside_with_a_note(session):
    times = np.zeros(N)
    recording = open_recording(session().add(OnePhotonSeries, "movie", timestamps=times).save())
    assert recording.timestamps_s is None
    assert any("timestamps do not fit" in note for note in recording.notes)


def test_the_rate_of_the_plane_serves_where_the_series_has_none(session):
    made = session(imaging_rate=30.0)
    path = made.add(OnePhotonSeries, "movie", rate=0.0).save()
    facts = inspect_recording(path)
    assert facts.frame_rate_hz == 30.0
    assert "imaging_rate" in facts.frame_rate_origin


def test_the_acquired_series_is_preferred_and_the_others_are_named(session):
    made = session().add(ImageSeries, "corrected", AS_STORED + 1, processed=True, rate=20.0)
    path = made.add(OnePhotonSeries, "raw", rate=20.0).save()
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    assert any("not read: /processing/ophys/corrected" in note for note in recording.notes)
    chosen = open_recording(path, dataset="corrected")
    np.testing.assert_array_equal(read_all(chosen), FRAMES + 1)


def test_several_acquired_series_need_a_choice(session):
    made = session().add(OnePhotonSeries, "one", rate=20.0)
    path = made.add(OnePhotonSeries, "two", AS_STORED + 1, rate=20.0).save()
    with pytest.raises(RecordingError, match=r"2 image series.*--dataset.*/acquisition/two"):
        open_recording(path)
    with pytest.raises(RecordingError, match="no image series 'three'"):
        open_recording(path, dataset="three")
    for name in ("two", "/acquisition/two", "acquisition/two/data"):
        np.testing.assert_array_equal(read_all(open_recording(path, dataset=name)), FRAMES + 1)


def test_a_volume_needs_a_plane(session):
    volume = np.stack([AS_STORED, AS_STORED + 7], axis=-1)  # time, x, y, z
    path = session().add(TwoPhotonSeries, "volume", volume, rate=5.0).save()
    with pytest.raises(RecordingError, match=r"--plane N \(0 to 1\)"):
        open_recording(path)
    np.testing.assert_array_equal(read_all(open_recording(path, plane=1)), FRAMES + 7)


def test_frames_in_files_beside_are_read_from_there(session, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FRAMES[:8])
    tifffile.imwrite(tmp_path / "b.tif", FRAMES[8:])
    made = session(grid_spacing=[2e-6, 2e-6], grid_spacing_unit="meters")
    made.add(
        OnePhotonSeries,
        "movie",
        None,
        external_file=["a.tif", "./b.tif"],
        starting_frame=[0, 8],
        num_samples=N,
        format="external",
        rate=20.0,
    )
    path = made.save()
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    assert (recording.frame_rate_hz, recording.pixel_size_um) == (20.0, 2.0)
    before = file_identity(path)
    tifffile.imwrite(tmp_path / "b.tif", FRAMES[8:] + 1)
    assert file_identity(path) != before


def test_frames_outside_the_folder_are_never_read(session, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    tifffile.imwrite(tmp_path / "secret.tif", FRAMES)
    made = session()
    made.path = inner / "session.nwb"
    external = {"starting_frame": [0], "num_samples": N, "format": "external", "rate": 20.0}
    made.add(OnePhotonSeries, "movie", None, external_file=["../secret.tif"], **external)
    with pytest.raises(RecordingError, match="outside its folder"):
        open_recording(made.save())


def test_a_file_without_a_movie_says_so(session):
    with pytest.raises(RecordingError, match="NWB file without an image series"):
        open_recording(session().save())


def test_a_cut_file_is_a_clear_error(session):
    path = session().add(OnePhotonSeries, "movie", rate=20.0).save()
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RecordingError, match="damaged or cut"):
        open_recording(path)
