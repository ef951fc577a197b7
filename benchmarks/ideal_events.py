"""How many events an ideal observer would find in the noise of the test recordings.

    python benchmarks/ideal_events.py

prints the event F1 of an observer who knows the shape of every transient of a functional neuron and
sees the mean of its true soma with nothing but the camera's noise: a bound for any detector, beside
which the event F1 of `benchmarks/slices.py` stands. Bursts of neuropil, light of other cells and
events that ride on each other are left out, so that it is too high rather than too low.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from slices import Case, make_cases

from cocuyo.simulation import simulate

POSITION_S = 0.6
TRANSIENT_S = 2.5
"""How far apart chances for a false event are, and how much of a transient is looked at."""


def bound(case: Case) -> float:
    """Event F1 at the best threshold; NaN without events."""
    truth = simulate(case.config, seed=case.seed).truth
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
    print("| recording | event F1 of an ideal observer |\n|---|---|")
    for case in make_cases("test", quick="--quick" in sys.argv):
        print(f"| {case.name} | {bound(case):.3f} |", flush=True)


if __name__ == "__main__":
    main()
