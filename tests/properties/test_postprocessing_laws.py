"""Laws of candidates, footprints, traces and events that hold for any input."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cocuyo.postprocessing import (
    CandidateConfig,
    TraceConfig,
    ValidationConfig,
    VerificationConfig,
    add_to_images,
    averaging_weights,
    correct_traces,
    cut_patches,
    event_weights,
    find_duplicates,
    find_events,
    find_seeds,
    interpolate_frames,
    outline,
    project,
    refine_mask,
    ring_weights,
    running_baseline,
    split_mask,
)

SHAPE = (26, 31)
SIZE = SHAPE[0] * SHAPE[1]
seeds_ = st.integers(0, 2**16)
rates = st.sampled_from([0.2, 2.0, 8.0, 30.0])


def blob_mask(seed, share=0.5, grain=1.5):
    """Irregular regions of all sizes, some at the border."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal(SHAPE), grain)
    return field > np.quantile(field, 1 - share)


def movie(seed, n_frames=20):
    return np.random.default_rng(seed).normal(500, 30, (n_frames, *SHAPE)).astype(np.float32)


def courses(seed, *, n_rois=3, n_frames=160, size=1.0):
    """Noise with drift and transients of random height."""
    random = np.random.default_rng(seed)
    kicks = random.random((n_rois, n_frames)) < random.choice([0.0, 0.01, 0.04])
    kicks = kicks * random.uniform(0, 12, (n_rois, 1))
    decay = np.exp(-np.arange(40) / random.uniform(1, 12))
    rises = np.stack([np.convolve(row, decay)[:n_frames] for row in kicks])
    drift = random.normal(0, 2, (n_rois, 1)) * np.linspace(0, 1, n_frames)
    noise = random.standard_normal((n_rois, n_frames))
    return (size * (rises + drift + noise)).astype(np.float32)


@given(seed=seeds_, share=st.floats(0.02, 1.0))
def test_every_pixel_of_a_mask_gets_a_label_and_labels_have_no_gap(seed, share):
    mask = blob_mask(seed, share)
    labels = split_mask(mask, diameter_px=6.0)
    np.testing.assert_array_equal(labels > 0, mask)
    assert set(np.unique(labels[mask])) == set(range(1, labels.max() + 1))


@given(seed=seeds_, share=st.floats(0.02, 0.9))
def test_every_label_is_one_connected_piece(seed, share):
    labels = split_mask(blob_mask(seed, share), diameter_px=6.0)
    for label in range(1, labels.max() + 1):
        assert ndimage.label(labels == label)[1] == 1


@given(seed=seeds_)
def test_splitting_a_mirrored_mask_gives_as_many_labels(seed):
    # Cells without plateaus in their distance to the border: those are decided by their place.
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centres = random.uniform(3, 23, (4, 2))
    mask = np.any([np.hypot(y - a, x - b) <= 3.2 for a, b in centres], axis=0)
    counts = {split_mask(m, diameter_px=6.0).max() for m in (mask, mask[::-1], mask[:, ::-1])}
    assert max(counts) - min(counts) <= 1


@given(seed=seeds_, share=st.floats(0.02, 0.9), diameter=st.floats(3.0, 12.0))
def test_refining_keeps_no_region_below_a_quarter_of_a_soma(seed, share, diameter):
    refined = refine_mask(blob_mask(seed, share), diameter_px=diameter)
    labels, n_labels = ndimage.label(refined)
    areas = np.bincount(labels.ravel(), minlength=n_labels + 1)[1:]
    assert (areas >= 0.25 * np.pi * (diameter / 2) ** 2).all()


@given(seed=seeds_, share=st.floats(0.02, 0.9))
def test_refining_takes_no_pixel_from_a_large_region(seed, share):
    mask = blob_mask(seed, share)
    labels, n_labels = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=n_labels + 1)
    areas[0] = 0
    large = (areas >= 0.25 * np.pi * 9)[labels]
    assert not (large & ~refine_mask(mask, diameter_px=6.0)).any()


@given(seed=seeds_)
def test_seeds_are_valid_distinct_and_apart(seed):
    random = np.random.default_rng(seed)
    probability = blob_mask(seed, 0.4).astype(np.float32) * random.random(SHAPE, np.float32)
    contrast = ndimage.gaussian_filter(random.normal(0, 60, SHAPE), 2).astype(np.float32)
    valid = random.random(SHAPE) > 0.2
    points = find_seeds(probability, contrast, diameter_px=6.0, valid=valid).points
    assert valid[tuple(points.T)].all()
    assert len({tuple(p) for p in points.tolist()}) == len(points)
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    least = round(CandidateConfig().min_distance_diameters * 6.0)
    assert (apart[~np.eye(len(points), dtype=bool)] > least).all()


@given(seed=seeds_, low=st.floats(0.05, 0.5), more=st.floats(0.0, 0.4))
def test_with_even_contrast_a_higher_threshold_adds_no_seed(seed, low, more):
    probability = blob_mask(seed, 0.4).astype(np.float32)
    contrast = np.ones(SHAPE, np.float32)
    everywhere = np.ones(SHAPE, np.bool_)

    def count(threshold):
        config = CandidateConfig(min_probability=threshold, min_distance_diameters=0.1)
        return len(
            find_seeds(
                probability, contrast, diameter_px=6.0, valid=everywhere, config=config
            ).points
        )

    assert count(low + more) <= count(low)


