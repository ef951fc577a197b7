"""Named simulations, and random ones for training."""

import numpy as np

from cocuyo.core import stream
from cocuyo.simulation.camera import with_camera
from cocuyo.simulation.config import SimulationConfig, Split


def _changed(base: SimulationConfig, **values: object) -> SimulationConfig:
    return SimulationConfig.model_validate(base.model_dump() | values)


# Through a water objective of 20 x 0.5, focused some 40 µm below the surface of a slice.
_DEEP_SLICE = SimulationConfig(
    numerical_aperture=0.5,
    focus_depth_um=5.0,
    depth_range_um=50.0,
    scattering_length_um=60.0,
    defocus_light=1.0,
    n_vessels=1,
)
_MINISCOPE = SimulationConfig(
    frame_rate_hz=15.0,
    pixel_size_um=2.0,
    n_active=65,
    n_silent=20,
    n_defocused_active=45,
    n_defocused_silent=30,
    soma_diameter_um=13.0,
    soma_diameter_min_um=9.0,
    soma_diameter_max_um=20.0,
    elongation=1.5,
    nucleus_share=0.3,
    dendrite_share=0.2,
    min_distance=0.7,
    brightness=0.33,
    brightness_spread=0.5,
    dim_at_rest_share=0.5,
    blur_um=3.0,
    halo=0.2,
    halo_um=15.0,
    defocus_min_um=7.0,
    defocus_max_um=30.0,
    defocus_light=3.0,
    indicator="GCaMP6f",
    event_rate_hz=0.06,
    spikes_per_event=4.0,
    spike_interval_s=0.05,
    bursting_share=0.3,
    burst_spikes=10.0,
    synchrony_share=0.1,
    background_texture=0.1,
    n_vessels=4,
    vessel_width_min_um=4.0,
    vessel_width_max_um=12.0,
    vessel_depth_min=0.15,
    vessel_depth_max=0.5,
    vessel_shadow=1.0,
    neuropil_amplitude=0.012,
    neuropil_scale_um=50.0,
    network_burst_amplitude=0.012,
    vignetting=0.5,
    bleaching=0.05,
    lamp_flicker=0.001,
    jitter_px=0.15,
    n_jumps=3,
    jump_px=3.0,
    nonrigid_px=0.8,
    n_dirt=3,
    n_hot_pixels=0,
)

