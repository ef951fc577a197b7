"""Stage 2: from frames to the probability of a functional neuron.

torch is loaded only by `networks` and `weights`, which training and the torch engine use.
"""

from cocuyo.segmentation.blobs import BlobConfig, detect_blobs
from cocuyo.segmentation.engine import (
    Engine,
    EngineName,
    NumberFormat,
    Precision,
    TemporalState,
    load_engine,
    pad_to_multiple,
    temporal_inputs,
    unet_multiple,
)
from cocuyo.segmentation.settings import NetworkConfig, OutlineConfig, TemporalConfig, UNetConfig

__all__ = [
    "BlobConfig",
    "Engine",
    "EngineName",
    "NetworkConfig",
    "NumberFormat",
    "OutlineConfig",
    "Precision",
    "TemporalConfig",
    "TemporalState",
    "UNetConfig",
    "detect_blobs",
    "load_engine",
    "pad_to_multiple",
    "temporal_inputs",
    "unet_multiple",
]
