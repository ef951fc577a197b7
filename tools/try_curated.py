"""Measure what corrections teach: `python tools/try_curated.py culture`.

Seven simulated recordings of a preset are analysed; a person who knows the truth judges the 25
candidates nearest to the limit in each. The verifier learns from four recordings and decides on the
candidates of the other three, for each of seven choices in turn.
"""

import sys
from typing import Any

import numpy as np

import cocuyo
from cocuyo.core.curation import Accept, Edit, Reject
from cocuyo.pipeline import load_model
from cocuyo.simulation import PRESETS, simulate
from cocuyo.training import CuratedRecipe, Lesson, learn_from
from cocuyo.training.curated import adapt_verifier
from cocuyo.training.verifier import label_candidates

N, N_TAUGHT, N_JUDGED = 7, 4, 25


def judge(ids: Any, is_neuron: Any) -> list[Edit]:
    """What a person does who knows."""
    edits: list[Edit] = []
    if is_neuron.any():
        edits.append(Accept(rois=tuple(ids[is_neuron])))
    if not is_neuron.all():
        edits.append(Reject(rois=tuple(ids[~is_neuron])))
    return edits


def decide(verifier: Any, lessons: list[Lesson]) -> float:
    """F1 of the decisions on candidates."""
    said = np.concatenate([verifier.score(lesson.features) >= 0.5 for lesson in lessons])
    right = np.concatenate([lesson.right for lesson in lessons])
    return float(2 * (said & right).sum() / max(said.sum() + right.sum(), 1))


def main(preset: Any) -> None:
    """Measure and print."""
    model = load_model("default")
    assert model.verifier is not None
    size = {"n_frames": 600, "n_rows": 256, "n_columns": 256}
    taught, all_judged = [], []
    for seed in range(900, 900 + N):
        simulation = simulate(PRESETS[preset].model_copy(update=size), seed=seed)
        recording = simulation.recording()
        result = cocuyo.segment(recording)
        is_neuron = label_candidates(result.rois, simulation)[0] >= 0
        ids = np.array(result.rois.ids)
        near = np.argsort(np.abs(np.nan_to_num(result.rois.score) - 0.5))[:N_JUDGED]
        for lessons, chosen in ((taught, near), (all_judged, np.arange(len(ids)))):
            edits = judge(ids[chosen], is_neuron[chosen])
            lessons.append(learn_from(recording, result, edits, model=model))
        print(f"{preset} {seed}: {len(ids)} candidates, {is_neuron.sum()} neurons", flush=True)
    rows = []
    for first in range(N):
        order = [(first + i) % N for i in range(N)]
        verifier, _ = adapt_verifier(
            model.verifier, [taught[i] for i in order[:N_TAUGHT]], recipe=CuratedRecipe(), seed=1
        )
        others = [all_judged[i] for i in order[N_TAUGHT:]]
        rows.append((decide(model.verifier, others), decide(verifier, others)))
        print(f"F1 {rows[-1][0]:.3f} before, {rows[-1][1]:.3f} after")
    before, after = np.mean(rows, axis=0)
    print(f"mean {before:.3f} before, {after:.3f} after")


if __name__ == "__main__":
    main(sys.argv[1])
