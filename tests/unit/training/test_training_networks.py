"""Fitting of both networks: crops, chunks, resuming."""

import numpy as np
import pytest
import torch
from torch import nn

from cocuyo.core import Cancelled
from cocuyo.segmentation import NetworkConfig, TemporalConfig, UNetConfig, temporal_inputs
from cocuyo.segmentation.engine import pad_to_multiple
from cocuyo.segmentation.networks import UNet
from cocuyo.training import networks as fitting
from cocuyo.training.dataset import load_example
from cocuyo.training.loop import Curve, segmentation_loss
from cocuyo.training.networks import fit_temporal, fit_unet, write_inputs
from cocuyo.training.settings import TRAININGS, TemporalRecipe, UNetRecipe

FITS = {
    "unet": (fit_unet, UNetRecipe(epochs=3, batch=2, crop_px=32, frames_per_recording=2)),
    "temporal": (fit_temporal, TemporalRecipe(epochs=3, batch=1, crop_px=32, chunk_steps=3)),
}


@pytest.fixture
def recordings(draw_recording):
    """Two recordings to train on, one to validate with."""
    return [draw_recording(f"{i}", n_steps=7 + i, seed=i) for i in range(3)]


@pytest.fixture
def run(recordings, networks, tmp_path):
    """Fit a network; one checkpoint for each name of a training."""

    def fit(kind, name="a", *, seed=1, recipe=None, config=networks):
        function, usual = FITS[kind]
        return function(
            recordings[:2],
            recordings[2:],
            config=config,
            recipe=recipe or usual,
            seed=seed,
            checkpoint=tmp_path / f"{kind} {name}.checkpoint",
        )

    return fit


@pytest.fixture
def losses(monkeypatch):
    """What each update computes its loss from, as (output, target)."""
    seen = []

    def spy(logits, target, kind):
        seen.append((logits.detach().clone(), target.clone()))
        return segmentation_loss(logits, target, kind)

    monkeypatch.setattr(fitting, "segmentation_loss", spy)
    return seen


@pytest.fixture
def unfitted(monkeypatch):
    """Leave out the fitting, and give what it was called with."""
    given = {}

    def leave_out(network, **arguments):
        given.update(arguments, network=network)
        return Curve((), (), 0)

    monkeypatch.setattr(fitting, "fit", leave_out)
    return given


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("kind", "stop_at"), [("unet", 4), ("temporal", 17)])
def test_an_interrupted_training_goes_on_to_the_very_same_weights(kind, stop_at, run, monkeypatch):
    whole, curve = run(kind, "whole")
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == stop_at:  # in the midst of the second epoch
            raise Cancelled
        return segmentation_loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "segmentation_loss", interrupted)
        with pytest.raises(Cancelled):
            run(kind, "parts")
    resumed, its_curve = run(kind, "parts")
    assert equal(resumed, whole)
    assert its_curve == curve
    assert len(curve.loss) == 3


@pytest.mark.parametrize("kind", FITS)
def test_the_seed_decides_the_weights(kind, run):
    one, again, other = (run(kind, name, seed=s)[0] for name, s in (("a", 1), ("b", 1), ("c", 2)))
    assert equal(one, again)
    assert not equal(one, other)


def test_the_spatial_network_learns_cells_that_are_bright(run):
    recipe = UNetRecipe(
        epochs=6, batch=4, crop_px=32, frames_per_recording=16, learning_rate=0.02, augment=False
    )
    _, curve = run("unet", recipe=recipe)
    assert curve.loss[-1] < 0.8 * curve.loss[0]
    assert max(curve.score) > 0.6


def test_the_temporal_network_learns_cells_that_its_input_shows(run):
    recipe = TemporalRecipe(
        epochs=6, batch=1, crop_px=32, chunk_steps=3, target="recording mask", learning_rate=0.02
    )
    _, curve = run("temporal", recipe=recipe)
    assert curve.loss[-1] < 0.8 * curve.loss[0]
    assert max(curve.score) > 0.6


class ShowsFrame(nn.Module):
    """Stands for the spatial network: its output is its input."""

    def __init__(self, config):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, frame):
        return self.gain * frame


