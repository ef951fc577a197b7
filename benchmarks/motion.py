"""How far the tissue still moves after motion correction, on simulated recordings.

    python benchmarks/motion.py --out benchmarks/results/motion.md

simulates slices that drift up to 10 px, shake, flash, bleach and lie behind dirt that stays on the
sensor, and the same slices standing still, at three levels of light; then it places their frames by
the default, by the paper's Lucas-Kanade, by scikit-image's `phase_cross_correlation` against the
mean frame (``pip install scikit-image``) and, with ``--suite2p PYTHON``, by Suite2p's registration
in the environment of that interpreter.

Residual: length of the difference between found and true shift, root mean square over all frames.
Methods place frames on different references, so that a constant difference says nothing about
how still the movie is: it is taken out. Our coordinates are those of frame 0, where it is an error;
with it the residual stands in brackets.

    python benchmarks/motion.py --deformation --out benchmarks/results/motion_deformation.md

looks instead at slices that also deform slowly (`nonrigid_px` of the simulator: waves across the
frame that reach so far somewhere, sometime), with the shift of the whole frame alone and with the
piecewise mode on top. Residual there: of the centres of the cells in focus, root mean square over
cells and frames, without what is constant for a cell. At one level of light both are carried
through to ROIs and traces.

Figures are of split ``test`` with seeds of its own; ``--split validation`` is there to try changes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import FLAG_UNPLACED, FloatArray
from cocuyo.evaluation import evaluate, regions_of
from cocuyo.pipeline import PRESETS as PIPELINES
from cocuyo.pipeline import PipelineConfig, load_model, segment
from cocuyo.pipeline.run import choose_diameter
from cocuyo.pipeline.stream import set_up
from cocuyo.preprocessing import measure_deformation, place_frames
from cocuyo.simulation import PRESETS, Simulation, SimulationConfig, simulate
from cocuyo.simulation.config import Split

PHOTONS = {"bright": 4000.0, "middle": 600.0, "dim": 40.0}
"""Photoelectrons of the background in a pixel and frame, at the brightest place."""
OURS, PAPER = "default", "paper (Lucas-Kanade)"
SUITE2P = """
import sys, numpy as np, torch, suite2p
from suite2p.registration.register import registration_wrapper
frames = np.load(sys.argv[1])
settings = suite2p.default_settings()["registration"]
out = registration_wrapper(frames, settings=settings, device=torch.device("cpu"))
rigid = np.stack([out["yoff"], out["xoff"]], axis=1).astype(float)
# The shifts of its blocks come on top, below a pixel; the frame moves by their mean.
blocks = np.stack([out["yoff1"].mean(axis=1), out["xoff1"].mean(axis=1)], axis=1)
np.savez(sys.argv[2], rigid=rigid, blocks=rigid + blocks)
"""


@dataclass(frozen=True)
class Case:
    """One recording."""

    light: str
    moves: bool
    config: SimulationConfig
    seed: int


def make_cases(split: Split, *, quick: bool) -> list[Case]:
    """Every light, moving and still, with several seeds."""
    side, n_frames, n_seeds = (192, 80, 1) if quick else (256, 400, 2)
    base = {"test": 7_300, "validation": 5_300, "training": 3_300}[split]
    moving = {
        "drift_px": 10.0,
        "jitter_px": 0.4,
        "n_jumps": 3,
        "jump_px": 4.0,
        "n_flashes": 4,
        "n_dirt": 8,
        "bleaching": 0.3,
    }
    still = moving | {"drift_px": 0.0, "jitter_px": 0.0, "n_jumps": 0}
    cases = []
    for light, photons in PHOTONS.items():
        for moves, effects in ((True, moving), (False, still)):
            for i in range(n_seeds):
                config = PRESETS["slice"].model_copy(
                    update=effects
                    | {
                        "split": split,
                        "n_frames": n_frames,
                        "n_rows": side,
                        "n_columns": side,
                        "gain_counts_per_photon": PRESETS["slice"].baseline_counts / photons,
                    }
                )
                cases.append(Case(light, moves, config, base + i))
    return cases


def ours(simulation: Simulation, preset: str) -> tuple[FloatArray, int]:
    """Shifts as `cocuyo run` finds them, and how many frames it could not place."""
    config, recording = PIPELINES[preset], simulation.recording()
    diameter = choose_diameter(recording, config, [], [])
    setup = set_up(recording, config=config, diameter_px=diameter)
    motion, _ = place_frames(simulation.frames, setup.motion)
    return motion.shifts, int(((motion.flags & FLAG_UNPLACED) > 0).sum())


def scikit_image(frames: FloatArray) -> dict[str, FloatArray]:
    """Shifts of scikit-image's registration against the mean frame, to a twentieth of a pixel."""
    from skimage.registration import phase_cross_correlation

    mean = frames.mean(axis=0)
    found = {}
    for name, normalization in (("phase", "phase"), ("cross", None)):
        shifts = [
            phase_cross_correlation(mean, f, upsample_factor=20, normalization=normalization)[0]
            for f in frames
        ]
        found[f"scikit-image, {name} correlation"] = -np.asarray(shifts)  # how a frame has to move
    return found


