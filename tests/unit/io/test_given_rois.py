"""ROIs that someone drew or found elsewhere: read with their names, order and weights."""

import struct
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from synthetic_result import make_result

from cocuyo.core import ResultError, RoiSet
from cocuyo.io import read_rois, save_npz_atomic, save_result
from cocuyo.io.imagej import write_roi_set

SHAPE = (20, 30)


def masks_of(rois):
    return (rois.footprints.toarray() > 0).reshape(-1, *rois.frame_shape)


def box(top, left, bottom, right, shape=SHAPE):
    mask = np.zeros(shape, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def polygon(name, points):
    return roifile.ImagejRoi.frompoints(np.asarray(points, np.float32), name=name)


SQUARE = [(2, 3), (8, 3), (8, 7), (2, 7)]  # (x, y)


@pytest.fixture
def written(tmp_path):
    """Write ROIs that roifile encodes as a set."""

    def write(*rois):
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for i, roi in enumerate(rois):
                archive.writestr(f"{i}.roi", roi.tobytes())
        return tmp_path / "set.zip"

    return write


# --- ROI sets of ImageJ ------------------------------------------------------------------------


def test_what_the_roi_manager_gets_from_us_comes_back_with_names_and_order(tmp_path):
    masks = np.array([box(1, 2, 5, 9), box(10, 20, 12, 28), box(3, 3, 9, 6)])
    masks[2, 5, 4] = False  # a hole
    ours = RoiSet.given(masks, ids=["b", "a", "with a hole"])
    write_roi_set(tmp_path / "ours.zip", ours)
    again = read_rois(tmp_path / "ours.zip", frame_shape=SHAPE)
    assert again.ids == ours.ids
    np.testing.assert_array_equal(masks_of(again), masks)
    assert again.accepted.all()


def test_names_that_are_no_file_names_survive_the_way_through_a_roi_set(tmp_path):
    ours = RoiSet.given(
        np.array([box(1, 1, 3, 3), box(5, 5, 7, 7)]), ids=["../day 1/cell", ".._day 1_cell"]
    )
    write_roi_set(tmp_path / "ours.zip", ours)
    with zipfile.ZipFile(tmp_path / "ours.zip") as archive:
        names = archive.namelist()
    assert len(set(names)) == 2
    assert not any("/" in name for name in names)
    assert read_rois(tmp_path / "ours.zip", frame_shape=SHAPE).ids == ours.ids


def test_polygons_rectangles_ovals_freehand_and_traced_areas_have_their_pixels(written):
    freehand, traced = polygon("f", SQUARE), polygon("t", SQUARE)
    freehand.roitype, traced.roitype = roifile.ROI_TYPE.FREEHAND, roifile.ROI_TYPE.TRACED
    rectangle = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, top=3, left=2, bottom=7, right=8, name="r"
    )
    oval = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.OVAL, top=4, left=10, bottom=10, right=20, name="o"
    )
    rois = read_rois(
        written(polygon("p", SQUARE), rectangle, freehand, traced, oval), frame_shape=SHAPE
    )
    assert rois.ids == ("p", "r", "f", "t", "o")
    *squares, round_one = masks_of(rois)
    for square in squares:
        np.testing.assert_array_equal(square, box(3, 2, 7, 8))
    assert round_one.sum() == pytest.approx(np.pi * 3 * 5, rel=0.1)
    assert not (round_one & ~box(4, 10, 10, 20)).any()


def test_fractions_of_a_pixel_decide_which_centres_lie_inside(written):
    just = polygon("just", [(2.4, 3.4), (5.6, 3.4), (5.6, 6.6), (2.4, 6.6)])
    less = polygon("less", [(2.6, 3.6), (5.4, 3.6), (5.4, 6.4), (2.6, 6.4)])
    wide, narrow = masks_of(read_rois(written(just, less), frame_shape=SHAPE))
    np.testing.assert_array_equal(wide, box(3, 2, 7, 6))
    np.testing.assert_array_equal(narrow, box(4, 3, 6, 5))


