"""Sets of ROIs: labels, masks, and who gets a shared pixel."""

import numpy as np
import pytest
from scipy import sparse

from cocuyo.core import RoiSet, SettingsError


def roi_set(rows, *, shape=(4, 6), accepted=None):
    """Make a set from one {flat pixel: weight} for each ROI."""
    n = len(rows)
    matrix = np.zeros((n, shape[0] * shape[1]), np.float32)
    for i, weights in enumerate(rows):
        for pixel, weight in weights.items():
            matrix[i, pixel] = weight
    kept = np.ones(n, np.bool_) if accepted is None else np.asarray(accepted, np.bool_)
    return RoiSet(
        sparse.csr_array(matrix),
        shape,
        tuple(f"roi_{i + 1:04d}" for i in range(n)),
        kept,
        tuple("" if k else "no" for k in kept),
        np.ones(n, np.float32),
        np.ones(n, np.float32),
    )


def test_an_empty_set_has_empty_everything():
    rois = RoiSet.empty((4, 6))
    assert len(rois) == 0
    assert rois.mask().shape == rois.label_image().shape == (4, 6)
    assert not rois.mask().any()
    assert not rois.label_image().any()
    assert rois.centroids.shape == (0, 2)
    assert rois.area_px.shape == rois.labels.shape == (0,)


def test_labels_count_the_accepted_ones_without_gaps():
    rois = roi_set([{0: 1.0}, {1: 1.0}, {2: 1.0}], accepted=[True, False, True])
    assert rois.labels.tolist() == [1, 0, 2]
    assert rois.label_image().ravel()[:4].tolist() == [1, 0, 2, 0]
    assert rois.mask().ravel()[:4].tolist() == [True, False, True, False]


def test_a_shared_pixel_goes_to_the_larger_weight_whatever_the_order():
    light, heavy = {0: 1.0, 1: 0.4}, {1: 0.9, 2: 1.0}
    assert roi_set([light, heavy]).label_image().ravel()[:3].tolist() == [1, 2, 2]
    assert roi_set([heavy, light]).label_image().ravel()[:3].tolist() == [2, 1, 1]


def test_every_accepted_roi_keeps_a_pixel_even_below_a_heavier_one():
    over, under = {0: 1.0, 1: 0.9, 2: 0.9}, {1: 0.5, 2: 0.2}
    image = roi_set([over, under]).label_image().ravel()
    assert image[:3].tolist() == [1, 2, 1]


def test_a_rejected_roi_takes_no_pixel_from_an_accepted_one():
    rois = roi_set([{0: 1.0, 1: 1.0}, {0: 0.1, 1: 0.1}], accepted=[False, True])
    assert rois.label_image().ravel()[:2].tolist() == [1, 1]


def test_areas_and_centroids_follow_pixels_and_weights():
    rois = roi_set([{0: 1.0, 1: 1.0}, {7: 1.0, 9: 0.5}])
    assert rois.area_px.tolist() == [2, 2]
    np.testing.assert_allclose(rois.centroids[0], [0.0, 0.5])
    np.testing.assert_allclose(rois.centroids[1], [1.0, (1 + 3 * 0.5) / 1.5], rtol=1e-6)


def test_the_pixels_of_a_roi_are_rows_columns_and_weights():
    rows, columns, weights = roi_set([{0: 1.0}, {7: 1.0, 9: 0.5}]).pixels(1)
    assert rows.tolist() == [1, 1]
    assert columns.tolist() == [1, 3]
    assert weights.tolist() == pytest.approx([1.0, 0.5])


def test_given_masks_become_rois_in_their_order():
    masks = np.zeros((2, 3, 4), np.bool_)
    masks[0, 1, 1:3] = masks[1, 2, 0] = True
    rois = RoiSet.given(masks, ids=["left", "right"])
    np.testing.assert_array_equal(rois.footprints.toarray().reshape(masks.shape), masks)
    assert rois.ids == ("left", "right")
    assert rois.accepted.all()
    assert rois.frame_shape == (3, 4)
    assert np.isnan(rois.score).all()


def test_given_weights_keep_their_proportions_below_a_largest_of_one():
    rois = RoiSet.given(np.array([[[0, 2.0, 4.0]], [[3.0, 0, 0]]]))
    assert rois.footprints.toarray().tolist() == [[0, 0.5, 1], [1, 0, 0]]


def test_a_given_roi_without_pixels_stays_rejected_with_a_reason_and_lies_nowhere():
    masks = np.ones((3, 2, 2))
    masks[1:] = 0
    rois = RoiSet.given(masks, reasons=["", "", "is a point"])
    assert rois.accepted.tolist() == [True, False, False]
    assert rois.reasons == ("", "has no pixel in the frame", "is a point")
    assert rois.centroids[0].tolist() == [0.5, 0.5]
    assert np.isnan(rois.centroids[1:]).all()
    assert rois.label_image().tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("footprints", "given", "message"),
    [
        (np.ones((2, 3)), {}, r"\(n_rois, Y, X\)"),
        (np.full((1, 2, 2), np.nan), {}, "not finite"),
        (np.full((1, 2, 2), -1.0), {}, "negative"),
        (sparse.csr_array(np.ones((1, 6))), {"frame_shape": (2, 2)}, "6 pixels"),
        (np.ones((2, 2, 2)), {"ids": ["a", "a"]}, "different ids"),
        (np.ones((2, 2, 2)), {"accepted": np.ones(3, np.bool_)}, "each of 2 ROIs"),
    ],
)
def test_given_rois_that_contradict_themselves_are_refused(footprints, given, message):
    with pytest.raises(SettingsError, match=message):
        RoiSet.given(footprints, **given)
