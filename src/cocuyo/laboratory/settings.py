"""How large the paper's experiments are made, and what the paper reports of them."""

from typing import Literal

from pydantic import Field

from cocuyo.core import FrozenConfig
from cocuyo.pipeline import PRESETS, PipelineConfig
from cocuyo.training import TRAININGS, TrainingConfig
from cocuyo.training.dataset import DatasetConfig

SizeName = Literal["full", "standard", "quick"]


class LaboratoryConfig(FrozenConfig):
    """Size of the data and of the trainings."""

    recordings: tuple[int, ...] = Field(
        description="Recordings of each experiment; the last two experiments are the test's."
    )
    n_frames: int = Field(ge=16, description="Frames of each recording.")
    side_px: int = Field(ge=64, description="Rows and columns of each recording.")
    dataset_frames: int = Field(
        ge=30,
        description="Random frames for the spatial network: 80 % train, 10 % validate, the "
        "rest, from the test experiments, test.",
    )
    base_width: int = Field(ge=2, description="Channels of the U-Net's first level.")
    unet_epochs: int = Field(ge=1, description="Most passes over the frames (paper: 100).")
    temporal_epochs: int = Field(ge=1, description="Most passes over the recordings (paper: 100).")
    batch: int = Field(default=8, ge=1, description="Frames, or crops, in one step.")
    annotator_misses: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the functional neurons that the simulated annotator overlooks.",
    )

    @property
    def n_training(self) -> int:
        """Number of experiments that are trained on."""
        return len(self.recordings) - N_TEST

    @property
    def pipeline(self) -> PipelineConfig:
        """Settings of the model: the paper's, at this width."""
        networks = PRESETS["paper"].networks
        unet = networks.unet.model_copy(update={"base_width": self.base_width})
        return PRESETS["paper"].model_copy(
            update={"networks": networks.model_copy(update={"unet": unet})}
        )

    @property
    def training(self) -> TrainingConfig:
        """The paper's recipe, for this many epochs on data of this size."""
        paper = TRAININGS["paper"]
        n_recordings = sum(self.recordings[: self.n_training])
        crop_px = max(64, min(paper.unet.crop_px, self.side_px // 16 * 16))
        return paper.model_copy(
            update={
                "dataset": DatasetConfig(
                    n_training=n_recordings - n_held_back(n_recordings),
                    n_validation=n_held_back(n_recordings),
                    n_frames=max(32, self.n_frames),
                    side_px=self.side_px,
                    labels="srname",
                ),
                "unet": paper.unet.model_copy(
                    update={
                        "epochs": self.unet_epochs,
                        "batch": self.batch,
                        "crop_px": crop_px,
                        "frames_per_recording": round(0.8 * self.dataset_frames / n_recordings),
                    }
                ),
                "temporal": paper.temporal.model_copy(
                    update={"epochs": self.temporal_epochs, "batch": self.batch}
                ),
            }
        )


N_TEST = 2
"""Experiments never seen in training (paper, section 4)."""


def n_held_back(n_recordings: int) -> int:
    """Say how many of the training experiments' recordings validate the temporal network.

    Parameters
    ----------
    n_recordings : int
        Recordings of these experiments.

    Returns
    -------
    int
        A fifth of them, at least one.
    """
    return max(1, round(0.2 * n_recordings))


SIZES: dict[SizeName, LaboratoryConfig] = {
    "full": LaboratoryConfig(
        recordings=(5, 5, 5, 5, 4, 3, 3),
        n_frames=3600,
        side_px=512,
        dataset_frames=1500,
        base_width=64,
        unet_epochs=100,
        temporal_epochs=100,
    ),
    "standard": LaboratoryConfig(
        recordings=(3,) * 7,
        n_frames=600,
        side_px=256,
        dataset_frames=1500,
        base_width=8,
        unet_epochs=30,
        temporal_epochs=60,
    ),
    "quick": LaboratoryConfig(
        recordings=(1, 1, 1, 1, 1, 3, 3),
        n_frames=40,
        side_px=96,
        dataset_frames=150,
        base_width=4,
        unet_epochs=4,
        temporal_epochs=4,
        batch=4,
    ),
}
"""The sizes of ``cocuyo paper``."""

Four = tuple[float, float, float, float]
"""SDC, IoU, precision, recall."""
PUBLISHED_TABLE_1: dict[str, Four] = {
    "U-Net": (0.814, 0.686, 0.817, 0.811),
    "CGRU": (0.730, 0.574, 0.721, 0.744),
}
PUBLISHED_TABLE_2: tuple[dict[str, Four], ...] = (
    {
        "ours": (0.7585, 0.6109, 0.7452, 0.7722),
        "max": (0.4392, 0.2813, 0.2851, 0.9550),
        "avg": (0.3631, 0.2218, 0.7128, 0.2436),
    },
    {
        "ours": (0.7516, 0.6021, 0.7061, 0.8034),
        "max": (0.4529, 0.2927, 0.2987, 0.9356),
        "avg": (0.4202, 0.2660, 0.7456, 0.2925),
    },
)
PUBLISHED_RECALL = (0.7702, 0.7413)
"""Recall of the cells marked by a person, for both test experiments (section 5)."""
