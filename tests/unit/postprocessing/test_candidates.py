"""Places to look for a neuron, and the cleaning and parting of a mask."""

import numpy as np
import pytest
from flashing_movie import disc
from scipy import ndimage, stats

from cocuyo.postprocessing import (
    CandidateConfig,
    disc_pixels,
    find_seeds,
    refine_mask,
    split_mask,
)

DIAMETER = 8.0
SHAPE = (48, 60)
EVERYWHERE = np.ones(SHAPE, np.bool_)


def maps(*centres, radius=4.0, height=20.0):
    """Probability and contrast of discs; each pixel shows the strongest."""
    cells = np.max([disc(c, radius, SHAPE) for c in centres], axis=0)
    peaks = np.max([np.clip(1 - _away(c) / (radius + 2), 0, 1) for c in centres], axis=0)
    arrays = (cells.astype(np.float32), (height * peaks).astype(np.float32))
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _away(centre):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - centre[0], x - centre[1])


def seeds(
    probability, contrast, valid=EVERYWHERE, soma_contrast=None, n_steps=1, peaks=None, **settings
):
    config = CandidateConfig(**({"min_probability": 0.2, "min_contrast": 7.0} | settings))
    return find_seeds(
        probability,
        contrast,
        diameter_px=DIAMETER,
        valid=valid,
        soma_contrast=soma_contrast,
        n_steps=n_steps,
        peaks=peaks,
        config=config,
    ).points


def sorted_rows(points):
    return sorted(map(tuple, np.asarray(points).tolist()))


def test_each_separate_disc_has_one_seed_in_its_middle():
    centres = [(10, 12), (12, 45), (35, 30)]
    assert sorted_rows(seeds(*maps(*centres))) == centres


@pytest.mark.parametrize("gap", [6, 7, 8, 9])
def test_each_of_two_touching_discs_has_one_seed(gap):
    centres = [(24, 20), (24, 20 + gap)]
    found = sorted_rows(seeds(*maps(*centres)))
    assert len(found) == 2
    assert np.abs(np.subtract(found, centres)).max() <= 1


def test_seeds_closer_than_the_least_distance_become_one():
    both = maps((24, 20), (24, 26))
    assert len(seeds(*both, min_distance_diameters=0.3)) == 2
    assert len(seeds(*both, min_distance_diameters=1.5)) == 1


def test_the_strongest_seed_comes_first():
    probability, contrast = maps((10, 12), (35, 40))
    weaker = np.where(_away((10, 12)) < 10, contrast / 3, contrast)
    assert seeds(probability, weaker).tolist() == [[35, 40], [10, 12]]


@pytest.mark.parametrize("height", [0.5, 10.0, 1e4])
def test_a_plateau_has_one_seed(height):
    plateau = _away((24, 30)) <= 7
    found = seeds(plateau.astype(np.float32), (height * plateau).astype(np.float32))
    assert len(found) == 1
    assert plateau[tuple(found[0])]


@pytest.mark.parametrize("centre", [(0, 30), (47, 30), (24, 0), (24, 59), (0, 0), (47, 59)])
def test_a_cell_at_the_border_has_one_seed(centre):
    assert seeds(*maps(centre)).tolist() == [list(centre)]


def test_empty_maps_have_no_seed():
    nothing = np.zeros(SHAPE, np.float32)
    found = seeds(nothing, nothing)
    assert found.shape == (0, 2)
    assert found.dtype == np.int32


def test_below_both_thresholds_there_is_no_seed():
    probability, contrast = maps((24, 30), height=6.0)
    assert len(seeds(0.15 * probability, contrast)) == 0
    assert len(seeds(0.40 * probability, contrast)) == 1


@pytest.mark.parametrize("certainty", [0.0, 1e-9, 0.1])
def test_contrast_alone_makes_a_seed_whatever_the_network_says(certainty):
    _, contrast = maps((24, 30))
    found = seeds(np.full(SHAPE, certainty, np.float32), contrast)
    assert found.tolist() == [[24, 30]]


