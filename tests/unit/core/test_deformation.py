"""Displacements on a coarse grid: interpolated, cut, joined, seen from elsewhere."""

import numpy as np
import pytest

from cocuyo.core import Deformation, Motion
from cocuyo.core.deformation import join_deformations, spread

Y, X = np.linspace(0, 79, 4, dtype=np.float32), np.linspace(0, 99, 5, dtype=np.float32)


def made(frames=(5, 15, 25), seed=0, y=Y):
    grid = np.random.default_rng(seed).standard_normal((len(frames), len(y), len(X), 2))
    return Deformation(np.array(frames, np.int32), grid.astype(np.float32), y, X)


def test_at_a_knot_the_nodes_have_its_values_and_between_two_their_mean():
    one = made()
    np.testing.assert_array_equal(one.at(np.array([15]))[0], one.grid[1])
    np.testing.assert_allclose(one.at(np.array([10]))[0], one.grid[:2].mean(axis=0), atol=1e-6)


def test_before_the_first_knot_and_after_the_last_it_is_held():
    one = made()
    np.testing.assert_array_equal(one.at(np.array([0, 99])), one.grid[[0, -1]])


def test_at_a_node_it_is_the_nodes_and_a_plane_stays_a_plane():
    one = made()
    np.testing.assert_allclose(one.fields([15], Y, X)[0].transpose(1, 2, 0), one.grid[1], atol=1e-5)
    places = np.array([0, 3.3, 40, 71.5, 79], np.float32)
    np.testing.assert_allclose(spread(Y, places) @ Y, places, atol=1e-4)


def test_beyond_the_outermost_nodes_theirs_are_taken():
    weights = spread(Y, np.array([-9, 95], np.float32))
    np.testing.assert_allclose(weights, [[1, 0, 0, 0], [0, 0, 0, 1]], atol=1e-6)


def test_one_node_and_two_are_enough():
    assert (spread(np.array([40.0]), np.arange(3)) == 1).all()
    np.testing.assert_allclose(spread(np.array([0.0, 10.0]), np.array([2.5])), [[0.75, 0.25]])


def test_points_and_fields_tell_the_same():
    one = made()
    y, x = np.array([3, 60], np.float32), np.array([17, 90.5], np.float32)
    points = one.displacements([7, 20], y, x)
    fields = one.fields([7, 20], y, x)
    np.testing.assert_allclose(points[1], fields[:, :, 1, 1], atol=1e-6)


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (7, 22), (15, 16), (26, 40)])
def test_frames_that_were_cut_out_move_as_before(start, stop):
    one = made()
    frames = np.arange(start, stop)
    np.testing.assert_array_equal(one.cut(start, stop).at(frames - start), one.at(frames))


def test_nothing_crosses_the_border_between_two_stretches():
    one, two = made(), made(frames=(3, 9), seed=1)
    joined = join_deformations([one, None, two], [30, 10, 12])
    np.testing.assert_allclose(joined.at(np.arange(30)), one.at(np.arange(30)), atol=1e-6)
    assert not joined.at(np.arange(30, 40)).any()
    np.testing.assert_allclose(joined.at(np.arange(40, 52)), two.at(np.arange(12)), atol=1e-6)


def test_stretches_without_any_have_none_together():
    assert join_deformations([None, None], [3, 4]) is None


def test_other_nodes_cannot_be_joined():
    with pytest.raises(ValueError, match="different nodes"):
        join_deformations([made(), made(y=Y + 1)], [30, 30])


def test_a_window_has_the_displacements_of_its_place():
    one = made()
    y, x = np.arange(20, 40, dtype=np.float32), np.arange(30, 60, dtype=np.float32)
    np.testing.assert_allclose(
        one.window(20, 30).fields([12], y - 20, x - 30), one.fields([12], y, x), atol=1e-5
    )


def test_seen_from_a_field_that_lies_elsewhere_the_tissue_moves_the_same():
    one = made()
    moved = one.moved((float(Y[1]), float(-X[1])))
    np.testing.assert_allclose(moved.grid[:, 0, 1], one.grid[:, 1, 0], atol=1e-5)


def test_motion_cut_and_joined_is_what_it_was():
    motion = Motion(
        np.arange(80, dtype=np.float32).reshape(40, 2),
        np.ones(40, np.float32),
        np.zeros(40, np.uint8),
        made(),
    )
    again = Motion.join([motion.cut(0, 13), motion.cut(13, 13), motion.cut(13, 40)])
    np.testing.assert_array_equal(again.shifts, motion.shifts)
    every = np.arange(40)
    np.testing.assert_allclose(
        again.deformation.at(every), motion.deformation.at(every), rtol=0, atol=1e-6
    )
