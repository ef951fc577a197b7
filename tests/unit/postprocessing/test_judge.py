"""The judge of events: what it sees, what it computes, which onsets are picked."""

import numpy as np
import pytest
from fake_judge import random_judge, rise_judge, still_judge

from cocuyo.core import ModelError
from cocuyo.postprocessing import DILATIONS, TRACE_CHANNELS, EventJudge, look_at, pick_onsets

RATE_HZ = 8.0


def noise(n_rois=2, n_frames=120, seed=0):
    return np.random.default_rng(seed).standard_normal((n_rois, n_frames)).astype(np.float32)


def everywhere(n_frames=120):
    return np.ones(n_frames, np.bool_)


def naive_convolution(values, weight, bias, dilation):
    """By the definition: zeros beyond the ends."""
    n_out, _, taps = weight.shape
    out = np.tile(bias.astype(np.float64), (len(values), 1))
    for t in range(len(values)):
        for tap in range(taps):
            at = t + (tap - taps // 2) * dilation
            if 0 <= at < len(values):
                out[t] += weight[:, :, tap].astype(np.float64) @ values[at]
    assert out.shape[1] == n_out
    return out


def naive_probability(judge, scaled, rate_hz, reach):
    layers = judge.layers
    level = scaled - np.median(scaled)
    values = np.column_stack(
        [
            np.arcsinh(level / 2),
            np.clip(level, -3, 3) / 3,
            np.zeros_like(level),
            np.full_like(level, np.log(rate_hz / 7)),
        ]
    )

    def run(name, values, dilation=1):
        return naive_convolution(values, layers[f"{name}.weight"], layers[f"{name}.bias"], dilation)

    def through(part, hidden):
        for i, dilation in enumerate(DILATIONS):
            inner = np.maximum(run(f"{part}_{i}.first", hidden, dilation), 0)
            hidden = hidden + run(f"{part}_{i}.second", inner, dilation)
        return hidden

    hidden = through("before", np.maximum(run("stem", values), 0))
    seen = np.maximum(run("context", hidden), 0)
    mean = np.stack(
        [seen[max(0, t - reach) : t + reach + 1].mean(axis=0) for t in range(len(seen))]
    )
    hidden = through("after", hidden + run("mix", mean))
    return 1 / (1 + np.exp(-run("onset", np.maximum(hidden, 0))[:, 0]))


@pytest.mark.parametrize("rate_hz", [0.5, 8.0])
def test_the_network_is_what_its_definition_says(rate_hz):
    judge, scaled = random_judge(), 4 * noise(1)
    found = judge.probability(scaled, everywhere(), frame_rate_hz=rate_hz)
    expected = naive_probability(judge, scaled[0], rate_hz, reach=round(90 * rate_hz) // 2)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert np.ptp(found) > 0.01


def test_each_trace_is_judged_by_itself():
    judge, scaled = random_judge(), noise(3)
    together = judge.probability(scaled, everywhere(), frame_rate_hz=RATE_HZ)
    alone = judge.probability(scaled[[1]], everywhere(), frame_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(together[1], alone[0])


def test_the_level_of_a_trace_plays_no_part():
    judge, scaled = random_judge(), noise()
    plain = judge.probability(scaled, everywhere(), frame_rate_hz=RATE_HZ)
    lifted = judge.probability(scaled + 64, everywhere(), frame_rate_hz=RATE_HZ)
    np.testing.assert_allclose(lifted, plain, atol=1e-4)


def test_the_network_sees_which_frames_were_interpolated():
    usable = everywhere()
    usable[40:43] = False
    view = look_at(noise(), usable, frame_rate_hz=RATE_HZ)
    told = view.channels[:, TRACE_CHANNELS.index("interpolated")]
    np.testing.assert_array_equal(told, np.tile(~usable, (2, 1)))


@pytest.mark.parametrize(("rate_hz", "group"), [(4.0, 1), (12.5, 1), (20.0, 2), (60.0, 5)])
def test_fast_recordings_are_seen_in_groups_of_frames_with_the_same_noise(rate_hz, group):
    view = look_at(noise(4, 4000), everywhere(4000), frame_rate_hz=rate_hz)
    assert view.group == group
    assert view.channels.shape == (4, len(TRACE_CHANNELS), -(-4000 // group))
    np.testing.assert_allclose(np.sinh(view.channels[:, 0]).std(axis=1) * 2, np.ones(4), rtol=0.06)


@pytest.mark.parametrize("rate_hz", [8.0, 40.0])
def test_an_onset_is_found_where_the_trace_rises(rate_hz):
    group = 4 if rate_hz == 40.0 else 1
    scaled = np.zeros((1, 400), np.float32)
    scaled[0, 200:] = 30
    found = rise_judge(above=1.0).probability(scaled, everywhere(400), frame_rate_hz=rate_hz)
    (onset,) = np.flatnonzero(found[0] > 0.5)
    assert 200 <= onset < 200 + group


def test_a_recording_shorter_than_the_taps_is_judged():
    found = random_judge().probability(noise(1, 2), everywhere(2), frame_rate_hz=RATE_HZ)
    assert np.isfinite(found).all()


def test_no_traces_have_no_probabilities():
    found = random_judge().probability(noise(0), everywhere(), frame_rate_hz=RATE_HZ)
    assert found.shape == (0, 120)


def picked(probability, least=0.5, rate_hz=RATE_HZ):
    (own,) = pick_onsets(
        np.asarray(probability, np.float32)[None], frame_rate_hz=rate_hz, least=least
    )
    return own.tolist()


def at(n_frames=100, **values):
    probability = np.zeros(n_frames)
    for frame, value in values.items():
        probability[int(frame[1:])] = value
    return probability


def test_an_onset_spread_over_frames_is_one_at_their_mean():
    assert picked(at(f30=0.2, f31=0.3, f32=0.2)) == [31]


def test_probabilities_too_far_apart_are_not_added():
    assert picked(at(f30=0.4, f36=0.4)) == []


def test_two_events_are_two_onsets_and_one_is_never_two():
    # 0.3 s are two frames to either side: five frames belong to one onset.
    assert picked(at(f30=0.9, f36=0.9)) == [30, 36]
    assert picked(at(f30=0.9, f32=0.8)) == [31]


def test_onsets_at_the_ends_are_found():
    assert picked(at(f0=0.9, f99=0.9)) == [0, 99]


def test_a_lower_limit_finds_more():
    probability = at(f10=0.3, f50=0.6)
    assert picked(probability, least=0.5) == [50]
    assert picked(probability, least=0.2) == [10, 50]


def test_weights_are_read_back_equal():
    judge = random_judge()
    again = EventJudge.from_tensors(judge.tensors())
    for name, array in judge.layers.items():
        np.testing.assert_array_equal(again.layers[name], array)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("after_2.second.weight", None),
        ("stem.bias", None),
        ("mix.weight", np.zeros((3, 2, 1), np.float32)),
        ("onset.bias", np.full(1, np.nan, np.float32)),
    ],
    ids=["missing", "another version", "shape", "not finite"],
)
def test_damaged_weights_are_a_model_error(name, array):
    tensors = random_judge().tensors()
    del tensors[name]
    if array is not None:
        tensors[name] = array
    with pytest.raises(ModelError, match=rf"{name}.*Train it again"):
        EventJudge.from_tensors(tensors)


def test_a_judge_of_zeros_answers_the_same_everywhere():
    found = still_judge(onset_bias=0.0).probability(noise(), everywhere(), frame_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found, np.full((2, 120), 0.5, np.float32))
