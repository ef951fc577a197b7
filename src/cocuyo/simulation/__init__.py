"""Recordings with known truth."""

from cocuyo.simulation.broad import broad_training_config, preparation_of
from cocuyo.simulation.camera import CAMERAS, CameraModel, CameraName, with_camera
from cocuyo.simulation.config import SimulationConfig, Split
from cocuyo.simulation.indicators import INDICATORS, Indicator
from cocuyo.simulation.presets import PRESETS, random_config, training_config
from cocuyo.simulation.render import simulate
from cocuyo.simulation.traces import SimulatedTraces, simulate_traces
from cocuyo.simulation.truth import KINDS, Kind, Simulation, Truth

__all__ = [
    "CAMERAS",
    "INDICATORS",
    "KINDS",
    "PRESETS",
    "CameraModel",
    "CameraName",
    "Indicator",
    "Kind",
    "SimulatedTraces",
    "Simulation",
    "SimulationConfig",
    "Split",
    "Truth",
    "broad_training_config",
    "preparation_of",
    "random_config",
    "simulate",
    "simulate_traces",
    "training_config",
    "with_camera",
]
