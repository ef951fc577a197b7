"""Events in traces whose true events are known: ours beside what others use.

    COCUYO_REAL_DATA=... python benchmarks/events.py --out benchmarks/results/events.md

Each method gets the same trace, its running baseline taken away, in units of its noise, and
returns onsets: a plain threshold on the z-score, OASIS (``pip install oasis-deconv``), a matched
filter, the paper's difference of Gaussians with its threshold, and our judge. An event is spikes
(or reference times) with gaps of at most 0.5 s; it is hit by an onset from 0.5 s before its first
to 0.5 s after its last spike; onsets and events are paired one to one
(`cocuyo.evaluation.event_scores`).

What the rivals are free to choose (thresholds, decay, smoothing) was chosen with ``--choose``, for
the best F1 on simulated traces of the split ``validation``, of the kind that the judge learnt from;
nothing was chosen on the real traces. The simulated traces in the table are of split ``test``.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from cocuyo.core import FloatArray, Periods
from cocuyo.evaluation import (
    EventScores,
    Matches,
    event_scores,
    join_periods,
    periods_from_raster,
)
from cocuyo.pipeline import PRESETS, load_model
from cocuyo.postprocessing import find_events, running_baseline
from cocuyo.simulation import broad_training_config, simulate_traces, training_config
from cocuyo.simulation.config import Split

Method = Callable[[FloatArray, float], Periods]

CHOSEN: dict[str, dict[str, float]] = {
    "z-score threshold": {"threshold": 3.0, "smooth_s": 0.2},
    "OASIS": {"threshold": 1.5, "decay_s": 0.0},
    "matched filter": {"threshold": 4.0, "decay_s": 1.8},
}
"""From ``--choose``."""
LADDERS: dict[str, dict[str, list[float]]] = {
    "z-score threshold": {
        "threshold": [2.0, 2.5, 3.0, 3.5, 4.0, 5.0],
        "smooth_s": [0.0, 0.1, 0.2, 0.4],
    },
    # Decay 0: OASIS estimates it from the trace.
    "OASIS": {
        "threshold": [0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0],
        "decay_s": [0.0, 0.5, 0.8, 1.2],
    },
    "matched filter": {
        "threshold": [3.0, 3.5, 4.0, 4.5, 5.0, 6.0],
        "decay_s": [0.4, 0.8, 1.2, 1.8],
    },
}


@dataclass(frozen=True, eq=False)
class Case:
    """Traces of one kind with their true events."""

    name: str
    traces: FloatArray
    rate_hz: float
    events: Periods
    marks: Literal["onset", "peak"] = "onset"
    """What the true times are of."""


# ---------------------------------------------------------------- methods


def standardise(traces: FloatArray, rate_hz: float) -> FloatArray:
    """Take away the running baseline, divide by the noise from frame to frame."""
    changes = traces - running_baseline(traces, frame_rate_hz=rate_hz)
    steps = np.diff(traces, axis=1)
    noise = 1.4826 * np.median(np.abs(steps), axis=1, keepdims=True) / np.sqrt(2)
    changes = changes - np.median(changes, axis=1, keepdims=True)
    return np.asarray(changes / np.maximum(noise, 1e-9), np.float32)


def z_score(*, threshold: float, smooth_s: float) -> Method:
    """Active while the smoothed trace stands above its median by some of its own deviations."""

    def method(traces: FloatArray, rate_hz: float) -> Periods:
        values = standardise(traces, rate_hz)
        if smooth_s:
            values = ndimage.gaussian_filter1d(values, smooth_s * rate_hz, axis=1)
        values = values - np.median(values, axis=1, keepdims=True)
        # Robust: the lower half holds noise only.
        spread = np.median(values, axis=1) - np.percentile(values, 25, axis=1)
        return periods_from_raster(
            values > threshold * spread[:, None] / 0.6745, frame_rate_hz=rate_hz
        )

    return method


def oasis(*, threshold: float, decay_s: float) -> Method:
    """Frames in which OASIS (AR(1), L1) infers more than some standard deviations of noise."""
    from oasis.functions import deconvolve

    def method(traces: FloatArray, rate_hz: float) -> Periods:
        values = standardise(traces, rate_hz).astype(np.float64)
        raster = np.zeros(values.shape, np.bool_)
        known = {"tau_d": decay_s, "framerate": rate_hz} if decay_s else {"optimize_g": 5}
        for row, trace in zip(raster, values, strict=True):
            row[:] = deconvolve(trace, sn=1.0, penalty=1, b_nonneg=False, **known).s > threshold
        return periods_from_raster(raster, frame_rate_hz=rate_hz)

    return method


def matched_filter(*, threshold: float, decay_s: float) -> Method:
    """Peaks of the correlation with an exponential decay, at least half a second apart."""

    def method(traces: FloatArray, rate_hz: float) -> Periods:
        values = standardise(traces, rate_hz)
        n = max(2, round(3 * decay_s * rate_hz))
        shape = np.exp(-np.arange(n) / (decay_s * rate_hz))
        # Half a decay of nothing before it: what counts is the rise over the frames before.
        shape = np.concatenate([np.zeros(max(1, round(decay_s * rate_hz / 2))), shape])
        onset = len(shape) - n
        shape -= shape.mean()
        shape /= np.linalg.norm(shape)
        answer = ndimage.correlate1d(
            values, shape, axis=1, mode="nearest", origin=onset - len(shape) // 2
        )
        apart = 2 * max(1, round(0.25 * rate_hz)) + 1
        peak = (answer == ndimage.maximum_filter1d(answer, apart, axis=1)) & (answer > threshold)
        roi, frame = np.nonzero(peak)
        return Periods.from_times(roi, frame / rate_hz)

    return method


def ours(*, judged: bool) -> Method:
    """Our events: the paper's filter with its threshold, or the judge of the default model."""
    model = load_model("default")
    config = model.settings.pipeline.validation if judged else PRESETS["paper"].validation

    def method(traces: FloatArray, rate_hz: float) -> Periods:
        found = find_events(
            standardise(traces, rate_hz),
            frame_rate_hz=rate_hz,
            judge=model.judge if judged else None,
            config=config,
        )
        return periods_from_raster(found.raster, frame_rate_hz=rate_hz)

    return method


