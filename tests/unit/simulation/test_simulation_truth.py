"""What the truth says of cells and their activity."""

import io

import numpy as np
import pytest

from cocuyo.simulation import KINDS, Simulation, SimulationConfig, simulate

CONFIG = SimulationConfig(
    n_frames=120,
    n_rows=96,
    n_columns=80,
    n_active=15,
    n_silent=20,
    n_defocused_active=5,
    n_defocused_silent=5,
    event_rate_hz=0.1,
    spikes_per_event=3.0,
)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(CONFIG, seed=2)


def with_changes(**changes: object) -> SimulationConfig:
    return CONFIG.model_copy(update=changes)


def test_every_kind_of_cell_occurs_and_cells_in_focus_come_first(simulation: Simulation) -> None:
    truth = simulation.truth
    assert set(truth.kind) == set(KINDS)
    n = truth.in_focus.sum()
    assert truth.in_focus[:n].all()
    assert not truth.in_focus[n:].any()
    np.testing.assert_array_equal(np.array(truth.kind) == "defocused", ~truth.in_focus)


def test_silent_cells_never_fire(simulation: Simulation) -> None:
    truth = simulation.truth
    silent = np.array(truth.kind) == "silent"
    assert silent.sum() >= CONFIG.n_silent
    assert not truth.spikes[silent].any()
    assert not truth.traces[silent].any()
    assert not truth.raster[silent].any()
    assert not np.isin(truth.events[:, 0], np.flatnonzero(silent)).any()


def test_active_cells_fire_at_least_once(simulation: Simulation) -> None:
    truth = simulation.truth
    assert np.all(truth.spikes[truth.active].sum(axis=1) >= 1)
    assert np.all(truth.traces[truth.active].max(axis=1) > 0)


def test_a_cell_is_functional_from_three_noise_sd_on(simulation: Simulation) -> None:
    truth = simulation.truth
    fires = truth.in_focus & truth.active
    np.testing.assert_array_equal(truth.functional, fires & (truth.snr >= 3))
    np.testing.assert_array_equal(truth.ignore, ~truth.functional)


def test_snr_is_the_transient_over_the_noise_of_the_somas_mean() -> None:
    config = with_changes(drift_px=0.0, jitter_px=0.0, n_hot_pixels=0, min_distance=1.5)
    noisy = simulate(config, seed=6)
    clean = simulate(
        config.model_copy(update={"gain_counts_per_photon": 0.0, "read_noise_counts": 0.0}), seed=6
    )
    truth = noisy.truth
    cell = int(np.argmax(truth.snr * truth.in_focus * ~truth.cut))
    pixels = truth.cell_masks()[[cell]].indices
    somata = [
        frames.reshape(CONFIG.n_frames, -1)[:, pixels].mean(axis=1, dtype=float)
        for frames in (noisy.frames, clean.frames)
    ]
    noise = (somata[0] - somata[1])[truth.traces[cell] < 0.1 * truth.traces[cell].max()].std()
    largest = (truth.rest_counts[cell] * truth.traces[cell] * truth.light / truth.light[0]).max()
    assert truth.snr[cell] == pytest.approx(largest / noise, rel=0.25)


def test_detectability_falls_with_noise(simulation: Simulation) -> None:
    for change in ({"gain_counts_per_photon": 13.2}, {"read_noise_counts": 200.0}):
        worse = simulate(with_changes(**change), seed=2).truth
        fires = worse.active
        assert np.all(worse.snr[fires] < simulation.truth.snr[fires])
        assert worse.functional.sum() < simulation.truth.functional.sum()


def test_detectability_rises_with_amplitude_and_brightness(simulation: Simulation) -> None:
    fires = simulation.truth.active
    louder = simulate(with_changes(amplitude_min=0.24, amplitude_max=1.0), seed=2).truth
    np.testing.assert_allclose(louder.snr[fires], 2 * simulation.truth.snr[fires], rtol=1e-3)
    brighter = simulate(with_changes(brightness=0.5), seed=2).truth
    assert np.all(brighter.snr[fires] > simulation.truth.snr[fires])


