"""Recordings with known truth."""

from cocuyo.simulation.config import SimulationConfig, Split
from cocuyo.simulation.presets import PRESETS, random_config, training_config
from cocuyo.simulation.render import simulate
from cocuyo.simulation.truth import KINDS, Kind, Simulation, Truth

__all__ = [
    "KINDS",
    "PRESETS",
    "Kind",
    "Simulation",
    "SimulationConfig",
    "Split",
    "Truth",
    "random_config",
    "simulate",
    "training_config",
]