PRESETS: dict[str, SimulationConfig] = {
    "demo": SimulationConfig(
        n_active=32,
        n_silent=60,
        n_defocused_active=12,
        n_defocused_silent=30,
        gain_counts_per_photon=0.8,
        drift_px=3.0,
    ),
    "slice": SimulationConfig(),
    "sparse": SimulationConfig(
        n_active=14,
        n_silent=35,
        gain_counts_per_photon=2.0,
        n_defocused_active=8,
        n_defocused_silent=15,
    ),
    "crowded": SimulationConfig(
        n_active=110,
        n_silent=230,
        n_defocused_active=40,
        n_defocused_silent=60,
        min_distance=0.65,
    ),
    "silent": SimulationConfig(
        n_active=0,
        n_silent=200,
        n_defocused_active=0,
        n_defocused_silent=40,
    ),
    "dim": SimulationConfig(
        drift_px=7.0,
        jitter_px=0.2,
        n_flashes=3,
        brightness=0.18,
        read_noise_counts=6.0,
        baseline_counts=600.0,
        gain_counts_per_photon=0.7,
        bleaching=0.3,
    ),
    "slice_gcamp6f": with_camera(
        _changed(
            _DEEP_SLICE,
            frame_rate_hz=10.0,
            indicator="GCaMP6f",
            nucleus_share=0.8,
            brightness=0.2,
            dim_at_rest_share=0.6,
            spikes_per_event=2.5,
            bursting_share=0.2,
            tonic_share=0.1,
            nonrigid_px=0.5,
            n_dead_pixels=4,
        ),
        "sCMOS",
        photons=1500,
    ),
    "slice_ogb1": with_camera(
        _changed(
            _DEEP_SLICE,
            frame_rate_hz=15.0,
            indicator="OGB-1",
            nucleus_share=0.0,
            brightness=0.4,
            dim_at_rest_share=0.1,
            spikes_per_event=3.0,
            neuropil_amplitude=0.02,
            network_burst_amplitude=0.05,
            lamp_drift=0.005,
            illumination_tilt=0.03,
        ),
        "EMCCD",
        photons=1200,
    ),
    "slice_mixed": SimulationConfig(
        soma_diameter_distribution="log_uniform",
        soma_diameter_min_um=7.0,
        soma_diameter_max_um=21.0,
        n_active=32,
        n_silent=60,
        bursting_share=0.3,
        tonic_share=0.2,
        gain_counts_per_photon=0.8,
    ),
    "slice_stimulated": SimulationConfig(
        stimulus_interval_s=10.0,
        stimulus_duration_s=0.2,
        stimulus_light=0.6,
        stimulus_response_share=0.4,
        event_rate_hz=0.02,
        gain_counts_per_photon=0.8,
        n_dropped_frames=5,
    ),
    "culture": SimulationConfig(
        frame_rate_hz=2.0,
        pixel_size_um=0.65,
        n_active=15,
        n_silent=40,
        n_defocused_active=5,
        n_defocused_silent=18,
        soma_diameter_um=16.0,
        soma_diameter_min_um=9.0,
        soma_diameter_max_um=24.0,
        irregularity=0.1,
        elongation=2.2,
        nucleus_share=0.3,
        nucleus_dimness_min=0.05,
        nucleus_dimness_max=0.3,
        dendrite_share=0.7,
        dendrite_length=2.0,
        min_distance=0.85,
        clustering=0.5,
        brightness=0.65,
        brightness_spread=0.3,
        dim_at_rest_share=0.1,
        blur_um=0.9,
        halo=0.15,
        halo_um=10.0,
        defocus_max_um=12.0,
        defocus_light=1.5,
        indicator="Fluo-4",
        event_rate_hz=0.012,
        spikes_per_event=1.6,
        rare_share=0.4,
        network_burst_rate_hz=0.002,
        n_vessels=0,
        neuropil_amplitude=0.004,
        neuropil_scale_um=60.0,
        network_burst_amplitude=0.01,
        vignetting=0.25,
        bleaching=0.06,
        lamp_drift=0.012,
        lamp_wander=0.004,
        n_lamp_steps=1,
        drift_px=1.5,
        jitter_px=0.05,
        baseline_counts=35.0,
        gain_counts_per_photon=0.1,
        read_noise_counts=1.0,
        offset_counts=12.0,
        bit_depth=8,
        n_hot_pixels=0,
        n_dead_pixels=40,
        n_dirt=2,
    ),
    "culture_bursts": with_camera(
        SimulationConfig(
            frame_rate_hz=20.0,
            pixel_size_um=1.6,
            n_active=60,
            n_silent=40,
            n_defocused_active=6,
            n_defocused_silent=10,
            soma_diameter_um=14.0,
            soma_diameter_min_um=9.0,
            soma_diameter_max_um=22.0,
            elongation=1.6,
            dendrite_share=0.8,
            dendrite_length=1.6,
            brightness=0.5,
            indicator="GCaMP6s",
            dim_at_rest_share=0.3,
            spikes_per_event=1.5,
            synchrony_share=0.85,
            network_burst_rate_hz=0.15,
            network_burst_regularity=0.7,
            network_burst_participation=0.85,
            network_burst_jitter_s=0.1,
            network_burst_spikes=6.0,
            network_burst_amplitude=0.02,
            neuropil_amplitude=0.004,
            n_vessels=0,
            vignetting=0.2,
            drift_px=0.5,
            jitter_px=0.03,
            n_dead_pixels=3,
        ),
        "sCMOS",
        photons=600,
    ),
    "miniscope": with_camera(_MINISCOPE, "CMOS", photons=1200, fill=0.3),
    "miniscope_video": _changed(
        with_camera(_MINISCOPE, "CMOS", photons=900, fill=0.3),
        brightness=0.5,
        network_burst_amplitude=0.025,
        bleaching=0.0,
        gain_spread=0.0,
        saved_blur_px=2.0,
        jpeg_quality=75,
    ),
    "miniscope_delta_f": SimulationConfig(
        frame_rate_hz=5.0,
        pixel_size_um=2.2,
        n_active=130,
        n_silent=35,
        n_defocused_active=130,
        n_defocused_silent=35,
        soma_diameter_um=14.0,
        soma_diameter_min_um=9.0,
        soma_diameter_max_um=22.0,
        elongation=2.0,
        min_distance=0.6,
        brightness=0.22,
        brightness_spread=0.5,
        dim_at_rest_share=0.4,
        blur_um=3.0,
        halo=0.25,
        halo_um=15.0,
        defocus_min_um=7.0,
        defocus_max_um=30.0,
        defocus_light=3.0,
        indicator="GCaMP6f",
        rare_share=0.3,
        spikes_per_event=4.0,
        bursting_share=0.3,
        burst_spikes=6.0,
        network_burst_rate_hz=0.1,
        synchrony_share=0.4,
        n_vessels=3,
        vessel_width_min_um=8.0,
        vessel_width_max_um=30.0,
        vessel_shadow=1.0,
        neuropil_amplitude=0.01,
        neuropil_scale_um=60.0,
        network_burst_amplitude=0.03,
        vignetting=0.5,
        bleaching=0.05,
        lamp_drift=0.004,
        lamp_flicker=0.012,
        drift_px=0.3,
        jitter_px=0.08,
        n_jumps=2,
        jump_px=1.0,
        nonrigid_px=0.2,
        baseline_counts=125.0,
        gain_counts_per_photon=0.02,
        read_noise_counts=0.4,
        offset_counts=8.0,
        bit_depth=8,
        n_dirt=6,
        n_hot_pixels=0,
        saved_blur_px=2.2,
        saved_as="delta_f_over_f",
        jpeg_quality=85,
    ),
}
"""Ready-made settings by name.

demo, slice, sparse, crowded, silent and dim are slices seen by one kind of camera, on which
trained models and benchmarks rest. slice_gcamp6f and slice_ogb1 have an indicator and depth,
slice_mixed cells of threefold diameter, slice_stimulated stimuli. culture and culture_bursts are
dissociated neurons; miniscope, miniscope_video and miniscope_delta_f are head-mounted microscopes:
raw, as lossy video, and as exported ΔF/F.
"""

