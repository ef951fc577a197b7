"""Cells come back the same from every kind of file that states them."""

import dataclasses

import cv2
import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from synthetic_result import make_result

from cocuyo.core import ResultError, RoiSet, outline
from cocuyo.io import load_ground_truth, save_npz_atomic, save_result
from cocuyo.io.imagej import read_roi_set, write_roi_set


def masks_of(regions):
    return (regions.footprints.toarray() != 0).reshape(-1, *regions.frame_shape)


def roi_set(masks):
    masks = np.asarray(masks, np.float32)
    n = len(masks)
    return RoiSet(
        sparse.csr_array(masks.reshape(n, -1)),
        masks.shape[1:],
        tuple(f"roi_{i:04d}" for i in range(n)),
        np.ones(n, np.bool_),
        ("",) * n,
        np.ones(n, np.float32),
        np.ones(n, np.float32),
    )


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 12))))
def test_any_mask_survives_the_way_through_an_imagej_roi_set(tmp_path_factory, mask):
    if not mask.any():
        return
    path = tmp_path_factory.mktemp("rois") / "rois.zip"
    write_roi_set(path, roi_set([mask, ~mask] if not mask.all() else [mask]))
    names, masks = read_roi_set(path, mask.shape)
    assert names[0] == "roi_0000"
    np.testing.assert_array_equal(masks[0], mask)
    if not mask.all():
        np.testing.assert_array_equal(masks[1], ~mask)


def test_one_pixel_is_outlined_at_its_corners_clockwise():
    mask = np.zeros((3, 4), np.bool_)
    mask[1, 2] = True
    assert outline(mask)[0].tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]


def test_pixels_that_touch_at_a_corner_share_one_outline():
    assert len(outline(np.eye(3, dtype=np.bool_))) == 1
    hook = np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0]], np.bool_)
    assert len(outline(hook)) == 1


def test_a_ring_has_an_outer_and_an_inner_outline_of_opposite_turn():
    mask = np.ones((3, 3), np.bool_)
    mask[1, 1] = False
    areas = []
    for ring in outline(mask):
        x, y = ring.T.astype(float)
        areas.append(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)
    assert sorted(areas) == [-1.0, 9.0]


def test_a_roi_in_one_piece_is_a_traced_polygon_and_one_with_a_hole_a_composite(tmp_path):
    hole = np.ones((5, 5), np.bool_)
    hole[2, 2] = False
    write_roi_set(tmp_path / "r.zip", roi_set([np.ones((5, 5)), hole]))
    whole, ring = roifile.roiread(tmp_path / "r.zip")
    assert whole.roitype == roifile.ROI_TYPE.TRACED
    assert whole.coordinates().tolist() == [[0, 0], [5, 0], [5, 5], [0, 5]]
    assert ring.composite
    assert ring.shape_roi_size == len(ring.multi_coordinates)


def test_rectangles_ovals_and_subpixel_polygons_of_imagej_are_drawn(tmp_path):
    rectangle = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, top=1, left=2, bottom=4, right=7, name="r"
    )
    oval = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.OVAL, top=2, left=3, bottom=12, right=23, name="o"
    )
    drawn = roifile.ImagejRoi.frompoints(
        np.array([[1.2, 1.2], [5.8, 1.2], [5.8, 3.8], [1.2, 3.8]]), name="p"
    )
    roifile.roiwrite(tmp_path / "r.zip", [rectangle, oval, drawn])
    _, (box, ellipse, polygon) = read_roi_set(tmp_path / "r.zip", (15, 30))
    expected = np.zeros((15, 30), np.bool_)
    expected[1:4, 2:7] = True
    np.testing.assert_array_equal(box, expected)
    y, x = np.mgrid[:15, :30] + 0.5
    disc = ((y - 7) / 5) ** 2 + ((x - 13) / 10) ** 2
    assert ellipse[disc < 0.97].all()
    assert not ellipse[disc > 1.03].any()
    expected[:] = False
    expected[1:4, 1:6] = True  # centres at 1.5 to 5.5 and 1.5 to 3.5
    np.testing.assert_array_equal(polygon, expected)


