"""Random simulations of slices, cultures and miniscopes, for trainings that are to generalise."""

from typing import Any, Literal

import numpy as np

from cocuyo.core import stream
from cocuyo.simulation.camera import CAMERAS, CameraName, with_camera
from cocuyo.simulation.config import SimulationConfig, Split
from cocuyo.simulation.indicators import INDICATORS
from cocuyo.simulation.presets import TYPICAL_SHAPE, training_config

Preparation = Literal["slice", "culture", "miniscope"]
PREPARATIONS: dict[Preparation, float] = {"slice": 0.45, "culture": 0.2, "miniscope": 0.35}
"""Kinds of recordings that `broad_training_config` draws, with their shares."""

_LARGEST_BLUR_PX = 25.0  # broader light is neuropil to every method, and costs time
_LEAST_PHOTONS: dict[CameraName, float] = {"EMCCD": 8.0, "sCMOS": 20.0, "CMOS": 300.0}


def preparation_of(seed: int, *, split: Split = "training") -> Preparation:
    """Tell which kind of recording `broad_training_config` draws for a seed.

    Parameters
    ----------
    seed : int
        Seed of the recording.
    split : {"training", "validation", "test"}, default: "training"
        Part of the data.

    Returns
    -------
    {"slice", "culture", "miniscope"}
        The kind.
    """
    position = stream(seed, f"simulation.{split}.broad.kind").random()
    names: tuple[Preparation, ...] = tuple(PREPARATIONS)
    index = int(np.searchsorted(np.cumsum(list(PREPARATIONS.values())), position, side="right"))
    return names[min(index, len(names) - 1)]


