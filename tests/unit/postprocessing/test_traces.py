"""Traces: averages of pixels, freed of their surround, relative to their baseline."""

import numpy as np
import pytest
from flashing_movie import disc, transients
from scipy import ndimage, sparse

from cocuyo.core import InvalidTraceError
from cocuyo.postprocessing import (
    N_SECTORS,
    TraceConfig,
    averaging_weights,
    correct_traces,
    find_light_steps,
    interpolate_frames,
    level_light,
    project,
    ring_sectors,
    ring_weights,
    running_baseline,
    sector_shares,
    shared_pixels,
    unmix_traces,
    weigh_sectors,
)

DIAMETER = 8.0
SHAPE = (40, 52)
RATE_HZ = 8.0
N_FRAMES = 480
NOWHERE = np.zeros(SHAPE, np.bool_)


def footprints(*masks):
    return averaging_weights([np.flatnonzero(mask) for mask in masks], size=SHAPE[0] * SHAPE[1])


def cell(centre, radius=4.0):
    return disc(centre, radius, SHAPE) >= 0.5


def rings(*masks, avoid=NOWHERE, **settings):
    found = ring_weights(
        footprints(*masks),
        frame_shape=SHAPE,
        diameter_px=DIAMETER,
        avoid=avoid,
        config=TraceConfig(**settings),
    )
    return (found.toarray() > 0).reshape(-1, *SHAPE)


def neuropil(seed=1, size=30.0):
    """Slow and fast changes of the surround, in counts."""
    random = np.random.default_rng(seed)
    fast = ndimage.gaussian_filter1d(random.standard_normal(N_FRAMES), 4)
    return 500 + size * fast / fast.std() + np.linspace(20, 0, N_FRAMES)


def correct(raw, surround, rate_hz=RATE_HZ, offset_counts=0.0, **settings):
    raw, surround = (np.atleast_2d(np.asarray(x, np.float32)) for x in (raw, surround))
    return correct_traces(
        raw,
        surround,
        frame_rate_hz=rate_hz,
        offset_counts=offset_counts,
        config=TraceConfig(**settings),
    )


def noise(sd=2.0, seed=7, n=N_FRAMES):
    return np.random.default_rng(seed).normal(0, sd, n)


def test_averaging_gives_the_mean_of_the_pixels():
    frame = np.random.default_rng(0).normal(100, 9, SHAPE).astype(np.float32)
    masks = [cell((10, 10)), cell((30, 40), 2)]
    values = footprints(*masks) @ frame.ravel()
    np.testing.assert_allclose(values, [frame[mask].mean() for mask in masks], rtol=1e-5)


def test_averaging_nothing_gives_no_row():
    assert averaging_weights([], size=12).shape == (0, 12)


def test_projecting_equals_a_loop_over_rows_and_frames():
    random = np.random.default_rng(0)
    frames = random.normal(100, 9, (6, *SHAPE)).astype(np.float32)
    weights = sparse.random_array((5, frames[0].size), density=0.01, rng=random, format="csr")
    weights = sparse.csr_array(weights, dtype=np.float32)
    naive = [[np.dot(row, frame.ravel()) for frame in frames] for row in weights.toarray()]
    np.testing.assert_allclose(project(weights, frames), naive, rtol=1e-4)


def test_projecting_without_rows_gives_no_trace():
    none = averaging_weights([], size=SHAPE[0] * SHAPE[1])
    assert project(none, np.ones((3, *SHAPE), np.float32)).shape == (0, 3)


def test_values_that_no_row_uses_do_not_count():
    frames = np.full((2, *SHAPE), np.nan, np.float32)
    mask = cell((20, 20))
    frames[:, mask] = 7
    np.testing.assert_allclose(project(footprints(mask), frames), 7, rtol=1e-6)


def test_a_ring_is_all_that_lies_between_its_two_distances():
    mask = cell((20, 26), 3)
    y, x = np.nonzero(mask)
    (ring,) = rings(mask, ring_inner_diameters=0.5, ring_outer_diameters=1.0)
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            distance = np.hypot(y - row, x - column).min()
            assert ring[row, column] == (4 < distance <= 8)


