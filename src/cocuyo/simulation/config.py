"""Settings of a simulated recording, in physical units."""

from typing import Literal

from pydantic import Field, model_validator

from cocuyo.core import FrozenConfig

Split = Literal["training", "validation", "test"]


class SimulationConfig(FrozenConfig):
    """A brain slice under a one-photon microscope: tissue, activity, motion and camera.

    The defaults make an ordinary slice recording. Brightness is relative to the
    background: a soma of brightness 0.3 adds 30 % to the light around it.
    """

    split: Literal["none", "training", "validation", "test"] = Field(
        default="none",
        description="Part of every random stream's name, so that recordings of different "
        "splits never share random numbers, whatever their seeds.",
    )
    # Camera frame
    n_frames: int = Field(default=600, ge=2, description="Length of the recording, frames.")
    n_rows: int = Field(default=256, ge=16, description="Height of a frame, pixels.")
    n_columns: int = Field(default=256, ge=16, description="Width of a frame, pixels.")
    frame_rate_hz: float = Field(default=6.67, gt=0, description="Frames per second.")
    pixel_size_um: float = Field(default=1.5, gt=0, description="Side of a pixel in tissue, µm.")
    # Cells
    n_active: int = Field(
        default=40, ge=0, description="Somata in focus that fire, centred inside the first frame."
    )
    n_silent: int = Field(
        default=90, ge=0, description="Somata in focus that never fire, centred inside it."
    )
    n_defocused_active: int = Field(
        default=25, ge=0, description="Cells out of focus that fire: the main false alarms."
    )
    n_defocused_silent: int = Field(default=40, ge=0, description="Cells out of focus, silent.")
    soma_diameter_um: float = Field(default=9.5, gt=0, description="Median soma diameter, µm.")
    soma_diameter_spread: float = Field(
        default=0.2, ge=0, description="Standard deviation of the logarithm of the diameter."
    )
    soma_diameter_min_um: float = Field(default=5.0, gt=0, description="Smallest diameter, µm.")
    soma_diameter_max_um: float = Field(default=15.0, gt=0, description="Largest diameter, µm.")
    irregularity: float = Field(
        default=0.12,
        ge=0,
        le=0.5,
        description="Standard deviation of the contour's radius relative to an ellipse.",
    )
    elongation: float = Field(
        default=1.35, ge=1, description="Largest ratio of a soma's long to short axis."
    )
    nucleus_share: float = Field(
        default=0.25, ge=0, le=1, description="Share of the somata whose nucleus is dimmer."
    )
    dendrite_share: float = Field(
        default=0.35, ge=0, le=1, description="Share of the somata with stubs of dendrites."
    )
    min_distance: float = Field(
        default=0.8,
        ge=0,
        description="Least distance of two centres over the mean of their diameters. Below "
        "1 cells touch and overlap. Kept where the field has room.",
    )
    clustering: float = Field(
        default=0.4, ge=0, le=1, description="How uneven the density of cells is, 0 even."
    )
    brightness: float = Field(
        default=0.25, gt=0, description="Median brightness of a soma relative to background."
    )
    brightness_spread: float = Field(
        default=0.45, ge=0, description="Standard deviation of the logarithm of the brightness."
    )
    dim_at_rest_share: float = Field(
        default=0.35,
        ge=0,
        le=1,
        description="Share of the active cells that are faint or invisible at rest; their "
        "transients are as bright as those of others.",
    )
    blur_um: float = Field(
        default=0.9, ge=0, description="Sigma of the optical blur of cells in focus, µm."
    )
    halo: float = Field(
        default=0.1,
        ge=0,
        lt=0.5,
        description="Height of the haze around a cell in focus (its own light scattered and "
        "out of focus), relative to its peak.",
    )
    halo_um: float = Field(default=7.0, gt=0, description="Sigma of that haze, µm.")
    defocus_min_um: float = Field(
        default=4.0, gt=0, description="Smallest blur sigma of cells out of focus, µm."
    )
    defocus_max_um: float = Field(
        default=25.0, gt=0, description="Largest blur sigma of cells out of focus, µm."
    )
    defocus_light: float = Field(
        default=2.0,
        gt=0,
        description="Light of a cell out of focus over that of one in focus; its blurred "
        "image conserves it.",
    )
    # Activity
    amplitude_min: float = Field(
        default=0.12, gt=0, description="Smallest ΔF/F of a typical transient, per cell."
    )
    amplitude_max: float = Field(
        default=0.5, gt=0, description="Largest ΔF/F of a typical transient, per cell."
    )
    event_rate_hz: float = Field(default=0.05, gt=0, description="Median rate of events, Hz.")
    event_rate_spread: float = Field(
        default=0.8, ge=0, description="Standard deviation of the logarithm of the rate."
    )
    rare_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of the active cells that fire one to three times in all.",
    )
    spikes_per_event: float = Field(default=2.0, ge=1, description="Mean spikes of an event.")
    spike_interval_s: float = Field(
        default=0.06, gt=0, description="Mean interval of the spikes of an event, s."
    )
    rise_s: float = Field(default=0.08, gt=0, description="Time constant of the rise, s.")
    decay_min_s: float = Field(default=0.5, gt=0, description="Shortest decay constant, s.")
    decay_max_s: float = Field(default=1.6, gt=0, description="Longest decay constant, s.")
    network_burst_rate_hz: float = Field(
        default=0.02, ge=0, description="Rate of bursts of the whole network, Hz."
    )
    synchrony_share: float = Field(
        default=0.3, ge=0, le=1, description="Share of the active cells that join the bursts."
    )
    # Background
    background_texture: float = Field(
        default=0.15, ge=0, le=0.5, description="Unevenness of the tissue's own fluorescence."
    )
    n_vessels: int = Field(
        default=2, ge=0, description="Blood vessels, dark lines across the tissue."
    )
    neuropil_amplitude: float = Field(
        default=0.012,
        ge=0,
        description="Standard deviation over time of the neuropil, relative to background.",
    )
    neuropil_scale_um: float = Field(
        default=40.0, gt=0, description="Spatial sigma of neuropil activity, µm."
    )
    network_burst_amplitude: float = Field(
        default=0.03,
        ge=0,
        description="Height of the neuropil's burst transient, relative to background.",
    )
    vignetting: float = Field(
        default=0.35, ge=0, lt=1, description="Loss of light from the brightest to the corner."
    )
    bleaching: float = Field(
        default=0.15, ge=0, lt=1, description="Share of all light lost by the last frame."
    )
    # Motion and disturbances
    drift_px: float = Field(
        default=3.0, ge=0, description="Largest slow displacement from frame 0, pixels."
    )
    jitter_px: float = Field(
        default=0.1, ge=0, description="Displacement from frame to frame, RMS per axis, pixels."
    )
    n_flashes: int = Field(
        default=0, ge=0, description="Brightenings of the whole frame, one or two frames each."
    )
    flash_factor: float = Field(default=1.5, gt=0, description="Largest factor of a flash.")
    # Camera
    baseline_counts: float = Field(
        default=2000.0, gt=0, description="Background at the brightest place, counts over offset."
    )
    gain_counts_per_photon: float = Field(
        default=1.5, ge=0, description="Counts of one photoelectron; 0 leaves out shot noise."
    )
    read_noise_counts: float = Field(default=12.0, ge=0, description="Read noise, counts RMS.")
    offset_counts: float = Field(default=100.0, ge=0, description="Counts in the dark.")
    bit_depth: int = Field(
        default=16, ge=8, le=16, description="Bits of a pixel; brighter is clipped."
    )
    n_hot_pixels: int = Field(default=6, ge=0, description="Pixels with a large fixed offset.")
    n_dirt: int = Field(
        default=4, ge=0, description="Spots of dirt on the sensor; they stay when tissue moves."
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> "SimulationConfig":
        for name, low, high in (
            ("soma_diameter", self.soma_diameter_min_um, self.soma_diameter_max_um),
            ("defocus", self.defocus_min_um, self.defocus_max_um),
            ("amplitude", self.amplitude_min, self.amplitude_max),
            ("decay", self.decay_min_s, self.decay_max_s),
        ):
            if low > high:
                msg = f"{name}: the minimum {low} is above the maximum {high}; swap them."
                raise ValueError(msg)
        return self

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.n_frames / self.frame_rate_hz

    @property
    def max_count(self) -> int:
        """Largest value of a pixel."""
        return int(2**self.bit_depth - 1)
