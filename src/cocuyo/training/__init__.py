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
from cocuyo.training.quantise import PrecisionCheck, quantise
from cocuyo.training.settings import TRAININGS, QuantiseRecipe, TrainingConfig
from cocuyo.training.team import ALONE, Team, open_team

__all__ = [
    "ALONE",
    "TRAININGS",
    "PrecisionCheck",
    "QuantiseRecipe",
    "Team",
    "TrainingConfig",
    "Workshop",
    "open_team",
    "open_workshop",
    "quantise",
    "train_events",
    "train_outline",
    "train_temporal",
    "train_unet",
    "train_verifier",
]
