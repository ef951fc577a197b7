"""Losses, schedule, early stopping, checkpoints and curves, with toy networks."""

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from cocuyo.core import Cancelled
from cocuyo.training.loop import Curve, dice_of, fit, save_curve, segmentation_loss
from cocuyo.training.settings import RecipeConfig

KINDS = ("bce", "bce and dice")
SHAPE = (2, 1, 40, 50)


def disc_target():
    y, x = torch.meshgrid(torch.arange(SHAPE[2]), torch.arange(SHAPE[3]), indexing="ij")
    disc = ((y - 20) ** 2 + (x - 25) ** 2 < 36).float()
    return disc.expand(SHAPE)


def sure(target):
    """Logits of a network that is sure of a mask."""
    return 40 * target - 20


SILENCE = sure(torch.zeros(SHAPE))


def test_binary_cross_entropy_is_that_of_torch():
    torch.manual_seed(0)
    logits, target = torch.randn(SHAPE), disc_target()
    wanted = nn.BCELoss()(torch.sigmoid(logits), target)
    torch.testing.assert_close(segmentation_loss(logits, target, "bce"), wanted)


def test_the_dice_loss_comes_on_top_of_the_cross_entropy():
    torch.manual_seed(0)
    logits, target = torch.randn(SHAPE), disc_target()
    bce, both = (segmentation_loss(logits, target, kind).item() for kind in KINDS)
    p, t = torch.sigmoid(logits).double().numpy(), target.double().numpy()
    dice = 2 * (p * t).sum() / (p.sum() + t.sum())
    # The loss smooths with 1 in numerator and denominator: 1 of about 2000 pixels.
    assert both - bce == pytest.approx(1 - dice, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_segmentation_costs_nothing(kind):
    assert segmentation_loss(sure(disc_target()), disc_target(), kind) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_silence_on_a_silent_frame_costs_nothing(kind):
    assert segmentation_loss(SILENCE, torch.zeros(SHAPE), kind) < 1e-3


def test_a_missed_cell_costs_almost_the_whole_dice_loss():
    loss, bce = (segmentation_loss(SILENCE, disc_target(), k) for k in ("bce and dice", "bce"))
    assert 0.98 < loss - bce <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_false_alarm_on_a_silent_frame_costs_something_and_is_pushed_down(kind):
    alarm = disc_target() > 0
    logits = torch.where(alarm, 2.0, -20.0).requires_grad_()
    loss = segmentation_loss(logits, torch.zeros(SHAPE), kind)
    loss.backward()
    assert loss > segmentation_loss(SILENCE, torch.zeros(SHAPE), kind) + 0.01
    assert (logits.grad[alarm] > 0).all()


def test_the_dice_loss_makes_a_false_alarm_on_a_silent_frame_dear():
    alarm = torch.where(disc_target() > 0, 2.0, -20.0)
    bce, both = (segmentation_loss(alarm, torch.zeros(SHAPE), kind) for kind in KINDS)
    assert bce < 0.2  # drowns in the background
    assert both - bce > 0.9


def test_dice_counts_pixels_over_all_masks():
    whole, half, none = np.ones((2, 6), bool), np.eye(2, 6, dtype=bool), np.zeros((2, 6), bool)
    assert dice_of([(whole, whole), (half, half)]) == 1
    assert dice_of([(none, whole)]) == dice_of([(half, ~half)]) == 0
    assert dice_of([(whole, half), (none, none)]) == 2 * 2 / (12 + 2)


def test_dice_of_masks_that_are_all_empty_is_1():
    none = np.zeros((3, 4), bool)
    assert dice_of([(none, none), (none, none)]) == 1


class Toy:
    """One weight, pushed up by every update; scores as written down beforehand."""

    def __init__(self, folder, scores, *, updates=2, **recipe):
        self.network = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.network.weight.zero_()
        self.scores = scores
        self.updates = updates
        self.recipe = RecipeConfig(**({"schedule": "constant", "epochs": len(scores)} | recipe))
        self.checkpoint = folder / "toy.checkpoint"
        self.weights = []

    def train_epoch(self, epoch, update):
        for _ in range(self.updates):
            update(-3 * self.network(torch.ones(1, 1)).sum())

    def validate(self):
        self.weights.append(self.network.weight.item())
        return self.scores[len(self.weights) - 1]

    def fit(self, *, updates_per_epoch=None, **options):
        return fit(
            self.network,
            recipe=self.recipe,
            updates_per_epoch=updates_per_epoch or self.updates,
            train_epoch=self.train_epoch,
            validate=self.validate,
            checkpoint=self.checkpoint,
            stage="toy",
            **options,
        )


def test_the_weights_of_the_best_epoch_are_kept(tmp_path):
    toy = Toy(tmp_path, [0.2, 0.7, 0.5, 0.6])
    curve = toy.fit()
    assert len(set(toy.weights)) == 4
    assert curve.score == (0.2, 0.7, 0.5, 0.6)
    assert curve.best_epoch == 1
    assert toy.network.weight.item() == toy.weights[1]
    assert not toy.network.training


def test_of_equal_epochs_the_first_is_kept(tmp_path):
    toy = Toy(tmp_path, [0.2, 0.7, 0.7])
    assert toy.fit().best_epoch == 1
    assert toy.network.weight.item() == toy.weights[1]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7), (100, 8)])
