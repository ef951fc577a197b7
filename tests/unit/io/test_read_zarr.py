"""Reading Zarr stores that zarr wrote, and OME-Zarr images that yaozarrs described."""

import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaozarrs.v04
import yaozarrs.v05
import zarr
from yaozarrs.write.v05 import write_bioformats2raw, write_image

from cocuyo.core import RecordingError
from cocuyo.io import file_identity, inspect_recording, open_recording
from cocuyo.io.zarr_arrays import _check_codecs

N, Y, X = 14, 6, 9
FRAMES = np.random.default_rng(2).integers(1, 4000, (N, Y, X)).astype(np.uint16)
AXES = (
    ("t", "time", "millisecond"),
    ("c", "channel", None),
    ("y", "space", "micrometer"),
    ("x", "space", "micrometer"),
)


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


def save(path, frames=FRAMES, **more):
    more = {"chunks": (5, 4, X), "zarr_format": 3, **more}
    array = zarr.create_array(path, shape=frames.shape, dtype=frames.dtype, **more)
    array[:] = frames
    return array


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [(1, Y, X), (5, 4, X), (N, 2, 3)])
def test_blocks_equal_the_whole_whatever_the_chunks(version, chunks, tmp_path):
    path = tmp_path / "slice.zarr"
    save(path, zarr_format=version, chunks=chunks).attrs["frame_rate"] = 6.67
    recording = open_recording(path)
    assert (recording.movie.shape, recording.name) == ((N, Y, X), "slice")
    assert recording.frame_rate_hz == 6.67
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    for size in (1, 4, 5, N + 3):
        joined = np.concatenate([block for _, block in recording.blocks(size)])
        np.testing.assert_array_equal(joined, FRAMES)
    for start, stop in ((9, 12), (2, 3), (5, 5), (13, 40)):
        np.testing.assert_array_equal(recording.movie.read(start, stop), FRAMES[start:stop])


def test_sharded_and_big_endian_arrays_are_read(tmp_path):
    save(tmp_path / "a.zarr", chunks=(2, Y, X), shards=(6, Y, X))
    np.testing.assert_array_equal(read_all(open_recording(tmp_path / "a.zarr")), FRAMES)
    save(tmp_path / "b.zarr", FRAMES.astype(">u2"), zarr_format=2)
    recording = open_recording(tmp_path / "b.zarr")
    assert recording.movie.dtype.isnative
    np.testing.assert_array_equal(read_all(recording), FRAMES)


def test_named_axes_are_turned(tmp_path):
    turned = FRAMES.transpose(2, 1, 0)
    save(tmp_path / "v3.zarr", turned, dimension_names=("width", "height", "frame"))
    np.testing.assert_array_equal(read_all(open_recording(tmp_path / "v3.zarr")), FRAMES)
    array = save(tmp_path / "v2.zarr", turned, zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["x", "y", "t"]  # as xarray, and so minian, write it
    np.testing.assert_array_equal(read_all(open_recording(tmp_path / "v2.zarr")), FRAMES)
    save(tmp_path / "no.zarr", turned)
    recording = open_recording(tmp_path / "no.zarr", axes="XYT")
    np.testing.assert_array_equal(read_all(recording), FRAMES)


def test_a_group_needs_a_name_where_several_arrays_fit(tmp_path):
    path = tmp_path / "group.zarr"
    group = zarr.create_group(path)
    for name, frames in (("raw", FRAMES), ("corrected", FRAMES + 1)):
        group.create_array(name, data=frames, chunks=(5, Y, X))
    group.create_array("times", data=np.arange(N))
    with pytest.raises(RecordingError, match=r"2 arrays.*--dataset.*corrected \(14, 6, 9\)"):
        open_recording(path)
    with pytest.raises(RecordingError, match="no array 'x'"):
        open_recording(path, dataset="x")
    np.testing.assert_array_equal(read_all(open_recording(path, dataset="corrected")), FRAMES + 1)
    del group["corrected"]
    np.testing.assert_array_equal(read_all(open_recording(path)), FRAMES)


def test_chunks_that_are_not_there_are_told(tmp_path):
    path = tmp_path / "slice.zarr"
    save(path)
    shutil.rmtree(path / "c" / "1")
    recording = open_recording(path)
    assert any("2 of 6 chunks are not stored" in note for note in recording.notes)
    shutil.rmtree(path / "c")
    with pytest.raises(RecordingError, match="nothing is stored"):
        open_recording(path)


def test_a_damaged_chunk_names_its_frames(tmp_path):
    path = tmp_path / "slice.zarr"
    save(path, chunks=(5, Y, X))
    (path / "c" / "1" / "0" / "0").write_bytes(b"no chunk")
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.movie.read(0, 5), FRAMES[:5])
    with pytest.raises(RecordingError, match=r"Frames 5:10 of .* are damaged"):
        recording.movie.read(5, 7)