@given(seed=seeds_, rate=rates, n_frames=st.integers(2, 160), share=st.floats(0, 1))
def test_event_weights_are_balanced_or_nothing(seed, rate, n_frames, share):
    traces = courses(seed, n_frames=n_frames)
    usable = np.random.default_rng(seed).random(n_frames) < share
    weights = event_weights(traces, frame_rate_hz=rate, usable=usable)
    assert np.isfinite(weights).all()
    assert not weights[:, ~usable].any()
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-4)
    norms = np.linalg.norm(weights, axis=1)
    assert (np.isclose(norms, 1, atol=1e-4) | (norms == 0)).all()


@given(seed=seeds_, cuts=st.lists(st.integers(0, 20), max_size=6))
def test_images_of_blocks_add_up_to_that_of_the_whole(seed, cuts):
    frames = movie(seed)
    weights = np.random.default_rng(seed).normal(0, 0.2, (2, 20)).astype(np.float32)
    patches = cut_patches(np.array([[3, 4], [20, 28]]), diameter_px=5.0, frame_shape=SHAPE)
    whole, parts = (np.zeros(patches.index.shape, np.float32) for _ in range(2))
    add_to_images(whole, frames, weights, patches)
    for a, b in pairwise([0, *sorted(cuts), 20]):
        add_to_images(parts, frames[a:b], weights[:, a:b], patches)
    # Sums in float32: the order of adding shows in the last digits.
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=2e-2)


@given(seed=seeds_, cuts=st.lists(st.integers(0, 20), max_size=6))
def test_traces_of_blocks_are_those_of_the_whole(seed, cuts):
    frames = movie(seed)
    rows = [np.flatnonzero(blob_mask(seed + i, 0.1)) for i in range(3)]
    weights = averaging_weights(rows, size=SIZE)
    whole = project(weights, frames)
    parts = [project(weights, frames[a:b]) for a, b in pairwise([0, *sorted(cuts), 20]) if b > a]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@given(seed=seeds_, noise=st.floats(0.01, 50.0), diameter=st.floats(3.0, 8.0))
def test_an_outline_is_finite_one_piece_and_inside(seed, noise, diameter):
    random = np.random.default_rng(seed)
    patches = cut_patches(np.array([[2, 5]]), diameter_px=diameter, frame_shape=SHAPE)
    side = patches.side
    image = ndimage.gaussian_filter(random.normal(0, 40, (side, side)), random.uniform(0, 3))
    inside = patches.inside[0] & (random.random((side, side)) > 0.1)
    inside[side // 2, side // 2] = True
    found = outline(
        image.astype(np.float32),
        noise=noise,
        index=patches.index[0],
        inside=inside,
        diameter_px=diameter,
    )
    assert np.isfinite(found.image).all()
    assert not (found.mask & ~inside).any()
    assert len(found.pixels) == len(found.weights) == found.mask.sum()
    assert ((found.weights > 0) & (found.weights <= 1)).all()
    assert len(np.unique(found.pixels)) == len(found.pixels)


@given(seed=seeds_, share=st.floats(0.0, 0.9))
def test_a_ring_averages_pixels_outside_of_its_roi(seed, share):
    mask = np.zeros(SHAPE, np.bool_)
    mask[10:14, 12:17] = True
    avoid = blob_mask(seed, share) if share else np.zeros(SHAPE, np.bool_)
    roi = averaging_weights([np.flatnonzero(mask)], size=SIZE)
    ring = ring_weights(roi, frame_shape=SHAPE, diameter_px=4.0, avoid=avoid).toarray()[0]
    assert ring.sum() == pytest.approx(1, abs=1e-4)
    assert not (ring.reshape(SHAPE)[mask]).any()


@given(seed=seeds_, rate=rates, gain=st.floats(0.01, 1000.0), shift=st.floats(-500, 500))
def test_the_baseline_scales_and_moves_with_the_trace(seed, rate, gain, shift):
    traces = courses(seed) + 100
    expected = gain * running_baseline(traces, frame_rate_hz=rate) + shift
    found = running_baseline((gain * traces + shift).astype(np.float32), frame_rate_hz=rate)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


@given(seed=seeds_, rate=rates, percentile=st.floats(0, 50), window=st.floats(0.5, 100))
def test_the_baseline_stays_between_least_and_largest_value(seed, rate, percentile, window):
    traces = courses(seed)
    config = TraceConfig(baseline_percentile=percentile, baseline_window_s=window)
    found = running_baseline(traces, frame_rate_hz=rate, config=config)
    assert (found >= traces.min(axis=1, keepdims=True) - 1e-4).all()
    assert (found <= traces.max(axis=1, keepdims=True) + 1e-4).all()


@settings(max_examples=30)
@given(seed=seeds_, rate=rates, gain=st.floats(0.02, 500.0))
def test_the_gain_changes_neither_delta_f_over_f_nor_the_coefficient(seed, rate, gain):
    raw, ring = 1000 + courses(seed, size=20), 800 + courses(seed + 1, size=20)
    low = correct_traces(raw, ring, frame_rate_hz=rate)
    high = correct_traces(
        (gain * raw).astype(np.float32), (gain * ring).astype(np.float32), frame_rate_hz=rate
    )
    np.testing.assert_allclose(high.coefficient, low.coefficient, atol=2e-3)
    np.testing.assert_allclose(high.delta_f_over_f, low.delta_f_over_f, atol=1e-3)


@given(seed=seeds_, rate=rates, level=st.floats(-100, 100), n_frames=st.integers(1, 200))
def test_corrected_traces_are_finite_with_a_bounded_coefficient(seed, rate, level, n_frames):
    raw = level + courses(seed, n_frames=n_frames, size=30)
    ring = level + courses(seed + 1, n_frames=n_frames, size=30)
    found = correct_traces(raw, ring, frame_rate_hz=rate)
    for values in (found.corrected, found.delta_f_over_f, found.noise, found.coefficient):
        assert np.isfinite(values).all()
    assert ((found.coefficient >= 0) & (found.coefficient <= 1.3 + 1e-6)).all()


@given(seed=seeds_, share=st.floats(0, 1))
def test_interpolated_traces_are_finite_and_keep_usable_values(seed, share):
    random = np.random.default_rng(seed)
    traces = courses(seed)
    usable = random.random(traces.shape[1]) < share
    traces[:, ~usable] = random.choice([np.nan, np.inf, 1e6])
    filled = interpolate_frames(traces, usable)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[:, usable], traces[:, usable])
    if usable.any():
        known = traces[:, usable]
        assert (filled >= known.min(axis=1, keepdims=True) - 1e-3).all()
        assert (filled <= known.max(axis=1, keepdims=True) + 1e-3).all()