def test_training_stops_after_the_epochs_of_patience_without_a_better_score(
    patience, epochs, tmp_path
):
    toy = Toy(tmp_path, [0.1, 0.5, 0.4, 0.6, 0.6, 0.2, 0.3, 0.3], patience=patience)
    assert len(toy.fit().score) == epochs


def test_a_training_stopped_early_does_not_go_on_when_called_again(tmp_path):
    first = Toy(tmp_path, [0.5, 0.1, 0.1, 0.9], patience=2)
    curve = first.fit()
    again = Toy(tmp_path, [1.0], epochs=4, patience=2)
    assert again.fit() == curve
    assert again.weights == []
    assert torch.equal(again.network.weight, first.network.weight)


def test_the_loss_of_an_epoch_is_the_mean_of_its_updates(tmp_path):
    toy = Toy(tmp_path, [0.1, 0.1], updates=3, learning_rate=0.5)
    # Adam moves by the learning rate where the gradient never changes.
    weights = 0.5 * np.arange(6)
    np.testing.assert_allclose(
        toy.fit().loss, [-3 * weights[:3].mean(), -3 * weights[3:].mean()], rtol=1e-5
    )


def test_only_the_finished_checkpoint_is_left(tmp_path):
    Toy(tmp_path, [0.1, 0.2]).fit()
    assert [path.name for path in tmp_path.iterdir()] == ["toy.checkpoint"]


def test_progress_is_told_after_each_epoch(tmp_path):
    told = []
    Toy(tmp_path, [0.25, 0.5]).fit(progress=told.append)
    assert [(p.done, p.total) for p in told] == [(1, 2), (2, 2)]
    assert "validation SDC 0.5000" in told[1].detail


def test_a_training_stopped_by_its_caller_goes_on_after_the_last_whole_epoch(tmp_path):
    def stop(progress):
        if progress.done == 2:
            raise Cancelled

    whole = Toy(tmp_path / "whole", [0.1, 0.2, 0.3])
    stopped, again = Toy(tmp_path / "parts", [0.1, 0.2]), Toy(tmp_path / "parts", [0.3])
    for toy in (whole, stopped):
        toy.checkpoint.parent.mkdir()
        toy.recipe = again.recipe = whole.recipe
    curve = whole.fit()
    with pytest.raises(Cancelled):
        stopped.fit(progress=stop)
    assert again.fit() == curve
    assert stopped.weights + again.weights == whole.weights


@pytest.fixture
def rates(monkeypatch):
    """Learning rate of each update under the one-cycle schedule."""
    seen = []

    class Spy(torch.optim.lr_scheduler.OneCycleLR):
        def step(self, *arguments):
            super().step(*arguments)
            seen.append(self.get_last_lr()[0])

    monkeypatch.setattr(torch.optim.lr_scheduler, "OneCycleLR", Spy)
    return seen


def test_the_rate_goes_up_and_down_once(rates, tmp_path):
    Toy(tmp_path, [0.1] * 5, updates=8, schedule="one cycle", learning_rate=0.1).fit()
    top = int(np.argmax(rates))
    assert len(rates) == 41  # with the one before the first update
    assert 5 <= top <= 9  # a fifth of the way
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] < 1e-3 * max(rates)


@pytest.mark.parametrize("told", range(1, 7))
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_schedule_bears_fewer_and_more_updates_than_it_was_told(told, epochs, rates, tmp_path):
    for updates in {1, told, told + 5}:
        rates.clear()
        folder = tmp_path / str(updates)
        folder.mkdir()
        toy = Toy(folder, [0.1] * epochs, updates=updates, schedule="one cycle")
        toy.fit(updates_per_epoch=told)
        assert max(rates) <= toy.recipe.learning_rate * (1 + 1e-9)
        assert min(rates) >= 0


@pytest.mark.parametrize(("clip", "norm"), [(0.0, 3.0), (0.5, 0.5), (10.0, 3.0)])
def test_the_gradient_is_no_longer_than_the_clip(clip, norm, tmp_path):
    toy = Toy(tmp_path, [0.1], clip=clip)
    toy.fit()
    assert toy.network.weight.grad.item() == pytest.approx(-norm, rel=1e-4)


CURVE = Curve(loss=(1.5, 0.75, 0.5), score=(0.1, 0.625, 0.5), best_epoch=1)


def test_a_curve_is_written_as_numbers(tmp_path):
    save_curve(CURVE, tmp_path, name="unet")
    text = (tmp_path / "unet_curve.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "loss": [1.5, 0.75, 0.5],
        "score": [0.1, 0.625, 0.5],
        "best_epoch": 1,
    }


@pytest.mark.parametrize("curve", [CURVE, Curve((0.3,), (0.0,), 0)])
def test_a_curve_is_written_as_a_picture(curve, tmp_path):
    save_curve(curve, tmp_path, name="unet")
    picture = cv2.imread(str(tmp_path / "unet_curve.png"))
    assert picture.shape == (420, 720, 3)
    assert (picture == 255).all(axis=2).mean() > 0.5
    assert (picture < 255).any()


def test_the_curve_of_the_loss_is_in_the_picture(tmp_path):
    pictures = []
    for loss in ((1.5, 0.75, 0.5), (1.5, 0.2, 0.5)):
        save_curve(Curve(loss, CURVE.score, 1), tmp_path, name="unet")
        pictures.append(cv2.imread(str(tmp_path / "unet_curve.png")))
    assert (pictures[0] != pictures[1]).any()
