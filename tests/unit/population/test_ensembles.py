"""Ensembles that were planted are found; where there are none, none is, and it says why."""

import numpy as np
import pytest
from planted_ensembles import independent_raster, planted_raster

from cocuyo.core import SettingsError
from cocuyo.population import EnsembleConfig, analyse_population, bin_raster, group_peaks
from cocuyo.population.ensembles import mean_silhouette

QUICK = EnsembleConfig(n_shuffles=100)


def analyse(raster, config=QUICK, **options):
    times = np.arange(raster.shape[1]) / 5
    return analyse_population(raster, times, frame_rate_hz=5.0, config=config, **options)


@pytest.mark.parametrize("seed", range(3))
def test_two_planted_ensembles_are_found_with_their_neurons(seed):
    found = analyse(planted_raster(seed=seed))
    assert len(found.ensembles) == 2
    truth = [set(range(9)), set(range(9, 17))]
    for core in found.ensembles.core:
        neurons = set(np.flatnonzero(core).tolist())
        own = max(truth, key=lambda group: len(group & neurons))
        assert len(own & neurons) >= len(own) - 1
        assert len(neurons - own) <= 2
        truth.remove(own)


def test_one_planted_ensemble_is_not_divided():
    found = analyse(planted_raster(seed=4, sizes=(10,)))
    assert len(found.ensembles) == 1
    assert set(np.flatnonzero(found.ensembles.core[0])) >= set(range(9))
    assert found.ensembles.n_peaks.tolist() == [12]  # as often as it fired


def test_independent_neurons_form_an_ensemble_in_few_recordings():
    found = [len(analyse(independent_raster(20, 400, seed=s)).ensembles) > 0 for s in range(30)]
    assert sum(found) <= 5  # 5 % expected at most; P(more than 5 of 30) is 0.003


def test_the_trace_of_an_ensemble_is_the_share_of_its_core_that_is_active():
    raster = planted_raster(seed=1)
    ensembles = analyse(raster).ensembles
    expected = [raster[core].mean(axis=0) for core in ensembles.core]
    np.testing.assert_allclose(ensembles.activity, expected, atol=1e-6)


def test_each_ensemble_has_the_peaks_that_are_said_to_be_its():
    found = analyse(planted_raster(seed=1))
    counts = np.bincount(found.peaks.ensemble, minlength=3)
    assert found.ensembles.n_peaks.tolist() == counts[1:].tolist()
    assert (np.diff(found.ensembles.n_peaks) <= 0).all()


def test_participation_is_the_share_of_the_ensembles_bins():
    raster = planted_raster(seed=2)
    found = analyse(raster, EnsembleConfig(n_shuffles=100, join_s=0))
    own = np.zeros(raster.shape[1], np.bool_)
    for onset, offset, number in zip(
        found.peaks.onset, found.peaks.offset, found.peaks.ensemble, strict=True
    ):
        own[onset : offset + 1] |= number == 1
    np.testing.assert_allclose(
        found.ensembles.participation[0], raster[:, own].mean(axis=1), atol=1e-6
    )


def test_neurons_are_shown_by_ensemble_and_those_in_none_last():
    found = analyse(planted_raster(seed=1))
    member = found.membership()[found.order]
    assert sorted(found.order.tolist()) == list(range(50))
    assert (np.diff(np.where(member == 0, 99, member)) >= 0).all()


# --- Nothing to find -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raster", "reason"),
    [
        pytest.param(np.zeros((0, 50), np.bool_), "There is no neuron", id="none"),
        pytest.param(np.ones((1, 50), np.bool_), "There is 1 neuron", id="one"),
        pytest.param(np.zeros((2, 50), np.bool_), "is ever active", id="silent"),
        pytest.param(np.eye(2, 50, dtype=np.bool_), "never active together", id="apart"),
        pytest.param(np.ones((5, 50), np.bool_), "never active together more", id="always"),
        pytest.param(np.ones((2, 3), np.bool_), "never active together more", id="3 frames"),
        pytest.param(np.zeros((2, 1), np.bool_), "is ever active", id="1 frame"),
    ],
)
def test_an_empty_analysis_says_why(raster, reason):
    found = analyse(raster)
    assert len(found.ensembles) == 0
    assert reason in found.ensembles.reason
    assert found.ensembles.core.shape == (0, len(raster))
    assert found.ensembles.activity.shape == (0, raster.shape[1])
    assert found.correlations.matrix.shape == (len(raster),) * 2
    assert len(found.order) == len(raster)