TYPICAL_SHAPE = 0.6
"""Mean of footprint times illumination over a mask."""


def random_config(
    seed: int,
    *,
    split: Split = "training",
    n_frames: int = 400,
    shape: tuple[int, int] = (256, 256),
) -> SimulationConfig:
    """Draw the settings of one recording for training, over wide ranges of everything.

    Parameters
    ----------
    seed : int
        Seed of the recording, at least 0. Give the same seed to `simulate`.
    split : {"training", "validation", "test"}, default: "training"
        Part of the data. Random streams carry its name, so that recordings of two splits
        share no random number even where their seeds are equal.
    n_frames : int, default: 400
        Length, frames.
    shape : tuple of int, default: (256, 256)
        Rows and columns.

    Returns
    -------
    SimulationConfig
        The settings. The camera's gain is chosen so that the median of the transients' SNR
        lies between about 2 and 15.
    """
    rng = stream(seed, f"simulation.{split}.config")

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    pixel_um = float(rng.uniform(1.0, 2.0))
    diameter_um = float(rng.uniform(max(6.5, 5.0 * pixel_um), 13.0))
    area_px = shape[0] * shape[1]
    cell_px = np.pi / 4 * (diameter_um / pixel_um) ** 2
    # Share of the frame covered by cells in focus: from a few cells to a crowd.
    covered = log_uniform(0.02, 0.45)
    n_cells = int(np.clip(covered * area_px / cell_px, 8, 500))
    silent_share = float(rng.uniform(0.4, 0.9))
    n_active = max(5, round(n_cells * (1 - silent_share)))
    if rng.random() < 0.04:  # recordings without any activity must be known, too
        n_active = 0
    n_silent = round(n_active * silent_share / (1 - silent_share)) if n_active else n_cells
    n_silent = min(n_silent, 500)
    n_blurred = int(n_cells * log_uniform(0.15, 1.0))
    active_blurred = float(rng.uniform(0.2, 0.8)) if n_active else float(rng.uniform(0, 0.5))

    brightness = log_uniform(0.1, 0.5)
    amplitude_min = log_uniform(0.08, 0.2)
    amplitude_max = amplitude_min * log_uniform(2.0, 6.0)
    bit_depth = int(rng.choice([8, 8, 12, 16, 16]))
    full_scale = 2.0**bit_depth - 1
    baseline = full_scale * log_uniform(0.06, 0.4)
    # SNR = transient in photons over the noise of the soma's mean; solved for the gain.
    target_snr = float(np.exp(np.clip(rng.normal(np.log(13.0), 0.6), np.log(3), np.log(45))))
    transient = TYPICAL_SHAPE * 1.5 * brightness * np.sqrt(amplitude_min * amplitude_max)
    photons = (target_snr / transient) ** 2 / (0.8 * cell_px)
    photons = float(np.clip(photons, 8.0, 40000.0))
    gain = baseline / photons
    return SimulationConfig(
        split=split,
        n_frames=n_frames,
        n_rows=shape[0],
        n_columns=shape[1],
        frame_rate_hz=float(rng.uniform(4.0, 12.0)),
        pixel_size_um=pixel_um,
        n_active=n_active,
        n_silent=n_silent,
        n_defocused_active=round(n_blurred * active_blurred),
        n_defocused_silent=round(n_blurred * (1 - active_blurred)),
        soma_diameter_um=diameter_um,
        soma_diameter_spread=float(rng.uniform(0.08, 0.3)),
        irregularity=float(rng.uniform(0.03, 0.25)),
        elongation=float(rng.uniform(1.1, 1.8)),
        nucleus_share=float(rng.uniform(0, 0.7)),
        dendrite_share=float(rng.uniform(0, 0.8)),
        min_distance=float(rng.uniform(0.55, 1.2)),
        clustering=float(rng.uniform(0, 0.8)),
        brightness=brightness,
        brightness_spread=float(rng.uniform(0.2, 0.6)),
        dim_at_rest_share=float(rng.uniform(0, 0.8)),
        blur_um=float(rng.uniform(0.7, 1.2)),
        halo=float(rng.uniform(0, 0.25)),
        halo_um=float(rng.uniform(4.0, 12.0)),
        defocus_min_um=float(rng.uniform(3.5, 5.0)),
        defocus_max_um=float(rng.uniform(10.0, 25.0)),
        defocus_light=log_uniform(0.8, 5.0),
        amplitude_min=amplitude_min,
        amplitude_max=amplitude_max,
        event_rate_hz=log_uniform(0.01, 0.15),
        event_rate_spread=float(rng.uniform(0.4, 1.1)),
        rare_share=float(rng.uniform(0.05, 0.6)),
        spikes_per_event=log_uniform(1.0, 5.0),
        spike_interval_s=log_uniform(0.03, 0.15),
        rise_s=log_uniform(0.03, 0.2),
        decay_min_s=float(rng.uniform(0.4, 0.8)),
        decay_max_s=float(rng.uniform(0.9, 2.0)),
        network_burst_rate_hz=log_uniform(0.003, 0.06),
        synchrony_share=float(rng.uniform(0, 0.8)),
        background_texture=float(rng.uniform(0.03, 0.3)),
        n_vessels=int(rng.integers(0, 5)),
        neuropil_amplitude=log_uniform(0.002, 0.05),
        neuropil_scale_um=log_uniform(20.0, 80.0),
        network_burst_amplitude=log_uniform(0.003, 0.12),
        vignetting=float(rng.uniform(0, 0.6)),
        bleaching=float(rng.uniform(0, 0.4)),
        drift_px=float(rng.uniform(0, 8)),
        jitter_px=float(rng.uniform(0, 0.4)),
        n_flashes=int(rng.integers(0, 4)),
        flash_factor=float(rng.uniform(1.05, 1.8)),
        baseline_counts=baseline,
        gain_counts_per_photon=gain,
        read_noise_counts=float(np.sqrt(gain * baseline) * rng.uniform(0.05, 0.5)),
        offset_counts=full_scale * float(rng.uniform(0, 0.03)),
        bit_depth=bit_depth,
        n_hot_pixels=int(rng.integers(0, 15)),
        n_dirt=int(rng.integers(0, 9)),
    )


