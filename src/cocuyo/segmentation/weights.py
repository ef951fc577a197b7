"""Weights of the networks: to and from safetensors, and out to the engine's graphs."""

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cocuyo.core import ModelError
from cocuyo.segmentation.engine import without_usage_reports
from cocuyo.segmentation.networks import TemporalNetwork, UNet
from cocuyo.segmentation.settings import NetworkConfig

WEIGHTS = "weights.safetensors"


class _Classify(nn.Module):
    def __init__(self, network: TemporalNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: torch.Tensor, maximum: torch.Tensor) -> torch.Tensor:
        return self.network.classify(state, maximum)


def load_networks(folder: Path, config: NetworkConfig) -> tuple[UNet, TemporalNetwork]:
    """Build both networks and fill them with the weights of a model folder.

    Parameters
    ----------
    folder : Path
        Model folder with ``weights.safetensors``.
    config : NetworkConfig
        Their settings.

    Returns
    -------
    unet : UNet
        The spatial network, in evaluation mode.
    temporal : TemporalNetwork
        The temporal network, in evaluation mode.

    Raises
    ------
    ModelError
        If the file is absent or damaged, or its tensors do not fit the settings.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        msg = f"The model folder {folder} has no {WEIGHTS}; give a complete model folder."
        raise ModelError(msg)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        msg = f"{path} cannot be read ({error}); give a complete model folder."
        raise ModelError(msg) from error
    unet, temporal = UNet(config.unet), TemporalNetwork(config.temporal)
    for prefix, network in (("unet.", unet), ("temporal.", temporal)):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            network.load_state_dict(part)
        except RuntimeError as error:
            msg = f"{path} does not fit the settings in model.json: {error}".replace("\n", " ")
            raise ModelError(msg) from error
    return unet.eval(), temporal.eval()


def save_networks(
    folder: Path, unet: UNet, temporal: TemporalNetwork, config: NetworkConfig
) -> None:
    """Write the weights and the engine's graphs of both networks into a folder.

    Parameters
    ----------
    folder : Path
        An existing folder.
    unet : UNet
        The trained spatial network.
    temporal : TemporalNetwork
        The trained temporal network.
    config : NetworkConfig
        Their settings.

    Raises
    ------
    ModelError
        If a weight is not finite; nothing is written then.
    """
    with without_usage_reports():
        import openvino as ov

    tensors = {f"unet.{k}": v.contiguous() for k, v in unet.state_dict().items()}
    tensors |= {f"temporal.{k}": v.contiguous() for k, v in temporal.state_dict().items()}
    for array in tensors.values():
        if not np.isfinite(array.numpy().astype(np.float64)).all():
            msg = "The trained weights hold values that are not finite; train again."
            raise ModelError(msg)
    save_file(tensors, folder / WEIGHTS)
    unet, temporal = unet.eval(), temporal.eval()
    hidden = config.temporal.hidden
    size = 64
    frame = torch.zeros(1, 1, 2 * size, 2 * size)
    inputs = torch.zeros(1, temporal.n_inputs, size, size)
    state = torch.zeros(1, hidden, size, size)
    examples = {
        "unet": (unet, (frame,), 1),
        "step": (temporal, (inputs, state, state.clone()), 3),
        "classify": (_Classify(temporal), (state, state.clone()), 2),
    }
    for name, (network, example, n_inputs) in examples.items():
        with warnings.catch_warnings(), without_usage_reports():
            # OpenVINO traces with torch.jit, which torch 2.9 and later call deprecated.
            warnings.filterwarnings("ignore", r".*torch\.jit", DeprecationWarning)
            graph = ov.convert_model(
                network,
                example_input=example,
                input=[ov.PartialShape([1, -1, -1, -1])] * n_inputs,
            )
        ov.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
