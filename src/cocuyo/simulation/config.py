"""Settings of a simulated recording, in physical units."""

from typing import Literal

from pydantic import Field, model_validator

from cocuyo.core import FRAME_RATE_LIMITS_HZ, FrozenConfig

Split = Literal["training", "validation", "test"]


class SimulationConfig(FrozenConfig):
    """Neurons under a one-photon microscope: tissue, activity, motion and camera.

    The defaults make an ordinary slice recording. Brightness is relative to the
    background: a soma of brightness 0.3 adds 30 % to the light around it. Effects that an
    ordinary slice does without are off by default, and draw from random streams of their own:
    switching one on leaves all the rest as it is.
    """

    split: Literal["none", "training", "validation", "test"] = Field(
        default="none",
        description="Part of every random stream's name, so that recordings of different "
        "splits never share random numbers, whatever their seeds.",
    )
    takes: int = Field(
        default=1,
        ge=1,
        description="Recordings of one tissue: what is planted reaches far enough for the motion "
        "of all of them. Another number is another tissue.",
    )
    take: int = Field(
        default=0,
        ge=0,
        description="Which of them this is. All have the same cells and the same microscope; "
        "activity, motion, light and noise are their own.",
    )
    # Camera frame
    n_frames: int = Field(default=600, ge=2, description="Length of the recording, frames.")
    n_rows: int = Field(default=256, ge=16, description="Height of a frame, pixels.")
    n_columns: int = Field(default=256, ge=16, description="Width of a frame, pixels.")
    frame_rate_hz: float = Field(
        default=6.67,
        ge=FRAME_RATE_LIMITS_HZ[0],
        le=FRAME_RATE_LIMITS_HZ[1],
        description="Frames per second.",
    )
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
    soma_diameter_distribution: Literal["lognormal", "log_uniform"] = Field(
        default="lognormal",
        description="`lognormal`: about the median, within the limits; `log_uniform`: every "
        "size between the limits alike, for fields of several kinds of cells.",
    )
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
    nucleus_dimness_min: float = Field(
        default=0.2, ge=0, lt=1, description="Least share of light that a dim nucleus lacks."
    )
    nucleus_dimness_max: float = Field(
        default=0.6, ge=0, lt=1, description="Largest share of light that a dim nucleus lacks."
    )
    dendrite_share: float = Field(
        default=0.35, ge=0, le=1, description="Share of the somata with stubs of dendrites."
    )
    dendrite_length: float = Field(
        default=1.0, gt=0, description="Factor on the length of dendrites; 1: about a soma."
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
    numerical_aperture: float = Field(
        default=0.0,
        ge=0,
        lt=1.33,
        description="Of the objective, in water. 0: blurs of cells out of focus are drawn "
        "between `defocus_min_um` and `defocus_max_um`. Otherwise each cell has a depth, and "
        "the blur follows from it.",
    )
    focus_depth_um: float = Field(
        default=6.0,
        gt=0,
        description="With an aperture: cells in focus lie at most so far from the focal plane.",
    )
    defocus_depth_um: float = Field(
        default=15.0,
        gt=0,
        description="With an aperture: cells out of focus lie at least so far from the plane. "
        "The gap to `focus_depth_um` keeps the truth clear; tissue has none.",
    )
    depth_range_um: float = Field(
        default=60.0,
        gt=0,
        description="With an aperture: cells out of focus lie at most so far from the plane.",
    )
    scattering_length_um: float = Field(
        default=0.0,
        ge=0,
        description="With an aperture: light falls to 1/e over this depth; 0: it does not.",
    )
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
    indicator: Literal["none", "GCaMP6f", "GCaMP6s", "Fluo-4", "OGB-1"] = Field(
        default="none",
        description="Calcium indicator: response to one spike, rise, decay and saturation as "
        "published. `none`: transients follow `amplitude`, `rise` and `decay` below.",
    )
    indicator_spread: float = Field(
        default=0.2,
        ge=0,
        description="With an indicator: standard deviation over cells of the logarithm of the "
        "calcium that a spike lets in, and of its time constants.",
    )
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
    bursting_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of the active cells that fire in bursts."
    )
    burst_spikes: float = Field(
        default=12.0, ge=1, description="Mean spikes of a burst of such a cell."
    )
    tonic_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the active cells that also fire single spikes all the time.",
    )
    tonic_rate_hz: float = Field(
        default=0.5, gt=0, description="Mean rate of those single spikes, Hz."
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
    network_burst_regularity: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="0: network bursts come at random; near 1: like a clock.",
    )
    network_burst_participation: float = Field(
        default=0.7, ge=0, le=1, description="Chance that a cell that joins fires in a burst."
    )
    network_burst_jitter_s: float = Field(
        default=0.05, ge=0, description="Largest delay of a cell in a network burst, s."
    )
    network_burst_spikes: float | None = Field(
        default=None,
        ge=1,
        description="Mean spikes of a cell in a network burst; as in its other events if not "
        "given.",
    )
    stimulus_interval_s: float = Field(
        default=0.0, ge=0, description="Time from one stimulus to the next, s; 0: none."
    )
    stimulus_duration_s: float = Field(default=0.1, gt=0, description="Length of a stimulus, s.")
    stimulus_light: float = Field(
        default=0.0,
        ge=0,
        description="Stray light on the camera during a stimulus, relative to background.",
    )
    stimulus_response_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the active cells that fire after stimuli (4 of 5 times).",
    )
    # Background
    background_texture: float = Field(
        default=0.15, ge=0, le=0.5, description="Unevenness of the tissue's own fluorescence."
    )
    n_vessels: int = Field(
        default=2, ge=0, description="Blood vessels, dark lines across the tissue."
    )
    vessel_width_min_um: float = Field(default=2.0, gt=0, description="Narrowest vessel, µm.")
    vessel_width_max_um: float = Field(default=9.0, gt=0, description="Widest vessel, µm.")
    vessel_depth_min: float = Field(
        default=0.08, ge=0, lt=1, description="Least share of light that a vessel takes."
    )
    vessel_depth_max: float = Field(
        default=0.4, ge=0, lt=1, description="Largest share of light that a vessel takes."
    )
    vessel_shadow: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of that loss which cells suffer, too: 0, vessels lie below the "
        "cells; 1, above them, as on the surface of a brain.",
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
    lamp_flicker: float = Field(
        default=0.0, ge=0, description="Relative sd of the lamp's light from frame to frame."
    )
    lamp_drift: float = Field(
        default=0.0, ge=0, description="Relative sd of slow changes of the lamp's light."
    )
    lamp_wander: float = Field(
        default=0.0,
        ge=0,
        description="Relative sd of the steps of a random walk of the lamp's light, per frame.",
    )
    n_lamp_steps: int = Field(default=0, ge=0, description="Sudden lasting changes of the light.")
    lamp_step: float = Field(
        default=0.06, ge=0, lt=1, description="Largest relative height of such a step."
    )
    illumination_tilt: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="Slow change of the illumination's slope across the frame: largest "
        "relative change at the border.",
    )
    # Motion and disturbances
    drift_px: float = Field(
        default=3.0, ge=0, description="Largest slow displacement from frame 0, pixels."
    )
    jitter_px: float = Field(
        default=0.1, ge=0, description="Displacement from frame to frame, RMS per axis, pixels."
    )
    n_jumps: int = Field(
        default=0, ge=0, description="Sudden displacements of 2 to 6 frames, and back."
    )
    jump_px: float = Field(default=4.0, ge=0, description="Largest displacement of a jump, pixels.")
    nonrigid_px: float = Field(
        default=0.0,
        ge=0,
        description="Largest slow displacement of a place relative to the whole frame, pixels.",
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
    excess_noise: float = Field(
        default=1.0,
        ge=1,
        le=2,
        description="Variance of shot noise over that of an ideal camera: 2 for an EMCCD.",
    )
    read_noise_spread: float = Field(
        default=0.0,
        ge=0,
        le=1.5,
        description="Standard deviation over pixels of the logarithm of the read noise (sCMOS).",
    )
    row_noise_counts: float = Field(
        default=0.0, ge=0, description="Noise that the pixels of a row share, counts RMS (CMOS)."
    )
    gain_spread: float = Field(
        default=0.0, ge=0, le=0.2, description="Relative sd of the pixels' sensitivity, fixed."
    )
    offset_spread_counts: float = Field(
        default=0.0, ge=0, description="Standard deviation of the pixels' offsets, fixed, counts."
    )
    bit_depth: int = Field(
        default=16, ge=8, le=16, description="Bits of a pixel; brighter is clipped."
    )
    saturation_counts: float | None = Field(
        default=None, gt=0, description="Pixels fill up here, below the largest number of counts."
    )
    n_hot_pixels: int = Field(default=6, ge=0, description="Pixels with a large fixed offset.")
    n_dead_pixels: int = Field(default=0, ge=0, description="Pixels that see no light.")
    n_dirt: int = Field(
        default=4, ge=0, description="Spots of dirt on the sensor; they stay when tissue moves."
    )
    dirt_sigma_max_px: float = Field(
        default=6.0, gt=1, description="Largest sigma of a spot of dirt, pixels."
    )
    dirt_depth_max: float = Field(
        default=0.3, gt=0.04, lt=1, description="Largest share of light that a spot takes."
    )
    n_dropped_frames: int = Field(
        default=0, ge=0, description="Frames that were lost between camera and file."
    )
    dropped_frames: Literal["repeat", "blank"] = Field(
        default="repeat",
        description="What stands in their place: the frame before, or an image without light.",
    )
    # From the camera to the file
    saved_blur_px: float = Field(
        default=0.0,
        ge=0,
        description="Sigma of smoothing of the frames before they are saved, pixels: resizing, "
        "denoising, the codec of a video.",
    )
    saved_as: Literal["counts", "delta_f_over_f"] = Field(
        default="counts",
        description="`delta_f_over_f`: relative change of each pixel against its low "
        "percentile over time, stretched to the range of the bit depth, as some programs export.",
    )
    jpeg_quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Lossy video: each frame through JPEG (as in motion JPEG) of this quality; "
        "8 bits only.",
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> "SimulationConfig":
        for name, low, high in (
            ("soma_diameter", self.soma_diameter_min_um, self.soma_diameter_max_um),
            ("defocus", self.defocus_min_um, self.defocus_max_um),
            ("amplitude", self.amplitude_min, self.amplitude_max),
            ("decay", self.decay_min_s, self.decay_max_s),
            ("nucleus_dimness", self.nucleus_dimness_min, self.nucleus_dimness_max),
            ("vessel_width", self.vessel_width_min_um, self.vessel_width_max_um),
            ("vessel_depth", self.vessel_depth_min, self.vessel_depth_max),
        ):
            if low > high:
                msg = f"{name}: the minimum {low} is above the maximum {high}; swap them."
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "SimulationConfig":
        if self.take >= self.takes:
            msg = f"take is {self.take}, but takes is {self.takes}; takes count from 0."
            raise ValueError(msg)
        if self.jpeg_quality is not None and self.bit_depth != 8:
            msg = (
                f"jpeg_quality is {self.jpeg_quality}, but JPEG holds 8 bits and bit_depth is "
                f"{self.bit_depth}; set bit_depth to 8 or leave jpeg_quality out."
            )
            raise ValueError(msg)
        depths = (self.focus_depth_um, self.defocus_depth_um, self.depth_range_um)
        if self.numerical_aperture and sorted(depths) != list(depths):
            msg = (
                "focus_depth_um, defocus_depth_um and depth_range_um must rise, but are "
                f"{depths[0]}, {depths[1]} and {depths[2]}."
            )
            raise ValueError(msg)
        if self.n_dropped_frames >= self.n_frames:
            msg = (
                f"n_dropped_frames is {self.n_dropped_frames} of {self.n_frames} frames; "
                "at least the first must stay."
            )
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

    @property
    def shows_rest(self) -> bool:
        """Whether cells can be seen at rest in what is saved; in ΔF/F they cannot."""
        return self.saved_as == "counts"
