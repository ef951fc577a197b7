"""Reading the files of microscopes' makers.

CZI files are written by Zeiss' own library. No library writes ND2, LIF and ISXD files that may be
used here: LIF is put together by hand and read by liffile, ND2 and ISXD are tested at the
interface of their libraries (ISXD also with Inscopix' library, where it is installed).
"""

import struct
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import create_autospec

import nd2
import numpy as np
import pytest
from pylibCZIrw import czi

from cocuyo.core import RecordingError
from cocuyo.io import inspect_recording, open_recording

N, Y, X = 12, 6, 9
FRAMES = np.random.default_rng(2).integers(0, 4000, (N, Y, X)).astype(np.uint16)


def read_all(recording):
    return recording.movie.read(0, recording.n_frames)


# --- Zeiss -------------------------------------------------------------------------------------


def write_czi(path, stack, **more):
    """A stack (T, C, Z, Y, X), or with colour last."""
    with czi.create_czi(str(path)) as file:
        for t, c, z in np.ndindex(stack.shape[:3]):
            plane = stack[t, c, z]
            plane = plane[..., None] if plane.ndim == 2 else plane[..., ::-1]
            file.write(plane, plane={"T": t, "C": c, "Z": z}, **more)
        file.write_metadata("slice", scale_x=1.46e-6, scale_y=1.46e-6)
    return path


def test_a_czi_file_has_its_frames_and_pixel_size(tmp_path):
    path = write_czi(tmp_path / "slice.czi", FRAMES[:, None, None])
    facts = inspect_recording(path)
    assert (facts.format, facts.dtype) == ("Zeiss CZI", "uint16")
    assert facts.pixel_size_um == pytest.approx(1.46)
    assert any("frame rate" in what for what in facts.missing)
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), FRAMES)
    np.testing.assert_array_equal(recording.movie.read(3, 5), FRAMES[3:5])


def test_channels_and_planes_of_a_czi_file_are_chosen(tmp_path):
    stack = np.stack([FRAMES, FRAMES + 1, FRAMES + 2, FRAMES + 3], axis=1)
    path = write_czi(tmp_path / "slice.czi", stack.reshape(N, 2, 2, Y, X))
    with pytest.raises(RecordingError, match=r"--channel N .*--plane N|--plane N .*--channel N"):
        open_recording(path)
    chosen = open_recording(path, channel=1, plane=0)
    np.testing.assert_array_equal(read_all(chosen), FRAMES + 2)


def test_a_czi_file_in_colour_becomes_grey(tmp_path):
    frames = (FRAMES // 16).astype(np.uint8)
    path = write_czi(tmp_path / "slice.czi", np.stack([frames] * 3, axis=-1)[:, None, None])
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), frames)
    assert any("three equal channels" in note for note in recording.notes)
    red = np.stack([frames, 0 * frames, 0 * frames], axis=-1)
    path = write_czi(tmp_path / "red.czi", red[:, None, None])
    np.testing.assert_allclose(read_all(open_recording(path)), 0.299 * frames, atol=0.51)


def test_scenes_of_a_czi_file_are_chosen(tmp_path):
    path = tmp_path / "slice.czi"
    with czi.create_czi(str(path)) as file:
        for t in range(N):
            for scene, place in ((0, (0, 0)), (1, (100, 0))):
                plane = (FRAMES[t] + scene)[..., None]
                file.write(plane, plane={"T": t, "C": 0, "Z": 0}, scene=scene, location=place)
        file.write_metadata("slice")
    with pytest.raises(RecordingError, match=r"2 scenes; choose one with --dataset: 0, 1"):
        open_recording(path)
    np.testing.assert_array_equal(read_all(open_recording(path, dataset="1")), FRAMES + 1)


def test_the_interval_that_zen_writes_is_the_frame_rate(tmp_path):
    path = write_czi(tmp_path / "slice.czi", FRAMES[:, None, None])
    with czi.edit_czi(str(path)) as editor, editor.edit_session() as builder:
        interval = "<T><Positions><Interval><Increment>0.05</Increment></Interval></Positions></T>"
        xml = builder.get_xml().replace("<Dimensions>", f"<Dimensions>{interval}")
        builder.set_xml(xml)
    assert open_recording(path).frame_rate_hz == pytest.approx(20.0)


def test_a_cut_czi_file_is_a_clear_error(tmp_path):
    path = write_czi(tmp_path / "slice.czi", FRAMES[:, None, None])
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(RecordingError, match="Zeiss CZI file that cannot be opened"):
        open_recording(path)


