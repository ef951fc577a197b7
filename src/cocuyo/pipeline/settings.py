"""All settings of a run in one frozen tree; the presets."""

from typing import Literal

from pydantic import Field

from cocuyo.core import FrozenConfig
from cocuyo.postprocessing import (
    CandidateConfig,
    FootprintConfig,
    TraceConfig,
    ValidationConfig,
    VerificationConfig,
)
from cocuyo.preprocessing import ContrastConfig, EqualisationConfig, MotionConfig
from cocuyo.segmentation import (
    BlobConfig,
    NetworkConfig,
    OutlineConfig,
    TemporalConfig,
    UNetConfig,
)

PresetName = Literal["default", "paper", "srname"]


class ScaleConfig(FrozenConfig):
    """The size at which the networks see cells."""

    smallest_px: float = Field(
        default=6.5,
        gt=0,
        description="Cells smaller than this are enlarged for the networks, in pixels.",
    )
    largest_px: float = Field(
        default=15.0,
        gt=0,
        description="Cells larger than this are reduced for the networks, in pixels.",
    )
    target_px: float = Field(
        default=10.0, gt=0, description="Diameter to which they are brought, in pixels."
    )
    default_diameter_um: float = Field(
        default=11.0,
        gt=0,
        description="Soma diameter assumed where only the pixel size is known, in µm.",
    )

    def factor(self, diameter_px: float) -> float:
        """Choose the magnification for the networks.

        Parameters
        ----------
        diameter_px : float
            Typical soma diameter in the recording, in pixels.

        Returns
        -------
        float
            1 where no change is needed.
        """
        if self.smallest_px <= diameter_px <= self.largest_px:
            return 1.0
        return self.target_px / diameter_px


class PipelineConfig(FrozenConfig):
    """Everything that shapes a result."""

    method: Literal["networks", "blobs"] = Field(
        default="networks",
        description="`networks` is U-Net and temporal network; `blobs` is the SRNAME-like "
        "detector without networks.",
    )
    finish: Literal["verify", "morphology"] = Field(
        default="verify",
        description="How the probability becomes ROIs: `verify` regresses the frames on each "
        "candidate's trace and scores it; `morphology` thresholds and cleans the map (paper).",
    )
    first_frames: int = Field(
        default=48, ge=1, description="Frames from which template, grey range and baseline start."
    )
    mask_threshold: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Probability above which a pixel is a neuron's, with `morphology`.",
    )
    scale: ScaleConfig = ScaleConfig()
    motion: MotionConfig = MotionConfig()
    equalisation: EqualisationConfig = EqualisationConfig()
    contrast: ContrastConfig = ContrastConfig()
    networks: NetworkConfig = NetworkConfig()
    blobs: BlobConfig = BlobConfig()
    candidates: CandidateConfig = CandidateConfig()
    footprints: FootprintConfig = FootprintConfig()
    traces: TraceConfig = TraceConfig()
    validation: ValidationConfig = ValidationConfig()
    verification: VerificationConfig = VerificationConfig()


_PLAIN_RING = TraceConfig(local=False)

PRESETS: dict[PresetName, PipelineConfig] = {
    "default": PipelineConfig(networks=NetworkConfig(outline=OutlineConfig())),
    "paper": PipelineConfig(
        finish="morphology",
        motion=MotionConfig(method="lucas_kanade"),
        traces=_PLAIN_RING,
        networks=NetworkConfig(
            # Width 8 instead of the usual 64: what a processor can train; see the model's card.
            unet=UNetConfig(
                base_width=8, n_levels=4, stem_stride=1, aspp_rates=(3, 6, 9), input_frames="frame"
            ),
            temporal=TemporalConfig(
                contrast_input=False, resolution="full", readout="final", step_s=None
            ),
        ),
    ),
    "srname": PipelineConfig(
        method="blobs",
        finish="morphology",
        motion=MotionConfig(method="lucas_kanade"),
        traces=_PLAIN_RING,
    ),
}
"""Settings of each preset before training; a model folder holds its own copy."""
