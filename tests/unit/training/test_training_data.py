"""Recordings prepared for training: shapes, labels, splits, and work that is kept."""

from dataclasses import replace

import numpy as np
import pytest

from cocuyo.pipeline.settings import PRESETS, ScaleConfig
from cocuyo.segmentation import NetworkConfig, TemporalConfig
from cocuyo.simulation import (
    SimulationConfig,
    broad_training_config,
    simulate,
    training_config,
)
from cocuyo.training import dataset as preparing
from cocuyo.training.dataset import (
    DatasetConfig,
    Example,
    load_example,
    make_example,
    prepare_recordings,
    training_simulation,
)

SMALL = SimulationConfig(
    n_frames=66,
    n_rows=64,
    n_columns=80,
    frame_rate_hz=10.0,
    pixel_size_um=1.0,
    n_active=6,
    n_silent=4,
    n_defocused_active=1,
    n_defocused_silent=1,
    gain_counts_per_photon=0.5,
    event_rate_hz=0.3,
    drift_px=0.0,
    jitter_px=0.0,
)
# Steps of 0.6 s at 10 Hz.
FRAMES_PER_STEP = 6
N_STEPS = 11

DTYPES = {
    "images": np.uint8,
    "single_images": np.uint8,
    "single_labels": np.bool_,
    "contrast": np.float16,
    "visible": np.bool_,
    "first_step": np.int32,
}


@pytest.fixture(scope="module")
def simulation():
    return simulate(SMALL, seed=3)


def example_of(simulation, *, labels="truth", config=PRESETS["default"], seed=5):
    return make_example(simulation, simulation.recording(), config=config, labels=labels, seed=seed)


@pytest.fixture(scope="module")
def example(simulation):
    return example_of(simulation)


@pytest.mark.parametrize("labels", ["truth", "srname"])
def test_an_example_has_the_documented_arrays(labels, simulation):
    example = example_of(simulation, labels=labels)
    assert {name: getattr(example, name).dtype for name in DTYPES} == DTYPES
    shape = (SMALL.n_rows, SMALL.n_columns)
    assert example.images.shape == example.contrast.shape == (N_STEPS, *shape)
    assert example.visible.shape == (N_STEPS, *shape)
    assert example.single_images.shape == example.single_labels.shape
    assert example.single_images.shape[1:] == shape
    assert 1 <= len(example.single_images) <= N_STEPS
    assert example.first_step.shape == shape
    assert example.first_step.min() == -1
    assert example.first_step.max() < N_STEPS


def test_an_example_is_as_large_as_what_the_networks_see(simulation):
    # Cells of 9.5 px, give or take, are brought to 16 px.
    config = PRESETS["default"].model_copy(
        update={"scale": ScaleConfig(smallest_px=20, largest_px=30, target_px=16)}
    )
    example = example_of(simulation, config=config)
    rows, columns = example.first_step.shape
    assert rows > 1.2 * SMALL.n_rows
    assert rows / columns == pytest.approx(SMALL.n_rows / SMALL.n_columns, rel=0.02)
    for name in ("images", "single_images", "single_labels", "contrast", "visible"):
        assert getattr(example, name).shape[1:] == (rows, columns)
    share = (example.first_step >= 0).mean()
    assert share == pytest.approx(simulation.truth.mask().mean(), rel=0.1)


def test_the_contrast_is_not_stored_where_no_network_sees_it(simulation):
    config = PRESETS["default"].model_copy(
        update={"networks": NetworkConfig(temporal=TemporalConfig(contrast_input=False))}
    )
    contrast = example_of(simulation, config=config).contrast
    assert contrast.shape == (N_STEPS, 1, 1)
    assert not contrast.any()


def test_with_a_step_of_one_frame_every_frame_is_an_image(simulation):
    assert len(example_of(simulation, config=PRESETS["paper"]).images) == SMALL.n_frames


def test_the_teacher_srname_gives_one_mask_for_the_whole_recording(simulation):
    first = example_of(simulation, labels="srname").first_step
    assert set(np.unique(first)) <= {-1, 0}