def test_the_contrast_of_a_soma_finds_what_no_pixel_shows():
    _, faint = maps((24, 30), height=3.0)
    of_soma = (9 * disc((24, 30), 3, SHAPE, soft=1.0)).astype(np.float32)
    nothing = np.zeros(SHAPE, np.float32)
    assert len(seeds(nothing, faint)) == 0
    assert seeds(nothing, faint, soma_contrast=of_soma).tolist() == [[24, 30]]


def test_noise_passes_the_threshold_as_often_in_recordings_of_any_length():
    config = CandidateConfig()
    expected = 100 * stats.norm.sf(config.min_contrast)
    for n_steps in (150, 500, 2000, 10_000):
        passes = n_steps * stats.norm.sf(config.contrast_threshold(n_steps))
        assert expected / 2.5 < passes < expected * 2.5


@pytest.mark.parametrize("n_steps", [0, 1, 50, 100])
def test_short_recordings_have_the_threshold_of_the_settings(n_steps):
    assert CandidateConfig(min_contrast=4.0).contrast_threshold(n_steps) == 4.0


def test_a_contrast_that_is_enough_in_a_short_recording_is_noise_in_a_long_one():
    _, contrast = maps((24, 30), height=8.0)
    nothing = np.zeros(SHAPE, np.float32)
    assert len(seeds(nothing, contrast, soma_contrast=contrast)) == 1
    assert len(seeds(nothing, contrast, soma_contrast=contrast, n_steps=10**7)) == 0


def test_no_seed_lies_on_an_invalid_pixel():
    valid = EVERYWHERE.copy()
    valid[:, :31] = False
    found = seeds(*maps((24, 30), (10, 50)), valid=valid)
    assert valid[tuple(found.T)].all()
    assert len(found) == 2


def test_where_nothing_is_valid_there_is_no_seed():
    assert len(seeds(*maps((24, 30)), valid=~EVERYWHERE)) == 0


def test_a_disc_lists_the_pixels_within_its_radius():
    pixels, corner = disc_pixels(
        np.array([[20, 30], [0, 0]], np.int32), radius_px=2.5, frame_shape=SHAPE
    )
    y, x = pixels // SHAPE[1], pixels % SHAPE[1]
    assert len(pixels) == (_away((20, 30)) <= 2.5).sum()
    assert np.hypot(y - 20, x - 30).max() <= 2.5
    assert len(corner) == (_away((0, 0)) <= 2.5).sum()


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.9])
def test_the_smallest_disc_is_its_centre(radius):
    (pixels,) = disc_pixels(np.array([[3, 4]], np.int32), radius_px=radius, frame_shape=SHAPE)
    assert pixels.tolist() == [3 * SHAPE[1] + 4]


def test_refining_removes_what_is_smaller_than_a_quarter_of_a_soma():
    small, large = _away((10, 10)) <= 1.5, _away((30, 40)) <= 3
    refined = refine_mask(small | large, diameter_px=DIAMETER)
    assert not (refined & small).any()
    assert (refined & large).sum() == large.sum()


def test_refining_closes_gaps_and_fills_holes():
    cell = _away((24, 30)) <= 6
    broken = cell.copy()
    broken[24] = False
    broken[20, 28:31] = False
    refined = refine_mask(broken, diameter_px=DIAMETER)
    # The ends of the gap stay notched.
    np.testing.assert_array_equal(refined[:, 26:35], cell[:, 26:35])


@pytest.mark.parametrize("centre", [(0, 30), (47, 30), (24, 0), (24, 59), (0, 0), (47, 59)])
def test_refining_keeps_every_pixel_of_a_cell_at_the_border(centre):
    cell = _away(centre) <= 6
    np.testing.assert_array_equal(refine_mask(cell, diameter_px=DIAMETER), cell)


def test_refining_an_empty_mask_gives_an_empty_mask():
    assert not refine_mask(~EVERYWHERE, diameter_px=DIAMETER).any()


@pytest.mark.parametrize(("first", "second"), [(4, 4), (5, 3), (6, 3), (7, 4)])
def test_two_touching_discs_are_parted_where_they_touch(first, second):
    one = _away((24, 18)) <= first
    other = _away((24, 18 + first + second)) <= second
    labels = split_mask(one | other, diameter_px=DIAMETER)
    assert labels.max() == 2
    # All but the one pixel in which they touch.
    assert (labels[one] == labels[24, 18]).sum() >= one.sum() - 1
    assert (labels[other] == labels[24, 18 + first + second]).sum() >= other.sum() - 1