@given(
    seed=seeds_,
    rate=rates,
    share=st.floats(0, 1),
    threshold=st.floats(1.0, 6.0),
    least=st.floats(0, 1),
)
def test_events_are_ordered_and_the_raster_is_their_union(seed, rate, share, threshold, least):
    traces = courses(seed)
    usable = np.random.default_rng(seed).random(traces.shape[1]) < share
    config = ValidationConfig(threshold_sd=threshold, min_duration_s=least)
    found = find_events(traces, frame_rate_hz=rate, usable=usable, config=config)
    events = found.events
    assert ((events.onset <= events.peak) & (events.peak <= events.offset)).all()
    assert (events.offset - events.onset + 1 >= least * rate - 0.5).all()
    union = np.zeros(traces.shape, np.int32)
    for roi, onset, offset in zip(events.roi, events.onset, events.offset, strict=True):
        assert (found.dog[roi, onset : offset + 1] > min(config.active_sd, threshold)).all()
        assert (found.dog[roi, onset : offset + 1][usable[onset : offset + 1]]).max() >= threshold
        union[roi, onset : offset + 1] += 1
    np.testing.assert_array_equal(union, found.raster)


@given(seed=seeds_, rate=rates, low=st.floats(2.0, 6.0), more=st.floats(0, 4))
def test_a_higher_threshold_adds_no_event(seed, rate, low, more):
    traces = courses(seed)

    def found(threshold):
        config = ValidationConfig(threshold_sd=threshold, active_sd=2.0)
        return find_events(traces, frame_rate_hz=rate, config=config)

    few, many = found(low + more), found(low)
    assert len(few.events) <= len(many.events)
    assert not (few.raster & ~many.raster).any()


@given(seed=seeds_, rate=rates, gain=st.sampled_from([0.125, 4.0, 1024.0]))
def test_the_unit_of_a_trace_changes_no_event(seed, rate, gain):
    # Powers of two: exact in floating point.
    traces = courses(seed)
    one, other = (find_events(t, frame_rate_hz=rate) for t in (traces, gain * traces))
    np.testing.assert_array_equal(one.raster, other.raster)
    np.testing.assert_allclose(other.events.amplitude, gain * one.events.amplitude, rtol=1e-5)


@given(seed=seeds_, n=st.integers(0, 12), overlap=st.floats(0.1, 1.0))
def test_duplicates_repeat_a_candidate_of_no_lower_score_that_stays(seed, n, overlap):
    random = np.random.default_rng(seed)
    pixels = [np.arange(a, a + random.integers(1, 12)) for a in random.integers(0, 40, n)]
    score = random.integers(0, 4, n).astype(np.float32)
    found = find_duplicates(pixels, score, config=VerificationConfig(overlap=overlap))
    for twin, original in found.items():
        assert original not in found
        assert score[original] >= score[twin]
        shared = len(np.intersect1d(pixels[twin], pixels[original]))
        assert shared > overlap * min(len(pixels[twin]), len(pixels[original]))
    stay = [i for i in range(n) if i not in found]
    for i, j in ((i, j) for i in stay for j in stay if i < j):
        shared = len(np.intersect1d(pixels[i], pixels[j]))
        assert shared <= overlap * min(len(pixels[i]), len(pixels[j]))