def test_a_damaged_description_is_one_line(tmp_path):
    path = tmp_path / "slice.zarr"
    save(path)
    (path / "zarr.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecordingError, match="Zarr store that cannot be read"):
        open_recording(path)


class _Harm:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (self.place, "w")


def test_a_store_that_would_be_unpickled_is_refused(tmp_path):
    path, victim = tmp_path / "hostile.zarr", tmp_path / "victim"
    save(path, zarr_format=2, chunks=(N, Y, X), compressors=None)
    described = json.loads((path / ".zarray").read_text("utf-8"))
    described["compressor"] = {"id": "pickle", "protocol": 5}
    (path / ".zarray").write_text(json.dumps(described), encoding="utf-8")
    (path / "0.0.0").write_bytes(pickle.dumps(_Harm(str(victim))))
    with pytest.raises(RecordingError, match="pickle"):
        open_recording(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {"filters": [{"id": "delta"}, {"id": "pickle"}], "compressor": None},
        {"filters": None, "compressor": {"id": "pickle"}},
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "odd"}]}}]},
    ],
)
def test_codecs_that_are_not_known_to_be_harmless_are_refused(metadata):
    array = SimpleNamespace(metadata=SimpleNamespace(to_dict=lambda: metadata))
    with pytest.raises(RecordingError, match="is packed with"):
        _check_codecs(array, "slice.zarr")


def test_the_hash_of_a_store_covers_all_its_files(tmp_path):
    path = tmp_path / "slice.zarr"
    array = save(path)
    (before,) = file_identity(path)
    assert before["files"] == 7  # six chunks and zarr.json
    array[13, 5, 8] = 0
    assert file_identity(path)[0]["sha256"] != before["sha256"]


# --- OME-Zarr ----------------------------------------------------------------------------------


def described(version, scale=(50.0, 1.0, 1.46, 1.46), axes=AXES):
    """Metadata of an image, checked by yaozarrs' models."""
    multiscale = {
        "name": "slice",
        "axes": [
            {"name": name, "type": kind, **({"unit": unit} if unit else {})}
            for name, kind, unit in axes
        ],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
        ],
    }
    if version == "0.4":
        image = yaozarrs.v04.Image(multiscales=[{**multiscale, "version": "0.4"}])
    else:
        image = yaozarrs.v05.Image(version="0.5", multiscales=[multiscale])
    return image


STACK = np.stack([FRAMES, FRAMES + 1], axis=1)


def ome04(path, stack=STACK, **more):
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=stack, chunks=(1, 1, Y, X))
    group.attrs.update(described("0.4", **more).model_dump(mode="json", exclude_none=True))


def ome05(path, stack=STACK, **more):
    write_image(path, described("0.5", **more), stack, writer="zarr")


@pytest.mark.parametrize(("write", "version"), [(ome04, 2), (ome05, 3)])
def test_an_ome_image_says_rate_pixel_size_and_channels(write, version, tmp_path):
    path = tmp_path / "slice.ome.zarr"
    write(path)
    with pytest.raises(RecordingError, match=r"2 channels.*--channel N \(0 to 1\)"):
        open_recording(path)
    facts = inspect_recording(path, channel=1)
    assert facts.format == f"OME-Zarr (format {version}), array 0"
    assert (facts.name, facts.frame_rate_hz) == ("slice", 20.0)
    assert facts.pixel_size_um == pytest.approx(1.46)
    np.testing.assert_array_equal(read_all(open_recording(path, channel=1)), FRAMES + 1)


def test_an_ome_image_without_units_says_what_is_missing(tmp_path):
    axes = [(name, kind, None) for name, kind, _ in AXES]
    ome05(tmp_path / "slice.ome.zarr", axes=axes)
    facts = inspect_recording(tmp_path / "slice.ome.zarr", channel=0)
    assert (facts.frame_rate_hz, facts.pixel_size_um) == (None, None)
    assert any("a scale but no unit" in note for note in facts.notes)


def test_the_layout_of_bioformats2raw_is_looked_into(tmp_path):
    path = tmp_path / "raw.zarr"
    write_bioformats2raw(path, {"0": (described("0.5"), STACK)}, writer="zarr")
    np.testing.assert_array_equal(read_all(open_recording(path, channel=0)), FRAMES)
    two = tmp_path / "two.zarr"
    images = {name: (described("0.5"), STACK + at) for at, name in enumerate(("0", "1"))}
    write_bioformats2raw(two, images, writer="zarr")
    with pytest.raises(RecordingError, match=r"2 OME-Zarr images.*--dataset: 0, 1"):
        open_recording(two, channel=0)
    chosen = open_recording(two, dataset="1", channel=0)
    np.testing.assert_array_equal(read_all(chosen), FRAMES + 1)


def test_an_ome_image_cannot_point_out_of_its_store(tmp_path):
    save(tmp_path / "secret.zarr")
    path = tmp_path / "slice.ome.zarr"
    ome04(path)
    text = (path / ".zattrs").read_text("utf-8").replace('"path": "0"', '"path": "../secret.zarr"')
    (path / ".zattrs").write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError):
        open_recording(path, channel=0)
