"""Recipes: the paper's, and ours; every difference is one named field."""

from typing import Literal

from pydantic import Field

from cocuyo.core import FrozenConfig
from cocuyo.pipeline.settings import PresetName
from cocuyo.training.dataset import DatasetConfig, Preparations


class RecipeConfig(FrozenConfig):
    """How a network is fitted."""

    loss: Literal["bce", "bce and dice"] = Field(
        default="bce and dice",
        description="Binary cross-entropy alone (paper), or with the soft Dice loss, which does "
        "not drown in the background.",
    )
    schedule: Literal["constant", "one cycle"] = Field(
        default="one cycle",
        description="Learning rate: constant (paper), or one cycle up and down (Smith 2018).",
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, description="Constant or largest learning rate of Adam."
    )
    epochs: int = Field(default=12, ge=1, description="Passes over the training recordings.")
    patience: int = Field(
        default=100,
        ge=1,
        description="Epochs without a better validation score after which training stops.",
    )
    batch: int = Field(default=8, ge=1, description="Crops in one step of the optimiser.")
    crop_px: int = Field(default=256, ge=32, description="Side of a crop, in pixels.")
    clip: float = Field(
        default=0.0, ge=0, description="Largest norm of the gradient; 0 does not clip (paper)."
    )


class UNetRecipe(RecipeConfig):
    """Fitting the spatial network."""

    frames_per_recording: int = Field(
        default=24, ge=1, description="Random frames of each recording in an epoch."
    )
    single_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of single frames; the rest are step means. 1 with the paper's input.",
    )
    augment: bool = Field(
        default=True, description="Mirror, turn, scale and regrade crops at random."
    )


class TemporalRecipe(RecipeConfig):
    """Fitting the temporal network by truncated back-propagation through time."""

    learning_rate: float = Field(
        default=4e-3, gt=0, description="Constant or largest learning rate of Adam."
    )
    epochs: int = Field(default=30, ge=1, description="Passes over the training recordings.")
    crop_px: int = Field(default=192, ge=32, description="Side of a crop, in pixels.")
    clip: float = Field(
        default=1.0, ge=0, description="Largest norm of the gradient; 0 does not clip (paper)."
    )
    chunk_steps: int = Field(
        default=20,
        ge=1,
        description="Steps between two updates; the state is carried over, the gradient cut.",
    )
    target: Literal["recording mask", "fired so far"] = Field(
        default="fired so far",
        description="What each chunk must show: the mask of the whole recording (paper), or the "
        "neurons that have fired by then.",
    )
    update_bias: float = Field(
        default=-2.0, description="Start of the update gate's bias; the usual one is 0 (paper)."
    )
    norm_start: tuple[float, float] = Field(
        default=(4.0, -3.0),
        description="Start weight and bias of the classifier's batch norm; usually (1, 0).",
    )
    augment: bool = Field(default=True, description="Mirror, turn and regrade at random.")


class OutlineRecipe(RecipeConfig):
    """Fitting the network that draws candidates."""

    epochs: int = Field(default=16, ge=1, description="Passes over the candidates.")
    batch: int = Field(default=64, ge=1, description="Candidates in one step of the optimiser.")
    n_training: int = Field(default=92, ge=1, description="Recordings whose candidates teach.")
    n_validation: int = Field(
        default=14, ge=1, description="Recordings on which the best epoch is chosen."
    )
    preparations: Preparations = Field(
        default="slices",
        description="Recordings of slices alone, or every second one of any preparation.",
    )


class EventsRecipe(RecipeConfig):
    """Fitting the judge of events."""

    learning_rate: float = Field(default=4e-3, gt=0, description="Largest learning rate of Adam.")
    epochs: int = Field(default=24, ge=1, description="Passes over the recordings.")
    batch: int = Field(default=48, ge=2, description="Most traces in one step of the optimiser.")
    clip: float = Field(
        default=1.0, ge=0, description="Largest norm of the gradient; 0 does not clip."
    )
    width: int = Field(
        default=24, ge=1, description="Channels of the hidden layers; time grows with its square."
    )
    n_training: int = Field(default=80, ge=1, description="Recordings whose traces teach.")
    n_validation: int = Field(
        default=14, ge=1, description="Recordings on which the best epoch is chosen."
    )
    simulated_share: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Share of the steps with traces simulated without a movie, of all "
        "preparations and rates. More shows more kinds of cells, and less of what motion and "
        "neighbours leave in a trace.",
    )


