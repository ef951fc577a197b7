"""Depth, sizes, nuclei, dendrites, vessels; quiet, bursting and synchronous firing."""

import numpy as np
import pytest

from cocuyo.simulation import SimulationConfig, Truth, simulate
from cocuyo.simulation.activity import network_bursts

CONFIG = SimulationConfig(
    n_frames=2, n_rows=160, n_columns=160, n_active=0, n_silent=40, n_defocused_active=0,
    n_defocused_silent=0, pixel_size_um=1.0, drift_px=0.0, jitter_px=0.0, n_vessels=0,
)  # fmt: skip


def changed(config: SimulationConfig, **changes: object) -> SimulationConfig:
    return SimulationConfig.model_validate(config.model_dump() | changes)


def truth_of(seed: int = 1, **changes: object) -> Truth:
    return simulate(changed(CONFIG, **changes), seed=seed).truth


def diameters(truth: Truth) -> np.ndarray:
    whole = np.flatnonzero(truth.in_focus & ~truth.cut)
    return np.asarray(2 * np.sqrt(truth.planted_masks()[whole].sum(axis=1) / np.pi))


def test_diameters_vary_threefold_within_a_field_where_asked() -> None:
    truth = truth_of(
        soma_diameter_distribution="log_uniform",
        soma_diameter_min_um=7.0,
        soma_diameter_max_um=21.0,
        irregularity=0.05,
    )
    low, high = np.percentile(diameters(truth), [3, 97])
    assert high / low > 2.3
    alike = truth_of(irregularity=0.05, soma_diameter_spread=0.05)
    assert np.divide(*np.percentile(diameters(alike), [97, 3])) < 1.8


def test_blur_follows_from_depth_and_aperture() -> None:
    changes = {"n_defocused_silent": 30, "numerical_aperture": 0.5, "blur_um": 0.0}
    truth = truth_of(**changes)
    deep = ~truth.in_focus
    assert np.all(np.abs(truth.depth_um[truth.in_focus]) <= 6.0)
    assert np.all((np.abs(truth.depth_um[deep]) >= 15.0) & (np.abs(truth.depth_um[deep]) <= 60.0))
    assert {-1.0, 1.0} == set(np.sign(truth.depth_um[deep]))
    # Geometry: a disc of radius z tan(asin(NA / n)), whose sd along an axis is half of that.
    expected = np.abs(truth.depth_um) * np.tan(np.arcsin(0.5 / 1.33)) / 2
    np.testing.assert_allclose(truth.blur_um, expected, rtol=1e-4)
    wide = truth_of(**changes | {"numerical_aperture": 0.9})
    assert np.median(wide.blur_um) > 1.8 * np.median(truth.blur_um)


def test_the_image_of_a_cell_is_as_wide_as_its_depth_says() -> None:
    truth = truth_of(
        n_silent=0, n_defocused_silent=25, numerical_aperture=0.5, depth_range_um=40.0,
        dendrite_share=0.0, n_rows=200, n_columns=200,
    )  # fmt: skip
    rows, columns = np.mgrid[:200, :200]
    whole = np.flatnonzero((np.abs(truth.centres - 99.5).max(axis=1) < 60) & (truth.blur_um > 3))
    assert len(whole) >= 4
    for cell in whole:
        seen, planted = (
            spread(matrix[[cell]].toarray().reshape(200, 200), rows, columns)
            for matrix in (truth.footprints, truth.planted)
        )
        assert np.sqrt(seen - planted) == pytest.approx(truth.blur_um[cell], rel=0.1)


