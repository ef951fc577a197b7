"""What the verifier judges, the verifier itself, duplicates and reasons."""

import numpy as np
import pytest
from flashing_movie import disc, transients

from cocuyo.core import ModelError
from cocuyo.postprocessing import (
    CANDIDATE_FEATURES,
    FEATURES,
    OPINION,
    OWN_FEATURES,
    CandidateImage,
    Scene,
    VerificationConfig,
    Verifier,
    add_context,
    add_field,
    add_opinion,
    describe_candidate,
    explain,
    find_duplicates,
)

DIAMETER = 8.0
SIDE = 33
SHAPE = (40, 44)
N_FRAMES = 120
MIDDLE = (16, 16)


def candidate(image=None, mask=None, peak=100.0, noise=4.0):
    image = disc(MIDDLE, 4, (SIDE, SIDE)) if image is None else image
    mask = image >= 0.5 if mask is None else mask
    pixels = index()[mask.ravel()]
    return CandidateImage(
        pixels, np.ones(len(pixels), np.float32), peak, noise, image.astype(np.float32), mask
    )


def index():
    """A square in the upper left corner of the frame."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y * SHAPE[1] + x).ravel().astype(np.int32)


def describe(
    image=None, *, mask=None, peak=100.0, noise=4.0, n_events=3, n_frames=N_FRAMES, **given
):
    random = np.random.default_rng(1)
    mean = random.normal(500, 5, SHAPE).astype(np.float32)
    scene = {"mean": mean, "probability": np.full(SHAPE, 0.7), "contrast": np.full(SHAPE, 9.0)}
    traces = {
        "trace": 500 + 100 * transients(n_frames, (n_frames // 3,)),
        "neuropil": random.normal(400, 3, n_frames),
        "dog": random.normal(0, 1, n_frames) + 9 * transients(n_frames, (n_frames // 3,)),
    }
    motion = random.normal(0, 0.3, (n_frames, 2))
    for name in given.keys() & scene.keys():
        scene[name] = given.pop(name)
    for name in given.keys() & traces.keys():
        traces[name] = given.pop(name)
    found = describe_candidate(
        candidate(image, mask, peak, noise),
        scene=Scene(
            **{k: np.asarray(v, np.float32) for k, v in scene.items()}, diameter_px=DIAMETER
        ),
        index=index(),
        inside=given.pop("inside", np.ones((SIDE, SIDE), np.bool_)),
        n_events=n_events,
        shifts=np.asarray(given.pop("shifts", motion), np.float32),
        **{k: np.asarray(v, np.float32) for k, v in traces.items()},
    )
    assert not given
    return found


def named(*args, **kwargs):
    return dict(zip(OWN_FEATURES, describe(*args, **kwargs).tolist(), strict=True))


def only(*pixels):
    mask = np.zeros((SIDE, SIDE), np.bool_)
    for pixel in pixels:
        mask[pixel] = True
    return mask


def verifier(seed=0, hidden=5):
    random = np.random.default_rng(seed)
    n = len(FEATURES)

    def draw(*shape):
        return random.normal(0, 1, shape).astype(np.float32)

    return Verifier(
        draw(n), np.abs(draw(n)) + 0.5, (draw(hidden, n), draw(1, hidden)), (draw(hidden), draw(1))
    )


DEGENERATE = {
    "one pixel": {"mask": only((16, 16))},
    "two pixels": {"mask": only((16, 16), (16, 17))},
    "a line": {"mask": only(*[(16, x) for x in range(SIDE)])},
    "the whole square": {"mask": np.ones((SIDE, SIDE), np.bool_)},
    "one pixel inside": {"mask": only((16, 16)), "inside": only((16, 16))},
    "no noise": {"noise": 0.0},
    "no peak": {"peak": 0.0},
    "a flat image": {"image": np.zeros((SIDE, SIDE)), "mask": only((16, 16), (15, 16), (16, 15))},
    "an empty scene": {"mean": np.zeros(SHAPE), "contrast": np.zeros(SHAPE)},
    "a mean below zero": {"mean": np.full(SHAPE, -40.0)},
    "a negative contrast": {"contrast": np.full(SHAPE, -3.0)},
    "constant traces": {k: np.full(N_FRAMES, 5.0) for k in ("trace", "neuropil", "dog")},
    "two frames": {"n_frames": 2},
    "no motion": {"shifts": np.zeros((N_FRAMES, 2))},
    "no event": {"n_events": 0},
    "huge values": {"peak": 1e9, "trace": np.linspace(0, 1e9, N_FRAMES)},
}


@pytest.mark.parametrize("given", DEGENERATE.values(), ids=DEGENERATE)
def test_every_figure_is_finite(given):
    found = describe(**given)
    assert found.shape == (len(OWN_FEATURES),)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize("peak_share", [1e-9, 1e-3])
def test_an_image_divided_by_a_peak_near_nothing_stays_within_the_limits(peak_share):
    found = describe(disc(MIDDLE, 4, (SIDE, SIDE)) / peak_share, mask=only((16, 16), (16, 17)))
    assert np.abs(found).max() <= 4


def test_a_cell_clearer_than_any_simulated_one_looks_like_a_clear_one():
    clear, clearest = ({"peak": 500 * f, "noise": 1.0, "n_events": 20 * f} for f in (1, 50))
    np.testing.assert_array_equal(describe(**clear), describe(**clearest))


def test_a_typical_soma_is_round_solid_sharp_and_of_typical_area():
    found = named()
    assert found["area"] == pytest.approx(0, abs=0.1)
    assert found["elongation"] == pytest.approx(0, abs=0.05)
    assert found["solidity"] == pytest.approx(1, abs=0.15)
    assert found["off_centre"] == pytest.approx(0, abs=0.02)
    assert found["profile_far"] < 0.02
    assert named(noise=10.0)["peak_over_noise"] == pytest.approx(np.log(11), rel=1e-4)


def test_a_stretched_soma_is_elongated():
    y, x = np.mgrid[:SIDE, :SIDE]
    ellipse = (np.hypot((y - 16) / 3, (x - 16) / 6) <= 1).astype(float)
    assert np.exp(named(ellipse)["elongation"]) == pytest.approx(2, rel=0.15)


def test_a_blurred_edge_is_less_steep_and_shines_further():
    sharp, blurred = named(), named(disc(MIDDLE, 4, (SIDE, SIDE), soft=2.5))
    assert blurred["edge_slope"] < 0.6 * sharp["edge_slope"]
    assert blurred["profile_near"] > sharp["profile_near"] + 0.1


def test_an_image_like_the_gradient_of_the_mean_is_a_sign_of_motion():
    still = 500 + 300 * disc(MIDDLE, 4, SHAPE)
    moved = np.gradient(still, axis=1)[:SIDE, :SIDE]
    moved = moved / moved.max()
    found = named(moved, mask=moved > 0.5, mean=still)
    assert found["motion_share"] > 0.65
    assert found["negative_lobe"] > 0.4 > 4 * named(mean=still)["negative_lobe"]
    assert named(mean=still)["motion_share"] < 0.2


def test_a_trace_that_follows_the_shifts_is_told_from_one_that_does_not():
    shifts = np.abs(np.random.default_rng(4).normal(0, 1, (N_FRAMES, 2)))
    assert named(shifts=shifts, trace=500 + 30 * shifts[:, 0])["shift_correlation"] > 0.55
    assert named(shifts=shifts)["shift_correlation"] < 0.2


def test_a_trace_equal_to_its_neuropil_correlates_with_it():
    course = np.random.default_rng(4).normal(400, 9, N_FRAMES)
    assert named(trace=course, neuropil=course)["neuropil_correlation"] > 0.75


def test_upward_transients_are_skewed():
    assert named()["skewness"] > 1
    assert named(dog=-9 * transients(N_FRAMES, (40,)))["skewness"] <= -1


def test_the_maps_are_read_at_the_pixels_of_the_candidate():
    cell = disc(MIDDLE, 4, SHAPE) >= 0.5
    found = named(probability=0.9 * cell, contrast=12.0 * cell)
    assert found["probability_mean"] == pytest.approx(0.9, rel=1e-5)
    assert found["probability_max"] == pytest.approx(0.9, rel=1e-5)
    assert found["contrast"] == pytest.approx(np.log(13), rel=1e-5)


def test_a_cell_that_is_bright_at_rest_has_contrast_and_gradient_there():
    bright, flat = named(mean=500 + 250 * disc(MIDDLE, 4, SHAPE)), named()
    assert bright["rest_contrast"] == pytest.approx(0.45, abs=0.08)
    assert bright["rest_gradient"] > 3 * flat["rest_gradient"]


def test_the_gain_changes_no_figure():
    random = np.random.default_rng(6)
    mean, trace = random.normal(500, 20, SHAPE), random.normal(400, 9, N_FRAMES)
    low = describe(mean=mean, trace=trace, peak=100, noise=4)
    high = describe(mean=4 * mean, trace=4 * trace, peak=400, noise=16)
    np.testing.assert_allclose(high, low, rtol=1e-4, atol=1e-5)


def several(n=12, **columns):
    """Figures of candidates that differ in what is given."""
    found = np.tile(describe(), (n, 1))
    for name, values in {"peak_over_noise": 3.0, **columns}.items():
        found[:, OWN_FEATURES.index(name)] = values
    return found


def context(found, centres=None, peaks=None, dog=None):
    n = len(found)
    random = np.random.default_rng(0)
    return add_context(
        found,
        centres=np.arange(2 * n).reshape(n, 2) * 100 if centres is None else np.array(centres),
        peaks=np.ones(n, np.float32) if peaks is None else np.array(peaks, np.float32),
        dog=random.normal(size=(n, 200)).astype(np.float32) if dog is None else dog,
        diameter_px=DIAMETER,
    )


def column(described, name):
    return described[:, FEATURES.index(name)]


def test_context_is_added_to_what_a_candidate_shows_itself():
    found = several()
    described = context(found)
    assert described.shape == (12, len(CANDIDATE_FEATURES) - len(OPINION))
    np.testing.assert_array_equal(described[:, : len(OWN_FEATURES)], found)


def test_the_networks_opinion_comes_last_and_is_limited():
    described = context(several())
    opinion = np.tile(np.array([[40.0, 0.7, 0.4]], np.float32), (len(described), 1))
    with_opinion = add_opinion(described, opinion)
    assert with_opinion.shape == (12, len(CANDIDATE_FEATURES))
    np.testing.assert_array_equal(with_opinion[:, : described.shape[1]], described)
    np.testing.assert_allclose(with_opinion[0, -len(OPINION) :], [8.0, 0.7, 0.4])


def test_the_sharpest_clear_candidates_say_what_is_in_focus():
    slopes = np.linspace(0.8, 1.4, 12)
    described = context(several(edge_slope=slopes))
    np.testing.assert_allclose(
        column(described, "reference_slope"), np.percentile(slopes, 80), rtol=1e-5
    )


@pytest.mark.parametrize("found", [several(peak_over_noise=2.0), several(7)], ids=["faint", "few"])
def test_without_enough_clear_candidates_the_focus_is_a_usual_one(found):
    described = context(found)
    np.testing.assert_allclose(column(described, "reference_slope"), 2.0)
    np.testing.assert_allclose(column(described, "reference_area"), 0.0)


def test_a_dimmer_candidate_has_a_rival_in_a_brighter_one_that_does_the_same():
    dog = np.random.default_rng(1).normal(size=(3, 300)).astype(np.float32)
    dog[1] = dog[0] + 0.1 * dog[1]
    described = context(
        several(3), centres=[(50, 50), (50, 50 + DIAMETER), (50, 50 - DIAMETER)], peaks=[4, 1, 2],
        dog=dog,
    )  # fmt: skip
    assert column(described, "rival_correlation")[1] > 0.95
    assert column(described, "rival_distance")[1] == pytest.approx(1.0)
    assert column(described, "rival_height")[1] == pytest.approx(np.log(4), rel=1e-4)


def test_the_brightest_and_the_distant_have_no_rival():
    described = context(several(2), centres=[(50, 50), (50, 50 + 3 * DIAMETER)], peaks=[1, 9])
    np.testing.assert_array_equal(column(described, "rival_correlation"), 0)
    np.testing.assert_array_equal(column(described, "rival_distance"), 2)


def test_no_candidate_has_no_context():
    assert context(several(0), centres=np.zeros((0, 2))).shape == (
        0,
        len(CANDIDATE_FEATURES) - len(OPINION),
    )


def test_every_candidate_is_told_what_the_recording_is_like():
    random = np.random.default_rng(4)
    described = random.normal(size=(9, len(CANDIDATE_FEATURES))).astype(np.float32)
    told = add_field(described)
    assert told.shape == (9, len(FEATURES))
    np.testing.assert_array_equal(told[:, : len(CANDIDATE_FEATURES)], described)
    slopes = described[:, CANDIDATE_FEATURES.index("edge_slope")]
    np.testing.assert_allclose(column(told, "edge_slope_50"), np.median(slopes), rtol=1e-5)
    peaks = described[:, CANDIDATE_FEATURES.index("dog_peak")]
    np.testing.assert_allclose(column(told, "dog_peak_90"), np.percentile(peaks, 90), rtol=1e-5)
    np.testing.assert_allclose(column(told, "n_candidates"), np.log(9), rtol=1e-6)
    assert add_field(described[:0]).shape == (0, len(FEATURES))


def test_the_score_is_that_of_a_perceptron_with_rectified_layers():
    judge, described = verifier(), np.random.default_rng(2).normal(0, 8, (4, len(FEATURES)))
    scores = judge.score(described.astype(np.float32))
    for row, score in zip(described, scores, strict=True):
        hidden = np.clip((row - judge.mean) / judge.scale, -6, 6)
        hidden = np.maximum(judge.weights[0] @ hidden + judge.biases[0], 0)
        logit = float((judge.weights[1] @ hidden + judge.biases[1])[0])
        assert score == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-4)


@pytest.mark.parametrize("size", [0.0, 1e3, 1e30])
def test_scores_lie_between_0_and_1_for_figures_of_any_size(size):
    described = np.full((3, len(FEATURES)), size, np.float32)
    described[1] *= -1
    scores = verifier().score(described)
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_no_candidate_has_no_score():
    assert verifier().score(np.zeros((0, len(FEATURES)), np.float32)).shape == (0,)


def test_a_verifier_made_of_its_tensors_scores_the_same():
    first = verifier(3)
    again = Verifier.from_tensors(first.tensors())
    described = np.random.default_rng(2).normal(0, 1, (6, len(FEATURES))).astype(np.float32)
    np.testing.assert_array_equal(again.score(described), first.score(described))


@pytest.mark.parametrize("name", ["mean", "scale", "weight_0", "bias_0", "bias_1"])
def test_a_missing_array_is_a_model_error(name):
    tensors = verifier().tensors()
    del tensors[name]
    with pytest.raises(ModelError):
        Verifier.from_tensors(tensors)


def test_a_verifier_for_other_features_is_a_model_error():
    tensors = verifier().tensors()
    tensors["mean"] = tensors["mean"][:-1]
    with pytest.raises(ModelError, match="features"):
        Verifier.from_tensors(tensors)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("scale", (3,)),
        ("weight_0", (5, len(FEATURES) - 1)),
        ("weight_1", (1, 4)),
        ("bias_0", (4,)),
        ("bias_1", (2,)),
    ],
)
def test_layers_that_do_not_fit_are_a_model_error(name, shape):
    tensors = verifier().tensors() | {name: np.ones(shape, np.float32)}
    with pytest.raises(ModelError, match="damaged"):
        Verifier.from_tensors(tensors)


def test_no_array_at_all_is_a_model_error():
    with pytest.raises(ModelError):
        Verifier.from_tensors({})


def duplicates(*pixels, score, overlap=0.45):
    return find_duplicates(
        [np.asarray(p) for p in pixels],
        np.asarray(score, np.float32),
        config=VerificationConfig(overlap=overlap),
    )


def test_of_two_equal_candidates_the_lower_score_repeats_the_higher():
    assert duplicates(range(10), range(10), score=[0.6, 0.9]) == {0: 1}


def test_of_equal_scores_the_first_stays():
    assert duplicates(range(10), range(10), score=[0.7, 0.7]) == {1: 0}


def test_candidates_that_share_little_are_different_neurons():
    assert duplicates(range(10), range(6, 16), score=[0.6, 0.9]) == {}
    assert duplicates(range(10), range(5, 15), score=[0.6, 0.9]) == {0: 1}


def test_the_share_is_that_of_the_smaller_one():
    assert duplicates(range(100), range(5), score=[0.9, 0.6]) == {1: 0}


def test_a_duplicate_removes_nobody_else():
    # The middle one repeats the first; the third overlaps with the middle one only.
    assert duplicates(range(10), range(5, 15), range(10, 20), score=[0.9, 0.8, 0.7]) == {1: 0}


def test_a_duplicate_names_the_one_it_shares_most_with():
    found = duplicates(range(10), range(10, 30), range(7, 17), score=[0.9, 0.8, 0.1])
    assert found == {2: 1}


def test_no_candidate_has_no_duplicate():
    assert duplicates(score=[]) == {}


FINE = {
    "motion_share": 0.1,
    "negative_lobe": 0.1,
    "peak_over_noise": np.log1p(20),
    "dog_peak": np.log1p(20),
    "edge_slope": 3.0,
    "profile_near": 0.1,
    "area": 0.0,
    "elongation": 0.0,
}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("motion_share", 0.6, "motion"),
        ("negative_lobe", 0.9, "motion"),
        ("peak_over_noise", np.log1p(2), "noise"),
        ("dog_peak", np.log1p(3), "noise"),
        ("edge_slope", 0.9, "focus"),
        ("profile_near", 0.6, "focus"),
        ("area", np.log(4), "too large"),
        ("elongation", np.log(3), "elongated"),
        ("edge_slope", 3.0, "does not look like"),
    ],
)
def test_each_reason_is_given_for_its_figure(name, value, reason):
    described = np.zeros(len(FEATURES), np.float32)
    for key, figure in (FINE | {name: value}).items():
        described[FEATURES.index(key)] = figure
    assert reason in explain(described)
