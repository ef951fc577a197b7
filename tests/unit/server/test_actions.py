"""Areas that a person draws, as pixels; footprints changed and parted by them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocuyo.core import RoiSet, SettingsError
from cocuyo.core.curation import check_edit, curate
from cocuyo.server.actions import Outline, Stroke, make_edit, parse_action, rasterise

SHAPE = (20, 30)


def mask(index):
    image = np.zeros(SHAPE, np.bool_)
    image.ravel()[index] = True
    return image


def state_after(rois, *actions):
    edits = []
    for action in actions:
        state = curate(rois, edits)
        edit = make_edit(parse_action(action), edits, state, rois)
        check_edit(rois, edits, edit)
        edits.append(edit)
    return curate(rois, edits)


@pytest.fixture
def rois():
    weights = np.zeros((2, *SHAPE), np.float32)
    weights[0, 5:15, 5:10] = 0.5
    weights[0, 8, 7] = 1
    weights[1, 3:6, 20:24] = 1
    return RoiSet.given(weights)


def pixels(state, name):
    y, x, weight = state.rois.pixels(state.rois.ids.index(name))
    return {(int(a), int(b)): float(w) for a, b, w in zip(y, x, weight, strict=True)}


coordinate = st.floats(-5, 35, allow_nan=False)


@given(
    points=st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=6),
    radius=st.floats(0.3, 6),
)
def test_a_stroke_covers_what_lies_within_its_radius_of_its_way(points, radius):
    covered = mask(rasterise(Stroke(points=tuple(points), radius_px=radius), SHAPE))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    way = [
        (a + (c - a) * t, b + (d - b) * t)
        for (a, b), (c, d) in zip(points[:1] + points[:-1], points, strict=True)
        for t in np.linspace(0, 1, 300)
    ]
    nearest = np.min([np.hypot(y - a, x - b) for a, b in way], axis=0)
    assert covered[nearest < radius - 0.15].all()
    assert not covered[nearest > radius + 0.15].any()


def test_an_outline_covers_the_pixels_whose_centres_it_encloses():
    square = Outline(points=((1.5, 2.5), (1.5, 5.5), (3.5, 5.5), (3.5, 2.5)))
    assert np.argwhere(mask(rasterise(square, SHAPE))).tolist() == [
        [2, 3], [2, 4], [2, 5], [3, 3], [3, 4], [3, 5],
    ]  # fmt: skip


def test_adding_keeps_the_weights_that_are_there(rois):
    area = {"kind": "stroke", "points": [[10, 10]], "radius_px": 1}
    before = pixels(curate(rois, []), "roi_0001")
    after = pixels(state_after(rois, {"do": "add", "roi": "roi_0001", "area": area}), "roi_0001")
    assert after.items() >= before.items()
    assert set(after) - set(before) == {(9, 10), (11, 10), (10, 10), (10, 11)} - set(before)


def test_erasing_takes_the_area_away_and_nothing_else(rois):
    area = {"kind": "polygon", "points": [[4.5, 4.5], [4.5, 10.5], [6.5, 10.5], [6.5, 4.5]]}
    before = pixels(curate(rois, []), "roi_0001")
    after = pixels(state_after(rois, {"do": "erase", "roi": "roi_0001", "area": area}), "roi_0001")
    assert set(before) - set(after) == {(y, x) for y in (5, 6) for x in range(5, 10)}
    assert before.items() >= after.items()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (
            {"do": "erase", "area": {"kind": "stroke", "points": [[10, 7]], "radius_px": 40}},
            "delete",
        ),
        (
            {"do": "erase", "area": {"kind": "stroke", "points": [[0, 0]], "radius_px": 1}},
            "nothing",
        ),
        ({"do": "add", "area": {"kind": "stroke", "points": [[10, 7]], "radius_px": 1}}, "nothing"),
        ({"do": "split", "line": [[0, 25], [19, 25]]}, "part"),
    ],
)
def test_what_changes_nothing_or_leaves_nothing_is_refused(rois, action, words):
    with pytest.raises(SettingsError, match=words):
        state_after(rois, {"roi": "roi_0001", **action})


@given(
    a=st.tuples(st.floats(4, 15), st.floats(-1, 4)),
    b=st.tuples(st.floats(4, 15), st.floats(11, 15)),
)
def test_a_line_through_an_roi_parts_its_pixels_among_two(a, b):
    weights = np.zeros((1, *SHAPE), np.float32)
    weights[0, 2:18, 5:10] = 1
    whole = RoiSet.given(weights)
    state = state_after(whole, {"do": "split", "roi": "roi_0001", "line": [a, b]})
    one, other = (pixels(state, name) for name in ("roi_0002", "roi_0003"))
    assert not set(one) & set(other)
    assert set(one) | set(other) == set(pixels(curate(whole, []), "roi_0001"))

    def above(y, x):
        return y - (a[0] + (b[0] - a[0]) * (x - a[1]) / (b[1] - a[1]))

    upper, lower = sorted((one, other), key=min)
    assert max(above(*p) for p in upper) < 1
    assert min(above(*p) for p in lower) > -1


def test_without_a_line_an_roi_is_parted_across_its_longer_axis(rois):
    state = state_after(rois, {"do": "split", "roi": "roi_0001"})
    parts = [pixels(state, name) for name in ("roi_0003", "roi_0004")]
    assert sorted(len(part) for part in parts) == [25, 25]
    assert {max(y for y, _ in part) for part in parts} == {9, 14}


def test_new_names_were_never_used(rois):
    draw = {"do": "draw", "area": {"kind": "stroke", "points": [[10, 25]], "radius_px": 2}}
    state = state_after(
        rois, draw, {"do": "undo"}, draw, {"do": "delete", "rois": ["roi_0004"]}, draw
    )
    assert state.rois.ids == ("roi_0001", "roi_0002", "roi_0005")
