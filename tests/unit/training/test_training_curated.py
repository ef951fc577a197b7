"""What people corrected: how it is read, that it teaches, and that nothing worse is written."""

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic_result import make_experiment, make_result

from cocuyo import simulate
from cocuyo.cli import run_command_line
from cocuyo.core import ModelError, ResultError
from cocuyo.core.curation import Accept, Draw, Pixels, Reject, curate
from cocuyo.io import EditLog, load_result
from cocuyo.pipeline.model import load_model
from cocuyo.postprocessing import FEATURES, Verifier
from cocuyo.simulation import PRESETS
from cocuyo.training import CuratedRecipe, Lesson, learn_from, train_curated
from cocuyo.training.curated import adapt_verifier, label_by_person

N = len(FEATURES)


def base(sign=1.0):
    """A verifier that looks at the first figure, and at a second one not at all."""
    first = np.zeros((2, N), np.float32)
    first[0, 0], first[1, 1] = sign, 1.0
    return Verifier(
        np.zeros(N, np.float32),
        np.ones(N, np.float32),
        (first, np.array([[2.0, 0.0]], np.float32)),
        (np.zeros(2, np.float32), np.array([-1.0], np.float32)),
    )


def lesson(seed, *, n=80, taste=1, judged=0.5):
    """Candidates that a person takes for neurons where one figure is large."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 1.5, (n, N)).astype(np.float32)
    return Lesson(f"r{seed}", features, features[:, taste] > 0, random.random(n) < judged)


@pytest.mark.parametrize("n_recordings", [1, 3])
def test_a_taste_of_its_own_is_learnt_and_seen_on_what_was_held_out(n_recordings):
    lessons = [lesson(seed, n=300) for seed in range(n_recordings)]
    verifier, adapted = adapt_verifier(base(), lessons, recipe=CuratedRecipe(pull=1e-4), seed=0)
    assert adapted.loss_after < adapted.loss_before
    assert adapted.agreement_after > adapted.agreement_before + 0.1
    unseen = lesson(99, n=400)
    assert ((verifier.score(unseen.features) >= 0.5) == unseen.right).mean() > 0.7
    assert adapted.n_recordings == n_recordings
    assert adapted.n_judged == sum(int(each.judged.sum()) for each in lessons)


def test_a_strong_pull_keeps_the_verifier_as_it_was():
    verifier, _ = adapt_verifier(base(), [lesson(0)], recipe=CuratedRecipe(pull=1e4), seed=0)
    features = lesson(5).features
    np.testing.assert_allclose(verifier.score(features), base().score(features), atol=0.02)


def test_the_same_lessons_and_seed_give_the_same_verifier():
    one, two = (
        adapt_verifier(base(), [lesson(0), lesson(1)], recipe=CuratedRecipe(), seed=3)[0]
        for _ in range(2)
    )
    for name, array in one.tensors().items():
        np.testing.assert_array_equal(array, two.tensors()[name])


def test_judged_candidates_weigh_more_than_those_left_as_found():
    # A person contradicts what was left as found, on the very same candidates.
    random = np.random.default_rng(0)
    features = random.normal(0, 1.5, (60, N)).astype(np.float32)
    both = Lesson(
        "r",
        np.concatenate([features, features]),
        np.concatenate([features[:, 1] > 0, features[:, 1] <= 0]),
        np.repeat([True, False], 60),
    )
    for weight, follows in ((9.0, True), (1 / 9, False)):
        recipe = CuratedRecipe(judged_weight=weight, pull=0)
        verifier, _ = adapt_verifier(base(), [both], recipe=recipe, seed=0)
        agree = ((verifier.score(features) >= 0.5) == (features[:, 1] > 0)).mean()
        assert (agree > 0.8) == follows


def test_labels_follow_the_curated_state():
    result = make_result(n_rois=6, radius_px=3, frame_shape=(60, 80))
    ids = result.rois.ids
    state = curate(result.rois, [Reject(rois=ids[:1]), Accept(rois=ids[4:5])], valid=result.valid)
    right, certain, judged = label_by_person(result.rois, state)
    assert certain.all()
    assert right.tolist() == state.rois.accepted.tolist() == [False, True, True, True, True, True]
    assert judged.tolist() == [True, False, False, False, True, False]


def test_a_candidate_where_a_person_drew_is_a_neuron_although_it_was_rejected():
    result = make_result(n_rois=6, radius_px=3, frame_shape=(60, 80))
    y, x, _ = result.rois.pixels(4)
    drawn = Draw(roi="roi_0007", shape=Pixels(y=tuple(y.tolist()), x=tuple(x.tolist())))
    state = curate(result.rois, [drawn], valid=result.valid)
    right, _, _ = label_by_person(result.rois, state)
    assert not result.rois.accepted[4]
    assert right[4]


def test_without_rois_there_is_nothing_to_label():
    result = make_result(n_rois=3)
    gone = curate(make_result(n_rois=0).rois, [])
    right, certain, judged = label_by_person(result.rois, gone)
    assert (right.any(), certain.all(), judged.any()) == (False, True, False)


def test_what_does_not_help_is_not_written(tmp_path):
    # The verifier knows the person's taste as well as it can be known; the rest is chance.
    random = np.random.default_rng(1)
    features = random.normal(0, 1.5, (60, N)).astype(np.float32)
    right = random.random(60) < base().score(features)
    model = replace(load_model("default"), verifier=base())
    recipe = CuratedRecipe(pull=0, steps=600, learning_rate=0.05)
    with pytest.raises(ModelError, match="nothing is written"):
        train_curated(
            [Lesson("r", features, right, np.ones(60, bool))],
            tmp_path / "ours",
            model=model,
            recipe=recipe,
        )
    assert not (tmp_path / "ours").exists()


def test_a_model_without_a_verifier_cannot_be_taught(tmp_path):
    with pytest.raises(ModelError, match="has no verifier"):
        train_curated([lesson(0)], tmp_path / "ours", model=load_model("paper"))


def test_a_result_that_nobody_judged_teaches_nothing():
    result = make_result()
    with pytest.raises(ResultError, match="Nobody judged an ROI of slice 1"):
        learn_from(None, result, [], model=load_model("default"))


def test_an_experiment_is_refused_before_anything_is_learnt(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cocuyo.training.learn_from", None)
    both = make_experiment()
    both.save(tmp_path / "both.cocuyo")
    words = ["train", "curated", str(tmp_path / "both.cocuyo"), "--out", str(tmp_path / "ours")]
    assert run_command_line(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'both.cocuyo'} is an experiment of {len(both.parts)} recordings" in line
    assert "Run its recordings one by one" in line
    assert not (tmp_path / "ours").exists()
    with pytest.raises(ResultError, match="is an experiment of"):
        learn_from(None, both, [], model=load_model("default"))


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A recording analysed by the shipped model, in which a person turned every decision."""
    folder = tmp_path_factory.mktemp("curated")
    settings = PRESETS["demo"].model_copy(update={"n_frames": 120, "n_rows": 96, "n_columns": 96})
    np.save(folder / "slice.npy", simulate(settings, seed=2).frames)
    words = ["run", str(folder / "slice.npy"), "--frame-rate", "6.67", "--pixel-size", "1.5"]
    assert run_command_line(words) == 0
    result = load_result(folder / "slice.cocuyo")
    accepted = result.rois.accepted
    log = EditLog(folder / "slice.cocuyo")
    ids = np.array(result.rois.ids)
    log.append(Reject(rois=tuple(ids[accepted])))
    log.append(Accept(rois=tuple(ids[~accepted])))
    return folder


def test_the_command_makes_a_model_that_agrees_with_the_person(corrected, tmp_path, capsys):
    out = tmp_path / "ours"
    words = ["train", "curated", str(corrected / "slice.cocuyo"), "--out", str(out)]
    assert run_command_line(words) == 0
    said = capsys.readouterr().out
    assert "of 1 recording. On those held out the model agreed with" in said
    told = json.loads((out / "metrics.json").read_text("utf-8"))["curated"]
    assert told["loss_after"] < told["loss_before"]
    ours, shipped = load_model(out), load_model("default")
    assert "int8" not in ours.settings.precisions
    assert not np.array_equal(ours.verifier.weights[0], shipped.verifier.weights[0])
    assert ours.settings.pipeline == shipped.settings.pipeline
    assert run_command_line(words) == 1
    assert "exists; choose another folder" in capsys.readouterr().err
    again = ["run", str(corrected / "slice.npy"), "--frame-rate", "6.67", "--pixel-size", "1.5"]
    again += ["--model", str(out), "--out", str(tmp_path / "again")]
    assert run_command_line(again) == 0