def training_config(
    seed: int,
    *,
    split: Split = "training",
    n_frames: int = 400,
    shape: tuple[int, int] = (256, 256),
) -> SimulationConfig:
    """Draw the settings of one recording as `random_config` does, or beyond the slice.

    A third of the recordings has soft optics, as through a lens implanted in the brain: what
    is in focus is blurred by up to 3 µm, and what is out of focus is so in proportion. A
    quarter has a slow indicator, with decays of up to 5 s.

    Parameters
    ----------
    seed : int
        Seed of the recording, at least 0. Give the same seed to `simulate`.
    split : {"training", "validation", "test"}, default: "training"
        Part of the data.
    n_frames : int, default: 400
        Length, frames.
    shape : tuple of int, default: (256, 256)
        Rows and columns.

    Returns
    -------
    SimulationConfig
        The settings.
    """
    config = random_config(seed, split=split, n_frames=n_frames, shape=shape)
    rng = stream(seed, f"simulation.{split}.beyond")
    soft, slow = rng.random() < 1 / 3, rng.random() < 1 / 4
    blur_um = float(np.exp(rng.uniform(np.log(1.2), np.log(3.0))))
    nearest_um = max(config.defocus_min_um, 2.2 * blur_um + float(rng.uniform(0.5, 2.0)))
    halo, factor = float(rng.uniform(0.1, 0.35)), float(rng.uniform(1.5, 4.0))
    changes: dict[str, float] = {}
    if soft:
        changes |= {
            "blur_um": blur_um,
            "defocus_min_um": nearest_um,
            "defocus_max_um": max(config.defocus_max_um, nearest_um + 8.0),
            "halo": halo,
        }
    if slow:
        changes |= {
            "rise_s": factor * config.rise_s,
            "decay_min_s": factor * config.decay_min_s,
            "decay_max_s": min(5.0, factor * config.decay_max_s),
            "event_rate_hz": config.event_rate_hz / np.sqrt(factor),
        }
    return SimulationConfig(**(config.model_dump() | changes))