def test_the_true_mask_is_that_of_the_functional_neurons(simulation, example):
    np.testing.assert_array_equal(example.first_step >= 0, simulation.truth.mask())


def with_firing(simulation, frames, *, same_place=False):
    """Let the functional neurons fire once, at these frames; on request all in one place."""
    truth = simulation.truth
    cells = np.flatnonzero(truth.functional)[: len(frames)]
    assert len(cells) == len(frames)
    traces = np.zeros_like(truth.traces)
    footprints = truth.footprints.tolil()
    for cell, frame in zip(cells, frames, strict=True):
        traces[cell, frame - 1 : frame + 1] = (0.4, 1.0)  # 0.4 is less than half
        if same_place:
            footprints[cell] = footprints[cells[0]]
    changed = replace(truth, traces=traces, footprints=footprints.tocsr())
    masks = changed.cell_masks()[cells].toarray().reshape(-1, SMALL.n_rows, SMALL.n_columns)
    return replace(simulation, truth=changed), masks


def test_a_neuron_counts_from_the_step_in_which_it_reaches_half_of_its_largest_transient(
    simulation,
):
    # The first and last frame of a step, and one in the midst.
    frames = (FRAMES_PER_STEP, 2 * FRAMES_PER_STEP - 1, 5 * FRAMES_PER_STEP + 2)
    firing, masks = with_firing(simulation, frames)
    first = example_of(firing).first_step
    alone = masks.sum(axis=0) == 1
    for mask, frame in zip(masks, frames, strict=True):
        assert (mask & alone).any()
        assert (first[mask & alone] == frame // FRAMES_PER_STEP).all()


@pytest.mark.parametrize("frames", [(10, 50), (50, 10)])
def test_of_two_neurons_on_one_pixel_the_first_to_fire_counts(frames, simulation):
    firing, masks = with_firing(simulation, frames, same_place=True)
    first = example_of(firing).first_step
    assert (first[masks.all(axis=0)] == 10 // FRAMES_PER_STEP).all()


def test_labels_of_a_mean_of_frames_show_fainter_cells_than_those_of_one_frame(simulation):
    # One step holds the whole recording: its mean has the least noise.
    one = PRESETS["paper"]
    temporal = one.networks.temporal.model_copy(update={"step_s": 6.6})
    networks = one.networks.model_copy(update={"temporal": temporal})
    mean = example_of(simulation, config=one.model_copy(update={"networks": networks}))
    single = example_of(simulation, config=one)
    middle = (SMALL.n_frames - 1) // 2
    assert mean.visible.shape[0] == 1
    assert (mean.visible[0] | ~single.visible[middle]).all()
    assert mean.visible[0].any()


def test_an_example_repeats_with_its_seed(simulation, example):
    again = example_of(simulation)
    for name in DTYPES:
        np.testing.assert_array_equal(getattr(again, name), getattr(example, name))


def test_another_seed_mistakes_the_diameter_otherwise(simulation, example):
    assert (example_of(simulation, seed=6).images != example.images).any()


def draws_of(monkeypatch, split, seed):
    """Keys of all random generators that a training recording uses, and its frames."""
    keys = []
    make = np.random.default_rng

    def spy(key):
        keys.append(tuple(key))
        return make(key)

    with monkeypatch.context() as patch:
        patch.setattr(np.random, "default_rng", spy)
        simulation, _ = training_simulation(
            seed, split=split, n_frames=32, side_px=64, preparations="all"
        )
    return set(keys), simulation.frames


def test_recordings_of_different_splits_and_seeds_share_no_random_numbers(monkeypatch):
    experiments = [(split, s) for split in ("training", "validation", "test") for s in (1000, 1001)]
    drawn = [draws_of(monkeypatch, *experiment) for experiment in experiments]
    assert min(len(keys) for keys, _ in drawn) > 5
    assert len(set.union(*(keys for keys, _ in drawn))) == sum(len(keys) for keys, _ in drawn)


def test_every_second_recording_is_one_of_any_preparation():
    def drawn(seed, preparations):
        simulation, _ = training_simulation(
            seed, split="training", n_frames=40, side_px=64, preparations=preparations
        )
        return simulation.config

    size = {"split": "training", "n_frames": 40, "shape": (64, 64)}
    assert drawn(1000, "all") == training_config(1000, **size)
    assert drawn(1001, "all") == broad_training_config(1001, **size)
    assert drawn(1001, "slices") == training_config(1001, **size)


def test_a_training_recording_repeats_with_its_split_and_seed(monkeypatch):
    (_, one), (_, again), (_, other) = (
        draws_of(monkeypatch, split, 1000) for split in ("test", "test", "training")
    )
    np.testing.assert_array_equal(one, again)
    assert one.dtype != other.dtype or (one != other).any()


@pytest.fixture
def prepare(tmp_path, pipeline):
    """Prepare two recordings of a split."""

    def run(split="training", *, folder="data", config=pipeline, **changed):
        n_workers = changed.pop("n_workers", 1)
        dataset = DatasetConfig(
            **({"n_training": 2, "n_validation": 1, "n_frames": 32, "side_px": 64} | changed)
        )
        return prepare_recordings(
            tmp_path / folder,
            dataset=dataset,
            config=config,
            split=split,
            seed=1,
            n_workers=n_workers,
        )

    return run


@pytest.fixture
def simulated(monkeypatch, example):
    """Simulate nothing; give the seeds of the recordings that would have been."""
    seeds = []

    def note(seed, **_):
        seeds.append(seed)
        return None, None

    monkeypatch.setattr(preparing, "training_simulation", note)
    monkeypatch.setattr(preparing, "make_example", lambda *_, **__: example)
    return seeds


def test_prepared_recordings_are_the_examples_of_their_split_and_seed(prepare, pipeline):
    (path,) = prepare("validation")
    simulation, recording = training_simulation(
        1000, split="validation", n_frames=32, side_px=64, preparations="all"
    )
    wanted = make_example(simulation, recording, config=pipeline, labels="truth", seed=1000)
    stored = load_example(path)
    for name in Example.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(stored, name), getattr(wanted, name))


def test_splits_lie_apart(prepare, simulated):
    training, validation = prepare("training"), prepare("validation")
    assert len(training) == 2
    assert len(validation) == 1
    assert set(training).isdisjoint(validation)


def test_prepared_recordings_are_kept(prepare, simulated):
    paths = prepare()
    assert prepare() == paths
    assert simulated == [1000, 1001]


@pytest.mark.parametrize(
    "changed", [{"n_frames": 40}, {"labels": "srname"}, {"preparations": "all"}]
)
def test_recordings_of_other_settings_are_made_again(changed, prepare, simulated):
    prepare(n_training=1)
    prepare(n_training=1, **changed)
    assert simulated == [1000, 1000]


def test_recordings_of_other_preprocessing_are_made_again(prepare, simulated, pipeline):
    prepare(n_training=1)
    equalisation = pipeline.equalisation.model_copy(update={"clip_limit": 1.5})
    prepare(n_training=1, config=pipeline.model_copy(update={"equalisation": equalisation}))
    assert simulated == [1000, 1000]


def test_a_recording_whose_preparation_was_stopped_is_made_again(prepare, simulated, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparing.json, "dumps", stop)  # the last thing that is written
        with pytest.raises(KeyboardInterrupt):
            prepare(n_training=1)
    (path,) = prepare(n_training=1)
    assert len(load_example(path).images) > 0
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_number_of_workers_does_not_matter(prepare):
    alone, together = prepare(folder="one"), prepare(folder="two", n_workers=2)
    for one, two in zip(alone, together, strict=True):
        assert one.name == two.name
        for name in Example.__dataclass_fields__:
            np.testing.assert_array_equal(
                getattr(load_example(one), name), getattr(load_example(two), name)
            )