# --- Leica -------------------------------------------------------------------------------------

_HEADER = """<LMSDataContainerHeader Version="2"><Element Name="file" Visibility="1"><Data>
<Experiment/></Data><Memory Size="0" MemoryBlockID="MemBlock_0"/><Children>{images}</Children>
</Element></LMSDataContainerHeader>"""
_IMAGE = """<Element Name="{name}" Visibility="1" UniqueID="{name}"><Data><Image><ImageDescription>
<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image>
</Data><Memory Size="{size}" MemoryBlockID="MemBlock_{name}"/></Element>"""
_CHANNEL = """<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" Min="0" Max="65535"
NameOfMeasuredQuantity="" Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="{inc}" BitInc="0"/>"""
_DIMENSION = """<DimensionDescription DimID="{id}" NumberOfElements="{n}" Origin="0"
Length="{length}" Unit="{unit}" BitInc="0" BytesInc="{inc}"/>"""


def write_lif(path, **images):
    """Stacks (T, C, Y, X) of uint16, each an image of the file."""

    def text(value):
        return struct.pack("<BI", 0x2A, len(value)) + value.encode("utf-16-le")

    described = []
    for name, stack in images.items():
        n, c, rows, columns = stack.shape
        axes = (
            (1, columns, 1.46e-6 * (columns - 1), "m", 2),
            (2, rows, 1.46e-6 * (rows - 1), "m", 2 * columns),
            (4, n, 0.05 * (n - 1), "s", 2 * columns * rows * c),
        )
        keys = ("id", "n", "length", "unit", "inc")
        dimensions = "".join(_DIMENSION.format(**dict(zip(keys, a, strict=True))) for a in axes)
        channels = "".join(_CHANNEL.format(inc=2 * columns * rows * at) for at in range(c))
        size = stack.nbytes
        described.append(
            _IMAGE.format(name=name, channels=channels, dimensions=dimensions, size=size)
        )
    header = text(_HEADER.format(images="".join(described)))
    content = struct.pack("<II", 0x70, len(header)) + header
    for name, stack in images.items():
        block = struct.pack("<BQ", 0x2A, stack.nbytes) + text(f"MemBlock_{name}")
        content += struct.pack("<II", 0x70, len(block)) + block + stack.tobytes()
    path.write_bytes(content)
    return path


def test_a_lif_image_has_its_frames_rate_and_pixel_size(tmp_path):
    path = write_lif(tmp_path / "slice.lif", slice=FRAMES[:, None])
    facts = inspect_recording(path)
    assert facts.format == "Leica LIF, image slice"
    assert facts.frame_rate_hz == pytest.approx(20.0)
    assert facts.pixel_size_um == pytest.approx(1.46)
    np.testing.assert_array_equal(read_all(open_recording(path)), FRAMES)


def test_images_and_channels_of_a_lif_file_are_chosen(tmp_path):
    two = np.stack([FRAMES + 1, FRAMES + 2], axis=1)
    path = write_lif(tmp_path / "slice.lif", one=FRAMES[:, None], two=two)
    with pytest.raises(RecordingError, match=r"2 images; choose one with --dataset: 0 \(.*one"):
        open_recording(path)
    with pytest.raises(RecordingError, match=r"--channel N \(0 to 1\)"):
        open_recording(path, dataset="1")
    chosen = open_recording(path, dataset="1", channel=1)
    np.testing.assert_array_equal(read_all(chosen), FRAMES + 2)


def test_a_cut_lif_file_is_a_clear_error(tmp_path):
    path = write_lif(tmp_path / "slice.lif", slice=FRAMES[:, None])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RecordingError, match="Leica LIF file that cannot be opened"):
        open_recording(path)


# --- Nikon -------------------------------------------------------------------------------------


@pytest.fixture
def nd2_file(tmp_path, monkeypatch):
    """Give a path that the nd2 package, replaced, opens as a stack with labelled axes."""

    def make(stack, labels, period=None):
        sizes = {label: n for label, n in zip(labels, stack.shape, strict=True) if n > 1}
        inner = tuple(label for label in sizes if label in "CYXS")
        planes = stack.reshape(-1, *(sizes[label] for label in inner))
        file = create_autospec(nd2.ND2File, instance=True)
        file.sizes = sizes
        file.read_frame.side_effect = lambda at: planes[at]
        file.voxel_size.return_value = SimpleNamespace(x=1.46, y=1.46, z=1.0)
        loop = SimpleNamespace(type="TimeLoop", parameters=period)
        file.experiment = [loop] if period is not None else []
        monkeypatch.setattr(nd2, "ND2File", lambda path: file)
        path = tmp_path / "slice.nd2"
        path.write_bytes(b"\xda\xce\xbe\x0a" + bytes(100))
        return path

    return make


