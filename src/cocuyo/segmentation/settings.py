"""Settings of the two networks; every departure from the paper is one named field."""

from typing import Literal

from pydantic import Field, field_validator

from cocuyo.core import FrozenConfig


class UNetConfig(FrozenConfig):
    """The spatial network: a U-Net with atrous spatial pyramid pooling as bottleneck."""

    base_width: int = Field(
        default=16, ge=2, description="Channels of the first level; each level doubles them."
    )
    n_levels: int = Field(default=3, ge=1, description="Number of times the map is halved.")
    stem_stride: Literal[1, 2] = Field(
        default=2,
        description="2 halves the map before the first level and doubles it after the last: "
        "four times faster, slightly coarser borders. The paper has 1.",
    )
    aspp_rates: tuple[int, ...] = Field(
        default=(2, 4, 6),
        description="Dilations of the bottleneck's parallel convolutions, in pixels of the "
        "smallest map. Rates wider than that map never learn.",
    )
    input_frames: Literal["frame", "step mean"] = Field(
        default="step mean",
        description="What the network sees: every single frame (paper), or the mean of a step's "
        "frames, which has less noise and costs one pass per step.",
    )


class TemporalConfig(FrozenConfig):
    """The temporal network: one convolutional GRU cell and a classifier."""

    hidden: int = Field(default=8, ge=1, description="Channels of the hidden state (paper: 8).")
    kernel: int = Field(default=3, ge=1, description="Side of the convolutions, odd, in pixels.")
    contrast_input: bool = Field(
        default=True,
        description="Feed the temporal contrast beside the probability. The paper feeds the "
        "probability alone.",
    )
    resolution: Literal["full", "half"] = Field(
        default="half", description="Resolution of the hidden state (paper: full)."
    )
    readout: Literal["final", "final and maximum"] = Field(
        default="final and maximum",
        description="What the classifier sees: the final hidden state (paper), or also its "
        "maximum over time, which does not forget cells that fired early.",
    )
    step_s: float | None = Field(
        default=0.6,
        gt=0,
        description="Duration of a step of the recurrence, in seconds; None is every frame "
        "(paper).",
    )

    @field_validator("kernel")
    @classmethod
    def _kernel_is_odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            msg = f"kernel is {kernel}; an even one would change the size of the maps."
            raise ValueError(msg)
        return kernel

    def frames_per_step(self, rate_hz: float) -> int:
        """Number of frames in one step of the recurrence.

        Parameters
        ----------
        rate_hz : float
            Frames per second.

        Returns
        -------
        int
            At least 1.
        """
        return 1 if self.step_s is None else max(1, round(self.step_s * rate_hz))


class OutlineConfig(FrozenConfig):
    """The outline network: a small U-Net on the view of one candidate.

    The paper's future work names a third network that knows "neuron size or closeness".
    """

    base_width: int = Field(
        default=24, ge=2, description="Channels of the first level; the next have 2 and 3 times."
    )


class NetworkConfig(FrozenConfig):
    """The networks together, as a model folder holds them."""

    unet: UNetConfig = UNetConfig()
    temporal: TemporalConfig = TemporalConfig()
    outline: OutlineConfig | None = Field(
        default=None,
        description="The network that draws the outlines of candidates; none draws them at half "
        "maximum (paper: morphology).",
    )