def test_silent_cells_are_as_bright_as_active_ones_that_are_visible() -> None:
    config = with_changes(n_active=60, n_silent=60, dim_at_rest_share=0.0, n_rows=200)
    truth = simulate(config, seed=3).truth
    relative = truth.rest_counts / truth.background_counts
    active = np.median(relative[truth.in_focus & truth.active])
    silent = np.median(relative[truth.in_focus & ~truth.active])
    assert active == pytest.approx(silent, rel=0.3)


def test_dim_cells_have_as_bright_transients_as_others() -> None:
    plain, dim = (simulate(with_changes(dim_at_rest_share=s), seed=3).truth for s in (0.0, 1.0))
    fires = plain.active
    assert np.all(dim.rest_counts[fires] < 0.25 * plain.rest_counts[fires])
    np.testing.assert_allclose(
        (dim.rest_counts[:, None] * dim.traces)[fires],
        (plain.rest_counts[:, None] * plain.traces)[fires],
        rtol=1e-4,
    )
    in_focus = fires & plain.in_focus
    assert dim.visible_at_rest[in_focus].sum() < plain.visible_at_rest[in_focus].sum()


def test_masks_are_footprints_of_at_least_half_maximum(simulation: Simulation) -> None:
    truth = simulation.truth
    dense = truth.footprints.toarray()
    np.testing.assert_array_equal(truth.cell_masks().toarray(), dense >= 0.5)
    whole = ~truth.cut & truth.in_focus
    assert dense[whole].max(axis=1).min() > 0.8
    assert dense.max() <= 1
    union = (dense[truth.functional] >= 0.5).any(axis=0).reshape(truth.frame_shape)
    np.testing.assert_array_equal(truth.mask(), union)


def test_somata_have_the_diameter_that_was_asked() -> None:
    config = with_changes(soma_diameter_um=12.0, soma_diameter_spread=0.05, pixel_size_um=1.0)
    truth = simulate(config, seed=1).truth
    area = truth.cell_masks()[np.flatnonzero(truth.in_focus & ~truth.cut)].sum(axis=1)
    assert np.median(2 * np.sqrt(area / np.pi)) == pytest.approx(12.0, rel=0.12)


def overlap(min_distance: float) -> int:
    config = with_changes(min_distance=min_distance, n_active=20, n_silent=25, dendrite_share=0.0)
    truth = simulate(config, seed=1).truth
    masks = truth.cell_masks()[np.flatnonzero(truth.in_focus)].astype(int)
    return int((masks.sum(axis=0) > 1).sum())


def test_somata_keep_their_distance_and_overlap_only_where_allowed() -> None:
    assert overlap(1.5) == 0
    assert overlap(0.3) > 10


def test_cells_out_of_focus_are_wider_and_fainter(simulation: Simulation) -> None:
    config = with_changes(n_defocused_active=40, defocus_min_um=8.0)
    truth = simulate(config, seed=1).truth
    area = truth.cell_masks().sum(axis=1)
    whole = ~truth.cut
    assert np.median(area[whole & ~truth.in_focus]) > 3 * np.median(area[whole & truth.in_focus])


def test_spikes_half_a_second_apart_are_one_event(simulation: Simulation) -> None:
    truth = simulation.truth
    for cell in np.flatnonzero(truth.active):
        events = truth.events[truth.events[:, 0] == cell]
        assert np.all(events[1:, 1] - events[:-1, 2] > 0.5)
        frames = np.flatnonzero(truth.spikes[cell]) / truth.fps
        assert np.floor(events[0, 1] * truth.fps + 1e-6) == round(frames[0] * truth.fps)
        covered = np.zeros(len(frames), bool)
        for _, first, last in events:
            covered |= (frames >= first - 1 / truth.fps) & (frames <= last + 1e-6)
        assert covered.all()


