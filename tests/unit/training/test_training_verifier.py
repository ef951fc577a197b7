"""The verifier: what it is taught, and that it learns."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from cocuyo.core import ModelError, RoiSet
from cocuyo.postprocessing import FEATURES
from cocuyo.training.settings import VerifierRecipe
from cocuyo.training.verifier import (
    SAME_NEURON_IOU,
    UNCERTAIN_IOU,
    Examples,
    _side_by_side,
    fit_verifier,
    label_candidates,
)

RECIPE = VerifierRecipe(hidden=(8,), epochs=30, learning_rate=0.03)


def candidates(n=300, *, seed=0, separable=True):
    """Candidates that are functional where their first feature is large; the rest is noise."""
    random = np.random.default_rng(seed)
    features = random.normal(5, 3, (n, len(FEATURES))).astype(np.float32)
    functional = random.random(n) < 0.4
    if separable:
        features[:, 0] = np.where(functional, 40, 20) + random.normal(0, 3, n)
    return Examples(features, functional)


@pytest.fixture(scope="module")
def fitted():
    return fit_verifier(candidates(), candidates(seed=1), recipe=RECIPE, seed=0)


def test_the_verifier_learns_what_can_be_told_apart(fitted):
    verifier, metrics = fitted
    unseen = candidates(seed=2)
    right = (verifier.score(unseen.features) >= 0.5) == unseen.right
    assert right.mean() > 0.95
    assert metrics["validation_accuracy"] > 0.95


def test_the_verifier_learns_nothing_where_nothing_can_be_learnt():
    _, metrics = fit_verifier(
        candidates(separable=False),
        candidates(seed=1, separable=False),
        recipe=RECIPE,
        seed=0,
    )
    assert metrics["validation_accuracy"] < 0.75


def test_the_metrics_are_those_of_the_verifier_that_is_kept(fitted):
    verifier, metrics = fitted
    held = candidates(seed=1)
    p = verifier.score(held.features).astype(np.float64)
    bce = -np.where(held.right, np.log(p), np.log1p(-p)).mean()
    assert metrics["validation_loss"] == pytest.approx(bce, rel=1e-3)
    assert metrics["validation_share_right"] == pytest.approx(held.right.mean())
    assert (metrics["n_training"], metrics["n_validation"]) == (300, 300)


def test_several_perceptrons_give_the_mean_of_their_logits():
    random = np.random.default_rng(3)
    shapes = [(6, 4), (6,), (3, 6), (3,), (1, 3), (1,)]
    members = [[random.normal(0, 1, s).astype(np.float32) for s in shapes] for _ in range(4)]
    seen = random.normal(0, 1, (9, 4)).astype(np.float32)

    def logits(weights, biases):
        hidden = seen
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            hidden = (np.maximum(hidden, 0) if layer else hidden) @ weight.T + bias
        return hidden[:, 0]

    mean = np.mean([logits(one[0::2], one[1::2]) for one in members], axis=0)
    np.testing.assert_allclose(logits(*_side_by_side(members)), mean, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_told_is_scored_as_often_as_it_is_so():
    few = candidates(60, separable=False)
    verifier, metrics = fit_verifier(
        few, candidates(seed=1, separable=False), recipe=RECIPE, seed=0
    )
    assert metrics["temperature"] > 1.5
    sure = np.abs(verifier.score(candidates(seed=2, separable=False).features) - 0.5)
    assert np.median(sure) < 0.3


def test_the_same_seed_gives_the_same_verifier(fitted):
    again, _ = fit_verifier(candidates(), candidates(seed=1), recipe=RECIPE, seed=0)
    for name, array in fitted[0].tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], array)


def test_the_recipe_says_how_wide_the_layers_are():
    recipe = VerifierRecipe(members=2, hidden=(5, 3), epochs=1)
    verifier, _ = fit_verifier(candidates(), candidates(seed=1), recipe=recipe, seed=0)
    assert [weight.shape for weight in verifier.weights] == [(10, len(FEATURES)), (6, 10), (1, 6)]
    assert [bias.shape for bias in verifier.biases] == [(10,), (6,), (1,)]


def test_a_feature_that_never_changes_does_no_harm():
    train, held = candidates(), candidates(seed=1)
    for part in (train, held):
        part.features[:, 7] = 3
    _, metrics = fit_verifier(train, held, recipe=RECIPE, seed=0)
    assert metrics["validation_accuracy"] > 0.95


@pytest.mark.parametrize("kind", [True, False])
def test_candidates_of_one_kind_are_refused(kind):
    some = candidates(20)
    with pytest.raises(ModelError, match="All 20 examples for the verifier are of one kind"):
        fit_verifier(Examples(some.features, np.full(20, kind)), some, recipe=RECIPE, seed=0)


def test_no_candidates_at_all_are_refused():
    some = candidates(20)
    none = Examples(some.features[:0], some.right[:0])
    with pytest.raises(ModelError, match="All 0 examples"):
        fit_verifier(none, some, recipe=RECIPE, seed=0)
    with pytest.raises(ModelError, match="no examples for validation; simulate more"):
        fit_verifier(some, none, recipe=RECIPE, seed=0)


SIDE = 30
SQUARE = (slice(5, 15), slice(5, 15))  # a functional neuron of 100 pixels
SILENT = (slice(18, 28), slice(18, 28))


def masks_of(*places):
    masks = np.zeros((len(places), SIDE, SIDE), np.float32)
    for mask, place in zip(masks, places, strict=True):
        mask[place] = 1
    return sparse.csr_array(masks.reshape(len(places), -1))


def truth_of(*places, functional):
    masks = masks_of(*places).astype(np.bool_)
    truth = SimpleNamespace(cell_masks=lambda: masks, functional=np.array(functional, bool))
    return SimpleNamespace(truth=truth)


def rois_of(*places):
    footprints = masks_of(*places)
    footprints.data *= 0.3  # the pixels count, not their weights
    n = len(places)
    numbers = np.ones(n, np.float32)
    return RoiSet(
        footprints,
        (SIDE, SIDE),
        tuple(f"roi_{i}" for i in range(n)),
        numbers > 0,
        ("",) * n,
        numbers,
        numbers,
    )


@pytest.fixture
def truth():
    return truth_of(SILENT, SQUARE, functional=[False, True])


def part_of_square(iou):
    """Pixels that overlap the functional neuron by so much."""
    return (slice(5, 15), slice(5, 5 + round(10 * iou)))


@pytest.mark.parametrize("iou", [0.1, 0.2, 0.3, 0.4, 1.0])
def test_a_candidate_is_functional_by_its_overlap_and_teaches_nothing_in_between(iou, truth):
    cell, certain = label_candidates(rois_of(part_of_square(iou)), truth)
    assert cell.tolist() == [1 if iou >= SAME_NEURON_IOU else -1]
    assert certain.tolist() == [iou >= SAME_NEURON_IOU or iou < UNCERTAIN_IOU]


def test_a_candidate_much_larger_than_the_neuron_is_not_it(truth):
    cell, certain = label_candidates(rois_of((slice(0, 30), slice(0, 30))), truth)
    assert (cell == -1).all()
    assert certain.all()


def test_a_candidate_on_a_silent_cell_is_certainly_not_functional(truth):
    cell, certain = label_candidates(rois_of(SILENT, SQUARE), truth)
    assert cell.tolist() == [-1, 1]
    assert certain.tolist() == [True, True]


def test_where_no_neuron_is_functional_no_candidate_is():
    nothing = truth_of(SILENT, SQUARE, functional=[False, False])
    cell, certain = label_candidates(rois_of(SILENT, SQUARE), nothing)
    assert (cell == -1).all()
    assert certain.all()


def test_no_candidates_have_no_labels(truth):
    cell, certain = label_candidates(RoiSet.empty((SIDE, SIDE)), truth)
    assert cell.shape == certain.shape == (0,)


def test_labelling_does_not_change_the_candidates(truth):
    rois = rois_of(SQUARE)
    label_candidates(rois, truth)
    assert set(rois.footprints.data.tolist()) == {np.float32(0.3)}
