"""What the outline network is shown, and the outline that its answer becomes."""

from dataclasses import replace

import numpy as np
import pytest
from flashing_movie import disc

from cocuyo.postprocessing import (
    CHANNELS,
    VIEW_SIDE,
    CandidateImage,
    Scene,
    cut_patches,
    from_view,
    redraw,
    to_view,
    typical_diameter,
    view_candidates,
)
from cocuyo.postprocessing.views import PIXELS_PER_DIAMETER

DIAMETER = 8.0
SHAPE = (50, 60)
FIRST, SECOND = (24, 26), (24, 36)


def candidate(point, *, diameter=DIAMETER, peak=30.0, noise=1.0, radius=None):
    """A disc, as drawn at half maximum, and its square."""
    patches = cut_patches(np.array([point]), diameter_px=diameter, frame_shape=SHAPE)
    soma = disc(point, radius or diameter / 2, SHAPE)
    image = soma.ravel()[patches.index[0]].reshape(patches.side, patches.side).astype(np.float32)
    mask = (image > 0.5) & patches.inside[0]
    pixels = patches.index[0].reshape(mask.shape)[mask]
    drawn = CandidateImage(pixels, image[mask], peak, noise, image, mask)
    return drawn, patches.index[0], patches.inside[0]


def views_of(points, courses, *, scene=None):
    images, index, inside = zip(*[candidate(p) for p in points], strict=True)
    weights = np.asarray(courses, np.float32)
    weights = weights - weights.mean(axis=1, keepdims=True)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return view_candidates(
        list(images),
        scene=scene or Scene(*(np.zeros(SHAPE, np.float32) for _ in range(3)), DIAMETER),
        index=np.stack(index),
        inside=np.stack(inside),
        weights=weights,
        diameter_px=DIAMETER,
    )


def channel(views, name):
    return views[:, CHANNELS.index(name)]


APART = np.eye(2, 40)
TOGETHER = np.ones((2, 1)) * np.eye(1, 40)