def test_raster_runs_from_the_first_spike_to_half_of_the_peak(simulation: Simulation) -> None:
    truth = simulation.truth
    checked = 0
    for cell in np.flatnonzero(truth.active):
        events = truth.events[truth.events[:, 0] == cell]
        if len(events) != 1:
            continue
        checked += 1
        start = int(np.floor(events[0, 1] * truth.fps + 1e-6))
        trace = truth.traces[cell]
        stop = np.flatnonzero(trace >= 0.5 * trace.max())[-1] + 1
        expected = np.zeros(CONFIG.n_frames, bool)
        expected[start:stop] = True
        np.testing.assert_array_equal(truth.raster[cell], expected)
    assert checked > 1


def test_a_transient_decays_with_the_time_constant_that_was_asked() -> None:
    config = with_changes(
        decay_min_s=1.0, decay_max_s=1.0, rise_s=0.02, rare_share=1.0, frame_rate_hz=20.0
    )
    truth = simulate(config, seed=5).truth
    checked = 0
    for cell in np.flatnonzero(truth.active):
        last = truth.events[truth.events[:, 0] == cell][-1, 2]
        frame = int(last * 20) + 4
        if frame + 20 < CONFIG.n_frames:
            checked += 1
            ratio = truth.traces[cell, frame + 20] / truth.traces[cell, frame]
            assert ratio == pytest.approx(np.exp(-1), rel=0.02)
    assert checked > 1


def test_labels_hold_visible_cells_only_firing_or_not(simulation: Simulation) -> None:
    truth = simulation.truth
    visible = truth.visible(10)
    assert not visible[~truth.in_focus].any()
    np.testing.assert_array_equal(truth.frame_labels(10), truth.union(visible))
    silent = truth.in_focus & ~truth.active
    assert visible[silent].mean() > 0.7
    assert truth.frame_labels(10, k=50.0).sum() < truth.frame_labels(10).sum()


def test_a_dim_cell_is_labelled_while_it_fires() -> None:
    config = with_changes(dim_at_rest_share=1.0, amplitude_min=0.5, amplitude_max=0.6)
    truth = simulate(config, seed=3).truth
    cell = int(np.argmax(truth.snr * truth.in_focus * ~truth.visible_at_rest))
    t = int(truth.traces[cell].argmax())
    assert not truth.visible_at_rest[cell]
    assert truth.visible(t)[cell]


def test_moved_labels_lie_where_the_tissue_is(simulation: Simulation) -> None:
    truth = simulation.truth
    t = int(np.hypot(*truth.shifts.T).argmax())
    still, moved = truth.frame_labels(t), truth.frame_labels(t, moved=True)
    step = np.rint(truth.shifts[t]).astype(int)
    rolled = np.roll(still, tuple(step), axis=(0, 1))
    inner = (slice(6, -6), slice(6, -6))
    agreement = (rolled & moved)[inner].sum() / (rolled | moved)[inner].sum()
    assert agreement > 0.8
    assert agreement > (still & moved)[inner].sum() / (still | moved)[inner].sum()


def test_the_truth_survives_an_npz_file(simulation: Simulation) -> None:
    arrays = simulation.truth.arrays()
    n = int(simulation.truth.in_focus.sum())
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        assert set(loaded) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype
    assert arrays["footprints"].shape == (n, 96, 80)
    assert arrays["footprints"].dtype == np.float32
    assert arrays["n_defocused"].sum() == len(simulation.truth) - n
    assert np.all(arrays["events"][:, 0] < n)


def test_regions_carry_the_mask_and_ignore_silent_cells(simulation: Simulation) -> None:
    truth = simulation.truth
    regions = truth.regions()
    n = int(truth.in_focus.sum())
    assert regions.n_rois == n
    np.testing.assert_array_equal(regions.union(), truth.mask())
    np.testing.assert_array_equal(regions.union_of(~regions.ignored), truth.mask())
    assert regions.events is not None
    assert len(regions.events) == np.sum(truth.events[:, 0] < n)


def test_cells_cut_by_the_border_are_neither_wanted_nor_false(simulation: Simulation) -> None:
    truth = simulation.truth
    whole = truth.union(truth.functional & ~truth.cut)
    assert (truth.cut & truth.in_focus).any()
    assert not (truth.ignore_pixels & whole).any()
    assert not (truth.union(truth.cut & truth.in_focus) & ~whole & ~truth.ignore_pixels).any()
