"""The outline network: what it is taught, and that it learns."""

import numpy as np
import pytest
import torch
from flashing_movie import disc

from cocuyo.core import ModelError
from cocuyo.pipeline.settings import PRESETS
from cocuyo.postprocessing import CHANNELS, VIEW_SIDE
from cocuyo.segmentation import NetworkConfig, OutlineConfig
from cocuyo.training.collect import Case
from cocuyo.training.outline import Views, fit_outline_network, label_views
from cocuyo.training.settings import OutlineRecipe

SQUARE = (VIEW_SIDE, VIEW_SIDE)


def views(n=96, *, seed=0):
    """Discs that are neurons where they are bright, and rings that are none."""
    random = np.random.default_rng(seed)
    seen = random.normal(0, 0.2, (n, len(CHANNELS), *SQUARE))
    soma = np.zeros((n, *SQUARE), np.uint8)
    is_neuron = (np.arange(n) % 2).astype(np.int8)
    for i in range(n):
        middle = np.array([VIEW_SIDE // 2, VIEW_SIDE // 2]) + random.integers(-3, 4, 2)
        shape = disc(middle, random.uniform(5, 10), SQUARE)
        if is_neuron[i]:
            seen[i, 0] += shape
            soma[i] = np.rint(255 * shape)
        else:
            seen[i, 0] -= shape
    return Views(seen.astype(np.float16), soma, is_neuron)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return fit_outline_network(
        views(),
        views(seed=1),
        config=OutlineConfig(base_width=4),
        recipe=OutlineRecipe(epochs=12, batch=8, learning_rate=1e-2),
        seed=0,
        checkpoint=tmp_path_factory.mktemp("outline") / "checkpoint",
    )


def test_the_network_learns_to_draw_and_to_tell_neurons(fitted):
    network, curve = fitted
    assert max(curve.score) > 0.85
    unseen = views(seed=2)
    with torch.inference_mode():
        outline, score = network(torch.from_numpy(unseen.views).float())
    neurons = unseen.is_neuron == 1
    found, wanted = outline[:, 0].numpy()[neurons] > 0, unseen.soma[neurons] > 127
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.85
    assert ((score[:, 0].numpy() > 0) == neurons).mean() > 0.9


def test_without_a_neuron_there_is_nothing_to_learn(tmp_path):
    none = views()
    none = Views(none.views, none.soma, np.zeros_like(none.is_neuron))
    with pytest.raises(ModelError, match="No candidate shows a functional neuron"):
        fit_outline_network(
            none,
            views(),
            config=OutlineConfig(base_width=4),
            recipe=OutlineRecipe(),
            seed=0,
            checkpoint=tmp_path / "checkpoint",
        )


def test_candidates_are_labelled_by_the_neuron_they_show(dataset):
    from cocuyo.pipeline.analysis import analyse
    from cocuyo.simulation import PRESETS as SIMULATIONS
    from cocuyo.simulation import simulate

    settings = SIMULATIONS["demo"].model_copy(
        update={"n_frames": 120, "n_rows": 96, "n_columns": 96}
    )
    simulation = simulate(settings, seed=3)
    recording = simulation.recording()
    config = PRESETS["default"].model_copy(update={"networks": NetworkConfig()})
    diameter = settings.soma_diameter_um / settings.pixel_size_um
    analysis = analyse(recording, config=config, diameter_px=diameter, engine=None)
    labelled = label_views(Case(simulation, recording, analysis, diameter, None), config)
    neurons = labelled.is_neuron == 1
    assert neurons.sum() >= 3
    assert (labelled.is_neuron == 0).sum() >= 3
    # What a neuron's view must show is much like its outline at half maximum; others show nothing.
    half = labelled.views[:, CHANNELS.index("half maximum")] > 0.5
    soma = labelled.soma > 127
    for i in np.flatnonzero(neurons):
        assert 2 * (half[i] & soma[i]).sum() / (half[i].sum() + soma[i].sum()) > 0.5
    assert not labelled.soma[labelled.is_neuron == 0].any()