@pytest.mark.parametrize("diameter", [5.0, 8.0, 24.0])
def test_a_soma_has_one_size_in_a_view_whatever_the_magnification(diameter):
    side = 2 * int(np.ceil(1.9 * diameter)) + 1
    soma = disc((side // 2, side // 2), diameter / 2, (side, side)).astype(np.float32)
    seen = to_view(soma, diameter_px=diameter)
    width = 2 * np.sqrt((seen > 0.5).sum() / np.pi)
    assert width == pytest.approx(PIXELS_PER_DIAMETER, rel=0.12)


@pytest.mark.parametrize("diameter", [5.0, 8.0, 24.0])
def test_a_view_comes_back_to_where_it_was(diameter):
    side = 2 * int(np.ceil(1.9 * diameter)) + 1
    middle = side // 2
    soma = disc((middle + 1, middle - 1), diameter / 2, (side, side)).astype(np.float32)
    back = from_view(to_view(soma, diameter_px=diameter), side=side, diameter_px=diameter)
    shared = ((back > 0.5) & (soma > 0.5)).sum() / ((back > 0.5) | (soma > 0.5)).sum()
    assert shared > 0.85


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_square_gives_a_mirrored_view(axis):
    square = np.random.default_rng(0).random((31, 31), np.float32)
    seen = to_view(square, diameter_px=DIAMETER)
    mirrored = to_view(np.flip(square, axis).copy(), diameter_px=DIAMETER)
    np.testing.assert_allclose(np.flip(mirrored, axis), seen, atol=1e-5)


def test_a_view_shows_a_neighbour_that_fires_at_other_times():
    others = channel(views_of([FIRST, SECOND], APART), "others")
    # Ten pixels to the right of the first lies the second, and the other way round.
    shift = round(10 * PIXELS_PER_DIAMETER / DIAMETER)
    assert others[0, VIEW_SIDE // 2, VIEW_SIDE // 2 + shift] > 0.9
    assert others[1, VIEW_SIDE // 2, VIEW_SIDE // 2 - shift] > 0.9
    assert others[0, VIEW_SIDE // 2, VIEW_SIDE // 2] == 0


def test_candidates_that_fire_together_are_not_shown_as_others():
    assert not channel(views_of([FIRST, SECOND], TOGETHER), "others").any()


def test_a_view_shows_the_maps_around_its_candidate():
    maps = np.zeros((3, *SHAPE), np.float32)
    for i, map_ in enumerate(maps):
        map_[:] = np.random.default_rng(i).normal(100, 1, SHAPE) if i == 0 else 0
        map_[disc(FIRST, 4, SHAPE) > 0.5] += (50, 0.8, 12)[i]
    views = views_of([FIRST, SECOND], APART, scene=Scene(*maps, DIAMETER))
    middle = VIEW_SIDE // 2
    for name in ("rest", "probability", "contrast"):
        seen = channel(views, name)
        assert seen[0, middle, middle] > 0.5 > abs(seen[1, middle, middle])


def test_nothing_is_shown_of_what_is_outside_the_frame():
    views = views_of([(2, 30)], APART[:1], scene=Scene(*np.full((3, *SHAPE), 5.0, "f4"), DIAMETER))
    assert not views[0, :, :14].any()
    assert channel(views, "probability")[0, 30:].any()


def test_no_candidates_give_no_views():
    empty = np.zeros((0, 31, 31))
    views = view_candidates(
        [],
        scene=Scene(*np.zeros((3, *SHAPE), "f4"), DIAMETER),
        index=np.zeros((0, 961), np.int32),
        inside=empty.astype(np.bool_),
        weights=np.zeros((0, 40), np.float32),
        diameter_px=DIAMETER,
    )
    assert views.shape == (0, len(CHANNELS), VIEW_SIDE, VIEW_SIDE)


def drawn(probability):
    image, index, inside = candidate(FIRST)
    return image, *redraw(
        image,
        probability.astype(np.float32),
        index=index,
        inside=inside,
        diameter_px=DIAMETER,
    )


def test_the_outline_is_where_the_network_says():
    wanted = disc((VIEW_SIDE // 2, VIEW_SIDE // 2), 12, (VIEW_SIDE, VIEW_SIDE))
    before, image, certainty, agreement = drawn(0.9 * wanted)
    # Radius 12 of 16 pixels per diameter: 6 pixels of the frame, where it was 4.
    assert len(image.pixels) == pytest.approx(np.pi * 36, rel=0.1)
    assert certainty == pytest.approx(0.9, abs=0.1)
    assert agreement == pytest.approx(len(before.pixels) / len(image.pixels), abs=0.02)
    rows, columns = np.divmod(image.pixels, SHAPE[1])
    assert (rows.mean(), columns.mean()) == pytest.approx(FIRST, abs=0.3)
    assert image.weights.max() == 1
    assert (image.weights > 0).all()


def test_of_two_pieces_the_heavier_is_the_outline():
    view = np.zeros((VIEW_SIDE, VIEW_SIDE))
    view[16:32, 14:30] = 0.9
    view[20:24, 40:44] = 0.9
    _, image, _, _ = drawn(view)
    assert image.pixels.max() % SHAPE[1] < FIRST[1] + 6


def test_a_network_that_draws_nothing_leaves_the_outline_at_half_maximum():
    before, image, certainty, agreement = drawn(np.zeros((VIEW_SIDE, VIEW_SIDE)))
    assert image is before
    assert certainty == agreement == 0


def test_an_outline_stays_inside_the_frame():
    image, index, inside = candidate((1, 30))
    everywhere = np.ones((VIEW_SIDE, VIEW_SIDE), np.float32)
    redrawn, _, _ = redraw(image, everywhere, index=index, inside=inside, diameter_px=DIAMETER)
    assert len(np.unique(redrawn.pixels)) == len(redrawn.pixels)
    assert redrawn.mask.sum() == len(redrawn.pixels)
    assert not (redrawn.mask & ~inside).any()


def test_the_clear_candidates_say_how_large_somata_are():
    large = [candidate((25, 30), radius=5.5)[0] for _ in range(9)]
    measured = typical_diameter(large, diameter_px=DIAMETER)
    assert measured == pytest.approx(11, rel=0.06)
    faint = [replace(image, noise=image.peak / 3) for image in large]
    assert typical_diameter(faint, diameter_px=DIAMETER) == DIAMETER
    assert typical_diameter(large[:3], diameter_px=DIAMETER) == DIAMETER


def test_a_diameter_far_from_what_is_told_is_not_believed():
    huge = [candidate((25, 30), radius=12)[0] for _ in range(9)]
    assert typical_diameter(huge, diameter_px=DIAMETER) == pytest.approx(1.6 * DIAMETER)
    small = [candidate((25, 30), radius=2)[0] for _ in range(9)]
    assert typical_diameter(small, diameter_px=DIAMETER) == pytest.approx(0.8 * DIAMETER)