def test_an_nd2_file_has_its_frames_rate_and_pixel_size(nd2_file):
    period = nd2.structures.TimeLoopParams(
        startMs=0, periodMs=0, durationMs=0, periodDiff=nd2.structures.PeriodDiff(avg=50.0)
    )
    path = nd2_file(FRAMES, "TYX", period)
    facts = inspect_recording(path)
    assert (facts.n_frames, facts.n_rows, facts.n_columns) == (N, Y, X)
    assert (facts.frame_rate_hz, facts.pixel_size_um) == (20.0, 1.46)
    recording = open_recording(path)
    np.testing.assert_array_equal(read_all(recording), FRAMES)


def test_positions_planes_and_channels_of_an_nd2_file_are_chosen(nd2_file):
    offsets = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    stack = FRAMES[:, None, None, None] + offsets[None, ..., None, None].astype(np.uint16)
    path = nd2_file(stack, "TPZCYX")
    with pytest.raises(RecordingError, match=r"2 positions; choose one with --dataset: 0, 1"):
        open_recording(path)
    with pytest.raises(RecordingError, match="--plane N"):
        open_recording(path, dataset="1", channel=0)
    chosen = open_recording(path, dataset="1", plane=2, channel=1)
    np.testing.assert_array_equal(read_all(chosen), FRAMES + offsets[1, 2, 1])


def test_a_damaged_nd2_file_is_a_clear_error(tmp_path):
    path = tmp_path / "slice.nd2"
    path.write_bytes(b"\xda\xce\xbe\x0a" + bytes(100))
    with pytest.raises(RecordingError, match="Nikon ND2 file that cannot be opened"):
        open_recording(path)


# --- Inscopix ----------------------------------------------------------------------------------

GONE = (3, 7)
SHOWN = [0, 1, 2, 2, 4, 5, 6, 6, 8, 9, 10, 11]


@pytest.fixture
def isxd_file(tmp_path, monkeypatch):
    """Give a path that the package isx, replaced, opens."""
    timing = SimpleNamespace(
        num_samples=N,
        period=SimpleNamespace(secs_float=0.05),
        dropped=[3],
        cropped=[(7, 7)],
        blank=[],
    )

    def get_frame_data(at):
        assert at not in GONE
        return FRAMES[at]

    isx = ModuleType("isx")
    movie = SimpleNamespace(timing=timing, get_frame_data=get_frame_data)
    isx.Movie = SimpleNamespace(read=lambda path: movie)
    isx.__spec__ = SimpleNamespace(name="isx")
    monkeypatch.setitem(sys.modules, "isx", isx)
    path = tmp_path / "slice.isxd"
    path.write_bytes(FRAMES.tobytes() + b'{"type": 0}')
    return path


def check_isxd(path):
    recording = open_recording(path)
    assert recording.frame_rate_hz == pytest.approx(20.0)
    np.testing.assert_array_equal(read_all(recording), FRAMES[SHOWN])
    assert any("2 frames were dropped" in note for note in recording.notes)


def test_frames_that_an_inscopix_camera_dropped_are_filled_in(isxd_file):
    check_isxd(isxd_file)


def test_a_cut_inscopix_file_is_a_clear_error(isxd_file):
    isxd_file.write_bytes(FRAMES.tobytes())
    with pytest.raises(RecordingError, match="without the description at its end"):
        open_recording(isxd_file)


def test_a_file_by_the_library_of_inscopix_is_read(tmp_path):
    isx = pytest.importorskip("isx", reason="Inscopix' library is not free software.")
    path = tmp_path / "slice.isxd"
    period = isx.Duration.from_msecs(50)
    timing = isx.Timing(num_samples=N, period=period, dropped=[3], cropped=[(7, 7)])
    movie = isx.Movie.write(str(path), timing, isx.Spacing(num_pixels=(Y, X)), np.uint16)
    for at in sorted(set(range(N)) - set(GONE)):
        movie.set_frame_data(at, FRAMES[at])
    movie.flush()
    check_isxd(path)