def roi_bytes(points, *, kind=7, name=""):
    """Encode an ROI by ImageJ's published layout (RoiDecoder.java), big-endian."""
    x, y = np.array(points, np.int16).T
    n = len(points)
    head = bytearray(64)
    struct.pack_into(">4shBxhhhhH", head, 0, b"Iout", 227, kind, y.min(), x.min(), *(0, 0), n)
    struct.pack_into(">hh", head, 12, y.max(), x.max())
    body = struct.pack(f">{2 * n}h", *(x - x.min()), *(y - y.min()))
    if not name:
        return bytes(head) + body
    struct.pack_into(">i", head, 60, 64 + len(body))
    second = bytearray(64)
    struct.pack_into(">ii", second, 16, 64 + len(body) + 64, len(name))
    return bytes(head) + body + bytes(second) + name.encode("utf-16-be")


def test_bytes_of_the_published_layout_are_read(tmp_path):
    (tmp_path / "one.roi").write_bytes(roi_bytes(SQUARE, name="Zelle µ"))
    rois = read_rois(tmp_path / "one.roi", frame_shape=SHAPE)
    assert rois.ids == ("Zelle µ",)
    np.testing.assert_array_equal(masks_of(rois)[0], box(3, 2, 7, 8))


def test_a_roi_without_a_name_takes_that_of_its_file_and_what_macos_adds_is_passed_over(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("cells/", b"")
        archive.writestr("cells/0004-0005.roi", roi_bytes(SQUARE))
        archive.writestr("__MACOSX/cells/._0004-0005.roi", b"no ROI")
        archive.writestr("cells/.DS_Store", b"no ROI")
    assert read_rois(tmp_path / "set.zip", frame_shape=SHAPE).ids == ("0004-0005",)


def test_names_that_are_there_twice_or_mean_something_else_are_told_apart(written):
    names = ("cell", "cell", " cell\n", "time_s", "")
    with pytest.warns(UserWarning, match="'cell' is called 'cell_2'"):
        rois = read_rois(written(*(polygon(name, SQUARE) for name in names)), frame_shape=SHAPE)
    assert rois.ids == ("cell", "cell_2", "cell_3", "time_s_2", "4")


def test_what_has_no_area_stays_and_says_so(written):
    point, line, arrow = (polygon(name, SQUARE) for name in ("mark", "path", "way"))
    point.roitype, line.roitype = roifile.ROI_TYPE.POINT, roifile.ROI_TYPE.FREELINE
    arrow.subtype = roifile.ROI_SUBTYPE.ARROW
    rois = read_rois(written(polygon("cell", SQUARE), point, line, arrow), frame_shape=SHAPE)
    assert rois.ids == ("cell", "mark", "path", "way")
    assert rois.accepted.tolist() == [True, False, False, False]
    assert rois.reasons == (
        "",
        "is a point, which has no area",
        "is a freeline, which has no area",
        "is an arrow, which has no area",
    )


def test_one_beyond_the_frame_stays_and_a_set_that_lies_beyond_it_is_refused(written):
    far = polygon("far", np.add(SQUARE, 40))
    rois = read_rois(written(far, polygon("cell", SQUARE)), frame_shape=SHAPE)
    assert rois.accepted.tolist() == [False, True]
    assert rois.reasons[0] == "has no pixel in the frame"
    with pytest.raises(ResultError, match=r"No ROI of .* 20 x 30 .*another recording"):
        read_rois(written(far), frame_shape=SHAPE)


def test_one_that_crosses_the_border_keeps_what_is_inside(written):
    rois = read_rois(written(polygon("cell", np.add(SQUARE, (24, 15)))), frame_shape=SHAPE)
    np.testing.assert_array_equal(masks_of(rois)[0], box(18, 26, 20, 30))


@pytest.mark.parametrize(
    "path",
    [
        [1, 2, 2],  # a line from nowhere
        [0, 1],  # cut
        [0, np.nan, 1, 1, 2, 2, 1, 3, 3, 4],
        [0, 1e30, 1, 1, 2, 2, 1, 3, 3, 4],
        [np.inf, 1, 1],
    ],
)
def test_a_damaged_composite_is_named(written, path):
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="torn")
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    with pytest.raises(ResultError, match=r"ROI torn of .* is damaged"):
        read_rois(written(roi), frame_shape=SHAPE)


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.roi", bytes(10**8))
    with pytest.raises(ResultError, match="would unpack to 300 MB"):
        read_rois(tmp_path / "bomb.zip", frame_shape=SHAPE)


