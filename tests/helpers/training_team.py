"""What each process of a team runs: ``torchrun --nproc-per-node 2 training_team.py OUT WORK``.

Fits a toy in all ways that the tests look at, then drives the commands of training with a tiny
recipe in the folder WORK. Each process leaves its weights in OUT.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cocuyo import cli, training
from cocuyo.pipeline.settings import PRESETS
from cocuyo.postprocessing import CandidateConfig
from cocuyo.segmentation import NetworkConfig, OutlineConfig, TemporalConfig, UNetConfig
from cocuyo.training import ALONE, TRAININGS, TrainingConfig, loop
from cocuyo.training.dataset import DatasetConfig
from cocuyo.training.settings import (
    EventsRecipe,
    OutlineRecipe,
    RecipeConfig,
    TemporalRecipe,
    UNetRecipe,
    VerifierRecipe,
)

COMMANDS = ("unet", "temporal", "outline", "events", "verifier")
TINY = TrainingConfig(
    dataset=DatasetConfig(n_training=3, n_validation=1, n_frames=64, side_px=64),
    unet=UNetRecipe(epochs=2, batch=3, crop_px=32, frames_per_recording=2),
    temporal=TemporalRecipe(epochs=2, batch=3, crop_px=32, chunk_steps=5),
    outline=OutlineRecipe(n_training=3, n_validation=1, epochs=30, batch=8, learning_rate=1e-2),
    events=EventsRecipe(n_training=5, n_validation=3, width=4, epochs=2, batch=6),
    verifier=VerifierRecipe(n_training=2, n_validation=1, hidden=(4,), epochs=5),
)
PIPELINE = PRESETS["default"].model_copy(
    update={
        "networks": NetworkConfig(
            unet=UNetConfig(base_width=4, n_levels=2, aspp_rates=(1, 2)),
            temporal=TemporalConfig(hidden=4),
            outline=OutlineConfig(base_width=4),
        ),
        "candidates": CandidateConfig(min_contrast=4.0),
    }
)
BATCHES = np.random.default_rng(0).standard_normal((4, 5, 2, 8, 8)).astype(np.float32)


def toy():
    """A network without statistics of the batch: only then are shares the same as the whole."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def toy_loss(network, batch):
    seen, wanted = torch.from_numpy(batch[:, :1]), torch.from_numpy(batch[:, 1:] > 0)
    return functional.binary_cross_entropy_with_logits(network(seen), wanted.float())


def fit_toy(checkpoint, *, team=ALONE, n_batches=len(BATCHES), **recipe):
    """Fit with the loop of training; 5 examples in a batch, so that shares are unequal."""
    network = toy()

    def train_epoch(epoch, update):
        for batch in BATCHES[:n_batches]:
            mine = batch[team.share(len(batch))]
            update(toy_loss(network, mine), len(mine))

    curve = loop.fit(
        network,
        recipe=RecipeConfig(**({"epochs": 2, "batch": 5, "clip": 0.5} | recipe)),
        updates_per_epoch=n_batches,
        train_epoch=train_epoch,
        validate=lambda: float(toy_loss(network, BATCHES[0])) + team.rank,
        checkpoint=checkpoint,
        stage="toy",
        team=team,
    )
    return network, curve


def fit_tiny(out, work, team):
    """Run the commands of training as the launcher would start them, within one team."""
    fitted = []
    load = nn.Module.load_state_dict

    def spy(network, state, *arguments, **options):
        fitted.append({name: value.clone() for name, value in state.items()})
        return load(network, state, *arguments, **options)

    TRAININGS["default"] = TINY
    PRESETS["default"] = PIPELINE
    nn.Module.load_state_dict = spy
    training.open_team = lambda: nullcontext(team)
    for command in COMMANDS:
        words = ["train", command, "--work", str(work), "--workers", "1"]
        assert cli.run_command_line(words) == 0, command
        team.wait()
        if command != "verifier":  # the last weights loaded are those of the best epoch
            torch.save(fitted[-1], out / f"{command}-{team.rank}.pt")


def main():
    out, work = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    with training.open_team() as team:
        network, curve = fit_toy(out / "toy.checkpoint", team=team)
        again, same = fit_toy(out / "toy.checkpoint", team=team)  # from the checkpoint alone
        assert same == curve
        assert all(map(torch.equal, network.parameters(), again.parameters()))
        torch.save(network.state_dict(), out / f"toy-{team.rank}.pt")
        drawn = team.own(np.random.default_rng(1)).random(3)
        facts = {"scores": curve.score, "losses": curve.loss, "drawn": drawn.tolist()}
        torch.save(facts, out / f"facts-{team.rank}.pt")
        fit_tiny(out, work, team)


if __name__ == "__main__":
    main()
