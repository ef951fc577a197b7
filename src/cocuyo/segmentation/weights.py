"""Weights of the networks: to and from safetensors, and out to the engine's graphs."""

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from cocuyo.core import ModelError
from cocuyo.segmentation.engine import without_usage_reports
from cocuyo.segmentation.networks import OutlineNetwork, TemporalNetwork, UNet
from cocuyo.segmentation.settings import NetworkConfig, OutlineConfig

WEIGHTS = "weights.safetensors"
OUTLINE_WEIGHTS = "outline.safetensors"


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
    tensors = _read(path)
    unet, temporal = UNet(config.unet), TemporalNetwork(config.temporal)
    for prefix, network in (("unet.", unet), ("temporal.", temporal)):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        _fill(network, part, path)
    return unet.eval(), temporal.eval()


def load_outline_network(folder: Path, config: OutlineConfig) -> OutlineNetwork:
    """Build the outline network and fill it with the weights of a model folder.

    Parameters
    ----------
    folder : Path
        Model folder with ``outline.safetensors``.
    config : OutlineConfig
        Its settings.

    Returns
    -------
    OutlineNetwork
        In evaluation mode.

    Raises
    ------
    ModelError
        If the file is absent or damaged, or its tensors do not fit the settings.
    """
    path = folder / OUTLINE_WEIGHTS
    tensors = _read(path)
    first = tensors.get("fine.layers.0.weight", torch.zeros(1, 1))
    network = OutlineNetwork(first.shape[1], config)
    _fill(network, tensors, path)
    return network.eval()


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        msg = f"The model folder {path.parent} has no {path.name}; give a complete model folder."
        raise ModelError(msg)
    try:
        return load_file(path)
    except SafetensorError as error:
        msg = f"{path} cannot be read ({error}); give a complete model folder."
        raise ModelError(msg) from error


def _fill(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"{path} does not fit the settings in model.json: {error}".replace("\n", " ")
        raise ModelError(msg) from error


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
    tensors = {f"unet.{k}": v.contiguous() for k, v in unet.state_dict().items()}
    tensors |= {f"temporal.{k}": v.contiguous() for k, v in temporal.state_dict().items()}
    _require_finite(tensors)
    (folder / WEIGHTS).write_bytes(save(tensors))
    unet, temporal = unet.eval(), temporal.eval()
    hidden = config.temporal.hidden
    size = 64
    frame = torch.zeros(1, 1, 2 * size, 2 * size)
    inputs = torch.zeros(1, temporal.n_inputs, size, size)
    state = torch.zeros(1, hidden, size, size)
    _export(unet, folder / "unet.xml", (frame,), [[1, -1, -1, -1]])
    _export(temporal, folder / "step.xml", (inputs, state, state.clone()), [[1, -1, -1, -1]] * 3)
    _export(
        _Classify(temporal), folder / "classify.xml", (state, state.clone()), [[1, -1, -1, -1]] * 2
    )


def save_outline_network(folder: Path, network: OutlineNetwork, *, view_side: int) -> None:
    """Write the weights and the engine's graph of the outline network into a folder.

    Parameters
    ----------
    folder : Path
        An existing folder.
    network : OutlineNetwork
        The trained network.
    view_side : int
        Rows and columns of a view.

    Raises
    ------
    ModelError
        If a weight is not finite; nothing is written then.
    """
    tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
    _require_finite(tensors)
    (folder / OUTLINE_WEIGHTS).write_bytes(save(tensors))
    n_channels = tensors["fine.layers.0.weight"].shape[1]
    views = torch.zeros(2, n_channels, view_side, view_side)
    shape = [-1, n_channels, view_side, view_side]
    _export(network.eval(), folder / "outline.xml", (views,), [shape])


def _require_finite(tensors: dict[str, torch.Tensor]) -> None:
    for array in tensors.values():
        if not np.isfinite(array.numpy().astype(np.float64)).all():
            msg = "The trained weights hold values that are not finite; train again."
            raise ModelError(msg)


def _export(
    network: nn.Module,
    path: Path,
    example: tuple[torch.Tensor, ...],
    shapes: list[list[int]],
) -> None:
    """Write the engine's graph of a network; -1 in a shape stands for any size."""
    with without_usage_reports():
        import openvino as ov

    with warnings.catch_warnings(), without_usage_reports():
        # OpenVINO traces with torch.jit, which torch 2.9 and later call deprecated.
        warnings.filterwarnings("ignore", r".*torch\.jit", DeprecationWarning)
        graph = ov.convert_model(
            network,
            example_input=example,
            input=[ov.PartialShape(shape) for shape in shapes],
        )
    ov.save_model(graph, path, compress_to_fp16=False)