def broad_training_config(
    seed: int,
    *,
    split: Split = "training",
    n_frames: int = 400,
    shape: tuple[int, int] = (256, 256),
) -> SimulationConfig:
    """Draw the settings of one recording of a slice, a culture or a miniscope.

    `training_config` draws what all have in common; this puts in the preparation, sizes from 5
    to 30 pixels (in a third of the recordings threefold within the field), rates from 2 to 60
    frames a second as far as `n_frames` lasts for half a minute, indicators, bursts,
    cameras, lamps, uneven motion and the formats that recordings are saved in.

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
    base = training_config(seed, split=split, n_frames=n_frames, shape=shape)
    rng = stream(seed, f"simulation.{split}.broad")
    kind = preparation_of(seed, split=split)
    values = base.model_dump()
    values |= _draw_scale(rng, kind, base)
    values |= _draw_tissue(rng, kind, base, pixel_um=values["pixel_size_um"])
    values |= _draw_firing(rng, kind, base)
    values |= _draw_disturbances(rng, kind, n_frames=n_frames)
    return _draw_camera(rng, kind, SimulationConfig.model_validate(values))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_scale(
    rng: np.random.Generator, kind: Preparation, base: SimulationConfig
) -> dict[str, Any]:
    """Sizes, rate and numbers of cells."""
    low, high = {"slice": (7.0, 14.0), "culture": (10.0, 22.0), "miniscope": (9.0, 16.0)}[kind]
    diameter_um = float(rng.uniform(low, high))
    side_px = min(base.n_rows, base.n_columns)
    diameter_px = _log_uniform(rng, 5.0, max(5.0, min(30.0, side_px / 7)))
    pixel_um = diameter_um / diameter_px
    spread = float(rng.uniform(0.08, 0.3))
    mixed = rng.random() < 1 / 3
    narrow = np.sqrt(3.0) if mixed else np.exp(2 * spread)
    smallest_um = max(diameter_um / narrow, 4.5 * pixel_um)
    longest_hz = float(np.clip(base.n_frames / 30, 2.0, 60.0))
    cell_px = np.pi / 4 * diameter_px**2
    n_before = max(1, base.n_active + base.n_silent)
    covered = _log_uniform(rng, 0.02, 0.4)
    n_cells = int(np.clip(covered * base.n_rows * base.n_columns / cell_px, 4, 500))
    factor = n_cells / n_before
    values: dict[str, Any] = {
        "n_active": max(2, round(base.n_active * factor)) if base.n_active else 0,
        "n_silent": round(base.n_silent * factor),
        "n_defocused_active": round(base.n_defocused_active * factor),
        "n_defocused_silent": round(base.n_defocused_silent * factor),
    }
    if kind != "slice" and base.n_active:
        # In cultures and miniscopes most of the cells that can be seen fire.
        fires = float(rng.uniform(0.35, 0.9))
        values |= {
            "n_active": max(2, round(fires * n_cells)),
            "n_silent": round((1 - fires) * n_cells),
        }
    return values | {
        "pixel_size_um": pixel_um,
        "frame_rate_hz": _log_uniform(rng, 2.0, longest_hz),
        "soma_diameter_um": diameter_um,
        "soma_diameter_spread": spread,
        "soma_diameter_distribution": "log_uniform" if mixed else "lognormal",
        "soma_diameter_min_um": smallest_um,
        "soma_diameter_max_um": max(diameter_um * narrow, smallest_um),
    }


def _draw_tissue(
    rng: np.random.Generator, kind: Preparation, base: SimulationConfig, *, pixel_um: float
) -> dict[str, Any]:
    """Optics, brightness, background and vessels."""
    values: dict[str, Any] = {
        "nucleus_dimness_max": float(rng.uniform(0.3, 0.85)),
        "dendrite_length": _log_uniform(rng, 0.6, 1.6),
    }
    blur_um, deepest_um = base.blur_um, base.defocus_max_um
    if kind == "slice" and rng.random() < 0.5:
        aperture = float(rng.uniform(0.3, 0.8))
        slope = aperture / np.sqrt(1.33**2 - aperture**2) / 2  # blur over depth
        focus_um = min(1.2 * blur_um / slope, 12.0)
        near_um = max(2.5 * focus_um, 3.0 / slope)
        values |= {
            "numerical_aperture": aperture,
            "focus_depth_um": focus_um,
            "defocus_depth_um": near_um,
            "depth_range_um": max(1.5 * near_um, min(60.0, _LARGEST_BLUR_PX * pixel_um / slope)),
            "scattering_length_um": float(rng.uniform(40, 150)),
            "defocus_light": 1.0,
        }
    elif kind == "culture":
        blur_um, deepest_um = float(rng.uniform(0.5, 1.5)), float(rng.uniform(6.0, 14.0))
        values |= {
            "blur_um": blur_um,
            "brightness": _log_uniform(rng, 0.2, 2.0),
            "elongation": float(rng.uniform(1.2, 2.4)),
            "dendrite_share": float(rng.uniform(0.3, 1.0)),
            "dendrite_length": _log_uniform(rng, 0.8, 2.5),
            "n_vessels": 0,
            "neuropil_amplitude": _log_uniform(rng, 0.001, 0.01),
            "network_burst_amplitude": _log_uniform(rng, 0.002, 0.05),
            "defocus_light": _log_uniform(rng, 0.8, 2.0),
        }
    elif kind == "miniscope":
        blur_um = _log_uniform(rng, 1.2, 3.5)
        values |= {
            "blur_um": blur_um,
            "halo": float(rng.uniform(0.1, 0.3)),
            "halo_um": float(rng.uniform(8.0, 18.0)),
            "elongation": float(rng.uniform(1.2, 2.0)),
            "n_vessels": int(rng.integers(1, 7)),
            "vessel_width_max_um": float(rng.uniform(6.0, 30.0)),
            "vessel_depth_max": float(rng.uniform(0.2, 0.6)),
            "vessel_shadow": float(rng.uniform(0.5, 1.0)),
            "neuropil_amplitude": _log_uniform(rng, 0.005, 0.05),
            "vignetting": float(rng.uniform(0.2, 0.7)),
        }
    if "numerical_aperture" not in values:
        nearest_um = max(base.defocus_min_um, 2.2 * blur_um + float(rng.uniform(0.5, 2.0)))
        deepest_um = max(nearest_um + 3.0, min(deepest_um, _LARGEST_BLUR_PX * pixel_um))
        values |= {"defocus_min_um": nearest_um, "defocus_max_um": deepest_um}
    return values


def _draw_firing(
    rng: np.random.Generator, kind: Preparation, base: SimulationConfig
) -> dict[str, Any]:
    """Indicator, bursts and stimuli."""
    names = ["none", *INDICATORS]
    chances = {
        "slice": {"none": 0.3, "GCaMP6f": 0.2, "GCaMP6s": 0.15, "OGB-1": 0.2, "Fluo-4": 0.15},
        "culture": {"none": 0.2, "GCaMP6f": 0.15, "GCaMP6s": 0.2, "OGB-1": 0.1, "Fluo-4": 0.35},
        "miniscope": {"none": 0.25, "GCaMP6f": 0.45, "GCaMP6s": 0.3, "OGB-1": 0, "Fluo-4": 0},
    }[kind]
    values: dict[str, Any] = {
        "indicator": str(rng.choice(names, p=[chances[name] for name in names])),
        "indicator_spread": float(rng.uniform(0.1, 0.35)),
        "bursting_share": float(rng.choice([0.0, rng.uniform(0, 0.7)])),
        "burst_spikes": _log_uniform(rng, 5.0, 25.0),
        "tonic_share": float(rng.choice([0.0, rng.uniform(0, 0.4)])),
        "tonic_rate_hz": _log_uniform(rng, 0.1, 1.5),
        "network_burst_participation": float(rng.uniform(0.4, 1.0)),
        "network_burst_jitter_s": _log_uniform(rng, 0.02, 0.3),
    }
    if kind == "culture" and rng.random() < 0.6:
        values |= {
            "network_burst_rate_hz": _log_uniform(rng, 0.02, 0.3),
            "network_burst_regularity": float(rng.uniform(0, 0.85)),
            "network_burst_spikes": _log_uniform(rng, 2.0, 15.0),
            "synchrony_share": float(rng.uniform(0.4, 1.0)),
        }
    if kind != "miniscope" and rng.random() < 0.15:
        values |= {
            "stimulus_interval_s": float(rng.uniform(4.0, 15.0)),
            "stimulus_duration_s": _log_uniform(rng, 0.02, 0.5),
            "stimulus_light": _log_uniform(rng, 0.05, 1.0),
            "stimulus_response_share": float(rng.uniform(0, 0.8)),
        }
    return values


def _draw_disturbances(
    rng: np.random.Generator, kind: Preparation, *, n_frames: int
) -> dict[str, Any]:
    """Lamp, motion, pixels and lost frames; each of them is there in some recordings only."""

    def sometimes(chance: float, value: float) -> float:
        return value if rng.random() < chance else 0.0

    still = kind == "culture"
    values: dict[str, Any] = {
        "lamp_flicker": sometimes(0.3, _log_uniform(rng, 0.0005, 0.01)),
        "lamp_drift": sometimes(0.3, _log_uniform(rng, 0.002, 0.03)),
        "lamp_wander": sometimes(0.2, _log_uniform(rng, 0.0005, 0.005)),
        "n_lamp_steps": int(sometimes(0.1, 1.0 + rng.integers(0, 2))),
        "illumination_tilt": sometimes(0.3, _log_uniform(rng, 0.005, 0.08)),
        "nonrigid_px": sometimes(0.4, float(rng.uniform(0.2, 0.6 if still else 2.0))),
        "n_dead_pixels": int(sometimes(0.4, float(rng.integers(1, 25)))),
        "n_dropped_frames": min(int(sometimes(0.15, float(rng.integers(1, 8)))), n_frames // 20),
        "dropped_frames": str(rng.choice(["repeat", "repeat", "blank"])),
        "dirt_sigma_max_px": float(rng.uniform(3.0, 12.0)),
        "dirt_depth_max": float(rng.uniform(0.15, 0.6)),
    }
    if still:
        values |= {"drift_px": float(rng.uniform(0, 3)), "jitter_px": float(rng.uniform(0, 0.15))}
    if kind == "miniscope":
        values |= {
            "n_jumps": int(rng.integers(0, 5)),
            "jump_px": float(rng.uniform(1.0, 6.0)),
            "jitter_px": float(rng.uniform(0.05, 0.5)),
        }
    return values


def _draw_camera(
    rng: np.random.Generator, kind: Preparation, config: SimulationConfig
) -> SimulationConfig:
    """The camera, as much light as the wanted SNR needs, and the file's format."""
    if config.indicator == "none":
        response = float(np.sqrt(config.amplitude_min * config.amplitude_max))
    else:
        spikes = np.asarray(config.spikes_per_event)
        response = float(INDICATORS[config.indicator].delta_f_over_f(spikes))
    cell_px = np.pi / 4 * (config.soma_diameter_um / config.pixel_size_um) ** 2
    target = float(np.exp(np.clip(rng.normal(np.log(13.0), 0.6), np.log(3), np.log(45))))
    transient = TYPICAL_SHAPE * 1.5 * config.brightness * response
    # A cell that shines brightly adds noise of its own.
    photons = (target / transient) ** 2 / (0.8 * cell_px) * (1 + config.brightness)
    chances = {
        "slice": {"generic": 0.25, "EMCCD": 0.25, "sCMOS": 0.4, "CMOS": 0.1},
        "culture": {"generic": 0.25, "EMCCD": 0.2, "sCMOS": 0.4, "CMOS": 0.15},
        "miniscope": {"generic": 0.2, "EMCCD": 0.0, "sCMOS": 0.05, "CMOS": 0.75},
    }[kind]
    chosen = str(rng.choice(list(chances), p=list(chances.values())))
    fill = float(rng.uniform(0.08, 0.45))
    if chosen == "generic":
        photons = float(np.clip(photons, 8.0, 40000.0))
        gain = config.baseline_counts / photons
        read = np.sqrt(gain * config.baseline_counts) * rng.uniform(0.05, 0.5)
        changes: dict[str, Any] = {"gain_counts_per_photon": gain, "read_noise_counts": float(read)}
    else:
        name: CameraName = chosen  # type: ignore[assignment]
        # Cells over the background must stay below the full well.
        most = 0.3 * CAMERAS[name].full_well_electrons
        photons = float(np.clip(photons, _LEAST_PHOTONS[name], most))
        config = with_camera(config, name, photons=photons, fill=None if name == "sCMOS" else fill)
        changes = {}
    if config.bit_depth == 8:
        smoothed = rng.random() < 0.3
        changes["saved_blur_px"] = _log_uniform(rng, 0.5, 2.0) if smoothed else 0.0
        changes["jpeg_quality"] = int(rng.integers(50, 96)) if rng.random() < 0.35 else None
        share = {"slice": 0.05, "culture": 0.05, "miniscope": 0.2}[kind]
        if rng.random() < share:
            changes["saved_as"] = "delta_f_over_f"
    return SimulationConfig.model_validate(config.model_dump() | changes)