def test_points_and_foreign_rois_are_refused_by_name(tmp_path):
    point = roifile.ImagejRoi.frompoints(np.array([[1, 1]]), name="mark")
    point.roitype = roifile.ROI_TYPE.POINT
    roifile.roiwrite(tmp_path / "p.zip", [point])
    with pytest.raises(ResultError, match=r"mark.*has no area"):
        load_ground_truth(tmp_path / "p.zip", frame_shape=(9, 9))
    write_roi_set(tmp_path / "far.zip", roi_set([np.eye(9)[::-1] * 0 + np.pad([[1]], (8, 0))]))
    with pytest.raises(ResultError, match="another recording"):
        load_ground_truth(tmp_path / "far.zip", frame_shape=(5, 5))
    with pytest.raises(ResultError, match="how large"):
        load_ground_truth(tmp_path / "far.zip")
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(ResultError, match="cannot be read"):
        load_ground_truth(tmp_path / "bad.zip", frame_shape=(5, 5))


def test_a_result_folder_gives_its_rois_and_ignores_the_rejected_ones(tmp_path):
    result = make_result()
    regions = load_ground_truth(save_result(result, tmp_path / "r"), frame_shape=(40, 56))
    np.testing.assert_array_equal(regions.ignored, ~result.rois.accepted)
    np.testing.assert_array_equal(regions.union(), result.rois.mask())
    np.testing.assert_array_equal(regions.traces, result.traces.delta_f_over_f)
    np.testing.assert_allclose(regions.events.first_s, result.times_s[result.events.onset])
    assert regions.frame_rate_hz == 10.0


def test_its_label_picture_and_roi_set_give_the_same_cells(tmp_path):
    result = make_result(n_rois=3, seed=8)
    folder = save_result(result, tmp_path / "r")
    accepted = (result.rois.footprints.toarray() != 0).reshape(-1, 40, 56)
    assert accepted.sum(axis=0).max() == 1  # no overlap, which labels cannot hold
    np.testing.assert_array_equal(masks_of(load_ground_truth(folder / "labels.tif")), accepted)
    np.testing.assert_array_equal(
        masks_of(load_ground_truth(folder / "rois.zip", frame_shape=(40, 56))), accepted
    )
    mask = load_ground_truth(folder / "mask.tif")
    assert mask.footprints is None
    np.testing.assert_array_equal(mask.union(), accepted.any(axis=0))


def truth_arrays():
    footprints = np.zeros((2, 6, 9), np.float32)
    footprints[0, 1, 1:5] = [0.4, 1.0, 2.0, 0.99]
    footprints[1, 4, 3:6] = 7.0
    spikes = np.zeros((2, 20), np.uint16)
    spikes[1, 4] = 2
    return {
        "footprints": footprints,
        "traces": np.ones((2, 20)),
        "raster": np.zeros((2, 20), np.uint8),
        "spikes": spikes,
        "events": np.array([[1, 0.4, 0.4]]),
        "fps": 10.0,
        "ignore": np.array([True, False]),
        "something_else": np.zeros(3),
    }


def test_an_npz_gives_footprints_cut_at_half_of_their_maximum(tmp_path):
    regions = load_ground_truth(save_npz_atomic(tmp_path / "t.npz", truth_arrays()))
    masks = masks_of(regions)
    assert list(zip(*np.nonzero(masks[0]), strict=True)) == [(1, 2), (1, 3)]
    assert masks[1].sum() == 3
    assert regions.spikes.roi.tolist() == [1, 1]
    assert regions.spikes.first_s.tolist() == [0.4, 0.4]
    assert regions.events.last_s.tolist() == [0.4]
    assert regions.ignored.tolist() == [True, False]
    assert regions.raster.dtype == np.bool_


def test_spikes_may_be_rows_of_cell_and_second(tmp_path):
    arrays = {**truth_arrays(), "spikes": np.array([[0, 0.1], [1, 0.25]])}
    regions = load_ground_truth(save_npz_atomic(tmp_path / "t.npz", arrays))
    assert regions.spikes.first_s.tolist() == [0.1, 0.25]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"footprints": None}, "needs footprints"),
        ({"footprints": np.ones((6, 9))}, r"axes \(n, Y, X\)"),
        ({"footprints": np.zeros((2, 6, 9))}, "Footprint 0"),
        ({"traces": np.ones((3, 20))}, r"needs \(2, n_frames\)"),
        ({"events": np.array([[2, 0.1, 0.2]])}, "outside 0 to 1"),
        ({"events": np.array([[0, 0.3, 0.2]])}, "ends before"),
        ({"fps": 0.0}, "positive"),
        ({"fps": None}, "needs fps"),
        ({"ignore": np.ones(3)}, "3 rows for 2 cells"),
    ],
)
def test_an_npz_that_contradicts_itself_is_refused(tmp_path, change, message):
    arrays = {k: v for k, v in {**truth_arrays(), **change}.items() if v is not None}
    with pytest.raises(ResultError, match=message):
        load_ground_truth(save_npz_atomic(tmp_path / "t.npz", arrays))