def spread(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Variance of an image along an axis, mean of both."""
    weight = image / image.sum()
    return float(
        np.mean([(weight * axis**2).sum() - (weight * axis).sum() ** 2 for axis in (rows, columns)])
    )


def test_scattering_takes_light_from_deeper_cells() -> None:
    changes = {"numerical_aperture": 0.5, "brightness_spread": 0.0, "n_silent": 60}
    plain, scattered = (truth_of(**changes, scattering_length_um=s) for s in (0.0, 20.0))
    ratio = scattered.rest_counts / plain.rest_counts
    np.testing.assert_allclose(ratio, np.exp(-plain.depth_um / 20.0), rtol=2e-3)


def test_planted_cells_are_sharper_than_what_is_seen_of_them() -> None:
    truth = truth_of(blur_um=2.0, halo=0.2)
    whole = np.flatnonzero(~truth.cut)
    assert truth.planted.max() <= 1
    # The half-maximum masks are about alike; the light outside the body is not.
    outside = []
    for matrix in (truth.planted, truth.footprints):
        dense = matrix[whole].toarray()
        outside.append((dense * (dense < 0.3)).sum() / dense.sum())
    assert outside[1] > 3 * outside[0]


def test_nuclei_are_as_dim_as_asked() -> None:
    def centre_over_ring(dimness: float) -> float:
        truth = truth_of(
            nucleus_share=1.0, nucleus_dimness_min=dimness, nucleus_dimness_max=dimness,
            soma_diameter_um=20.0, soma_diameter_max_um=25.0, n_silent=12, dendrite_share=0.0,
            blur_um=0.0, halo=0.0,
        )  # fmt: skip
        ratios = []
        for cell in np.flatnonzero(~truth.cut):
            image = truth.planted[[cell]].toarray().reshape(160, 160)
            y, x = truth.centres[cell]
            distance = np.hypot(*(np.mgrid[:160, :160] - np.array([y, x]).reshape(2, 1, 1)))
            ring = image[(distance > 6.5) & (distance < 8)]
            ratios.append(image[distance < 2].mean() / ring[ring > 0].mean())
        return float(np.median(ratios))

    bright, dim = centre_over_ring(0.0), centre_over_ring(0.8)
    assert dim / bright == pytest.approx(0.25, abs=0.1)


def test_longer_dendrites_reach_farther() -> None:
    def reach(length: float) -> float:
        truth = truth_of(dendrite_share=1.0, dendrite_length=length, halo=0.0)
        cells = np.flatnonzero(np.abs(truth.centres - 79.5).max(axis=1) < 45)
        far = []
        for cell in cells:
            index = truth.planted[[cell]].indices
            y, x = truth.centres[cell]
            far.append(np.hypot(index // 160 - y, index % 160 - x).max())
        return float(np.median(far))

    assert reach(2.5) > 1.5 * reach(1.0)


def test_vessels_above_cells_shade_them_and_vessels_below_do_not() -> None:
    vessels = {"n_vessels": 5, "vessel_width_min_um": 8.0, "vessel_depth_min": 0.4,
               "vessel_depth_max": 0.5, "n_silent": 80}  # fmt: skip
    bare, below, above = (
        truth_of(**changes)
        for changes in (vessels | {"n_vessels": 0}, vessels, vessels | {"vessel_shadow": 1.0})
    )
    np.testing.assert_allclose(below.rest_counts, bare.rest_counts, rtol=1e-5)
    ratio = above.rest_counts / bare.rest_counts
    assert ratio.max() <= 1.02  # masks at half maximum change with the shade
    assert ratio.min() < 0.75
    assert np.median(ratio) > 0.9  # most cells lie beside them
    assert above.footprints.max() <= 1.0001


ACTIVE = {"n_silent": 0, "n_active": 60, "n_frames": 600, "frame_rate_hz": 10.0}


def spikes_per_event(truth: Truth) -> np.ndarray:
    counts = []
    for cell, first, last in truth.events:
        window = slice(int(first * truth.fps), int(last * truth.fps) + 1)
        counts.append(truth.spikes[int(cell), window].sum())
    return np.asarray(counts)


def test_bursting_cells_fire_more_spikes_an_event() -> None:
    usual, bursting = (truth_of(**ACTIVE, bursting_share=share) for share in (0.0, 1.0))
    assert np.mean(spikes_per_event(usual)) < 5
    assert np.mean(spikes_per_event(bursting)) > 8


def test_tonic_cells_fire_all_the_time() -> None:
    quiet, tonic = (
        truth_of(**ACTIVE, rare_share=1.0, tonic_share=share, tonic_rate_hz=1.0)
        for share in (0.0, 1.0)
    )
    assert quiet.spikes[quiet.active].sum(axis=1).max() < 30
    assert np.median(tonic.spikes[tonic.active].sum(axis=1)) == pytest.approx(60 + 4, rel=0.15)


def test_network_bursts_come_like_a_clock_or_at_random() -> None:
    long = changed(CONFIG, n_frames=20_000, frame_rate_hz=10.0, network_burst_rate_hz=0.2)
    spread_of = {}
    for regularity in (0.0, 0.8):
        times = network_bursts(
            np.random.default_rng(2), config=changed(long, network_burst_regularity=regularity)
        )
        gaps = np.diff(times)
        assert len(times) == pytest.approx(400, rel=0.15)
        spread_of[regularity] = gaps.std() / gaps.mean()
    assert spread_of[0.0] == pytest.approx(1.0, abs=0.15)
    assert spread_of[0.8] == pytest.approx(0.2, abs=0.04)


def test_cells_and_neuropil_follow_the_network_bursts() -> None:
    config = changed(
        CONFIG, **ACTIVE, rare_share=0.0, synchrony_share=1.0, network_burst_participation=1.0,
        network_burst_jitter_s=0.1, network_burst_rate_hz=0.08, network_burst_regularity=0.6,
        network_burst_spikes=8.0, event_rate_hz=0.001, network_burst_amplitude=0.05,
        neuropil_amplitude=0.0, gain_counts_per_photon=0.0, read_noise_counts=0.0, bleaching=0.0,
    )  # fmt: skip
    simulation = simulate(config, seed=3)
    truth = simulation.truth
    assert len(truth.bursts_s) >= 3
    for burst in truth.bursts_s:
        first = int(burst * truth.fps)
        joined = truth.spikes[:, first : first + 8].sum(axis=1)[truth.active]
        assert (joined > 0).mean() > 0.95
        assert joined.mean() > 4
    # The neuropil rises with them, where no cell is.
    empty = ~truth.union(np.ones(len(truth), bool))
    course = simulation.frames[:, empty].mean(axis=1)
    rises = [
        course[int(b * 10) : int(b * 10) + 12].max() - course[max(0, int(b * 10) - 1)]
        for b in truth.bursts_s
    ]
    assert min(rises) > 0.005 * course.mean()


def test_the_arrays_of_the_truth_hold_what_was_planted() -> None:
    truth = truth_of(n_defocused_silent=6, n_active=4, n_frames=30)
    arrays = truth.arrays()
    n, k = int(truth.in_focus.sum()), int((~truth.in_focus).sum())
    assert k > 0
    assert arrays["planted"].shape == (n, 160, 160)
    assert arrays["planted"].dtype == bool
    np.testing.assert_array_equal(arrays["centres"], truth.centres[:n])
    assert arrays["defocused_centres"].shape == (k, 2)
    assert arrays["defocused_traces"].shape == (k, 30)
    assert not arrays["defocused_traces"][~arrays["defocused_active"]].any()
    for cell in np.flatnonzero(np.abs(truth.centres[:n] - 79.5).max(axis=1) < 65):
        rows, columns = np.nonzero(arrays["planted"][cell])
        assert (
            np.hypot(rows.mean() - truth.centres[cell, 0], columns.mean() - truth.centres[cell, 1])
            < 2
        )
