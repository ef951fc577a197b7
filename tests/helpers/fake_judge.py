"""Judges of events with weights that a person can follow."""

import numpy as np

from cocuyo.postprocessing import TRACE_CHANNELS, EventJudge
from cocuyo.postprocessing.judge import layer_shapes


def still_judge(width=1, *, onset_bias=-20.0):
    """A judge of zeros: it answers the same everywhere, by default that nothing begins."""
    layers = {}
    for name, n_in, n_out, taps in layer_shapes(width):
        layers[f"{name}.weight"] = np.zeros((n_out, n_in, taps), np.float32)
        layers[f"{name}.bias"] = np.zeros(n_out, np.float32)
    layers["onset.bias"][:] = onset_bias
    return EventJudge(layers)


def rise_judge(*, above):
    """A judge that believes an onset where the compressed trace rises by more than `above`."""
    judge = still_judge()
    judge.layers["stem.weight"][0, TRACE_CHANNELS.index("trace")] = (0, -1, 1, 0, 0)
    judge.layers["onset.weight"][:] = 40
    judge.layers["onset.bias"][:] = -40 * above
    return judge


def random_judge(width=3, *, seed=0):
    """A judge with random weights."""
    rng = np.random.default_rng(seed)
    judge = still_judge(width)
    for array in judge.layers.values():
        array[:] = rng.normal(0, 0.3, array.shape)
    return judge
