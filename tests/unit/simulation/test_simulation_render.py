"""Physics of the simulated movie."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from cocuyo.core import Progress, SettingsError
from cocuyo.simulation import PRESETS, Simulation, SimulationConfig, simulate

SMALL = SimulationConfig(
    n_frames=60,
    n_rows=64,
    n_columns=80,
    n_active=6,
    n_silent=8,
    n_defocused_active=3,
    n_defocused_silent=3,
    event_rate_hz=0.3,
)
# A microscope without noise, motion or any light but the tissue's.
CLEAN = SMALL.model_copy(
    update={
        "gain_counts_per_photon": 0.0,
        "read_noise_counts": 0.0,
        "baseline_counts": 10000.0,
        "drift_px": 0.0,
        "jitter_px": 0.0,
        "bleaching": 0.0,
        "vignetting": 0.0,
        "n_dirt": 0,
        "n_hot_pixels": 0,
        "neuropil_amplitude": 0.0,
        "network_burst_amplitude": 0.0,
        "blur_um": 0.0,
    }
)


def changed(config: SimulationConfig, **changes: object) -> SimulationConfig:
    return config.model_copy(update=changes)


@pytest.fixture(scope="module")
def clean() -> Simulation:
    return simulate(CLEAN, seed=4)


@pytest.fixture(scope="module")
def noisy() -> Simulation:
    return simulate(SMALL, seed=4)


def test_without_noise_the_movie_is_footprints_times_traces_plus_background() -> None:
    # Cells outside the frame shine into it, though not as far as the part that is compared.
    config = changed(CLEAN, n_rows=96, n_columns=112, halo_um=3.0, defocus_max_um=4.5)
    simulation = simulate(config, seed=4)
    truth = simulation.truth
    movie = simulation.frames.reshape(len(simulation.frames), -1).astype(np.float64)
    half = truth.cell_masks().astype(np.float64)
    mean_footprint = half.multiply(truth.footprints).sum(axis=1) / half.sum(axis=1)
    peak_counts = truth.rest_counts / mean_footprint
    cells = truth.footprints.T @ (peak_counts[:, None] * truth.traces)
    background = (movie - cells.T).reshape(simulation.frames.shape)[:, 22:-22, 22:-22]
    inner = cells.T.reshape(simulation.frames.shape)[:, 22:-22, 22:-22]
    # Rounding to whole counts is all that is left.
    assert np.abs(background - background.mean(axis=0)).max() < 1.5
    assert inner.max() > 300


def test_the_brightness_at_rest_is_what_lies_over_the_background(clean: Simulation) -> None:
    without = simulate(
        changed(CLEAN, n_active=0, n_silent=0, n_defocused_active=0, n_defocused_silent=0), seed=4
    )
    truth = clean.truth
    half = truth.cell_masks().astype(np.float64)
    difference = clean.frames[0].ravel().astype(float) - without.frames[0].ravel()
    measured = (half @ difference) / half.sum(axis=1)
    own = truth.rest_counts * (1 + truth.traces[:, 0])
    alone = np.asarray(half.sum(axis=0)).ravel() == 1
    isolated = np.flatnonzero((half @ alone) == half.sum(axis=1))
    isolated = isolated[truth.in_focus[isolated]]
    assert len(isolated) > 2
    # Neighbours' haze only adds.
    assert np.all(measured[isolated] > own[isolated] - 2)


def test_a_seed_gives_one_movie(noisy: Simulation) -> None:
    again = simulate(SMALL, seed=4)
    np.testing.assert_array_equal(again.frames, noisy.frames)
    for name, array in noisy.truth.arrays().items():
        np.testing.assert_array_equal(again.truth.arrays()[name], array)


def test_another_seed_gives_another_movie(noisy: Simulation) -> None:
    other = simulate(SMALL, seed=5)
    assert not np.array_equal(other.frames, noisy.frames)
    assert not np.array_equal(other.truth.shifts, noisy.truth.shifts)


def test_splits_share_no_random_numbers(noisy: Simulation) -> None:
    names = ("training", "validation", "test")
    shifts = [simulate(changed(SMALL, split=name), seed=4).truth.shifts for name in names]
    assert not np.array_equal(shifts[0], shifts[1])
    assert not np.array_equal(shifts[0], shifts[2])
    assert not np.array_equal(shifts[0], noisy.truth.shifts)


def test_more_silent_cells_leave_the_active_ones_as_they_are(noisy: Simulation) -> None:
    more = simulate(changed(SMALL, n_silent=20), seed=4).truth
    few = noisy.truth
    for truth in (more, few):
        assert truth.active[: truth.active.argmin()].all()
    chosen_few = np.flatnonzero(few.active)
    chosen_more = np.flatnonzero(more.active)
    np.testing.assert_array_equal(few.traces[chosen_few], more.traces[chosen_more])
    np.testing.assert_array_equal(
        few.footprints[chosen_few].toarray(), more.footprints[chosen_more].toarray()
    )
    assert (~more.active).sum() > (~few.active).sum()


def test_a_longer_list_of_flashes_does_not_move_the_tissue(noisy: Simulation) -> None:
    flashed = simulate(changed(SMALL, n_flashes=2, flash_factor=2.0), seed=4)
    np.testing.assert_array_equal(flashed.truth.shifts, noisy.truth.shifts)
    means = flashed.frames.mean(axis=(1, 2)) / noisy.frames.mean(axis=(1, 2))
    assert flashed.truth.flashes.any()
    assert np.all(means[flashed.truth.flashes] > 1.3)
    np.testing.assert_allclose(means[~flashed.truth.flashes], 1, atol=0.01)


def test_true_shifts_are_how_far_the_image_moved() -> None:
    still = {"n_active": 0, "n_defocused_active": 0}
    config = changed(
        CLEAN,
        **still,
        drift_px=5.0,
        jitter_px=0.3,
        n_silent=60,
        n_frames=12,
        n_rows=128,
        n_columns=160,
    )
    simulation = simulate(config, seed=8)
    images = simulation.frames.astype(np.float64)
    bands = [cv2.GaussianBlur(image, (0, 0), 1.5) for image in images]
    bands = [band - cv2.GaussianBlur(band, (0, 0), 6) for band in bands]
    inner = (slice(16, -16), slice(16, -16))
    for t in range(1, len(images)):
        spectrum = np.fft.rfft2(bands[t][inner]) * np.conj(np.fft.rfft2(bands[0][inner]))
        correlation = np.fft.fftshift(np.fft.irfft2(spectrum))
        peak = np.unravel_index(correlation.argmax(), correlation.shape)
        moved = np.subtract(peak, np.array(correlation.shape) // 2)
        np.testing.assert_allclose(moved, simulation.truth.shifts[t], atol=0.75)
        # Moved back by the truth it is the first frame; by a tenth of a pixel more or less,
        # along either axis, it is not.
        dy, dx = (float(value) for value in simulation.truth.shifts[t])
        true, *wrong = (
            (ndimage.shift(bands[t], (-dy - more_y, -dx - more_x), order=3) - bands[0])[inner].std()
            for more_y, more_x in ((0, 0), (0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1))
        )
        assert true < 0.75 * min(wrong)


def test_drift_reaches_what_was_asked_and_starts_at_zero() -> None:
    shifts = simulate(changed(SMALL, drift_px=6.0, jitter_px=0.0), seed=1).truth.shifts
    assert np.all(shifts[0] == 0)
    assert np.hypot(*shifts.T).max() == pytest.approx(6.0, rel=1e-4)


def test_motion_brings_in_new_tissue_not_black_borders() -> None:
    moved = simulate(changed(CLEAN, drift_px=8.0), seed=2).frames
    border = np.concatenate([moved[:, 0], moved[:, -1]], axis=1)
    assert border.min() > 0.15 * moved.mean()


def test_shot_noise_grows_with_the_root_of_the_light() -> None:
    still = changed(
        CLEAN,
        n_active=0,
        n_silent=0,
        n_defocused_active=0,
        n_defocused_silent=0,
        gain_counts_per_photon=4.0,
        n_frames=200,
        background_texture=0.0,
        n_vessels=0,
    )
    for baseline in (400.0, 6400.0, 100.0):  # the last is drawn as Poisson numbers
        frames = simulate(changed(still, baseline_counts=baseline), seed=0).frames
        spread = frames.astype(float).std(axis=0).mean()
        assert spread == pytest.approx(np.sqrt(4.0 * baseline), rel=0.02)


def test_bleaching_takes_the_share_of_light_that_was_asked() -> None:
    frames = simulate(changed(CLEAN, bleaching=0.3, n_active=0, n_defocused_active=0), seed=0)
    light = frames.frames.astype(float) - CLEAN.offset_counts
    assert light[-1].mean() / light[0].mean() == pytest.approx(0.7, abs=0.001)


def test_dirt_stays_while_the_tissue_moves() -> None:
    config = changed(CLEAN, drift_px=4.0, n_active=0, n_defocused_active=0)
    clear, dirty = (simulate(changed(config, n_dirt=n), seed=3).frames for n in (0, 3))
    offset = CLEAN.offset_counts
    shade = (dirty - offset) / (clear - offset)
    assert shade.min() < 0.97
    np.testing.assert_allclose(shade[0], shade[-1], atol=0.001)


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_counts_are_clipped_to_the_bit_depth(bit_depth: int, dtype: type) -> None:
    baseline = 0.9 * 2**bit_depth
    config = changed(
        SMALL, bit_depth=bit_depth, baseline_counts=baseline, gain_counts_per_photon=baseline / 100
    )
    frames = simulate(config, seed=1).frames
    assert frames.dtype == dtype
    assert frames.max() == 2**bit_depth - 1


def test_a_frame_that_is_not_square_and_has_no_cell_is_simulated() -> None:
    nothing = dict.fromkeys(("n_active", "n_silent", "n_defocused_active", "n_defocused_silent"), 0)
    simulation = simulate(changed(SMALL, n_rows=33, n_columns=51, n_frames=3, **nothing), seed=1)
    assert simulation.frames.shape == (3, 33, 51)
    assert len(simulation.truth) == 0
    assert not simulation.truth.mask().any()
    assert simulation.truth.arrays()["footprints"].shape == (0, 33, 51)
    assert not simulation.truth.frame_labels(1).any()
    assert simulation.truth.regions().n_rois == 0


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SettingsError, match="seed is -1"):
        simulate(SMALL, seed=-1)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="amplitude: the minimum 2"):
        SimulationConfig(amplitude_min=2.0)


def test_progress_ends_at_the_last_frame() -> None:
    seen: list[Progress] = []
    simulate(SMALL, seed=0, progress=seen.append)
    assert [report.done for report in seen] == sorted(report.done for report in seen)
    assert seen[-1] == Progress("simulate", 60, 60)


def test_the_recording_knows_its_rate_and_pixel_size(noisy: Simulation) -> None:
    recording = noisy.recording(name="mine")
    assert (recording.rate_hz, recording.pixel_size_um) == (6.67, 1.5)
    assert recording.name == "mine"
    np.testing.assert_array_equal(recording.movie.read(0, 60), noisy.frames)


def test_takes_show_the_same_cells_doing_something_else():
    config = PRESETS["demo"].model_copy(
        update={"n_frames": 40, "n_rows": 72, "n_columns": 80, "takes": 2, "drift_px": 3.0}
    )
    first, second = (simulate(config.model_copy(update={"take": k}), seed=4) for k in (0, 1))
    assert len(first.truth) == len(second.truth) > 5
    np.testing.assert_array_equal(
        first.truth.footprints.toarray(), second.truth.footprints.toarray()
    )
    np.testing.assert_array_equal(first.truth.rest_counts, second.truth.rest_counts)
    assert not np.array_equal(first.truth.traces, second.truth.traces)
    assert not np.array_equal(first.truth.shifts, second.truth.shifts)
    assert (second.truth.shifts[0] == 0).all()
    # The tissue at rest looks the same in both.
    pictures = [one.frames[:3].mean(0).ravel() for one in (first, second)]
    assert np.corrcoef(*pictures)[0, 1] > 0.9


def test_a_take_that_is_none_of_its_tissue_is_refused():
    with pytest.raises(ValueError, match="takes count from 0"):
        SimulationConfig(takes=2, take=2)
