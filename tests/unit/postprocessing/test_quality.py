"""Figures of quality against constructions of which they are known."""

import numpy as np
from flashing_movie import disc
from scipy import sparse

from cocuyo.postprocessing import footprint_agreement, measure_quality, saturation_level

RATE_HZ = 10.0
N_FRAMES = 900
SHAPE = (30, 40)


def noise(n=1, seed=0):
    return np.random.default_rng(seed).normal(0, 0.02, (n, N_FRAMES)).astype(np.float32)


def shifts(seed=1):
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 0.2, (N_FRAMES, 2)), axis=0)
    return (walk - walk.mean(axis=0)).astype(np.float32)


def measure(masks=None, traces=None, **given):
    traces = noise() if traces is None else traces
    if masks is None:
        masks = np.zeros((len(traces), *SHAPE), np.bool_)
        masks[:, 10:15, 10:15] = True
    how = {
        "frame_rate_hz": RATE_HZ,
        "raw": np.full(traces.shape, 1000, np.float32),
        "shifts": np.zeros((traces.shape[1], 2), np.float32),
        "usable": np.ones(traces.shape[1], np.bool_),
        "valid": np.ones(SHAPE, np.bool_),
    }
    footprints = sparse.csr_array(masks.reshape(len(masks), -1).astype(np.float32))
    return measure_quality(footprints, traces, **(how | given))


def test_transients_are_skewed_noise_is_not_and_dips_are_the_other_way():
    decay = np.exp(-np.arange(80) / RATE_HZ)
    course = np.zeros(N_FRAMES, np.float32)
    for onset in (100, 400, 700):
        course[onset : onset + 80] = 0.5 * decay
    found = measure(traces=np.concatenate([noise(), noise() + course, noise() - course])).skewness
    assert abs(found[0]) < 0.3
    assert found[1] > 2
    assert found[2] < -2


def test_a_trace_that_follows_the_shifts_is_told_from_one_that_does_not():
    jitter = np.random.default_rng(2).normal(0, 0.5, (N_FRAMES, 2))
    drift = np.linspace(0, 3, N_FRAMES)[:, None]  # ΔF/F₀ has nothing of it
    moves = (drift + jitter).astype(np.float32)
    follows = noise(seed=3) + 0.1 * jitter[:, 0]
    traces = np.concatenate([follows, noise(seed=4)]).astype(np.float32)
    found = measure(traces=traces, shifts=moves).motion_correlation
    assert found[0] > 0.7
    assert found[1] < 0.3


def test_a_recording_that_stands_still_or_is_short_says_nothing_of_motion():
    assert measure().motion_correlation[0] == 0
    short = measure(traces=noise()[:, :30], shifts=shifts()[:30]).motion_correlation
    assert np.isnan(short[0])


def test_unusable_frames_do_not_count():
    moves, traces = shifts(), noise()
    usable = np.ones(N_FRAMES, np.bool_)
    usable[200:210] = False
    spoilt = traces.copy()
    spoilt[:, 200:210] = 50
    kept, other = (measure(traces=each, shifts=moves, usable=usable) for each in (traces, spoilt))
    np.testing.assert_array_equal(kept.skewness, other.skewness)
    np.testing.assert_array_equal(kept.motion_correlation, other.motion_correlation)


def test_blocks_of_rois_are_measured_as_one(monkeypatch):
    traces, moves = noise(7), shifts()
    whole = measure(traces=traces, shifts=moves)
    monkeypatch.setattr("cocuyo.core.scratch._BLOCK_VALUES", 2000)
    parts = measure(traces=traces, shifts=moves)
    np.testing.assert_allclose(parts.skewness, whole.skewness, rtol=1e-5)
    np.testing.assert_allclose(parts.motion_correlation, whole.motion_correlation, atol=1e-6)


def test_a_disc_is_compact_and_a_bar_is_not():
    masks = np.zeros((3, *SHAPE), np.bool_)
    masks[0] = disc((15, 15), 5, SHAPE) > 0.5
    masks[1, 10:22, 10:16] = True
    masks[2, 10:13, 5:35] = True
    found = measure(masks, noise(3)).compactness
    assert found[0] == 1
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.6


def test_the_border_at_the_frame_or_at_excluded_pixels_is_counted():
    masks = np.zeros((3, *SHAPE), np.bool_)
    masks[0, 10:14, 10:14] = masks[1, 0:4, 20:24] = masks[2, 20:24, 30:34] = True
    valid = np.ones(SHAPE, np.bool_)
    valid[:, 34:] = False  # right beside the third
    found = measure(masks, noise(3), valid=valid).edge_share
    np.testing.assert_allclose(found, [0, 4 / 12, 4 / 12])


def test_a_limit_is_where_many_pixels_end_at_one_value():
    light = np.random.default_rng(0).gamma(4, 200, SHAPE).astype(np.float32)
    assert saturation_level(light) is None
    clipped = np.minimum(np.round(light), 1200)
    assert saturation_level(clipped) == 1200
    assert saturation_level(np.full(SHAPE, 1200, np.float32)) is None
    light[3, 3] = 4095
    assert saturation_level(light) == 4095
    assert saturation_level(np.full(SHAPE, np.nan, np.float32)) is None


def test_saturated_pixels_count_where_the_trace_is_that_bright_too():
    masks = np.zeros((3, *SHAPE), np.bool_)
    masks[0, 5:9, 5:9] = masks[1, 15:19, 5:9] = masks[2, 5:9, 20:24] = True
    highest = np.full(SHAPE, 900, np.float32)
    highest[5:9, 5:7] = 4095
    highest[15:19, 5:9] = 4095  # in a flash: the trace never comes near
    raw = np.full((3, N_FRAMES), 800, np.float32)
    raw[0, 100] = 3900
    found = measure(masks, noise(3), max_raw=highest, raw=raw).saturated_share
    np.testing.assert_allclose(found, [0.5, 0, 0])
    assert np.isnan(measure(masks, noise(3)).saturated_share).all()


def test_an_roi_without_pixels_or_trace_has_no_figures():
    masks = np.zeros((1, *SHAPE), np.bool_)
    found = measure(masks, np.full((1, N_FRAMES), np.nan, np.float32), shifts=shifts())
    for name in ("skewness", "motion_correlation", "compactness", "edge_share", "agreement"):
        assert np.isnan(getattr(found, name)[0]), name


def test_a_constant_trace_has_no_skewness_and_follows_nothing():
    found = measure(traces=np.full((1, N_FRAMES), 0.1, np.float32), shifts=shifts())
    assert found.skewness[0] == 0
    assert found.motion_correlation[0] == 0


def test_an_outline_agrees_with_the_light_that_it_holds_and_not_with_light_elsewhere():
    inside = np.ones((31, 31), np.bool_)
    cell = disc((15, 15), 5, (31, 31), soft=1.0)
    outline = np.where(cell > 0.5, cell, 0).astype(np.float32)
    crescent = cell - 1.5 * disc((15, 9), 4, (31, 31))
    elsewhere = disc((15, 23), 4, (31, 31)) + 0.2 * cell
    of_good, of_crescent, of_elsewhere = (
        footprint_agreement(picture.astype(np.float32), outline, inside, diameter_px=10)
        for picture in (cell, crescent, elsewhere)
    )
    assert of_good > 0.9
    assert of_crescent < of_good - 0.2
    assert of_elsewhere < 0.3
    assert np.isnan(footprint_agreement(cell, np.zeros_like(outline), inside, diameter_px=10))
