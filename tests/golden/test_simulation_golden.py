"""Simulations that exist stay what they are, bit by bit.

Trained models, thresholds and tables of the documentation rest on these recordings. A new effect
is a field whose default changes nothing. To pin anew (and say so in the change log):
``python tests/golden/test_simulation_golden.py``.
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import lfilter

from cocuyo.simulation import (
    PRESETS,
    Simulation,
    SimulationConfig,
    random_config,
    simulate,
    training_config,
)

PINNED = Path(__file__).with_name("simulations.json")
SMALL = {"n_frames": 40, "n_rows": 72, "n_columns": 88}
# What truth.npz held when the recordings were pinned; later releases may add to it.
TRUTH = (
    *("footprints", "traces", "raster", "spikes", "events", "ignore", "kinds", "cut", "snr"),
    *("visible_at_rest", "mask", "ignore_pixels", "shifts", "flashes", "fps", "n_defocused"),
)
SPLITS = ("training", "validation", "test")


def load_benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "slices.py"
    spec = importlib.util.spec_from_file_location("slices_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def presets() -> dict[str, tuple[SimulationConfig, int]]:
    """Presets, thinned out to a small field, and random settings."""
    cases = {}
    for seed, name in enumerate(("demo", "slice", "sparse", "crowded", "silent", "dim")):
        preset = PRESETS[name]
        fewer = {
            key: getattr(preset, key) // 5
            for key in ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
        }
        cases[name] = preset.model_copy(update=SMALL | fewer), seed
    for split in SPLITS:
        for seed in (0, 17):
            size = {"split": split, "n_frames": 40, "shape": (72, 88)}
            cases[f"random {split} {seed}"] = random_config(seed, **size), seed  # type: ignore[arg-type]
            cases[f"broad {split} {seed}"] = training_config(seed, **size), seed  # type: ignore[arg-type]
    return cases


def benchmark(*, quick: bool) -> dict[str, tuple[SimulationConfig, int]]:
    """The recordings of ``benchmarks/slices.py``: whole, or their first frames' settings."""
    slices = load_benchmark()
    return {
        f"{split} {case.name}": (case.config, case.seed)
        for split in ("validation", "test")
        for case in slices.make_cases(split, quick=quick)
    }


def shortened(config: SimulationConfig) -> SimulationConfig:
    changes = {key: getattr(config, key) // 12 for key in config.model_dump() if key[:2] == "n_"}
    return config.model_copy(update=changes | {"n_frames": 24, "n_rows": 64, "n_columns": 80})


def digest(*arrays: np.ndarray) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def fingerprint(simulation: Simulation) -> dict[str, str]:
    arrays = simulation.truth.arrays()
    return {
        "frames": digest(simulation.frames),
        "truth": digest(*(arrays[name] for name in TRUTH)),
    }


def canary() -> str:
    """What this machine makes of the arithmetic below the simulator, without the simulator."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((60, 70), dtype=np.float32)
    wide = rng.standard_normal((7, 9000), dtype=np.float32)
    return digest(
        cv2.GaussianBlur(image, (0, 0), 1.3, borderType=cv2.BORDER_REFLECT),
        cv2.GaussianBlur(image, (0, 0), 6.1, borderType=cv2.BORDER_CONSTANT),
        cv2.resize(image, (91, 83), interpolation=cv2.INTER_CUBIC),
        cv2.sepFilter2D(image, cv2.CV_32F, image[0, :4].copy(), image[1, :4].copy()),
        rng.standard_normal((32, 7), dtype=np.float32) @ wide,
        np.exp(image), np.log(np.abs(image)), np.arctan2(image, image[::-1]), np.hypot(image, 1),
        np.abs(image) ** 0.37, np.sin(image.astype(float)), np.exp(image.astype(float)),
        np.asarray(lfilter([1.0], [1.0, -0.9], image.astype(float))),
        ndimage.gaussian_filter1d(image.astype(float), 2.2, axis=0),
        rng.poisson(5.0, 2000), rng.gamma(2.0, 0.5, 2000), rng.geometric(0.3, 2000),
    )  # fmt: skip


def pinned(group: str) -> dict[str, dict[str, str]]:
    content = json.loads(PINNED.read_text())
    if content["canary"] != canary():
        pytest.skip(
            "numpy, scipy, OpenCV or the processor rounds otherwise than where it was pinned"
        )
    return dict(content[group])


def compare(found: dict[str, dict[str, str]], wanted: dict[str, dict[str, str]]) -> None:
    assert found.keys() == wanted.keys()
    changed = [name for name, value in found.items() if value != wanted[name]]
    assert not changed, f"other recordings than before: {changed}"


def fingerprints(cases: dict[str, tuple[SimulationConfig, int]]) -> dict[str, dict[str, str]]:
    return {
        name: fingerprint(simulate(config, seed=seed)) for name, (config, seed) in cases.items()
    }


def short_benchmark() -> dict[str, tuple[SimulationConfig, int]]:
    cases = benchmark(quick=False)
    return {name: (shortened(config), seed) for name, (config, seed) in cases.items()}


def settings_digest(cases: dict[str, tuple[SimulationConfig, int]]) -> dict[str, dict[str, str]]:
    """Hash the settings by the fields that are not left at their default."""
    return {
        name: {"settings": hashlib.sha256(f"{seed} {said(config)}".encode()).hexdigest()[:16]}
        for name, (config, seed) in cases.items()
    }


def said(config: SimulationConfig) -> str:
    fields = type(config).model_fields
    values = config.model_dump(mode="json")
    return json.dumps({k: v for k, v in values.items() if v != fields[k].default}, sort_keys=True)


def test_presets_and_random_settings_give_the_recordings_that_they_gave() -> None:
    compare(fingerprints(presets()), pinned("presets"))


def test_the_benchmark_has_the_settings_that_it_had() -> None:
    compare(settings_digest(benchmark(quick=False)), pinned("benchmark settings"))


def test_a_short_benchmark_gives_the_recordings_that_it_gave() -> None:
    compare(fingerprints(short_benchmark()), pinned("short benchmark"))


@pytest.mark.slow
def test_the_quick_benchmark_gives_the_recordings_that_it_gave() -> None:
    compare(fingerprints(benchmark(quick=True)), pinned("quick benchmark"))


if __name__ == "__main__":
    content = {
        "canary": canary(),
        "presets": fingerprints(presets()),
        "benchmark settings": settings_digest(benchmark(quick=False)),
        "short benchmark": fingerprints(short_benchmark()),
        "quick benchmark": fingerprints(benchmark(quick=True)),
    }
    PINNED.write_text(json.dumps(content, indent=1) + "\n")