@pytest.mark.parametrize("elongation", [1.0, 1.4, 1.8])
def test_a_single_cell_stays_whole(elongation):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    cell = np.hypot((y - 24) * elongation**0.5, (x - 30) / elongation**0.5) <= 4.3
    labels = split_mask(cell, diameter_px=DIAMETER)
    np.testing.assert_array_equal(labels, cell.astype(np.int32))


def test_a_bar_of_even_width_stays_whole():
    bar = np.zeros(SHAPE, np.bool_)
    bar[20:27, 10:40] = True
    assert split_mask(bar, diameter_px=DIAMETER).max() == 1


def test_the_peaks_of_a_given_strength_are_the_cells():
    blob = np.zeros(SHAPE, np.bool_)
    blob[18:30, 15:45] = True
    strength = (disc((24, 22), 4, SHAPE, soft=2) + disc((24, 37), 4, SHAPE, soft=2)).astype("f4")
    labels = split_mask(blob, diameter_px=DIAMETER, strength=strength)
    assert labels.max() == 2
    assert (labels[blob] == labels[24, 22]).sum() == pytest.approx(blob.sum() / 2, rel=0.1)


def test_separate_regions_never_share_a_label():
    # Of very different sizes: a flood by differences would cross the background.
    mask = (_away((24, 20)) <= 12) | (_away((24, 40)) <= 2) | (_away((5, 50)) <= 4)
    labels = split_mask(mask, diameter_px=DIAMETER)
    regions, _ = ndimage.label(mask)
    owners = {(int(a), int(b)) for a, b in zip(labels[mask], regions[mask], strict=True)}
    assert len(owners) == labels.max()


@pytest.mark.parametrize("value", [0.0, -1.0, 5.0])
def test_an_even_strength_still_labels_every_pixel(value):
    mask = (_away((10, 12)) <= 4) | (_away((35, 40)) <= 4)
    labels = split_mask(mask, diameter_px=DIAMETER, strength=np.full(SHAPE, value, np.float32))
    np.testing.assert_array_equal(labels > 0, mask)
    assert set(np.unique(labels[mask])) == {1, 2}


def test_an_empty_mask_has_no_label_and_a_full_one_is_labelled_everywhere():
    assert not split_mask(~EVERYWHERE, diameter_px=DIAMETER).any()
    labels = split_mask(EVERYWHERE, diameter_px=DIAMETER)
    assert labels.min() == 1
    assert set(np.unique(labels)) == set(range(1, labels.max() + 1))


def flashes(*points, height=9.0):
    peaks = np.zeros(SHAPE, np.float32)
    for y, x in points:
        peaks[y, x] = height
    return peaks


def test_neighbours_that_melt_into_one_peak_are_parted_by_where_they_flash():
    probability, contrast = maps((24, 20))
    found = seeds(probability, contrast, peaks=flashes((24, 20), (24, 25)))
    assert sorted_rows(found) == [(24, 20), (24, 25)]


def test_a_flash_near_a_seed_is_that_one():
    probability, contrast = maps((24, 20))
    found = seeds(probability, contrast, peaks=flashes((25, 21)))
    assert sorted_rows(found) == [(24, 20)]


def test_a_flash_where_the_network_sees_nothing_is_a_seed_if_it_is_high_enough():
    nothing = np.zeros(SHAPE, np.float32)
    assert sorted_rows(seeds(nothing, nothing, peaks=flashes((9, 9), height=7.1))) == [(9, 9)]
    assert len(seeds(nothing, nothing, peaks=flashes((9, 9), height=6.9))) == 0


def test_a_flash_outside_the_valid_pixels_is_no_seed():
    nothing, valid = np.zeros(SHAPE, np.float32), EVERYWHERE.copy()
    valid[:12] = False
    assert len(seeds(nothing, nothing, valid=valid, peaks=flashes((9, 9)))) == 0