def test_a_ring_averages():
    weights = ring_weights(
        footprints(cell((20, 26)), cell((3, 3))),
        frame_shape=SHAPE,
        diameter_px=DIAMETER,
        avoid=NOWHERE,
    )
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


def test_a_ring_uses_no_pixel_of_cells_nor_invalid_ones():
    avoid = cell((20, 38)) | cell((20, 26))
    avoid[:15] = True
    (ring,) = rings(cell((20, 26)), avoid=avoid)
    assert ring.any()
    assert not (ring & avoid).any()


def test_a_ring_with_hardly_a_free_pixel_uses_all_of_its_pixels():
    mask = cell((20, 26))
    (free,), (crowded,) = rings(mask), rings(mask, avoid=~NOWHERE)
    np.testing.assert_array_equal(crowded, free)


@pytest.mark.parametrize("centre", [(0, 0), (39, 51), (0, 25)])
def test_a_cell_at_the_border_has_a_ring_inside_the_frame(centre):
    mask = cell(centre)
    (ring,) = rings(mask)
    assert ring.sum() >= 12
    assert not (ring & mask).any()


def test_a_cell_as_large_as_the_frame_still_has_a_ring():
    (ring,) = rings(~NOWHERE)
    assert ring.any()


@pytest.mark.parametrize("n_frames", [1, 2, 7, 50, 480])
def test_the_baseline_of_a_constant_is_the_constant(n_frames):
    flat = np.full((2, n_frames), 123.25, np.float32)
    np.testing.assert_allclose(running_baseline(flat, frame_rate_hz=RATE_HZ), flat, rtol=1e-6)


def test_the_baseline_of_no_trace_is_no_trace():
    assert running_baseline(np.zeros((0, 9), np.float32), frame_rate_hz=RATE_HZ).shape == (0, 9)


def test_transients_do_not_lift_the_baseline():
    trace = 500 + 200 * transients(N_FRAMES, range(20, 460, 70)) + noise()
    baseline = running_baseline(trace[None].astype(np.float32), frame_rate_hz=RATE_HZ)
    # The 30th percentile lies half a standard deviation of the noise below its mean.
    assert np.abs(baseline - 500).max() < 8


def test_the_baseline_follows_bleaching():
    course = 800 * np.exp(-np.arange(N_FRAMES) / 3000)  # 8 % in a window
    baseline = running_baseline(course[None].astype(np.float32), frame_rate_hz=RATE_HZ)[0]
    assert np.abs(baseline / course - 1).max() < 0.07
    assert np.abs(baseline / course - 1)[120:-120].max() < 0.03


def test_usable_frames_keep_their_values_and_others_lie_on_the_line_between():
    traces = np.array([[1, 2, np.nan, np.nan, 8, 9], [0, 0, 50, -7, 3, 3]], np.float32)
    usable = np.array([1, 1, 0, 0, 1, 1], np.bool_)
    filled = interpolate_frames(traces, usable)
    np.testing.assert_allclose(filled, [[1, 2, 4, 6, 8, 9], [0, 0, 1, 2, 3, 3]])


def test_unusable_ends_take_the_nearest_usable_value():
    traces = np.array([[np.nan, 5, 6, np.inf]], np.float32)
    assert interpolate_frames(traces, np.ones(4, np.bool_)).tolist() == [[5, 5, 6, 6]]


def test_where_no_frame_is_usable_the_traces_are_zero():
    traces = np.full((2, 5), np.nan, np.float32)
    assert not interpolate_frames(traces, np.zeros(5, np.bool_)).any()


def test_usable_traces_are_returned_as_they_are():
    traces = np.ones((2, 5), np.float32)
    traces.flags.writeable = False
    np.testing.assert_array_equal(interpolate_frames(traces, np.ones(5, np.bool_)), traces)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 1.2])
def test_a_planted_contamination_is_recovered(share):
    surround = neuropil()
    own = 300 + 60 * transients(N_FRAMES, (60, 200, 330, 400)) + noise()
    found = correct(own + share * surround, surround)
    assert found.coefficient[0] == pytest.approx(share, abs=0.06)


