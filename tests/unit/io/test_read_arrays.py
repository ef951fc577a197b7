"""Reading NumPy and HDF5 files."""

import h5py
import numpy as np
import pytest

from cocuyo.core import RecordingError, TruncatedRecordingError
from cocuyo.io import open_recording

N, Y, X = 9, 5, 8


def movie(dtype="uint16", shape=(N, Y, X)):
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


@pytest.mark.parametrize("dtype", ["uint8", "<i2", ">u2", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_arrays_are_read_in_either_order(dtype, order, tmp_path):
    frames = np.asarray(movie(dtype), order=order)
    np.save(tmp_path / "m.npy", frames)
    recording = open_recording(tmp_path / "m.npy")
    assert recording.movie.dtype.isnative
    np.testing.assert_array_equal(read_all(recording), frames)
    for size in (1, 4, N):
        joined = np.concatenate([block for _, block in recording.blocks(size)])
        np.testing.assert_array_equal(joined, frames)


def test_a_cut_npy_says_how_many_frames_are_good(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, movie())
    path.write_bytes(path.read_bytes()[: 128 + 4 * Y * X * 2 + 3])
    with pytest.raises(TruncatedRecordingError, match=r"4 of 9 frames .* --frames 0:4") as caught:
        open_recording(path)
    assert caught.value.n_good_frames == 4
    np.testing.assert_array_equal(read_all(open_recording(path, frames=(1, 4))), movie()[1:4])


def test_a_cut_npy_in_column_order_has_no_good_frame(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, np.asfortranarray(movie()))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RecordingError, match="column order"):
        open_recording(path)


@pytest.mark.parametrize("length", [7, 20, 100])
def test_an_npy_cut_in_its_header_is_a_clear_error(length, tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, movie())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RecordingError, match=r"damaged .npy"):
        open_recording(path)


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, np.array([[[{}]]], dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="type object"):
        open_recording(path)


def test_an_array_with_more_axes_needs_a_choice(tmp_path):
    stack = movie(shape=(N, 2, Y, X))
    np.save(tmp_path / "m.npy", stack)
    with pytest.raises(RecordingError, match=r"4 axes .*--channel N or --plane N \(0 to 1\)"):
        open_recording(tmp_path / "m.npy")
    np.testing.assert_array_equal(
        read_all(open_recording(tmp_path / "m.npy", channel=1)), stack[:, 1]
    )


def test_a_colour_array_becomes_grey(tmp_path):
    frames = movie("uint8")
    np.save(tmp_path / "m.npy", np.stack([frames] * 3, axis=-1))
    recording = open_recording(tmp_path / "m.npy")
    np.testing.assert_array_equal(read_all(recording), frames)
    assert any("three equal channels" in note for note in recording.notes)


@pytest.mark.parametrize("shape", [(0, Y, X), (N, 0, X), (5,), ()])
def test_arrays_that_are_no_movies_are_refused(shape, tmp_path):
    np.save(tmp_path / "m.npy", np.zeros(shape, np.uint8))
    with pytest.raises(RecordingError, match="shape"):
        open_recording(tmp_path / "m.npy")


def test_a_single_image_is_no_recording(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros((Y, X), np.uint8))
    with pytest.raises(RecordingError, match="single frame"):
        open_recording(tmp_path / "m.npy")


# --- HDF5 --------------------------------------------------------------------------------------


def test_the_only_movie_of_an_hdf5_file_needs_no_name(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a/movie", data=movie(), chunks=(2, Y, X), compression="gzip")
        data.attrs["frame_rate"] = 15.0
        file.attrs["pixel_size_um"] = 1.25
        file["times"] = np.arange(N)
    recording = open_recording(path)
    assert (recording.frame_rate_hz, recording.pixel_size_um) == (15.0, 1.25)
    np.testing.assert_array_equal(read_all(recording), movie())
    np.testing.assert_array_equal(recording.movie.read(3, 5), movie()[3:5])


def test_several_data_sets_need_a_name_and_are_listed(tmp_path):
    path = tmp_path / "m.hdf5"
    with h5py.File(path, "w") as file:
        file["red"] = movie()
        file["green"] = movie() + 1
    with pytest.raises(RecordingError, match=r"--dataset.*/green \(9, 5, 8\), /red"):
        open_recording(path)
    with pytest.raises(RecordingError, match=r"no data set 'blue'.*/red"):
        open_recording(path, dataset="blue")
    np.testing.assert_array_equal(read_all(open_recording(path, dataset="green")), movie() + 1)


def test_an_hdf5_stack_with_channels_needs_a_choice(tmp_path):
    path = tmp_path / "m.h5"
    stack = movie(shape=(N, 2, Y, X))
    with h5py.File(path, "w") as file:
        file["x"] = stack
    with pytest.raises(RecordingError, match="4 axes"):
        open_recording(path)
    np.testing.assert_array_equal(read_all(open_recording(path, channel=0)), stack[:, 0])


def test_a_cut_hdf5_file_is_a_clear_error(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["x"] = movie()
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RecordingError, match="damaged or cut"):
        open_recording(path)


def test_an_hdf5_file_without_a_movie_lists_what_it_has(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(5)
    with pytest.raises(RecordingError, match="holds 0 data sets"):
        open_recording(path)


def test_a_data_set_named_for_another_kind_of_file_is_an_error(tmp_path):
    np.save(tmp_path / "m.npy", movie())
    with pytest.raises(RecordingError, match="a NumPy array and has none"):
        open_recording(tmp_path / "m.npy", dataset="x")
