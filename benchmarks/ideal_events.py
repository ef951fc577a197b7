"""How many events an ideal observer would find in the noise of the test recordings.

    python benchmarks/ideal_events.py

prints the event F1 of an observer who knows the shape of every transient of a functional neuron and
sees the mean of its true soma with nothing but the camera's noise: a bound for any detector, beside
which the event F1 of `benchmarks/slices.py` stands. Bursts of neuropil, light of other cells and
events that ride on each other are left out, so that it is too high rather than too low.

The second figure is the default's judge of events on the same noisy means, which must find out
shapes and rates by itself: what is missing to it in a recording is light of others and motion.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from slices import Case, make_cases

from cocuyo.core import Periods
from cocuyo.evaluation import Matches, event_scores, periods_from_raster
from cocuyo.pipeline import load_model
from cocuyo.postprocessing import find_events
from cocuyo.simulation import Truth, simulate

POSITION_S = 0.6
TRANSIENT_S = 2.5
"""How far apart chances for a false event are, and how much of a transient is looked at."""


def judged(truth: Truth) -> float:
    """Event F1 of the default's judge on the noise-free traces plus the camera's noise."""
    model, rng = load_model("default"), np.random.default_rng(1)
    cells = np.flatnonzero(truth.functional)
    if len(cells) == 0:
        return float("nan")
    clean = truth.traces[cells]
    noise = (clean.max(axis=1) / truth.snr[cells])[:, None]
    found = find_events(
        (clean + noise * rng.standard_normal(clean.shape)).astype(np.float32),
        frame_rate_hz=truth.fps,
        judge=model.judge,
        config=model.settings.pipeline.validation,
    )
    rows = truth.events
    each = np.arange(len(cells), dtype=np.int32)
    matches = Matches(
        each,
        cells.astype(np.int32),
        np.ones(len(cells)),
        n_predicted=len(cells),
        n_truth=len(truth.traces),
    )
    active = periods_from_raster(found.raster, frame_rate_hz=truth.fps)
    return event_scores(
        active, Periods(rows[:, 0].astype(np.int32), rows[:, 1], rows[:, 2]), matches
    ).f1


def bound(truth: Truth) -> float:
    """Event F1 at the best threshold; NaN without events."""
    rng = np.random.default_rng(0)
    heights, n_chances = [], 0.0
    for cell in np.flatnonzero(truth.functional):
        trace = truth.traces[cell]
        noise = trace.max() / truth.snr[cell]
        n_chances += len(trace) / truth.fps / POSITION_S
        for _, first_s, last_s in truth.events[truth.events[:, 0] == cell]:
            start = max(0, int(first_s * truth.fps) - 1)
            stop = int((last_s + TRANSIENT_S) * truth.fps)
            rise = np.maximum(trace[start:stop] - trace[start], 0)
            heights.append(np.linalg.norm(rise) / noise)
    if not heights:
        return float("nan")
    # What a matched filter answers, in units of its noise; twenty times the chances.
    events = np.array(heights) + rng.standard_normal((20, len(heights)))
    others = rng.standard_normal((20, int(n_chances)))
    best = 0.0
    for threshold in np.arange(1.5, 5, 0.1):
        hit, false = int((events >= threshold).sum()), int((others >= threshold).sum())
        best = max(best, 2 * hit / (events.size + hit + false))
    return best


def main() -> None:
    cases: list[Case] = make_cases("test", quick="--quick" in sys.argv)
    print("| recording | event F1 of an ideal observer | of our judge on the same noise |")
    print("|---|---|---|")
    for case in cases:
        truth = simulate(case.config, seed=case.seed).truth
        print(f"| {case.name} | {bound(truth):.3f} | {judged(truth):.3f} |", flush=True)


if __name__ == "__main__":
    main()