@pytest.mark.parametrize("name", ["bad.zip", "bad.roi"])
def test_bytes_that_are_no_roi_set_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind" * 9)
    with pytest.raises(ResultError, match="cannot be read as an ROI set"):
        read_rois(tmp_path / name, frame_shape=SHAPE)


# --- Pictures, results, arrays -----------------------------------------------------------------


def test_labels_are_numbered_by_their_value(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[1:3, 1:4], labels[8:10, 20:25] = 12, 3
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    rois = read_rois(tmp_path / "labels.tif", frame_shape=SHAPE)
    assert rois.ids == ("roi_0003", "roi_0012")
    np.testing.assert_array_equal(masks_of(rois), [labels == 3, labels == 12])


def test_a_picture_of_one_label_is_one_roi_and_a_mask_is_refused(tmp_path):
    mask = box(1, 1, 4, 4)
    tifffile.imwrite(tmp_path / "one.tif", mask.astype(np.uint8))
    assert read_rois(tmp_path / "one.tif", frame_shape=SHAPE).ids == ("roi_0001",)
    for values in (mask.astype(np.uint8) * np.uint8(255), mask.astype(np.uint16) * 65535):
        tifffile.imwrite(tmp_path / "mask.tif", values.astype(values.dtype))
        with pytest.raises(ResultError, match="is a mask"):
            read_rois(tmp_path / "mask.tif", frame_shape=SHAPE)


def test_a_result_gives_its_ids_weights_and_decisions(tmp_path):
    result = make_result()
    rois = read_rois(save_result(result, tmp_path / "r"), frame_shape=(40, 56))
    assert rois.ids == result.rois.ids
    np.testing.assert_array_equal(rois.accepted, result.rois.accepted)
    np.testing.assert_array_equal(rois.footprints.toarray(), result.rois.footprints.toarray())


def test_an_npz_gives_weights_from_half_of_their_maximum_and_what_it_ignores(tmp_path):
    footprints = np.zeros((2, *SHAPE))
    footprints[0, 2, 2:5] = 0.8, 2.0, 1.5
    footprints[1, 9, 9] = 1
    arrays = {"footprints": footprints, "ignore": np.array([False, True])}
    rois = read_rois(save_npz_atomic(tmp_path / "t.npz", arrays), frame_shape=SHAPE)
    assert rois.footprints.toarray()[0, 62:65].tolist() == [0, 1, 0.75]
    assert rois.accepted.tolist() == [True, False]
    assert rois.reasons == ("", "is ignored in the file")


@pytest.mark.parametrize("kind", ["labels.tif", "result", "arrays.npz"])
def test_rois_of_another_frame_size_are_refused_with_both_sizes(tmp_path, kind):
    path = tmp_path / kind
    if kind == "labels.tif":
        tifffile.imwrite(path, np.eye(40, 56, dtype=np.uint16))
    elif kind == "result":
        save_result(make_result(), path)
    else:
        save_npz_atomic(path, {"footprints": np.ones((1, 40, 56))})
    with pytest.raises(ResultError, match=r"has 40 x 56 .*, the recording 20 x 30"):
        read_rois(path, frame_shape=SHAPE)


def test_a_file_without_any_roi_is_refused(tmp_path):
    write_roi_set(tmp_path / "none.zip", RoiSet.empty(SHAPE))
    tifffile.imwrite(tmp_path / "none.tif", np.zeros(SHAPE, np.uint16))
    save_npz_atomic(tmp_path / "mask.npz", {"mask": np.ones(SHAPE)})
    for name in ("none.zip", "none.tif"):
        with pytest.raises(ResultError, match="holds no ROI"):
            read_rois(tmp_path / name, frame_shape=SHAPE)
    with pytest.raises(ResultError, match="a mask only"):
        read_rois(tmp_path / "mask.npz", frame_shape=SHAPE)
    with pytest.raises(ResultError, match="does not exist"):
        read_rois(tmp_path / "absent.zip", frame_shape=SHAPE)