def suite2p(frames: FloatArray, python: str) -> dict[str, FloatArray]:
    """Shifts of Suite2p's registration with its own settings, run by another interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "register.py").write_text(SUITE2P, encoding="utf-8")
        # It computes in int16.
        np.save(place / "frames.npy", np.minimum(frames, 2**15 - 1).astype(np.int16))
        words = [
            python,
            str(place / "register.py"),
            str(place / "frames.npy"),
            str(place / "s2p.npz"),
        ]
        subprocess.run(words, check=True, capture_output=True)
        with np.load(place / "s2p.npz") as found:
            return {
                "Suite2p, whole frame": found["rigid"],
                "Suite2p, mean of its blocks": found["blocks"],
            }


def residual(found: FloatArray, truth: FloatArray, *, constant: bool) -> float:
    """Root mean square length of what is left; with or without the constant part."""
    left = np.asarray(found, np.float64) - truth
    if not constant:
        left -= left.mean(axis=0)
    return float(np.sqrt((left**2).sum(axis=1).mean()))


def measure(case: Case, python: str | None) -> dict[str, Any]:
    """Residuals of every method on one recording."""
    simulation: Simulation = simulate(case.config, seed=case.seed)
    truth = simulation.truth
    frames = np.asarray(simulation.frames, np.float32)
    found = {}
    unplaced = {}
    for name, preset in ((OURS, "default"), (PAPER, "paper")):
        found[name], unplaced[name] = ours(simulation, preset)
    try:
        found |= scikit_image(frames)
    except ImportError:
        print("scikit-image is not installed: left out", file=sys.stderr)
    if python is not None:
        found |= suite2p(frames, python)
    found["uncorrected"] = np.zeros_like(truth.shifts)
    methods = {
        name: {
            "rms_px": residual(shifts, truth.shifts, constant=False),
            "rms_from_frame_0_px": residual(shifts, truth.shifts, constant=True),
            "unplaced": unplaced.get(name),
        }
        for name, shifts in found.items()
    }
    return {
        "light": case.light,
        "moves": case.moves,
        "seed": case.seed,
        "snr": float(np.median(truth.transient_snr)),
        "reach_px": float(np.abs(truth.shifts).max()),
        "methods": methods,
        "courses": {
            "truth": truth.shifts[:, 0].tolist(),
            **{name: np.asarray(shifts)[:, 0].tolist() for name, shifts in found.items()},
        },
    }


def table(results: list[dict[str, Any]]) -> str:
    """A column for each light, with each recording's residual."""
    kinds = [(light, moves) for moves in (True, False) for light in PHOTONS]
    heads, rows = [], {name: [name] for name in results[0]["methods"]}
    for light, moves in kinds:
        own = [r for r in results if (r["light"], r["moves"]) == (light, moves)]
        snr = np.median([r["snr"] for r in own])
        heads.append(f"{'moving' if moves else 'still'}, {light} (SNR {snr:.1f})")
        for name, row in rows.items():
            values = [r["methods"][name]["rms_px"] for r in own if name in r["methods"]]
            cell = " and ".join(f"{value:.3f}" for value in values)
            if name in (OURS, PAPER):
                whole = [r["methods"][name]["rms_from_frame_0_px"] for r in own]
                cell += " (" + " and ".join(f"{value:.3f}" for value in whole) + ")"
            row.append(cell)
    lines = ["| RMS residual, px | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows.values()]
    first = results[0]
    n_unplaced = sum(r["methods"][OURS]["unplaced"] for r in results)
    lines += [
        "",
        f"Each recording has {len(first['courses']['truth'])} frames; shifts reach "
        f"{max(r['reach_px'] for r in results):.1f} px along an axis. SNR: largest transient of a "
        "soma's mean over its noise, median of the functional neurons. In brackets: with the "
        f"constant part, in the coordinates of frame 0. The default left {n_unplaced} frames "
        "unplaced in all; their residual counts.",
    ]
    return "\n".join(lines) + "\n"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Residual along y over the recording: the first seed of each light, moving."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {r["light"]: r for r in reversed(results) if r["moves"]}
    names = [name for name in results[0]["courses"] if name not in ("truth", "uncorrected")]
    figure = Figure(figsize=(9, 1.6 * (len(names) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names) + 1, len(PHOTONS), sharex=True, sharey="row", squeeze=False)
    for column, light in enumerate(PHOTONS):
        courses = shown[light]["courses"]
        truth = np.asarray(courses["truth"])
        panels[0, column].plot(truth, color="0.3", linewidth=0.8)
        panels[0, column].set_title(f"{light}, SNR {shown[light]['snr']:.1f}", fontsize=10)
        for panel, name in zip(panels[1:, column], names, strict=True):
            left = np.asarray(courses[name]) - truth
            panel.plot(left - left.mean(), color="tab:blue", linewidth=0.8)
            panel.set_ylim(-1, 1)
        panels[-1, column].set_xlabel("frame")
    panels[0, 0].set_ylabel("true dy, px", fontsize=8)
    for panel, name in zip(panels[1:, 0], names, strict=True):
        panel.set_ylabel(name.replace(", ", ",\n").replace(" (", "\n("), fontsize=8)
    for panel in panels.ravel():
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    figure.suptitle("What is left of the motion along y, px (cut at 1 px)", fontsize=10)
    figure.savefig(path, dpi=110)


# ---------------------------------------------------------------- deformation

DEFORMATIONS = {
    "still": (0.0, 0.0),
    "shifted": (6.0, 0.0),
    "shifted, 1 px": (6.0, 1.0),
    "shifted, 2 px": (6.0, 2.0),
    "2 px alone": (0.0, 2.0),
}
"""Drift and deformation, px."""
CARRIED = "middle"
"""Light at which ROIs and traces are made too: first recording of each kind that deforms."""
RIGID, PIECEWISE = "whole frame", "piecewise"


@dataclass(frozen=True)
class Deforming:
    """One recording that may deform."""

    light: str
    kind: str
    config: SimulationConfig
    seed: int


def make_deforming(split: Split, *, quick: bool, n_seeds: int) -> list[Deforming]:
    """Every light and deformation, with several seeds."""
    side, n_frames = (192, 240) if quick else (256, 450)
    base = {"test": 7_400, "validation": 5_400, "training": 3_400}[split]
    cases = []
    for kind, (drift_px, nonrigid_px) in DEFORMATIONS.items():
        for light, photons in PHOTONS.items():
            config = PRESETS["slice"].model_copy(
                update={
                    "split": split,
                    "n_frames": n_frames,
                    "n_rows": side,
                    "n_columns": side,
                    "drift_px": drift_px,
                    "jitter_px": 0.3 if drift_px else 0.0,
                    "n_jumps": 2 if drift_px else 0,
                    "jump_px": 3.0,
                    "nonrigid_px": nonrigid_px,
                    "n_flashes": 2,
                    "n_dirt": 8,
                    "bleaching": 0.3,
                    "gain_counts_per_photon": PRESETS["slice"].baseline_counts / photons,
                }
            )
            cases += [Deforming(light, kind, config, base + i) for i in range(n_seeds)]
    return cases


def with_pieces(config: PipelineConfig, *, piecewise: bool) -> PipelineConfig:
    """The same settings with the piecewise mode on or off."""
    motion = config.motion.model_copy(update={"piecewise": piecewise})
    return config.model_copy(update={"motion": motion})


def measure_deforming(case: Deforming, *, carried: bool) -> dict[str, Any]:
    """Residuals with and without the piecewise mode; shifts are the same in both."""
    simulation: Simulation = simulate(case.config, seed=case.seed)
    truth, recording = simulation.truth, simulation.recording()
    config = with_pieces(PIPELINES["default"], piecewise=True)
    diameter = choose_diameter(recording, config, [], [])
    setup = set_up(recording, config=config, diameter_px=diameter)
    motion, state = place_frames(simulation.frames, setup.motion)
    told = measure_deformation(state)
    assert told is not None
    y, x = truth.centres[truth.in_focus].T
    true = truth.displacements(y, x)
    found = {RIGID: np.broadcast_to(motion.shifts, true.shape)}
    found[PIECEWISE] = found[RIGID]
    if told.deformation is not None:
        every = np.arange(recording.n_frames, dtype=np.int32)
        found[PIECEWISE] = found[RIGID] + told.deformation.displacements(every, y, x)
    methods: dict[str, dict[str, float]] = {}
    for name, shifts in found.items():
        left = shifts.astype(np.float64) - true
        steady = left - left.mean(axis=1, keepdims=True)
        methods[name] = {
            "rms_px": float(np.sqrt((steady**2).sum(axis=2).mean())),
            "rms_from_frame_0_px": float(np.sqrt((left**2).sum(axis=2).mean())),
        }
        if carried:
            own = with_pieces(load_model("default").settings.pipeline, piecewise=name == PIECEWISE)
            result = segment(recording, config=own)
            scores = evaluate(regions_of(result), truth.regions())
            methods[name]["sdc"] = float(scores.pixels.sdc)
            if scores.traces is not None:
                methods[name]["trace_r"] = float(scores.traces.median)
            if scores.events is not None:
                methods[name]["event_f1"] = float(scores.events.f1)
    return {
        "light": case.light,
        "kind": case.kind,
        "seed": case.seed,
        "snr": float(np.median(truth.transient_snr)),
        "n_frames": recording.n_frames,
        "fit_before": told.before,
        "fit_after": told.after,
        "kept": told.deformation is not None,
        "methods": methods,
    }


def deformation_table(results: list[dict[str, Any]]) -> str:
    """A row for each light and method, a column for each kind; then what came of it."""
    kinds = list(dict.fromkeys(r["kind"] for r in results))
    lights = list(dict.fromkeys(r["light"] for r in results))
    lines = [
        "| RMS residual of cells, px | " + " | ".join(kinds) + " |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    for light in lights:
        snr = np.median([r["snr"] for r in results if r["light"] == light])
        for name in (RIGID, PIECEWISE):
            cells = []
            for kind in kinds:
                own = [r for r in results if (r["light"], r["kind"]) == (light, kind)]
                text = " and ".join(f"{r['methods'][name]['rms_px']:.3f}" for r in own)
                whole = [r["methods"][name]["rms_from_frame_0_px"] for r in own]
                text += " (" + " and ".join(f"{value:.3f}" for value in whole) + ")"
                if name == PIECEWISE and not any(r["kept"] for r in own):
                    text += ", not moved"
                cells.append(text)
            lines.append(f"| {light} (SNR {snr:.1f}), {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Each recording has {results[0]['n_frames']} frames. In brackets: with the constant part, "
        "in the coordinates of frame 0. *Not moved*: the displacements gained nothing on frames "
        "that they were not measured from, and the frames were moved as a whole.",
        "",
        "| carried through | " + " | ".join(("SDC", "trace r", "event F1")) + " |",
        "|---|---|---|---|",
    ]
    for r in results:
        for name, row in r["methods"].items():
            if "sdc" in row:
                cells = [f"{row[key]:.3f}" for key in ("sdc", "trace_r", "event_f1") if key in row]
                lines.append(f"| {r['light']}, {r['kind']}, {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def look_at_deformation(
    split: Split, *, quick: bool, n_seeds: int, lights: list[str]
) -> list[dict[str, Any]]:
    """The recordings of that group at these lights."""
    cases = make_deforming(split, quick=quick, n_seeds=n_seeds)
    results = []
    for case in cases:
        if case.light not in lights:
            continue
        deforms = case.config.nonrigid_px > 0
        carried = deforms and case.light == CARRIED and case.seed == cases[0].seed
        results.append(measure_deforming(case, carried=carried))
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Measure, and write table, numbers and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file; .json and .png go beside it.")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--quick", action="store_true", help="Small recordings.")
    parser.add_argument("--suite2p", metavar="PYTHON", help="Interpreter that has Suite2p.")
    parser.add_argument("--deformation", action="store_true", help="Slices that deform, instead.")
    parser.add_argument("--seeds", type=int, default=2, help="Recordings of each kind that deform.")
    parser.add_argument(
        "--light",
        choices=list(PHOTONS),
        help="With --deformation: this light only; others are taken from the .json beside --out.",
    )
    given = parser.parse_args()
    if given.deformation:
        lights = [given.light] if given.light else list(PHOTONS)
        results = look_at_deformation(
            given.split, quick=given.quick, n_seeds=given.seeds, lights=lights
        )
        if given.out is not None and given.out.with_suffix(".json").exists():
            known = json.loads(given.out.with_suffix(".json").read_text("utf-8"))
            results += [r for r in known if r["light"] not in lights]
            results.sort(key=lambda r: (list(DEFORMATIONS).index(r["kind"]), r["seed"]))
            results.sort(key=lambda r: list(PHOTONS).index(r["light"]))
        text = deformation_table(results)
        print(text)
        if given.out is not None:
            given.out.write_text(text, encoding="utf-8")
            given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        return
    results = []
    cases = make_cases(given.split, quick=given.quick)
    for case in cases:
        # Suite2p takes minutes: one recording of each kind.
        python = given.suite2p if case.seed == cases[0].seed else None
        results.append(measure(case, python))
        last = results[-1]
        figures = {name: round(row["rms_px"], 3) for name, row in last["methods"].items()}
        print(last["light"], last["moves"], case.seed, figures, file=sys.stderr, flush=True)
    text = table(results)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
        kept = [{k: v for k, v in r.items() if k != "courses"} for r in results]
        given.out.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        draw(results, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