RIVALS: dict[str, Callable[..., Method]] = {
    "z-score threshold": z_score,
    "OASIS": oasis,
    "matched filter": matched_filter,
}


def make_methods() -> dict[str, Method]:
    """All of them with what was chosen."""
    methods: dict[str, Method] = {}
    for name, make in RIVALS.items():
        try:
            methods[name] = make(**CHOSEN[name])
        except ImportError:
            print(f"{name} is not installed: left out", file=sys.stderr)
    return methods | {"paper (DoG)": ours(judged=False), "default (judge)": ours(judged=True)}


# ---------------------------------------------------------------- traces


def simulated(split: Split, *, n: int) -> Iterator[Case]:
    """Traces as slices and as any preparation would give them, one recording after another."""
    base = {"test": 947_000, "validation": 957_000, "training": 967_000}[split]
    for seed in range(base, base + n):
        draw = training_config if seed % 2 else broad_training_config
        config = draw(seed, split=split, n_frames=600)
        made = simulate_traces(config, seed=seed, n_cells=24)
        yield Case(f"simulated {seed}", made.traces, made.frame_rate_hz, made.events)


def worsened(case: Case) -> dict[str, Case]:
    """A case as it is, and with noise that is not white."""
    slow = np.random.default_rng(0).standard_normal(case.traces.shape)
    slow = ndimage.gaussian_filter1d(slow, 0.3 * case.rate_hz, axis=1)
    slow /= slow.std(axis=1, keepdims=True)
    twice = np.repeat(case.traces[:, ::2], 2, axis=1)[:, : case.traces.shape[1]]
    return {
        "": case,
        ", with slow noise (0.3 s) as large as the white one": replace(
            case, traces=np.asarray(case.traces + slow, np.float32)
        ),
        ", every second frame repeated": replace(case, traces=twice),
    }