def test_flashes_together_with_the_surround_are_not_taken_for_contamination():
    flashes = transients(N_FRAMES, (60, 200, 330, 400))
    surround = neuropil() + 40 * flashes
    found = correct(300 + 250 * flashes + 0.5 * surround + noise(), surround)
    assert found.coefficient[0] == pytest.approx(0.5, abs=0.1)
    assert found.corrected[0, 200] - found.corrected[0, 199] == pytest.approx(250, rel=0.1)


def test_the_corrected_trace_is_the_own_one():
    surround, own = neuropil(), 300 + 60 * transients(N_FRAMES, (60, 200, 330, 400))
    found = correct(own + 0.8 * surround + noise(), surround)
    assert np.corrcoef(found.corrected[0], own)[0, 1] > 0.97
    assert np.corrcoef(own + 0.8 * surround, own)[0, 1] < 0.6


@pytest.mark.parametrize(("share", "expected"), [(2.5, 1.3), (-0.7, 0.0)])
def test_the_coefficient_is_bounded(share, expected):
    surround = neuropil()
    found = correct(3000 + share * surround + noise(), surround)
    assert found.coefficient[0] == pytest.approx(expected, abs=1e-6)


def test_the_largest_coefficient_is_a_setting():
    surround = neuropil()
    found = correct(300 + 0.9 * surround, surround, max_coefficient=0.5)
    assert found.coefficient[0] == pytest.approx(0.5)


def test_a_still_surround_takes_nothing_away():
    raw = 300 + noise()
    found = correct(raw, np.full(N_FRAMES, 500))
    assert found.coefficient[0] == 0
    np.testing.assert_allclose(found.corrected[0], raw, rtol=1e-6)


def test_the_level_of_the_surround_does_not_matter():
    surround, raw = neuropil(), 300 + 0.6 * neuropil() + noise()
    low, high = correct(raw, surround), correct(raw, surround + 4000)
    np.testing.assert_allclose(high.corrected, low.corrected, atol=0.05)


def test_correction_takes_the_changes_of_the_surround_and_leaves_the_level():
    surround, raw = neuropil(), 300 + 0.6 * neuropil() + noise()
    found = correct(raw, surround)
    changes = surround - np.median(surround)
    np.testing.assert_allclose(found.corrected[0], raw - found.coefficient[0] * changes, atol=0.01)


def test_delta_f_over_f_is_the_height_over_the_baseline():
    raw = 400 * (1 + 0.5 * transients(N_FRAMES, (100, 300)))
    found = correct(raw, np.full(N_FRAMES, 200)).delta_f_over_f[0]
    assert found[100] == pytest.approx(0.5, abs=0.01)
    assert np.median(found) == pytest.approx(0, abs=0.01)


def test_an_offset_is_taken_from_the_baseline_only():
    raw = 400 + 100 * transients(N_FRAMES, (100, 300))
    found = correct(raw, np.full(N_FRAMES, 200), offset_counts=200)
    assert found.delta_f_over_f[0, 100] == pytest.approx(0.5, abs=0.02)
    assert found.corrected[0, 100] == pytest.approx(500)


def test_bleaching_of_cell_and_surround_leaves_delta_f_over_f():
    light = np.linspace(1, 0.7, N_FRAMES)
    flashes = 1 + 0.3 * transients(N_FRAMES, (60, 200, 330, 420))
    found = correct(light * 600 * flashes, light * 500).delta_f_over_f[0]
    for onset in (60, 200, 330, 420):
        assert found[onset] - found[onset - 1] == pytest.approx(0.3, abs=0.04)


def test_a_baseline_near_zero_does_not_blow_up_the_ratio():
    levels = np.array([1000.0, 900.0, 0.0, -40.0])[:, None]
    raw = levels + noise(n=4 * N_FRAMES).reshape(4, -1)
    found = correct(raw, np.full(raw.shape, 100.0))
    # The floor is 5 % of the ROIs' median level, here about 470 counts.
    assert np.isfinite(found.delta_f_over_f).all()
    assert np.abs(found.delta_f_over_f).max() < 10 / (0.05 * 400)


