"""Reading MATLAB 7.3 files that hdf5storage wrote as MATLAB does."""

import hdf5storage
import numpy as np
import pytest
import scipy.io

from cocuyo.core import RecordingError
from cocuyo.io import inspect_recording, open_recording

N, Y, X = 14, 6, 9
FRAMES = np.random.default_rng(2).integers(0, 4000, (N, Y, X)).astype(np.uint16)
IN_MATLAB = FRAMES.transpose(1, 2, 0)  # rows x columns x frames

pytestmark = pytest.mark.filterwarnings("ignore")  # of hdf5storage


def save(path, **variables):
    hdf5storage.savemat(str(path), variables, fmt="7.3", store_python_metadata=False)
    return path


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


def test_rows_by_columns_by_frames_are_read_as_such(tmp_path):
    path = save(tmp_path / "slice.mat", Y=IN_MATLAB)
    recording = open_recording(path)
    assert recording.movie.shape == (N, Y, X)
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    for size in (1, 5, N):
        joined = np.concatenate([block for _, block in recording.blocks(size)])
        np.testing.assert_array_equal(joined, FRAMES)
    assert any("MATLAB stores the columns" in note for note in recording.notes)


def test_another_order_in_matlab_is_said_with_axes(tmp_path):
    path = save(tmp_path / "slice.mat", Y=FRAMES.transpose(2, 1, 0))  # columns x rows x frames
    np.testing.assert_array_equal(read_all(open_recording(path, axes="TYX")), FRAMES)


def test_strings_and_scalars_beside_the_movie_do_not_confuse(tmp_path):
    path = save(
        tmp_path / "slice.mat", movie=IN_MATLAB, name="slice 1", frameRate=6.67, pixel_size_um=1.46
    )
    facts = inspect_recording(path)
    assert facts.frame_rate_hz == pytest.approx(6.67)
    assert facts.frame_rate_origin == "the variable frameRate of the MATLAB file"
    assert facts.pixel_size_um == pytest.approx(1.46)
    assert facts.format == "MATLAB 7.3, variable movie"


def test_a_variable_in_a_struct_is_found_and_named_as_in_matlab(tmp_path):
    path = save(tmp_path / "slice.mat", one=IN_MATLAB, session={"movie": IN_MATLAB + 1, "fs": 20.0})
    with pytest.raises(RecordingError, match=r"2 data sets.*--dataset.*/session/movie"):
        open_recording(path)
    recording = open_recording(path, dataset="session.movie")
    np.testing.assert_array_equal(read_all(recording), FRAMES + 1)
    assert recording.frame_rate_hz == 20.0


def test_channels_are_chosen_on_their_axis(tmp_path):
    stack = np.stack([IN_MATLAB, IN_MATLAB + 1], axis=2)  # rows x columns x channels x frames
    path = save(tmp_path / "slice.mat", movie=stack)
    with pytest.raises(RecordingError, match="4 axes"):
        open_recording(path, dataset="movie")
    chosen = open_recording(path, dataset="movie", channel=1)
    np.testing.assert_array_equal(read_all(chosen), FRAMES + 1)


def test_an_older_version_says_how_to_save_again(tmp_path):
    scipy.io.savemat(tmp_path / "old.mat", {"movie": IN_MATLAB})
    with pytest.raises(RecordingError, match=r"before 7\.3.*-v7\.3"):
        open_recording(tmp_path / "old.mat")


def test_a_cut_file_is_a_clear_error(tmp_path):
    path = save(tmp_path / "slice.mat", Y=IN_MATLAB)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RecordingError, match="damaged or cut"):
        open_recording(path)


@pytest.mark.parametrize("axes", ["TY", "TYXZ", "TYY", "ABC", "ZYX", ""])
def test_axes_that_do_not_fit_are_refused(axes, tmp_path):
    path = save(tmp_path / "slice.mat", Y=IN_MATLAB)
    with pytest.raises(RecordingError, match=r"has shape \(14, 9, 6\)\. Give one letter"):
        open_recording(path, axes=axes)
