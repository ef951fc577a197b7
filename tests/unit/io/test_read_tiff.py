"""Reading TIFF files of every writing, whole and cut."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cocuyo.core import MissingExtraError, RecordingError, TruncatedRecordingError
from cocuyo.io import open_recording
from cocuyo.io.tiff import walk_pages

N, Y, X = 11, 7, 13


def movie(dtype="uint16", shape=(N, Y, X), seed=0):
    values = np.random.default_rng(seed).integers(0, 120, shape)
    return (values - (60 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)


def page_by_page(path: Path, frames: np.ndarray, **options) -> None:
    for frame in frames:
        tifffile.imwrite(path, frame, append=path.exists(), photometric="minisblack", **options)


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


def cut(path: Path, n_bytes: int) -> Path:
    content = path.read_bytes()
    short = path.with_name("cut_" + path.name)
    short.write_bytes(content[:n_bytes])
    return short


def one_by_one(path, frames):
    page_by_page(path, frames)


def whole(path, frames, **options):
    tifffile.imwrite(path, frames, photometric="minisblack", **options)


def one_directory_only(path, frames):
    """What ImageJ writes above 4 GB: one directory, images=N, the images behind one another."""
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    content = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", content, 4)[0]
    n_tags = struct.unpack_from("<H", content, at)[0]
    struct.pack_into("<I", content, at + 2 + 12 * n_tags, 0)
    end = walk_pages(path).pages[0].start + frames.nbytes
    path.write_bytes(content[:end])


WRITERS = {
    "plain": whole,
    "bigtiff": lambda p, f: whole(p, f, bigtiff=True),
    "big-endian": lambda p, f: whole(p, f, byteorder=">"),
    "imagej": lambda p, f: tifffile.imwrite(p, f, imagej=True, metadata={"axes": "TYX"}),
    "imagej, one directory": one_directory_only,
    "ome": lambda p, f: tifffile.imwrite(p, f, ome=True, metadata={"axes": "TYX"}),
    "page by page": one_by_one,
    "page by page, bigtiff": lambda p, f: page_by_page(p, f, bigtiff=True),
    "deflate": lambda p, f: whole(p, f, compression="zlib"),
    "deflate, predictor": lambda p, f: whole(p, f, compression="zlib", predictor=True),
    "lzw": lambda p, f: whole(p, f, compression="lzw"),
    "lzw, predictor, page by page": lambda p, f: page_by_page(
        p, f, compression="lzw", predictor=True
    ),
    "zstd": lambda p, f: whole(p, f, compression="zstd"),
    "packbits": lambda p, f: whole(p, f, compression="packbits"),
    "lossless jpeg 2000": lambda p, f: whole(p, f, compression="jpeg2000"),
    "lossless jpeg xl": lambda p, f: whole(p, f, compression="jpegxl"),
    "many strips": lambda p, f: whole(p, f, rowsperstrip=2),
    "tiles": lambda p, f: whole(p, f, tile=(16, 16)),
    "compressed page by page": lambda p, f: page_by_page(p, f, compression="zlib"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writing_gives_the_same_frames(writer, tmp_path):
    frames = movie()
    WRITERS[writer](tmp_path / "m.tif", frames)
    recording = open_recording(tmp_path / "m.tif")
    assert recording.movie.shape == (N, Y, X)
    assert recording.movie.dtype == frames.dtype
    np.testing.assert_array_equal(read_all(recording), frames)
    assert read_all(recording).dtype.isnative


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32"])
def test_values_keep_their_type(dtype, tmp_path):
    frames = movie(dtype)
    whole(tmp_path / "m.tif", frames)
    recording = open_recording(tmp_path / "m.tif")
    assert recording.movie.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read_all(recording), frames)


def test_nan_is_allowed_in_reading(tmp_path):
    frames = movie("float32")
    frames[3, 2, 1] = np.nan
    whole(tmp_path / "m.tif", frames)
    np.testing.assert_array_equal(read_all(open_recording(tmp_path / "m.tif")), frames)


@pytest.mark.parametrize("writer", ["plain", "page by page", "deflate", "imagej, one directory"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, N + 2))
def test_blocks_of_any_size_equal_the_whole(writer, size, tmp_path):
    path = tmp_path / "m.tif"
    if not path.exists():
        WRITERS[writer](path, movie())
    blocks = list(open_recording(path).blocks(size))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), movie())


def test_an_imagej_stack_of_one_directory_has_all_its_images(tmp_path):
    one_directory_only(tmp_path / "m.tif", movie())
    assert len(walk_pages(tmp_path / "m.tif").pages) == 1
    assert open_recording(tmp_path / "m.tif").n_frames == N


# --- Cut files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [w for w in WRITERS if w != "tiles"])
@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_a_cut_file_says_how_many_frames_are_good(writer, share, tmp_path):
    frames = movie(shape=(N, 21, 33))
    whole_path = tmp_path / "m.tif"
    WRITERS[writer](whole_path, frames)
    path = cut(whole_path, int(whole_path.stat().st_size * share))
    first, *others = walk_pages(whole_path).pages
    contiguous = first.raw and (not others or others[0].start == first.start + frames[0].nbytes)
    if contiguous and first.start + frames.nbytes <= path.stat().st_size:
        recording = open_recording(path)  # the directories are lost, the images are not
        assert any("all images are there" in note for note in recording.notes)
        np.testing.assert_array_equal(read_all(recording), frames)
        return
    with pytest.raises(TruncatedRecordingError) as caught:
        open_recording(path)
    n_good = caught.value.n_good_frames
    directories_behind = writer in ("deflate", "deflate, predictor")
    assert 0 < n_good < N or directories_behind
    if n_good < 2:
        return
    assert f"--frames 0:{n_good}" in str(caught.value)
    recording = open_recording(path, frames=(0, n_good))
    np.testing.assert_array_equal(read_all(recording), frames[:n_good])
    assert any("cut" in note for note in recording.notes)
    with pytest.raises(TruncatedRecordingError):
        open_recording(path, frames=(0, n_good + 1))
    with pytest.raises(TruncatedRecordingError):
        open_recording(path, frames=(1, None))


def test_a_cut_contiguous_stack_loses_only_what_is_missing(tmp_path):
    frames = movie()
    for name in ("plain", "imagej", "imagej, one directory", "ome", "bigtiff", "big-endian"):
        path = tmp_path / f"{name}.tif"
        WRITERS[name](path, frames)
        start = walk_pages(path).pages[0].start
        short = cut(path, start + frames[0].nbytes * 6 + 5)
        with pytest.raises(TruncatedRecordingError, match=f"6 of {N} frames are good"):
            open_recording(short)


def test_a_file_cut_after_its_images_keeps_all_frames_reachable(tmp_path):
    path = tmp_path / "m.tif"
    whole(path, movie())
    end = walk_pages(path).pages[0].start + movie().nbytes
    recording = open_recording(cut(path, end))
    np.testing.assert_array_equal(read_all(recording), movie())


def test_a_chain_of_pages_that_runs_in_a_circle_is_damage(tmp_path):
    path = tmp_path / "m.tif"
    page_by_page(path, movie()[:3])
    content = bytearray(path.read_bytes())
    pages = walk_pages(path).pages
    n_tags = struct.unpack_from("<H", content, pages[2].ifd)[0]
    struct.pack_into("<I", content, pages[2].ifd + 2 + 12 * n_tags, pages[0].ifd)
    path.write_bytes(content)
    with pytest.raises(TruncatedRecordingError, match="3 frames are good"):
        open_recording(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(4, 900), value=st.integers(0, 255), writer=st.sampled_from(sorted(WRITERS)))
def test_a_damaged_byte_never_ends_in_anything_but_a_clear_error(at, value, writer, tmp_path):
    good = tmp_path / f"{writer}.tif"
    if not good.exists():
        WRITERS[writer](good, movie())
    content = bytearray(good.read_bytes())
    content[at % len(content)] = value
    path = tmp_path / "damaged.tif"
    path.write_bytes(content)
    try:
        recording = open_recording(path)
        if np.prod(recording.movie.shape[1:], dtype=float) < 1e6:
            recording.movie.read(0, 2)
    except (RecordingError, MissingExtraError):
        pass


def test_numbers_that_no_recording_has_are_damage(tmp_path):
    path = tmp_path / "m.tif"
    whole(path, movie(), compression="zlib")
    content = bytearray(path.read_bytes())
    content[21] = 108  # the width becomes 1.8 thousand million
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="directory of the next page is damaged"):
        open_recording(path)
    tifffile.imwrite(path, movie(), description="ImageJ=1\nimages=900000000000\n", metadata=None)
    with pytest.raises(RecordingError, match="its description is damaged"):
        open_recording(path)


# --- Axes --------------------------------------------------------------------------------------


def test_a_stack_with_channels_names_the_option_and_the_sizes(tmp_path):
    stack = movie(shape=(5, 2, Y, X))
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TCYX"})
    with pytest.raises(RecordingError, match=r"5 times, 2 channels .*--channel N \(0 to 1\)"):
        open_recording(path)
    for channel in (0, 1):
        recording = open_recording(path, channel=channel)
        np.testing.assert_array_equal(read_all(recording), stack[:, channel])
    with pytest.raises(RecordingError, match="has 2 channel"):
        open_recording(path, channel=2)


def test_a_stack_with_planes_and_channels_needs_both_choices(tmp_path):
    stack = movie(shape=(4, 3, 2, Y, X))
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TZCYX"})
    with pytest.raises(RecordingError, match=r"--plane N .* and --channel N"):
        open_recording(path)
    with pytest.raises(RecordingError, match="--plane N"):
        open_recording(path, channel=1)
    recording = open_recording(path, channel=1, plane=2)
    np.testing.assert_array_equal(read_all(recording), stack[:, 2, 1])


@pytest.mark.parametrize("axes", ["TCYX", "CTYX", "TZYX", "ZTYX"])
def test_ome_axes_are_read_in_their_own_order(axes, tmp_path):
    shape = {"T": 5, "C": 2, "Z": 3, "Y": Y, "X": X}
    stack = movie(shape=tuple(shape[axis] for axis in axes))
    path = tmp_path / "m.ome.tif"
    tifffile.imwrite(path, stack, metadata={"axes": axes})
    option = {"channel": 1} if "C" in axes else {"plane": 1}
    expected = np.take(stack, 1, axis=axes.index("C" if "C" in axes else "Z"))
    recording = open_recording(path, **option)
    assert recording.name == "m"
    np.testing.assert_array_equal(read_all(recording), expected)


def test_unlabelled_axes_can_be_chosen_with_either_option(tmp_path):
    stack = movie(shape=(5, 2, Y, X))
    path = tmp_path / "m.tif"
    whole(path, stack)
    with pytest.raises(RecordingError, match="--channel N or --plane N"):
        open_recording(path)
    np.testing.assert_array_equal(read_all(open_recording(path, plane=1)), stack[:, 1])
    np.testing.assert_array_equal(read_all(open_recording(path, channel=0)), stack[:, 0])


@pytest.mark.parametrize(("axes", "word"), [("ZYX", "planes"), ("CYX", "channels")])
def test_a_stack_without_a_time_axis_is_taken_as_time_and_says_so(axes, word, tmp_path):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, movie(), imagej=True, metadata={"axes": axes})
    recording = open_recording(path)
    assert recording.n_frames == N
    assert any(word in note and "frames in time" in note for note in recording.notes)


def test_axes_of_length_one_are_dropped(tmp_path):
    path = tmp_path / "m.tif"
    whole(path, movie(shape=(N, 1, 1, Y, X)))
    assert open_recording(path).movie.shape == (N, Y, X)


def test_pages_of_different_sizes_are_refused(tmp_path):
    path = tmp_path / "m.tif"
    page_by_page(path, movie()[:2])
    tifffile.imwrite(path, movie(shape=(Y + 1, X)), append=True)
    with pytest.raises(RecordingError, match=r"Page 2 .* 8 x 13"):
        open_recording(path)


# --- Colour and compression --------------------------------------------------------------------


def test_colour_becomes_grey_and_says_so(tmp_path):
    colour = movie("uint8", (N, Y, X, 3))
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, colour, photometric="rgb")
    recording = open_recording(path)
    expected = colour.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(read_all(recording) - expected).max() <= 0.51
    assert any("grey (luma) is taken" in note for note in recording.notes)
    np.testing.assert_array_equal(read_all(open_recording(path, channel=1)), colour[..., 1])


@pytest.mark.parametrize("metadata", [{"axes": "TYX"}, {"axes": "TYX", "fps": 5}])
def test_three_frames_that_became_colours_are_named_as_such(tmp_path, metadata):
    path = tmp_path / "m.tif"
    frames = movie("uint16", (3, Y, X))
    tifffile.imwrite(path, frames, photometric="rgb", planarconfig="separate", metadata=metadata)
    with pytest.raises(RecordingError, match="3 frames as the colours of one image"):
        open_recording(path)
    tifffile.imwrite(path, frames, photometric="minisblack", metadata=metadata)
    np.testing.assert_array_equal(read_all(open_recording(path)), frames)


def test_three_equal_channels_are_kept_exactly(tmp_path):
    frames = movie("uint16")
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.stack([frames] * 3, axis=-1), photometric="rgb")
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), frames)
    assert any("three equal channels" in note for note in recording.notes)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"),
        ModuleNotFoundError("No module named 'compression'"),
    ],
)
def test_a_compression_without_its_decoder_names_the_extra(error, tmp_path, monkeypatch):
    path = tmp_path / "m.tif"
    whole(path, movie(), compression="zlib")

    def without_imagecodecs(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(tifffile.TiffPage, "asarray", without_imagecodecs)
    with pytest.raises(MissingExtraError, match=r'pip install "cocuyo\[formats\]"'):
        open_recording(path)


@pytest.mark.parametrize(
    ("photometric", "words"), [("miniswhite", "0 is white"), ("palette", "table")]
)
def test_stored_values_are_used_whatever_their_display(photometric, words, tmp_path):
    path = tmp_path / "m.tif"
    table = np.zeros((3, 256), np.uint16)
    options = {"colormap": table} if photometric == "palette" else {}
    tifffile.imwrite(path, movie("uint8"), photometric=photometric, **options)
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), movie("uint8"))
    assert any(words in note for note in recording.notes)


# --- Rate and pixel size -----------------------------------------------------------------------


def imagej_file(path, resolution=(2.0, 2.0), **metadata):
    tifffile.imwrite(
        path, movie(), imagej=True, resolution=resolution, metadata={"axes": "TYX", **metadata}
    )
    return open_recording(path)


@pytest.mark.parametrize(
    ("metadata", "rate_hz"),
    [
        ({"finterval": 0.05}, 20.0),
        ({"finterval": 50, "tunit": "ms"}, 20.0),
        ({"finterval": 0.5, "tunit": "min"}, 1 / 30),
        ({"fps": 7.0}, 7.0),
        ({"finterval": 0.05, "fps": 7.0}, 20.0),
        ({"finterval": 0}, None),
        ({"finterval": -1}, None),
        ({"finterval": 0.05, "tunit": "furlong"}, None),
        ({"fps": 0}, None),
        ({}, None),
    ],
)
def test_imagej_says_the_frame_rate(metadata, rate_hz, tmp_path):
    rate = imagej_file(tmp_path / "m.tif", **metadata).frame_rate_hz
    assert rate == (None if rate_hz is None else pytest.approx(rate_hz))


@pytest.mark.parametrize(
    ("unit", "per_unit", "pixel_um"),
    [
        ("um", 2.0, 0.5),
        ("micron", 0.5, 2.0),
        ("\\u00B5m", 2.0, 0.5),
        ("mm", 500.0, 2.0),
        ("cm", 5000.0, 2.0),
        ("inch", 12700.0, 2.0),
        ("pixel", 1.0, None),
        ("inch", 72.0, None),
        ("um", 1e-9, None),
    ],
)
def test_imagej_says_the_pixel_size(unit, per_unit, pixel_um, tmp_path):
    size = imagej_file(tmp_path / "m.tif", (per_unit, per_unit), unit=unit).pixel_size_um
    assert size == (None if pixel_um is None else pytest.approx(pixel_um, rel=1e-4))


@pytest.mark.parametrize(
    ("metadata", "rate_hz", "pixel_um"),
    [
        ({"TimeIncrement": 0.1, "PhysicalSizeX": 1.5, "PhysicalSizeXUnit": "µm"}, 10.0, 1.5),
        ({"TimeIncrement": 100, "TimeIncrementUnit": "ms"}, 10.0, None),
        ({"PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm"}, None, 0.65),
        ({"Plane": {"DeltaT": [0.25 * t for t in range(N)], "TheT": list(range(N))}}, 4.0, None),
        ({"TimeIncrement": 0, "PhysicalSizeX": 0}, None, None),
    ],
)
def test_ome_says_rate_and_pixel_size(metadata, rate_hz, pixel_um, tmp_path):
    tifffile.imwrite(tmp_path / "m.ome.tif", movie(), metadata={"axes": "TYX", **metadata})
    recording = open_recording(tmp_path / "m.ome.tif")
    assert recording.frame_rate_hz == (None if rate_hz is None else pytest.approx(rate_hz))
    assert recording.pixel_size_um == (None if pixel_um is None else pytest.approx(pixel_um))


def test_a_printers_resolution_is_not_a_pixel_size(tmp_path):
    for dpi in (72, 300, 600):
        path = tmp_path / f"{dpi}.tif"
        whole(path, movie(), resolution=(dpi, dpi), resolutionunit="INCH")
        assert open_recording(path).pixel_size_um is None
    whole(tmp_path / "cm.tif", movie(), resolution=(10000, 10000), resolutionunit="CENTIMETER")
    assert open_recording(tmp_path / "cm.tif").pixel_size_um == pytest.approx(1.0)


def test_a_rate_in_the_description_is_read(tmp_path):
    whole(tmp_path / "m.tif", movie(), metadata={"axes": "TYX", "fps": 12.5})
    assert open_recording(tmp_path / "m.tif").frame_rate_hz == 12.5
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        assert json.loads(tif.pages[0].description)["fps"] == 12.5