def test_pickled_arrays_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="Python objects"):
        save_npz_atomic(tmp_path / "t.npz", {"footprints": np.array([{}], dtype=object)})
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "t.npz", footprints=np.array([{}], dtype=object))
    with pytest.raises(ResultError, match="cannot be read"):
        load_ground_truth(tmp_path / "t.npz")


def test_a_failed_npz_leaves_the_previous_one(tmp_path, monkeypatch):
    path = save_npz_atomic(tmp_path / "t.npz", {"a": np.arange(3)})

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="No space"):
        save_npz_atomic(path, {"a": np.arange(5)})
    assert [p.name for p in tmp_path.iterdir()] == ["t.npz"]
    assert np.load(path)["a"].size == 3


def write_png(path, image):
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


def test_pictures_are_labels_unless_they_have_one_value(tmp_path):
    labels = np.zeros((7, 5), np.uint8)
    labels[1, 1], labels[3:5, 2] = 1, 9
    regions = load_ground_truth(write_png(tmp_path / "l.png", labels))
    assert [m.sum() for m in masks_of(regions)] == [1, 2]
    mask = load_ground_truth(write_png(tmp_path / "m.png", (labels > 0).astype(np.uint8) * 255))
    assert mask.footprints is None
    assert mask.union().sum() == 3
    colour = np.dstack([labels > 0] * 3).astype(np.uint8) * 255
    assert load_ground_truth(write_png(tmp_path / "c.png", colour)).union().sum() == 3
    tifffile.imwrite(tmp_path / "one.tif", (labels == 1).astype(np.uint16))
    assert load_ground_truth(tmp_path / "one.tif").n_rois == 1


def test_pictures_that_state_no_cells_are_refused(tmp_path):
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[0, 0] = (1, 2, 3)
    with pytest.raises(ResultError, match="in colour"):
        load_ground_truth(write_png(tmp_path / "c.png", colour))
    tifffile.imwrite(tmp_path / "p.tif", np.full((4, 4), 0.3, np.float32))
    with pytest.raises(ResultError, match="fractions"):
        load_ground_truth(tmp_path / "p.tif")
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((5, 9, 8), np.uint8))
    with pytest.raises(ResultError, match="single picture"):
        load_ground_truth(tmp_path / "s.tif")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ResultError, match="cannot be read"):
        load_ground_truth(tmp_path / "bad.png")
    (tmp_path / "bad.tif").write_bytes(b"no picture")
    with pytest.raises(ResultError, match="cannot be read"):
        load_ground_truth(tmp_path / "bad.tif")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ResultError, match="no kind"):
        load_ground_truth(tmp_path / "notes.txt")
    with pytest.raises(ResultError, match="does not exist"):
        load_ground_truth(tmp_path / "absent.npz")
    write_png(tmp_path / "m.png", np.full((4, 5), 255, np.uint8))
    with pytest.raises(ResultError, match=r"4 x 5 .*the recording 5 x 4"):
        load_ground_truth(tmp_path / "m.png", frame_shape=(5, 4))


def test_rejected_candidates_are_not_in_the_roi_set(tmp_path):
    rois = make_result().rois
    write_roi_set(tmp_path / "r.zip", rois)
    names, _ = read_roi_set(tmp_path / "r.zip", rois.frame_shape)
    assert len(names) == rois.accepted.sum()
    none = dataclasses.replace(rois, accepted=np.zeros(len(rois), np.bool_))
    write_roi_set(tmp_path / "n.zip", none)
    assert load_ground_truth(tmp_path / "n.zip", frame_shape=rois.frame_shape).n_rois == 0
