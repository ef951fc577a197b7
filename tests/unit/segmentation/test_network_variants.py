"""What holds for the networks of both presets and for every switch of their settings."""

import numpy as np
import pytest
import torch

from cocuyo.pipeline.settings import PRESETS
from cocuyo.segmentation import (
    NetworkConfig,
    TemporalConfig,
    UNetConfig,
    load_engine,
    unet_multiple,
)
from cocuyo.segmentation.weights import load_networks


def variant(*, unet=None, temporal=None):
    """Small networks with some settings changed."""
    small_unet = {"base_width": 4, "n_levels": 2, "aspp_rates": (1, 2)}
    return NetworkConfig(
        unet=UNetConfig(**(small_unet | (unet or {}))),
        temporal=TemporalConfig(**({"hidden": 4} | (temporal or {}))),
    )


# The networks are independent of each other: one switch of each at a time.
VARIANTS = {
    "default": PRESETS["default"].networks,
    "paper": PRESETS["paper"].networks,
    "odd width, one channel": variant(unet={"base_width": 3}, temporal={"hidden": 1}),
    "one level, wide kernel": variant(unet={"n_levels": 1}, temporal={"kernel": 5}),
    "no stem, no contrast": variant(unet={"stem_stride": 1}, temporal={"contrast_input": False}),
    "other rates, full size": variant(
        unet={"aspp_rates": (1, 3, 9)}, temporal={"resolution": "full"}
    ),
    "single frames, final state": variant(
        unet={"input_frames": "frame"}, temporal={"readout": "final", "step_s": None}
    ),
}
# Odd, not square, and smaller than what the network halves.
SHAPES = [(45, 61), (64, 33), (7, 10)]


@pytest.fixture(params=VARIANTS, scope="module")
def config(request):
    return VARIANTS[request.param]


@pytest.fixture
def on_processor(monkeypatch):
    """Keep torch off a GPU, whose arithmetic is another one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def image_of(shape, seed=0):
    image = np.random.default_rng(seed).random(shape, np.float32)
    image.setflags(write=False)
    return image


def unroll(network, steps):
    """Take the steps, shape (n_steps, batch, inputs, height, width); return the last state."""
    state = network.start(steps.shape[1], *steps.shape[-2:])
    for step in steps:
        state = network.step(step, *state)
    return state


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_of_any_size_gives_probabilities_of_that_size(config, shape, folder_of):
    engine = load_engine(folder_of(config), config, frame_shape=shape, engine="torch")
    probability = engine.segment(image_of(shape))
    state = engine.step(probability, image_of(shape, seed=1), engine.start())
    for output in (probability, engine.classify(state)):
        assert output.shape == shape
        assert output.dtype == np.float32
        assert ((output >= 0) & (output <= 1)).all()


def test_the_spatial_network_keeps_the_size_of_its_input(config, networks_of):
    unet, _ = networks_of(config)
    multiple = unet_multiple(config.unet)
    frames = noise(2, 1, multiple, 3 * multiple)
    assert unet(frames).shape == frames.shape


def test_a_gradient_reaches_every_parameter_of_the_spatial_network(config, networks_of):
    unet, _ = networks_of(config)
    side = 2 * unet_multiple(config.unet)
    unet(noise(2, 1, side, side)).square().sum().backward()
    assert [name for name, p in unet.named_parameters() if not p.grad.any()] == []


def test_a_gradient_reaches_every_parameter_of_the_temporal_network(config, networks_of):
    _, temporal = networks_of(config)
    # Two steps: in the first, the state is 0 and the reset gate has nothing to reset.
    state = unroll(temporal, noise(2, 1, temporal.n_inputs, 8, 12))
    temporal.classify(*state).square().sum().backward()
    assert [name for name, p in temporal.named_parameters() if not p.grad.any()] == []


def test_frames_of_a_batch_do_not_see_each_other(config, networks_of):
    unet, _ = networks_of(config)
    side = 2 * unet_multiple(config.unet)
    # Frames as unlike as possible: what one lends to another must show.
    frames = torch.stack([gain * noise(1, side, side, seed=gain) + gain for gain in (0, 1, 5)])
    with torch.inference_mode():
        together = unet(frames)
        alone = torch.cat([unet(frame[None]) for frame in frames])
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_recordings_of_a_batch_do_not_see_each_other(config, networks_of):
    _, temporal = networks_of(config)
    steps = noise(3, 2, temporal.n_inputs, 9, 14)
    steps[:, 1] = 5 * steps[:, 1] + 3
    with torch.inference_mode():
        together = temporal.classify(*unroll(temporal, steps))
        alone = torch.cat(
            [temporal.classify(*unroll(temporal, steps[:, [i]])) for i in range(steps.shape[1])]
        )
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_saved_networks_are_read_back_equal(config, networks_of, folder_of):
    for made, read in zip(
        networks_of(config), load_networks(folder_of(config), config), strict=True
    ):
        assert not read.training
        wanted, got = made.state_dict(), read.state_dict()
        assert list(got) == list(wanted)
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_openvino_in_f32_computes_what_torch_computes(config, folder_of, on_processor):
    shape = (45, 61)
    reference, engine = (
        load_engine(
            folder_of(config),
            config,
            frame_shape=shape,
            engine=name,
            precision="f32",
            n_threads=1,
        )
        for name in ("torch", "openvino")
    )
    # Sums of about 1000 products in another order, in f32 (6e-8), through about 15 layers.
    tolerance = 1e-4
    states = [reference.start(), engine.start()]
    for t in range(4):
        wanted, got = (e.segment(image_of(shape, seed=t)) for e in (reference, engine))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
        contrast = 5 * image_of(shape, seed=100 + t)
        states = [
            e.step(wanted, contrast, state)
            for e, state in zip((reference, engine), states, strict=True)
        ]
    for name in ("hidden", "maximum"):
        wanted, got = (getattr(state, name) for state in states)
        assert wanted.std() > 1e-2
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
    wanted, got = (e.classify(s) for e, s in zip((reference, engine), states, strict=True))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