def test_zeros_give_zeros():
    found = correct(np.zeros((2, 60)), np.zeros((2, 60)))
    for values in (found.coefficient, found.corrected, found.delta_f_over_f, found.noise):
        assert not values.any()


def test_the_noise_is_that_from_frame_to_frame():
    raw = 500 + noise(sd=5.0) + 100 * transients(N_FRAMES, (100, 300))
    assert correct(raw, np.full(N_FRAMES, 200)).noise[0] == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["raw", "neuropil"])
def test_a_value_that_is_not_finite_is_refused(value, which):
    traces = {"raw": np.ones(30), "neuropil": np.ones(30)}
    traces[which][4] = value
    with pytest.raises(InvalidTraceError, match="not finite"):
        correct(traces["raw"], traces["neuropil"])


def test_no_roi_gives_no_trace():
    found = correct(np.zeros((0, 30)), np.zeros((0, 30)))
    assert found.corrected.shape == found.delta_f_over_f.shape == (0, 30)
    assert found.coefficient.shape == found.noise.shape == (0,)


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_very_short_traces_are_finite(n_frames):
    random = np.random.default_rng(0)
    found = correct(random.normal(100, 5, (3, n_frames)), random.normal(90, 5, (3, n_frames)))
    assert np.isfinite(found.delta_f_over_f).all()
    assert np.isfinite(found.noise).all()


def test_inputs_are_not_modified():
    raw, surround = np.ones((2, 40), np.float32), np.ones((2, 40), np.float32)
    for array in (raw, surround):
        array.flags.writeable = False
    correct_traces(raw, surround, frame_rate_hz=RATE_HZ)


def sectors_of(*masks, avoid=NOWHERE):
    cells = footprints(*masks)
    around = ring_weights(cells, frame_shape=SHAPE, diameter_px=DIAMETER, avoid=avoid)
    return around, ring_sectors(cells, around, frame_shape=SHAPE)


def test_the_sectors_of_a_ring_are_its_pixels_in_parts_of_equal_weight():
    around, sectors = sectors_of(cell((20, 26)))
    assert sectors.shape == (N_SECTORS, SHAPE[0] * SHAPE[1])
    np.testing.assert_allclose(sectors.sum(axis=1), 1, rtol=1e-5)
    count = (sectors.toarray() > 0).sum(axis=0)
    np.testing.assert_array_equal(count, around.toarray()[0] > 0)


def test_a_sector_with_hardly_a_pixel_is_empty():
    avoid = NOWHERE.copy()
    avoid[:, 26:] = True
    _, sectors = sectors_of(cell((20, 22)), avoid=avoid)
    pixels = (sectors.toarray() > 0).sum(axis=1)
    assert (pixels == 0).any()
    assert pixels[pixels > 0].min() >= 4


def lights(*, own_flash=(100, 300), seed=3):
    """Traces of an ROI and its sectors: light from one side, and from above, reaches the ROI."""
    random = np.random.default_rng(seed)
    courses = ndimage.gaussian_filter1d(random.standard_normal((3, N_FRAMES)), 3, axis=1)
    courses /= courses.std(axis=1, keepdims=True)
    mixing = random.uniform(0, 0.3, (N_SECTORS, 3))
    mixing[:4, 0], mixing[8:, 1] = 1.0, 1.0
    sectors = 500 + 20 * mixing @ courses + random.normal(0, 1.5, (N_SECTORS, N_FRAMES))
    foreign = 20 * (0.6 * courses[0] + 0.5 * courses[1])
    flash = 60 * transients(N_FRAMES, own_flash, rate_hz=RATE_HZ)
    raw = 600 + foreign + flash + random.normal(0, 2, N_FRAMES)
    return raw[None].astype(np.float32), sectors.astype(np.float32), flash


def test_light_from_one_side_is_taken_by_the_sectors_that_show_it():
    raw, sectors, flash = lights()
    shares = sector_shares(raw, sectors, frame_rate_hz=RATE_HZ)
    assert shares.sum() == pytest.approx(1, abs=1e-4)
    local = correct(raw, shares @ sectors).corrected[0]
    plain = correct(raw, sectors.mean(axis=0)).corrected[0]
    assert np.corrcoef(local, flash)[0, 1] > 0.95 > np.corrcoef(plain, flash)[0, 1]


