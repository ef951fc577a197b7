"""Fitting the spatial and the temporal network on prepared recordings."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from cocuyo.core import AnyArray, Progress, ProgressCallback, ignore_progress, stream
from cocuyo.segmentation import NetworkConfig, TemporalConfig, temporal_inputs, unet_multiple
from cocuyo.segmentation.engine import computes_in_bf16, pad_to_multiple
from cocuyo.segmentation.networks import TemporalNetwork, UNet
from cocuyo.training.dataset import Example, load_example
from cocuyo.training.loop import Curve, Update, dice_of, fit, segmentation_loss
from cocuyo.training.settings import TemporalRecipe, UNetRecipe
from cocuyo.training.team import ALONE, Team

MASK_LEVEL = 0.5
"""Probability at which validation masks are cut."""


def fit_unet(
    training: list[Path],
    validation: list[Path],
    *,
    config: NetworkConfig,
    recipe: UNetRecipe,
    seed: int,
    checkpoint: Path,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> tuple[UNet, Curve]:
    """Fit the spatial network to the labels of single frames and step means.

    Parameters
    ----------
    training, validation : list of Path
        Prepared recordings of different experiments.
    config : NetworkConfig
        The network.
    recipe : UNetRecipe
        Loss, schedule, epochs.
    seed : int
        Seed of weights, crops and order.
    checkpoint : Path
        Written after each epoch, resumed from where it exists.
    progress : callable, optional
        Called after each epoch.
    team : Team, optional
        Those who fit it together.

    Returns
    -------
    unet : UNet
        With the weights of the best epoch.
    curve : Curve
        Losses and validation scores.
    """
    torch.manual_seed(seed)
    # Channels last: a third less time on processors.
    device = team.device or torch.device("cpu")
    network = UNet(config.unet).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    examples = [load_example(path) for path in training]
    held = [load_example(path) for path in validation]
    multiple = unet_multiple(config.unet)
    crop = max(multiple, recipe.crop_px // multiple * multiple)
    n_batches = max(1, len(examples) * recipe.frames_per_recording // recipe.batch)
    quick = device.type == "cuda" or computes_in_bf16()
    own = team.share(recipe.batch)
    n_own = own.stop - own.start

    def train_epoch(epoch: int, update: Update) -> None:
        rng = team.own(stream(seed, f"training.unet.{epoch}"))
        for _ in range(n_batches):
            pairs = [
                _random_crop(examples[rng.integers(len(examples))], crop, recipe, rng)
                for _ in range(n_own)
            ]
            images = torch.from_numpy(np.stack([p[0] for p in pairs]))[:, None].to(device)
            images = images.contiguous(memory_format=torch.channels_last)
            labels = torch.from_numpy(np.stack([p[1] for p in pairs]))[:, None].to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=quick):
                logits = network(images)
            update(segmentation_loss(logits.float(), labels, recipe.loss), n_own)

    def validate() -> float:
        pairs = []
        for example in held:
            singles = recipe.single_share >= 1
            images = example.single_images if singles else example.images
            labels = example.single_labels if singles else example.visible
            for i in np.linspace(0, len(images) - 1, 4).astype(int):
                image = images[i].astype(np.float32) / 255
                padded = pad_to_multiple(image, multiple)
                logits = network(torch.from_numpy(padded)[None, None].to(device))
                logits = logits[0, 0].cpu().numpy()
                found = logits[: image.shape[0], : image.shape[1]] > 0
                pairs.append((found, np.asarray(labels[i])))
        return dice_of(pairs)

    curve = fit(
        network,
        recipe=recipe,
        updates_per_epoch=n_batches,
        train_epoch=train_epoch,
        validate=validate,
        checkpoint=checkpoint,
        progress=progress,
        stage="spatial network",
        team=team,
    )
    return network.cpu(), curve


def write_inputs(
    paths: list[Path],
    unet: UNet,
    *,
    config: NetworkConfig,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> None:
    """Run the spatial network over prepared recordings and store the temporal one's inputs.

    Parameters
    ----------
    paths : list of Path
        Prepared recordings; each gets ``inputs.npy``, float16, shape
        (n_steps, n_inputs, height, width).
    unet : UNet
        The trained spatial network.
    config : NetworkConfig
        Inputs and resolution.
    progress : callable, optional
        Called after each recording.
    team : Team, optional
        Those who share the work.
    """
    multiple = unet_multiple(config.unet)
    device = team.device or torch.device("cpu")
    unet = unet.eval().to(device)
    quick = device.type == "cuda" or computes_in_bf16()
    mine = paths[team.rank :: team.size]
    for done, path in enumerate(mine, start=1):
        example = load_example(path)
        inputs = []
        with torch.inference_mode():
            for image, contrast in zip(example.images, example.contrast, strict=True):
                grey = image.astype(np.float32) / 255
                padded = torch.from_numpy(pad_to_multiple(grey, multiple))[None, None]
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=quick):
                    logits = unet(padded.to(device))
                probability = torch.sigmoid(logits.float())[0, 0].cpu().numpy()
                inputs.append(
                    temporal_inputs(
                        probability[: grey.shape[0], : grey.shape[1]],
                        contrast.astype(np.float32),
                        config.temporal,
                    ).astype(np.float16)
                )
        np.save(path / "inputs.npy", np.stack(inputs), allow_pickle=False)
        progress(Progress("segmenting the training recordings", done, len(mine)))
    unet.cpu()
    team.wait()


def fit_temporal(
    training: list[Path],
    validation: list[Path],
    *,
    config: NetworkConfig,
    recipe: TemporalRecipe,
    seed: int,
    checkpoint: Path,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> tuple[TemporalNetwork, Curve]:
    """Fit the temporal network by truncated back-propagation through time.

    Recordings are split in chunks without overlap; the state is carried from chunk to chunk,
    gradients are cut between them, weights are updated after each (paper, section 4).

    Parameters
    ----------
    training, validation : list of Path
        Prepared recordings with ``inputs.npy`` (from `write_inputs`).
    config : NetworkConfig
        The network.
    recipe : TemporalRecipe
        Loss, target, chunks.
    seed : int
        Seed of weights, crops and order.
    checkpoint : Path
        Written after each epoch, resumed from where it exists.
    progress : callable, optional
        Called after each epoch.
    team : Team, optional
        Those who fit it together.

    Returns
    -------
    temporal : TemporalNetwork
        With the weights of the best epoch.
    curve : Curve
        Losses and validation scores.
    """
    torch.manual_seed(seed)
    network = TemporalNetwork(
        config.temporal, update_bias=recipe.update_bias, norm_start=recipe.norm_start
    )
    device = team.device or torch.device("cpu")
    network.to(device)
    examples = [_sequence(path, config.temporal) for path in training]
    held = [_sequence(path, config.temporal) for path in validation]
    crop = recipe.crop_px // (2 if config.temporal.resolution == "half" else 1)
    n_batches = max(1, len(examples) // recipe.batch)
    longest = max(len(inputs) for inputs, _ in examples)
    chunks = -(-longest // recipe.chunk_steps)

    def train_epoch(epoch: int, update: Update) -> None:
        rng = stream(seed, f"training.temporal.{epoch}")
        order = rng.permutation(len(examples))
        own = team.own(rng)
        # Two crops of each recording in an epoch.
        for batch in np.array_split(np.concatenate([order, order]), 2 * n_batches):
            n_steps = min(len(examples[i][0]) for i in batch)
            starts = range(0, n_steps, recipe.chunk_steps)
            mine = batch[team.share(len(batch))]
            if not len(mine):
                for _ in starts:
                    update(None, 0)
                continue
            crops = [_temporal_crop(examples[i], crop, recipe, own) for i in mine]
            inputs = torch.from_numpy(np.stack([c[0][:n_steps] for c in crops])).to(device)
            first = torch.from_numpy(np.stack([c[1] for c in crops]))[:, None].to(device)
            state, maximum = (
                zeros.to(device) for zeros in network.start(len(crops), *inputs.shape[-2:])
            )
            for start in starts:
                stop = min(start + recipe.chunk_steps, n_steps)
                for step in range(start, stop):
                    state, maximum = network.step(inputs[:, step].float(), state, maximum)
                if recipe.target == "recording mask":
                    target = first >= 0
                else:
                    target = (first >= 0) & (first < stop)
                logits = network.classify(state, maximum)
                update(segmentation_loss(logits, target.float(), recipe.loss), len(mine))
                state, maximum = state.detach(), maximum.detach()

    def validate() -> float:
        pairs = []
        for inputs, first in held:
            state, maximum = (zeros.to(device) for zeros in network.start(1, *inputs.shape[-2:]))
            for one in inputs:
                step = torch.from_numpy(one.astype(np.float32))[None].to(device)
                state, maximum = network.step(step, state, maximum)
            probability = torch.sigmoid(network.classify(state, maximum))[0, 0].cpu().numpy()
            pairs.append((probability > MASK_LEVEL, first >= 0))
        return dice_of(pairs)

    curve = fit(
        network,
        recipe=recipe,
        updates_per_epoch=2 * n_batches * chunks,
        train_epoch=train_epoch,
        validate=validate,
        checkpoint=checkpoint,
        progress=progress,
        stage="temporal network",
        team=team,
    )
    return network.cpu(), curve


def _random_crop(
    example: Example, crop: int, recipe: UNetRecipe, rng: np.random.Generator
) -> tuple[AnyArray, AnyArray]:
    single = rng.random() < recipe.single_share
    images = example.single_images if single else example.images
    labels = example.single_labels if single else example.visible
    which = rng.integers(len(images))
    scale = float(np.exp(rng.uniform(np.log(0.75), np.log(1.35)))) if recipe.augment else 1.0
    side = round(crop / scale)
    image, label = _window([images[which], labels[which]], side, rng)
    image = image.astype(np.float32) / 255
    label = label.astype(np.float32)
    if image.shape != (crop, crop):
        image = cv2.resize(image, (crop, crop), interpolation=cv2.INTER_LINEAR)
        label = (cv2.resize(label, (crop, crop), interpolation=cv2.INTER_LINEAR) > 0.5).astype(
            np.float32
        )
    if recipe.augment:
        image, label = _turn([image, label], rng)
        image = np.clip((image * rng.uniform(0.8, 1.25) + rng.uniform(-0.1, 0.1)), 0, 1)
        image = image + rng.normal(0, rng.uniform(0, 0.03), image.shape)
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(label, np.float32)


def _sequence(path: Path, config: TemporalConfig) -> tuple[AnyArray, AnyArray]:
    """Inputs, and first firing step at the hidden state's resolution."""
    inputs = np.load(path / "inputs.npy", mmap_mode="r")
    first = np.asarray(load_example(path).first_step)
    if config.resolution == "half":
        first = np.pad(first, [(0, first.shape[0] % 2), (0, first.shape[1] % 2)], mode="edge")
        rows, columns = first.shape
        squares = first.reshape(rows // 2, 2, columns // 2, 2).transpose(0, 2, 1, 3)
        blocks = squares.reshape(rows // 2, columns // 2, 4)
        inside = (blocks >= 0).sum(axis=2) >= 2
        first = np.where(inside, blocks.max(axis=2), -1)
    return inputs, first


def _temporal_crop(
    example: tuple[AnyArray, AnyArray], crop: int, recipe: TemporalRecipe, rng: np.random.Generator
) -> tuple[AnyArray, AnyArray]:
    inputs, first = example
    rows, columns = first.shape
    size = min(crop, rows, columns)
    # Half of the crops hold a functional neuron, where there is one.
    at = np.argwhere(first >= 0)
    if len(at) and rng.random() < 0.5:
        y, x = at[rng.integers(len(at))] - rng.integers(0, size, 2)
    else:
        y, x = rng.integers(0, rows - size + 1), rng.integers(0, columns - size + 1)
    y, x = int(np.clip(y, 0, rows - size)), int(np.clip(x, 0, columns - size))
    part = np.asarray(inputs[:, :, y : y + size, x : x + size], np.float32)
    target = first[y : y + size, x : x + size]
    if size < crop:
        missing = crop - size
        part = np.pad(part, [(0, 0), (0, 0), (0, missing), (0, missing)], mode="symmetric")
        target = np.pad(target, [(0, missing), (0, missing)], mode="symmetric")
    if recipe.augment:
        part, target = _turn([part, target], rng)
        if part.shape[1] > 1:
            part = part.copy()
            part[:, 1] *= rng.uniform(0.85, 1.2)
    return np.ascontiguousarray(part), np.ascontiguousarray(target)


def _window(images: list[Any], side: int, rng: np.random.Generator) -> list[AnyArray]:
    rows, columns = images[0].shape
    y = int(rng.integers(0, max(1, rows - side + 1)))
    x = int(rng.integers(0, max(1, columns - side + 1)))
    parts = [np.asarray(image[y : y + side, x : x + side]) for image in images]
    below, right = side - parts[0].shape[0], side - parts[0].shape[1]
    if below or right:
        parts = [np.pad(p, [(0, below), (0, right)], mode="symmetric") for p in parts]
    return parts


def _turn(arrays: list[AnyArray], rng: np.random.Generator) -> list[AnyArray]:
    """Turn by right angles and mirror, all alike, over the last two axes."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    turned = [np.rot90(a, turns, axes=(-2, -1)) for a in arrays]
    return [np.flip(a, axis=-1) if mirror else a for a in turned]
