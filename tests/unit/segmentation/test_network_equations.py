"""The parts of the networks against their equations."""

import numpy as np
import pytest
import torch

from cocuyo.segmentation import TemporalConfig, UNetConfig
from cocuyo.segmentation.networks import AtrousPyramid, ConvGRUCell, TemporalNetwork, UNet


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def convolve(maps, weight, bias):
    """Slide a kernel over maps with zeros around them, one product at a time."""
    n_out, n_in, side, _ = weight.shape
    half = side // 2
    _, rows, columns = maps.shape
    result = np.zeros((n_out, rows, columns))
    for out, y, x in np.ndindex(n_out, rows, columns):
        total = bias[out]
        for channel, dy, dx in np.ndindex(n_in, side, side):
            row, column = y + dy - half, x + dx - half
            if 0 <= row < rows and 0 <= column < columns:
                total += weight[out, channel, dy, dx] * maps[channel, row, column]
        result[out, y, x] = total
    return result


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_recurrent_cell_follows_its_equations(kernel):
    hidden = 2
    cell = ConvGRUCell(2, hidden, kernel, update_bias=-1.0).double()
    random = np.random.default_rng(3)
    x, h = random.standard_normal((2, 4, 5)), np.tanh(random.standard_normal((hidden, 4, 5)))
    gates, gate_bias, candidate, candidate_bias = (p.detach().numpy() for p in cell.parameters())
    z = sigmoid(convolve(np.concatenate([x, h]), gates[:hidden], gate_bias[:hidden]))
    r = sigmoid(convolve(np.concatenate([x, h]), gates[hidden:], gate_bias[hidden:]))
    n = np.tanh(convolve(np.concatenate([x, r * h]), candidate, candidate_bias))
    with torch.inference_mode():
        got = cell(torch.from_numpy(x)[None], torch.from_numpy(h)[None])[0].numpy()
    np.testing.assert_allclose(got, (1 - z) * h + z * n, rtol=0, atol=1e-12)


@pytest.fixture
def seen():
    """States of a temporal network over some steps, the first being the start."""
    torch.manual_seed(0)
    network = TemporalNetwork(TemporalConfig(hidden=3))
    states = [network.start(2, 6, 7)]
    with torch.inference_mode():
        for _ in range(8):
            states.append(network.step(3 * torch.randn(2, 2, 6, 7), *states[-1]))
    return states


def test_the_maximum_is_that_of_all_states_after_the_start(seen):
    hidden = torch.stack([state for state, _ in seen[1:]])
    for steps, (_, maximum) in enumerate(seen[1:], start=1):
        assert torch.equal(maximum, hidden[:steps].amax(dim=0))
    assert not torch.equal(seen[-1][0], seen[-1][1])


def test_the_state_starts_at_zero_and_its_maximum_below_every_state(seen):
    start, maximum = seen[0]
    assert start.shape == maximum.shape == (2, 3, 6, 7)
    assert not start.any()
    assert (maximum <= -1).all()
    assert all((state.abs() < 1).all() for state, _ in seen)


def test_only_the_read_out_final_and_maximum_looks_at_the_maximum():
    state = torch.rand(1, 4, 6, 6)
    outputs = {}
    for readout in ("final", "final and maximum"):
        network = TemporalNetwork(TemporalConfig(hidden=4, readout=readout)).eval()
        with torch.inference_mode():
            low, high = (network.classify(state, state + more) for more in (0.0, 0.5))
        outputs[readout] = torch.equal(low, high)
    assert outputs == {"final": True, "final and maximum": False}


def test_the_classifiers_batch_norm_starts_where_it_is_told():
    usual = TemporalNetwork(TemporalConfig()).norm
    told = TemporalNetwork(TemporalConfig(), norm_start=(4.0, -3.0)).norm
    assert (usual.weight.item(), usual.bias.item()) == (1.0, 0.0)
    assert (told.weight.item(), told.bias.item()) == (4.0, -3.0)


def test_an_untrained_classifier_that_starts_low_calls_few_pixels_functional():
    torch.manual_seed(1)
    network = TemporalNetwork(TemporalConfig(), norm_start=(1.0, -3.0))
    state = torch.tanh(torch.randn(2, 8, 16, 16))
    with torch.inference_mode():  # in training: batch norm centres the logits at its bias
        logits = network.classify(state, state)
    assert logits.mean() == pytest.approx(-3.0, abs=1e-4)


def test_the_update_bias_moves_the_update_gate_alone():
    cells = []
    for bias in (0.0, -2.0):
        torch.manual_seed(0)
        cells.append(ConvGRUCell(2, 3, 3, update_bias=bias).state_dict())
    usual, moved = cells
    torch.testing.assert_close(moved["gates.bias"][:3], usual["gates.bias"][:3] - 2)
    assert torch.equal(moved["gates.bias"][3:], usual["gates.bias"][3:])
    assert all(torch.equal(moved[name], usual[name]) for name in usual if name != "gates.bias")


def test_a_negative_update_bias_remembers_longer():
    kept = []
    for bias in (0.0, -4.0):
        torch.manual_seed(0)
        cell = ConvGRUCell(1, 4, 3, update_bias=bias)
        state = torch.full((1, 4, 8, 8), 0.9)
        with torch.inference_mode():
            for _ in range(5):
                state = cell(torch.zeros(1, 1, 8, 8), state)
        kept.append(state.mean().item())
    assert kept[1] > 0.7
    assert kept[1] > kept[0] + 0.1


def test_the_pyramid_sees_as_far_as_its_widest_rate_and_its_mean_everywhere():
    pyramid = AtrousPyramid(1, 2, (1, 4)).eval()
    maps = torch.zeros(1, 1, 21, 21)
    with torch.no_grad():
        for branch in (*pyramid.branches, pyramid.join):
            branch[0].weight.fill_(1.0)
        pyramid.pooled[0].weight.fill_(0.0)
        pyramid.pooled[0].bias.fill_(0.0)
        maps[0, 0, 10, 10] = 1
        local = pyramid(maps)[0, 0]
        pyramid.pooled[0].weight.fill_(1.0)
        everywhere = pyramid(maps)[0, 0]
    y, x = np.nonzero(local.numpy())
    assert (y.min(), y.max(), x.min(), x.max()) == (6, 14, 6, 14)
    assert (everywhere > 0).all()


def test_each_level_doubles_the_channels_and_halves_the_map():
    unet = UNet(UNetConfig(base_width=4, n_levels=3, stem_stride=1, aspp_rates=(1,))).eval()
    shapes = []
    unet.bottleneck.register_forward_hook(
        lambda _, inputs, output: shapes.append((inputs[0].shape, output.shape))
    )
    with torch.inference_mode():
        unet(torch.zeros(1, 1, 16, 24))
    assert shapes == [((1, 16, 2, 3), (1, 32, 2, 3))]