def test_an_roi_that_shares_nothing_with_its_ring_has_no_shares():
    random = np.random.default_rng(5)
    raw = random.normal(500, 5, (3, N_FRAMES)).astype(np.float32)
    sectors = random.normal(500, 5, (3 * N_SECTORS, N_FRAMES)).astype(np.float32)
    np.testing.assert_array_equal(sector_shares(raw, sectors, frame_rate_hz=RATE_HZ), 0)


def test_no_share_lets_a_flash_in_the_ring_become_one_in_the_roi():
    raw, sectors, _ = lights(own_flash=())
    shares = sector_shares(raw, sectors, frame_rate_hz=RATE_HZ)
    assert shares.min() > -0.2


def test_stretches_are_freed_of_their_slow_changes_one_by_one():
    raw, sectors, _ = lights()
    jump = np.where(np.arange(N_FRAMES) < N_FRAMES // 2, 0, 300).astype(np.float32)
    usual = sector_shares(raw, sectors, frame_rate_hz=RATE_HZ, n_stretches=2)
    jumped = sector_shares(raw + jump, sectors, frame_rate_hz=RATE_HZ, n_stretches=2)
    np.testing.assert_allclose(jumped, usual, atol=0.02)


def test_weighed_sectors_give_the_weighed_mean_of_their_traces():
    frame = np.random.default_rng(2).normal(100, 9, SHAPE[0] * SHAPE[1]).astype(np.float32)
    around, sectors = sectors_of(cell((20, 16)), cell((24, 40)))
    shares = np.random.default_rng(1).random((2, N_SECTORS)).astype(np.float32)
    shares[0] /= shares[0].sum()
    shares[1] = 0  # nothing known: the plain ring
    weights = weigh_sectors(sectors, shares, around)
    expected = [shares[0] @ (sectors @ frame)[:N_SECTORS], (around @ frame)[1]]
    np.testing.assert_allclose(weights @ frame, expected, rtol=1e-5)


def overlapping():
    """Two cells that share pixels and one alone: masks, their own courses, means over the masks."""
    masks = [cell((20, 16)), cell((20, 22)), cell((20, 40))]
    courses = 80 * np.stack(
        [
            transients(N_FRAMES, onsets, decay_s=1.0)
            for onsets in ((60, 200, 330), (100, 210, 400), (50, 260))
        ]
    )
    rows = footprints(*masks)
    light = np.stack([mask.ravel() for mask in masks]).astype(np.float32)
    frames = 500 + courses.T @ light
    return rows, courses, np.asarray(rows @ frames.T, np.float32)


def test_shared_pixels_are_shares_of_the_rows_own_pixels():
    large, small = cell((20, 16), 5), cell((20, 22), 3)
    common = int((large & small).sum())
    shared = shared_pixels(footprints(large, small, cell((20, 40)))).toarray()
    assert common > 0
    assert shared[0, 1] == pytest.approx(common / large.sum())
    assert shared[1, 0] == pytest.approx(common / small.sum())
    assert shared.sum() == pytest.approx(shared[0, 1] + shared[1, 0])


def test_of_two_that_are_nearly_the_same_the_second_has_no_part():
    first, again, neighbour = cell((20, 16)), cell((20, 17)), cell((20, 22))
    shared = shared_pixels(footprints(first, again, neighbour)).toarray()
    assert shared[0, 2] > 0
    assert not shared[1].any()
    assert not shared[:, 1].any()


def test_rois_that_share_pixels_get_their_own_changes():
    rows, courses, raw = overlapping()
    mixed = np.corrcoef(np.concatenate([raw, courses]))
    assert mixed[0, 4] > 0.1  # each shows the other
    own = unmix_traces(raw, shared_pixels(rows), frame_rate_hz=RATE_HZ)
    changes = own - np.median(own, axis=1, keepdims=True)
    np.testing.assert_allclose(changes, courses, atol=6)
    np.testing.assert_array_equal(own[2], raw[2])
    np.testing.assert_allclose(np.median(own, axis=1), np.median(raw, axis=1), rtol=0.01)


def test_parting_does_not_blow_up_the_noise():
    rows, _, raw = overlapping()
    noisy = raw + np.stack([noise(seed=i) for i in range(3)]).astype(np.float32)
    shared = shared_pixels(rows)
    parted = unmix_traces(noisy, shared, frame_rate_hz=RATE_HZ)
    clean = unmix_traces(raw, shared, frame_rate_hz=RATE_HZ)
    assert np.std(parted - clean) < 1.5 * 2.0


def test_rois_apart_are_left_as_they_are():
    raw = np.random.default_rng(0).normal(500, 5, (2, N_FRAMES)).astype(np.float32)
    shared = shared_pixels(footprints(cell((20, 10)), cell((20, 40))))
    assert unmix_traces(raw, shared, frame_rate_hz=RATE_HZ) is raw


def lit(*, light=None, burst=None, n=8):
    """ROIs brighter than their rings in changing light, and a transient of the network in them."""
    random = np.random.default_rng(3)
    levels = random.uniform(800, 2000, (n, 1))
    around = random.uniform(400, 700, (n, 1))
    course = np.ones(N_FRAMES) if light is None else light
    wave = np.zeros(N_FRAMES) if burst is None else transients(N_FRAMES, burst, decay_s=1.5)
    own = levels * (1 + 0.3 * wave) * course + random.normal(0, 4, (n, N_FRAMES))
    ring = around * (1 + 0.05 * wave) * course + random.normal(0, 1, (n, N_FRAMES))
    return own.astype(np.float32), ring.astype(np.float32)


@pytest.mark.parametrize("factor", [0.94, 1.1, 0.7])
def test_a_step_of_the_light_is_found_at_its_frame_and_levelled(factor):
    light = np.where(np.arange(N_FRAMES) < 300, 1.0, factor)
    raw, ring = lit(light=light, burst=(100, 400))
    (step,) = find_light_steps(raw, ring, frame_rate_hz=RATE_HZ)
    assert step.frame == 300
    assert step.factor == pytest.approx(factor, rel=0.005)
    level = level_light(raw, [step])
    assert level[:, 310:380].mean() == pytest.approx(level[:, 200:290].mean(), rel=0.005)
    np.testing.assert_array_equal(level[:, :300], raw[:, :300])


def test_steps_follow_each_other():
    light = np.ones(N_FRAMES)
    light[150:300], light[300:] = 0.9, 1.05
    found = find_light_steps(*lit(light=light), frame_rate_hz=RATE_HZ)
    assert [step.frame for step in found] == [150, 300]
    assert found[0].factor * found[1].factor == pytest.approx(1.05, rel=0.01)


@pytest.mark.parametrize(
    "light",
    [
        np.ones(N_FRAMES),
        np.exp(-np.linspace(0, 0.5, N_FRAMES)),  # bleaching
        np.where(np.abs(np.arange(N_FRAMES) - 200) < 2, 1.5, 1.0),  # a flash
        np.where((np.arange(N_FRAMES) > 200) & (np.arange(N_FRAMES) < 225), 0.9, 1.0),  # 3 s
        1 + 0.1 * np.clip((np.arange(N_FRAMES) - 200) / 40, 0, 1),  # slowly, over 5 s
    ],
)
def test_bleaching_flashes_and_slow_changes_are_no_steps(light):
    assert find_light_steps(*lit(light=light), frame_rate_hz=RATE_HZ) == []


def test_a_burst_of_the_network_is_no_step_of_the_light():
    raw, ring = lit(burst=(120, 240, 245, 250, 255, 260, 360))
    assert find_light_steps(raw, ring, frame_rate_hz=RATE_HZ) == []


def test_a_step_in_one_roi_or_in_too_few_is_none_of_the_light():
    raw, ring = lit()
    raw[2, 240:] *= 0.8
    assert find_light_steps(raw, ring, frame_rate_hz=RATE_HZ) == []
    light = np.where(np.arange(N_FRAMES) < 300, 1.0, 0.9)
    assert find_light_steps(*lit(light=light, n=2), frame_rate_hz=RATE_HZ) == []


def test_without_steps_traces_are_not_copied():
    raw, _ = lit()
    assert level_light(raw, []) is raw