def columns(path: Path) -> dict[str, FloatArray]:
    """Read a CSV of numbers."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def real(data: Path) -> list[Case]:
    """Traces with spikes recorded by an electrode, and one with reference times."""
    cases = []
    slices = data / "slice_patch_oopsi"
    for name in ("TS108", "TS193", "TS196"):
        own = [columns(path) for path in sorted(slices.glob(f"{name}_*.csv"))]
        rate_hz = 1 / 0.06
        spikes = [np.repeat(np.arange(len(c["spikes"])), c["spikes"].astype(int)) for c in own]
        cases.append(
            Case(
                f"{name}, {len(own)} trace{'s' if len(own) > 1 else ''}, 16.7 Hz",
                np.stack([c["fluorescence"] for c in own]).astype(np.float32),
                rate_hz,
                Periods.from_times(
                    np.repeat(np.arange(len(own)), [len(s) for s in spikes]),
                    np.concatenate(spikes) / rate_hz,
                ),
            )
        )
    fast = columns(slices / "epi_ogb1_cellA_67Hz.csv")
    fast = {name: values[1:] for name, values in fast.items()}  # the first is an artefact
    rate_hz = (len(fast["time_s"]) - 1) / float(np.ptp(fast["time_s"]))
    frames = np.repeat(np.arange(len(fast["spikes"])), fast["spikes"].astype(int))
    cases.append(
        Case(
            "OGB-1, 1 trace, 67 Hz",
            fast["fluorescence"][None].astype(np.float32),
            rate_hz,
            Periods.from_times(np.zeros(len(frames), np.int64), frames / rate_hz),
        )
    )
    culture = data / "cultured_neuron_traces"
    trace = columns(culture / "568region_A.csv")
    times = columns(culture / "568regionA_ref_event_times.csv")["event_time_s"]
    rate_hz = (len(trace["time_s"]) - 1) / float(np.ptp(trace["time_s"]))
    events = Periods.from_times(np.zeros(len(times), np.int64), times - trace["time_s"][0])
    values = trace["fluorescence"][None].astype(np.float32)
    # The reference times lie at the tops of the transients, about 0.4 s after they begin.
    marks: tuple[Literal["onset", "peak"], ...] = ("onset", "peak")
    cases += [
        Case(f"culture, stimulated, 1 trace, 5 Hz; {mark}s", values, rate_hz, events, mark)
        for mark in marks
    ]
    return cases


# ---------------------------------------------------------------- scores


def score(case: Case, method: Method) -> EventScores:
    """Hits, false onsets and misses of each trace."""
    n = len(case.traces)
    each = np.arange(n, dtype=np.int32)
    matches = Matches(each, each, np.ones(n), n_predicted=n, n_truth=n)
    found = join_periods(method(case.traces, case.rate_hz))
    if case.marks == "peak":
        found = at_peaks(found, case)
    return event_scores(found, case.events, matches)


def at_peaks(found: Periods, case: Case) -> Periods:
    """Move each onset to the highest value of the second that follows it."""
    n = round(case.rate_hz) + 1
    first = np.round(found.first_s * case.rate_hz).astype(int)
    highest = [
        start + int(np.argmax(case.traces[roi, start : start + n]))
        for roi, start in zip(found.roi, first, strict=True)
    ]
    return Periods.from_times(found.roi, np.array(highest) / case.rate_hz)


def f1(scores: list[EventScores]) -> tuple[float, int, int, int]:
    """Pooled F1, hits, false, missed."""
    hit, false, missed = (sum(getattr(s, k) for s in scores) for k in ("tp", "fp", "fn"))
    return 2 * hit / max(1, 2 * hit + false + missed), hit, false, missed


def choose() -> dict[str, dict[str, float]]:
    """Best pooled F1 on simulated traces of the split `validation`."""
    cases = list(simulated("validation", n=24))
    chosen = {}
    for name, ladder in LADDERS.items():
        best = (-1.0, {})
        for values in product(*ladder.values()):
            given = dict(zip(ladder, values, strict=True))
            method = RIVALS[name](**given)
            reached = f1([score(case, method) for case in cases])[0]
            best = max(best, (reached, given), key=lambda pair: pair[0])
            print(name, given, round(reached, 3), file=sys.stderr, flush=True)
        chosen[name] = best[1]
    return chosen


def table(results: dict[str, dict[str, tuple[float, int, int, int]]]) -> str:
    """A row for each kind of trace, a column for each method."""
    methods = list(next(iter(results.values())))
    lines = ["| F1 (hit / false / missed) | events | " + " | ".join(methods) + " |"]
    lines.append("|---" * (len(methods) + 2) + "|")
    for name, row in results.items():
        _, hit, _, missed = next(iter(row.values()))
        cells = [f"{value:.3f} ({h} / {f} / {m})" for value, h, f, m in row.values()]
        lines.append(f"| {name} | {hit + missed} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score every method on every kind of trace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; a .json goes beside it.")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--choose", action="store_true", help="Find what rivals may choose.")
    given = parser.parse_args()
    if given.choose:
        print(json.dumps(choose(), indent=1))
        return
    root = os.environ.get("COCUYO_REAL_DATA")
    methods = make_methods()
    results: dict[str, dict[str, Any]] = {}
    if root is None:
        print("COCUYO_REAL_DATA is not set: simulated traces only", file=sys.stderr)
    else:
        cases = real(Path(root))
        scores = {name: [score(case, m) for case in cases] for name, m in methods.items()}
        for i, case in enumerate(cases):
            results[case.name] = {name: f1([own[i]]) for name, own in scores.items()}
        results["recorded by electrode, all"] = {n: f1(own[:4]) for n, own in scores.items()}
    made = list(simulated(given.split, n=24))
    for kind in worsened(made[0]):
        own = [worsened(case)[kind] for case in made]
        results[f"simulated, split {given.split}{kind}"] = {
            name: f1([score(case, method) for case in own]) for name, method in methods.items()
        }
    text = table(results)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
