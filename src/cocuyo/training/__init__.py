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
from cocuyo.training.curated import Adapted, Lesson, learn_from, train_curated
from cocuyo.training.quantise import PrecisionCheck, quantise
from cocuyo.training.settings import TRAININGS, CuratedRecipe, QuantiseRecipe, TrainingConfig
from cocuyo.training.team import ALONE, Team, open_team

__all__ = [
    "ALONE",
    "TRAININGS",
    "Adapted",
    "CuratedRecipe",
    "Lesson",
    "PrecisionCheck",
    "QuantiseRecipe",
    "Team",
    "TrainingConfig",
    "Workshop",
    "learn_from",
    "open_team",
    "open_workshop",
    "quantise",
    "train_curated",
    "train_events",
    "train_outline",
    "train_temporal",
    "train_unet",
    "train_verifier",
]