@pytest.mark.parametrize("augment", [True, False])
def test_crops_of_frames_and_their_labels_are_turned_and_scaled_alike(
    augment, run, losses, monkeypatch
):
    monkeypatch.setattr(fitting, "UNet", ShowsFrame)
    run(
        "unet",
        recipe=UNetRecipe(batch=8, epochs=2, crop_px=32, augment=augment, learning_rate=1e-9),
    )
    assert len(losses) == 2 * (2 * 24 // 8)
    frames, labels = (torch.cat(parts) for parts in zip(*losses, strict=True))
    assert frames.shape == labels.shape == (96, 1, 32, 32)
    assert set(labels.unique().tolist()) == {0.0, 1.0}
    # Cells at 200 of 255 on 50; regraded by up to 0.8 to 1.25 and 0.1, scaled at the edge.
    assert ((frames > 0.45) == (labels > 0)).float().mean() > 0.97


class ShowsInputs(nn.Module):
    """Stands for the temporal network: its output is the first input of the last step."""

    def __init__(self, config, **start):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def start(self, batch, height, width):
        return torch.zeros(batch, 1, height, width), torch.zeros(batch, 1, height, width)

    def step(self, inputs, state, maximum):
        return inputs[:, :1], maximum

    def classify(self, state, maximum):
        return self.gain * state


@pytest.mark.parametrize("crop_px", [32, 64])  # less, and more than the frame
@pytest.mark.parametrize("resolution", ["half", "full"])
def test_the_temporal_target_lies_where_the_inputs_show_the_neuron(
    resolution, crop_px, draw_recording, losses, monkeypatch, tmp_path
):
    monkeypatch.setattr(fitting, "TemporalNetwork", ShowsInputs)
    config = NetworkConfig(temporal=TemporalConfig(resolution=resolution))
    recordings = [draw_recording(f"r{i}", seed=i, config=config.temporal) for i in range(4)]
    recipe = TemporalRecipe(
        target="recording mask", epochs=2, batch=2, crop_px=crop_px, learning_rate=1e-9
    )
    fit_temporal(
        recordings[:3],
        recordings[3:],
        config=config,
        recipe=recipe,
        seed=0,
        checkpoint=tmp_path / "checkpoint",
    )
    side = crop_px // 2 if resolution == "half" else crop_px
    for shown, target in losses:
        assert target.shape[2:] == (side, side)
        # At half resolution a pixel is a neuron's where two of its four are.
        assert torch.equal(shown > 0.499, target > 0)
    assert any(target.any() for _, target in losses)


@pytest.mark.parametrize("target", ["recording mask", "fired so far"])
def test_each_chunk_must_show_the_neurons_of_its_target(target, run, losses, unfitted):
    recipe = TemporalRecipe(target=target, batch=2, crop_px=64, chunk_steps=2, augment=False)
    run("temporal", recipe=recipe)
    unfitted["train_epoch"](0, lambda loss, weight: None)
    assert len(losses) == 2 * 4  # two crops of each recording, 7 steps in chunks of 2
    for first_chunk in (0, 4):
        # The neurons fire in step 3 and 4 (of 7 and 8 steps): in the second and third chunk.
        has_neuron = [
            [bool(item.any()) for item in losses[first_chunk + chunk][1]] for chunk in range(4)
        ]
        everywhere = [True, True]
        if target == "recording mask":
            assert has_neuron == [everywhere] * 4
        else:
            assert has_neuron[0] == [False, False]
            assert sorted(has_neuron[1]) == [False, True]
            assert has_neuron[2:] == [everywhere] * 2


def test_updates_never_outnumber_what_the_schedule_is_told(draw_recording, unfitted, tmp_path):
    config = NetworkConfig(temporal=TemporalConfig(hidden=2))
    recordings = [draw_recording(f"{n}", n_steps=n, seed=n) for n in (3, 5, 9, 14, 4)]
    for batch in (1, 2, 3, 8):
        recipe = TemporalRecipe(batch=batch, crop_px=32, chunk_steps=4)
        fit_temporal(
            recordings,
            recordings[:1],
            config=config,
            recipe=recipe,
            seed=0,
            checkpoint=tmp_path / "none",
        )
        updates = []
        unfitted["train_epoch"](0, lambda loss, weight, to=updates: to.append(loss))
        assert 0 < len(updates) <= unfitted["updates_per_epoch"]


def test_chunks_carry_the_state_over_and_cut_the_gradient(draw_recording, unfitted, tmp_path):
    # One recording as large as a crop: every crop is the whole recording.
    config = NetworkConfig(temporal=TemporalConfig(hidden=3))
    recording = draw_recording("square", n_steps=6, shape=(32, 32))
    recipe = TemporalRecipe(
        batch=1, crop_px=32, chunk_steps=3, augment=False, target="recording mask", update_bias=0.0
    )
    fit_temporal(
        [recording], [recording], config=config, recipe=recipe, seed=0, checkpoint=tmp_path / "none"
    )
    network = unfitted["network"]
    parameters = list(network.parameters())

    def gradient(loss):
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)]
        )

    got = []
    unfitted["train_epoch"](0, lambda loss, weight: got.append(gradient(loss)))

    inputs = torch.from_numpy(np.load(recording / "inputs.npy").astype(np.float32))[:, None]
    target = (load_example(recording).first_step >= 0)[::2, ::2]
    cells = load_example(recording).first_step.reshape(16, 2, 16, 2).transpose(0, 2, 1, 3)
    target = (cells.reshape(16, 16, 4) >= 0).sum(axis=2) >= 2
    target = torch.from_numpy(target.astype(np.float32))[None, None]

    def chunk(state, steps):
        for step in steps:
            state = network.step(step, *state)
        return state, gradient(segmentation_loss(network.classify(*state), target, recipe.loss))

    start = network.start(1, 16, 16)
    state, first = chunk(start, inputs[:3])
    _, carried_and_cut = chunk(tuple(s.detach() for s in state), inputs[3:])
    _, not_cut = chunk(state, inputs[3:])
    _, not_carried = chunk(start, inputs[3:])

    assert len(got) == 4  # two crops of the recording, two chunks each
    for begin in (0, 2):
        torch.testing.assert_close(got[begin], first, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(got[begin + 1], carried_and_cut, rtol=1e-3, atol=1e-6)
    for wrong in (not_cut, not_carried):
        assert (wrong - carried_and_cut).norm() > 0.02 * carried_and_cut.norm()


@pytest.mark.parametrize("kind", FITS)
def test_validation_leaves_no_trace_in_the_network(kind, run, unfitted):
    run(kind)
    network = unfitted["network"].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        assert unfitted["validate"]() == unfitted["validate"]()
    assert all(torch.equal(before[n], value) for n, value in network.state_dict().items())


def test_the_recipe_says_where_update_gate_and_batch_norm_start(run, unfitted):
    starts = {}
    for bias in (0.0, -2.0):
        run("temporal", recipe=TemporalRecipe(update_bias=bias, norm_start=(4.0, -3.0)))
        starts[bias] = unfitted["network"]
    moved = starts[0.0].cell.gates.bias - starts[-2.0].cell.gates.bias
    assert moved.tolist() == pytest.approx([2, 2, 2, 2, 0, 0, 0, 0])
    assert (starts[0.0].norm.weight.item(), starts[0.0].norm.bias.item()) == (4.0, -3.0)


def test_a_network_coarser_than_the_crop_is_trained_on_its_smallest_crop(run, losses):
    coarse = NetworkConfig(unet=UNetConfig(base_width=2, n_levels=5, aspp_rates=(1,)))
    recipe = UNetRecipe(epochs=1, batch=2, crop_px=32, frames_per_recording=1)
    run("unet", recipe=recipe, config=coarse)
    assert losses[0][1].shape == (2, 1, 64, 64)


def test_the_inputs_are_stored_for_frames_in_grey_from_0_to_1(draw_recording):
    folder = draw_recording("r")
    config = NetworkConfig(temporal=TemporalConfig(resolution="full"))
    write_inputs([folder], ShowsFrame(None), config=config)
    grey = load_example(folder).images / 255
    stored = np.load(folder / "inputs.npy")
    np.testing.assert_allclose(stored[:, 0], 1 / (1 + np.exp(-grey)), atol=1e-3)


@pytest.mark.parametrize("resolution", ["half", "full"])
def test_the_temporal_network_learns_on_what_the_engine_will_give_it(resolution, draw_recording):
    config = NetworkConfig(
        unet=UNetConfig(base_width=4, n_levels=2, aspp_rates=(1, 2)),
        temporal=TemporalConfig(resolution=resolution),
    )
    folder = draw_recording("r")
    torch.manual_seed(0)
    unet = UNet(config.unet).eval()
    write_inputs([folder], unet, config=config)
    stored = np.load(folder / "inputs.npy")
    example = load_example(folder)
    rows, columns = example.first_step.shape
    for images, contrast, got in zip(example.images, example.contrast, stored, strict=True):
        frame = torch.from_numpy(pad_to_multiple(images.astype(np.float32) / 255, 8))
        with torch.inference_mode():
            probability = torch.sigmoid(unet(frame[None, None]))[0, 0].numpy()
        wanted = temporal_inputs(
            probability[:rows, :columns], contrast.astype(np.float32), config.temporal
        )
        # Segmented in bf16: 8 bits.
        np.testing.assert_allclose(got, wanted, atol=0.02)
    assert stored.dtype == np.float16


def test_the_papers_recipe_is_the_papers():
    recipe = TRAININGS["paper"]
    assert (recipe.unet.loss, recipe.temporal.loss) == ("bce", "bce")
    assert (recipe.unet.schedule, recipe.temporal.schedule) == ("constant", "constant")
    assert (recipe.unet.learning_rate, recipe.temporal.learning_rate) == (1e-4, 1e-3)
    assert recipe.dataset.labels == "srname"
    assert recipe.temporal.target == "recording mask"
    assert recipe.temporal.norm_start == (1.0, 0.0)
