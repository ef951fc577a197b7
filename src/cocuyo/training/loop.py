"""The training loop both networks share: epochs, early stopping, checkpoints, curves."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cocuyo.core import Progress, ProgressCallback, SettingsError, ignore_progress
from cocuyo.training.settings import RecipeConfig
from cocuyo.training.team import ALONE, Team


@dataclass(frozen=True)
class Curve:
    """How a training went.

    Attributes
    ----------
    loss : tuple of float
        Mean training loss of each epoch.
    score : tuple of float
        Validation score (SDC, or event F1) after each epoch.
    best_epoch : int
        Epoch (from 0) whose weights are kept.
    """

    loss: tuple[float, ...]
    score: tuple[float, ...]
    best_epoch: int


class Update(Protocol):
    """Takes the loss of a batch and updates the weights."""

    def __call__(self, loss: Tensor | None, weight: float = 1.0) -> None:
        """Take one step.

        Parameters
        ----------
        loss : Tensor or None
            Mean loss of this process's share of the batch; None where that is empty.
        weight : float, default: 1.0
            Examples in the share.
        """


def segmentation_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """Loss of a segmentation.

    Parameters
    ----------
    logits, target : Tensor, shape (batch, 1, height, width)
        Output and wanted mask (0 or 1).
    kind : {"bce", "bce and dice"}
        Binary cross-entropy (paper), or the sum of it and the soft Dice loss (Milletari et
        al. 2016) over the batch.

    Returns
    -------
    Tensor
        A scalar.
    """
    bce = functional.binary_cross_entropy_with_logits(logits, target)
    if kind == "bce":
        return bce
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum()
    # 1: an empty crop with an empty output has no loss.
    dice = 1 - (2 * overlap + 1) / (probability.sum() + target.sum() + 1)
    return bce + dice


def fit(
    network: nn.Module,
    *,
    recipe: RecipeConfig,
    updates_per_epoch: int,
    train_epoch: Callable[[int, Update], None],
    validate: Callable[[], float],
    checkpoint: Path,
    progress: ProgressCallback = ignore_progress,
    stage: str,
    score_name: str = "SDC",
    team: Team = ALONE,
) -> Curve:
    """Fit a network; the weights of the best epoch are in it afterwards.

    Several processes take each step together, with the mean gradient of their shares of the batch:
    their networks stay equal, and an epoch has as many steps as with one process. The first one
    validates and writes the checkpoint.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    recipe : RecipeConfig
        Optimiser, schedule, epochs, patience.
    updates_per_epoch : int
        Number of optimiser steps in an epoch (for the schedule).
    train_epoch : callable
        Called with the epoch and a function that takes a loss and updates the weights. All
        processes of a team must call that equally often.
    validate : callable
        Returns the validation score; higher is better.
    checkpoint : Path
        File that is written after each epoch and resumed from where it exists.
    progress : callable, optional
        Called after each epoch.
    stage : str
        Name for the progress.
    score_name : str, default: "SDC"
        What `validate` returns.
    team : Team, optional
        Those who fit it together; they start with equal weights.

    Returns
    -------
    Curve
        Losses and scores.

    Raises
    ------
    SettingsError
        If there are more processes than examples in a batch.
    """
    if team.size > recipe.batch:
        msg = (
            f"A batch of {recipe.batch} cannot be shared by {team.size} processes ({stage}); start "
            f"{recipe.batch} at most, or raise `batch` in the recipe."
        )
        raise SettingsError(msg)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    schedule = _schedule(optimiser, recipe, updates_per_epoch)
    losses: list[float] = []
    scores: list[float] = []
    best: dict[str, Tensor] = {k: v.clone() for k, v in network.state_dict().items()}
    saved = team.agree(_kept(checkpoint) if team.leads else None)
    if saved is not None:
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        if schedule is not None:
            schedule.load_state_dict(saved["schedule"])
        losses, scores, best = saved["losses"], saved["scores"], saved["best"]
    while len(scores) < recipe.epochs:
        best_epoch = int(np.argmax(scores)) if scores else 0
        if scores and len(scores) - 1 - best_epoch >= recipe.patience:
            break
        batch_losses: list[float] = []

        def update(
            loss: Tensor | None, weight: float = 1.0, into: list[float] = batch_losses
        ) -> None:
            optimiser.zero_grad()
            if loss is not None:
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
            mean_loss = team.join(network, loss, weight)
            if recipe.clip:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            # The number of updates in an epoch may fall short of the schedule's, never beyond.
            if schedule is not None and schedule.last_epoch < schedule.total_steps - 1:
                schedule.step()
            into.append(mean_loss)

        network.train()
        train_epoch(len(scores), update)
        network.eval()
        with torch.inference_mode():
            # Scores of two machines may differ by rounding, and with them the best epoch.
            score = team.agree(validate() if team.leads else 0.0)
        if not scores or score > max(scores):
            best = {k: v.clone() for k, v in network.state_dict().items()}
        losses.append(float(np.mean(batch_losses)))
        scores.append(score)
        if team.leads:
            state = {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict() if schedule is not None else {},
                "losses": losses,
                "scores": scores,
                "best": best,
            }
            _keep(state, checkpoint)
        progress(
            Progress(
                stage,
                len(scores),
                recipe.epochs,
                f"loss {losses[-1]:.4f}, validation {score_name} {score:.4f}",
            )
        )
    network.load_state_dict(best)
    network.eval()
    return Curve(tuple(losses), tuple(scores), int(np.argmax(scores)))


def _schedule(optimiser: torch.optim.Optimizer, recipe: RecipeConfig, updates: int) -> Any:
    if recipe.schedule == "constant":
        return None
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        # At least 6: with 5, the rise ends at step 0 and torch divides by its length.
        total_steps=max(6, recipe.epochs * updates + 1),
        pct_start=0.2,
    )


def _kept(checkpoint: Path) -> dict[str, Any] | None:
    if not checkpoint.is_file():
        return None
    return torch.load(checkpoint, weights_only=True, map_location="cpu")  # type: ignore[no-any-return]  # as `_keep` wrote it


def _keep(state: dict[str, Any], checkpoint: Path) -> None:
    partial = checkpoint.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(checkpoint)


def dice_of(pairs: Iterable[tuple[Any, Any]]) -> float:
    """Soerensen-Dice coefficient over all pixels of several masks.

    Parameters
    ----------
    pairs : iterable of (ndarray of bool, ndarray of bool)
        Predicted and true masks.

    Returns
    -------
    float
        In [0, 1]; 1 where both are empty everywhere.
    """
    both = total = 0
    for predicted, truth in pairs:
        both += int((predicted & truth).sum())
        total += int(predicted.sum()) + int(truth.sum())
    return 2 * both / total if total else 1.0


def save_curve(curve: Curve, folder: Path, *, name: str, score_name: str = "SDC") -> None:
    """Write a learning curve as JSON and as a picture.

    Parameters
    ----------
    curve : Curve
        The curve.
    folder : Path
        Where ``<name>_curve.json`` and ``<name>_curve.png`` go.
    name : str
        Name of the network.
    score_name : str, default: "SDC"
        What the scores are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (folder / f"{name}_curve.json").write_text(
        json.dumps({"loss": curve.loss, "score": curve.score, "best_epoch": curve.best_epoch}),
        encoding="utf-8",
    )
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    epochs = np.arange(1, len(curve.loss) + 1)
    axes.plot(epochs, curve.loss, color="tab:blue")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss", color="tab:blue")
    axes.set_ylim(bottom=0)
    twin = axes.twinx()
    twin.plot(epochs, curve.score, color="tab:orange")
    twin.set_ylabel(f"validation {score_name}", color="tab:orange")
    twin.set_ylim(0, 1)
    twin.axvline(curve.best_epoch + 1, color="grey", linewidth=0.8, linestyle=":")
    axes.set_title(f"{name}: best epoch {curve.best_epoch + 1}")
    figure.savefig(folder / f"{name}_curve.png", dpi=120)
