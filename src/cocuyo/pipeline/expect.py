"""What a run will take, before it starts."""

from dataclasses import dataclass

from cocuyo.core import Recording
from cocuyo.pipeline.settings import PipelineConfig

# Measured with version 0.1.0 on a server processor (EPYC, int8) by `benchmarks/speed.py`: simulated
# slices of 256 x 256 and 512 x 512 pixels, 300 to 10 800 frames. Frames of 1024 x 1024 take up to
# a half more. Processor time in seconds: at the start; for each pixel (finishing); for each pixel
# of each frame (motion, sums, traces); for each pixel that the networks see in each step.
_START_S, _PIXEL_S, _PIXEL_FRAME_S, _PIXEL_STEP_S = 3.5, 1.2e-5, 3.7e-8, 7.2e-8
# Highest resident memory in MB, of runs of 256 to 2048 pixels a side and twice with cells so small
# that the networks saw them magnified 2.5 times: at the start, for each pixel, and for each pixel
# that the networks see. All of them lay within 15 % of what this gives; smaller frames need less.
_START_MB, _ENGINE_MB, _PIXEL_MB, _NETWORK_PIXEL_MB = 250.0, 217.0, 0.5e-4, 3.7e-4
_PARALLEL_SHARE = 0.75
"""Of the processor time, what further cores take over: 0.56 to 0.87 of it on two cores."""


@dataclass(frozen=True)
class Expected:
    """What a run takes, roughly.

    Attributes
    ----------
    core_s : float
        Processor time in seconds: the time of the run on one core.
    memory_mb : float
        Highest resident memory, in MB.
    """

    core_s: float
    memory_mb: float

    def wall_s(self, n_cores: int) -> float:
        """Say how long the run takes on some cores.

        Parameters
        ----------
        n_cores : int
            Cores that it may use.

        Returns
        -------
        float
            Seconds.
        """
        return self.core_s * (1 - _PARALLEL_SHARE + _PARALLEL_SHARE / max(1, n_cores))


def expected_cost(
    n_frames: int,
    n_rows: int,
    n_columns: int,
    *,
    frames_per_step: int = 4,
    factor: float = 1.0,
    networks: bool = True,
) -> Expected:
    """Say roughly what a recording of some size takes.

    Parameters
    ----------
    n_frames, n_rows, n_columns : int
        Its shape.
    frames_per_step : int, default: 4
        Frames of one step of the networks; 4 at the usual 6.67 frames per second.
    factor : float, default: 1.0
        Magnification at which the networks see the frames.
    networks : bool, default: True
        Whether an engine runs networks.

    Returns
    -------
    Expected
        Time and memory.
    """
    n_pixels = n_rows * n_columns
    n_seen = n_pixels * factor**2
    seconds = (
        _START_S
        + _PIXEL_S * n_pixels
        + _PIXEL_FRAME_S * n_pixels * n_frames
        + _PIXEL_STEP_S * n_seen * n_frames / max(1, frames_per_step)
    )
    memory_mb = _START_MB + _ENGINE_MB * networks
    return Expected(seconds, memory_mb + _PIXEL_MB * n_pixels + _NETWORK_PIXEL_MB * n_seen)


def expect(recording: Recording, config: PipelineConfig) -> Expected:
    """Say roughly what a run over a recording takes; nothing of it is read.

    Parameters
    ----------
    recording : Recording
        The recording; it needs a frame rate.
    config : PipelineConfig
        Settings of the run.

    Returns
    -------
    Expected
        Time and memory.

    Raises
    ------
    MissingFrameRateError
        If the frame rate is not known.
    """
    diameter_um = recording.diameter_um or config.scale.default_diameter_um
    diameter_px = recording.diameter_px  # else as `choose_diameter`, before it looks at any frame
    if recording.pixel_size_um is not None and (recording.diameter_um or diameter_px is None):
        diameter_px = diameter_um / recording.pixel_size_um
    return expected_cost(
        recording.n_frames,
        *recording.frame_shape,
        frames_per_step=config.networks.temporal.frames_per_step(recording.rate_hz),
        # Beyond these the run refuses the diameter anyway.
        factor=1.0 if diameter_px is None else config.scale.factor(max(2.0, diameter_px)),
        networks=config.method == "networks",
    )