class VerifierRecipe(FrozenConfig):
    """Fitting the verifier of candidates."""

    n_training: int = Field(default=128, ge=1, description="Recordings whose candidates teach.")
    n_validation: int = Field(
        default=16, ge=1, description="Recordings on which the best epoch is chosen."
    )
    preparations: Preparations = Field(
        default="all",
        description="Recordings of slices alone, or every second one of any preparation: it "
        "judges other microscopes far better, and slices nearly as well.",
    )
    members: int = Field(
        default=4, ge=1, description="Perceptrons whose mean counts; more are steadier."
    )
    hidden: tuple[int, ...] = Field(
        default=(64, 32), min_length=1, description="Widths of the layers of each."
    )
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="Share of the hidden figures left out in a step."
    )
    epochs: int = Field(default=30, ge=1, description="Passes over the examples; all are made.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Largest learning rate.")
    weight_decay: float = Field(default=1e-2, ge=0, description="Pull of the weights to 0.")


class CuratedRecipe(FrozenConfig):
    """Teaching a fitted verifier what people corrected."""

    judged_weight: float = Field(
        default=4.0,
        gt=0,
        description="Weight of a candidate that a person judged, beside 1 of those that were left "
        "as found. Larger follows the person sooner, also in slips.",
    )
    pull: float = Field(
        default=0.1,
        ge=0,
        description="Pull of the weights to where they were. Larger keeps what simulations "
        "taught; smaller follows few corrections further and is too sure of itself.",
    )
    steps: int = Field(default=200, ge=1, description="Steps on all examples.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Learning rate.")
    n_parts: int = Field(
        default=4, ge=2, description="Parts of a single recording, each held out once."
    )


class QuantiseRecipe(FrozenConfig):
    """Making the U-Net's int8 graph, and checking it."""

    n_calibration: int = Field(
        default=10, ge=1, description="Recordings of the split `training` that show the ranges."
    )
    images_per_recording: int = Field(
        default=16, ge=1, description="Step images of each that the U-Net is shown."
    )
    n_validation: int = Field(
        default=8, ge=1, description="Recordings of the split `validation` that decide."
    )
    n_frames: int = Field(default=400, ge=32, description="Frames of each recording.")
    side_px: int = Field(default=256, ge=64, description="Rows and columns of each recording.")
    min_sdc: float = Field(
        default=0.98,
        ge=0,
        le=1,
        description="Least SDC with what f32 gives, of masks and of maps; lower lets formats pass "
        "that find other neurons.",
    )
    max_loss: float = Field(
        default=0.005, ge=0, description="Largest loss of mean SDC with the truth."
    )


class TrainingConfig(FrozenConfig):
    """Everything that a training command needs beside the pipeline's settings."""

    dataset: DatasetConfig = DatasetConfig()
    unet: UNetRecipe = UNetRecipe()
    temporal: TemporalRecipe = TemporalRecipe()
    outline: OutlineRecipe = OutlineRecipe()
    events: EventsRecipe = EventsRecipe()
    verifier: VerifierRecipe = VerifierRecipe()


PAPER_TRAINING = TrainingConfig(
    dataset=DatasetConfig(
        n_training=20,
        n_validation=4,
        n_frames=240,
        side_px=224,
        labels="srname",
    ),
    unet=UNetRecipe(
        loss="bce",
        schedule="constant",
        learning_rate=1e-4,
        # The paper has 100; at this width the validation score has stood still since the 28th.
        epochs=40,
        patience=15,
        single_share=1.0,
        augment=False,
    ),
    temporal=TemporalRecipe(
        loss="bce",
        schedule="constant",
        learning_rate=1e-3,
        epochs=100,
        patience=15,
        crop_px=64,
        clip=0.0,
        target="recording mask",
        update_bias=0.0,
        norm_start=(1.0, 0.0),
        augment=False,
    ),
)
"""The paper's recipe: BCE, Adam, 1e-4 and 1e-3, early stopping, teacher `srname`."""


TRAININGS: dict[PresetName, TrainingConfig] = {
    "default": TrainingConfig(),
    "paper": PAPER_TRAINING,
}
"""Recipe of each preset that has networks."""
