"""Training of the networks and the verifier on simulated recordings. Needs torch."""

from cocuyo.training.build import (
    Workshop,
    open_workshop,
    train_events,
    train_outline,
    train_temporal,
    train_unet,
    train_verifier,
)
from cocuyo.training.settings import TRAININGS, TrainingConfig

__all__ = [
    "TRAININGS",
    "TrainingConfig",
    "Workshop",
    "open_workshop",
    "train_events",
    "train_outline",
    "train_temporal",
    "train_unet",
    "train_verifier",
]
