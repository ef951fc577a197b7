"""A training so small that it is over in seconds."""

import numpy as np
import pytest
import torch

from cocuyo.pipeline.settings import PRESETS
from cocuyo.segmentation import (
    NetworkConfig,
    OutlineConfig,
    TemporalConfig,
    UNetConfig,
    temporal_inputs,
)
from cocuyo.training.dataset import DatasetConfig, Example


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks gain nothing from threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def networks():
    return NetworkConfig(
        unet=UNetConfig(base_width=4, n_levels=2, aspp_rates=(1, 2)),
        temporal=TemporalConfig(hidden=4),
        outline=OutlineConfig(base_width=4),
    )


@pytest.fixture(scope="session")
def pipeline(networks):
    return PRESETS["default"].model_copy(update={"networks": networks})


@pytest.fixture(scope="session")
def dataset():
    return DatasetConfig(n_training=2, n_validation=1, n_frames=48, side_px=64)


@pytest.fixture
def draw_recording(tmp_path):
    """Write a recording of noise with one neuron, as prepared for training, without simulating.

    The image and the first input show the neuron's place and nothing else.
    """

    def draw(name, *, n_steps=7, shape=(41, 47), seed=0, config=TemporalConfig()):
        random = np.random.default_rng(seed)
        first = np.full(shape, -1, np.int32)
        top, left = random.integers(5, 15, 2)
        first[top : top + 13, left : left + 9] = n_steps // 2
        cell = first >= 0
        grey = np.where(cell, 200, 50) + random.integers(-20, 20, (n_steps, *shape))
        contrast = random.standard_normal((n_steps, *shape)).astype(np.float16)
        labels = np.repeat(cell[None], n_steps, axis=0)
        example = Example(
            grey.astype(np.uint8), grey.astype(np.uint8), labels, contrast, labels, first
        )
        folder = tmp_path / name
        folder.mkdir()
        for field in Example.__dataclass_fields__:
            np.save(folder / f"{field}.npy", getattr(example, field))
        inputs = [
            temporal_inputs(cell.astype(np.float32), z.astype(np.float32), config) for z in contrast
        ]
        np.save(folder / "inputs.npy", np.stack(inputs).astype(np.float16))
        return folder

    return draw