def test_two_peaks_are_too_few_for_ensembles():
    raster = np.zeros((6, 300), np.bool_)
    raster[:, [50, 200]] = True
    found = analyse(raster)
    assert len(found.peaks) == 2
    assert "2 significant peaks" in found.ensembles.reason


# --- Groups of peaks -----------------------------------------------------------------------------


def test_peaks_of_disjoint_neurons_are_two_groups_in_the_order_of_time():
    vectors = np.zeros((10, 12), np.float32)
    vectors[::2, :6] = vectors[1::2, 6:] = 1
    groups = group_peaks(vectors, n_shuffles=100)
    assert groups.group.tolist() == [0, 1] * 5
    assert groups.silhouette == pytest.approx(1)


def test_peaks_of_independent_neurons_are_mostly_one_group():
    several = 0
    for seed in range(30):
        vectors = (np.random.default_rng(seed).random((15, 20)) < 0.4).astype(np.float32)
        several += bool(group_peaks(vectors, n_shuffles=30, seed=seed).group.any())
    assert several <= 5  # 5 % expected; P(more than 5 of 30) is 0.003


def test_the_silhouette_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    points, group = rng.random((9, 2)), np.array([0, 1, 2, 0, 1, 0, 1, 0, 1])
    far = np.linalg.norm(points[:, None] - points, axis=2)
    values = []
    for i in range(9):
        mine = [far[i, j] for j in range(9) if j != i and group[j] == group[i]]
        others = [far[i, group == k].mean() for k in range(3) if k != group[i]]
        a, b = (np.mean(mine) if mine else np.nan), min(others)
        values.append((b - a) / max(a, b) if mine else 0.0)
    assert mean_silhouette(far, group) == pytest.approx(np.mean(values))


# --- Bins, settings, arguments -------------------------------------------------------------------


def test_a_bin_is_active_where_any_of_its_frames_is():
    raster = np.array([[0, 1, 0, 0, 0, 0, 1]], np.bool_)
    assert bin_raster(raster, 3).tolist() == [[True, False, True]]


def test_bins_are_given_in_seconds_and_start_with_their_first_frame():
    found = analyse(planted_raster(seed=0), EnsembleConfig(n_shuffles=20, bin_s=0.6))
    assert found.bin_frames == 3
    assert found.raster.shape == (50, 500)
    np.testing.assert_allclose(found.times_s[:3], [0, 0.6, 1.2])


def test_too_few_shuffles_for_the_significance_are_refused():
    with pytest.raises(ValueError, match="100 or more are needed"):
        EnsembleConfig(n_shuffles=50, significance=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times_s": np.arange(7.0)}, "7 times"),
        ({"frame_rate_hz": 0.0}, "frame_rate_hz is 0.0"),
        ({"delta_f_over_f": np.zeros((2, 8), np.float32)}, "has shape"),
        ({"stimuli_s": np.zeros(0)}, "0 stimuli"),
        ({"stimuli_s": np.ones(2), "stimulus_labels": ("a",)}, "1 labels"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    given = {"times_s": np.arange(8.0), "frame_rate_hz": 1.0, **change}
    with pytest.raises(SettingsError, match=message):
        analyse_population(np.zeros((3, 8), np.bool_), given.pop("times_s"), **given)


def test_a_raster_without_frames_is_refused():
    with pytest.raises(SettingsError, match="no frames"):
        analyse(np.zeros((3, 0), np.bool_))
