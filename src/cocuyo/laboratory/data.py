"""The recordings of the paper's experiments, simulated, and the frames taken from them."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cocuyo.core import AnyArray, Progress, ProgressCallback, stream
from cocuyo.laboratory.settings import LaboratoryConfig, n_held_back
from cocuyo.pipeline import PipelineConfig
from cocuyo.simulation import PRESETS, Simulation, SimulationConfig, simulate
from cocuyo.training.dataset import Example, load_example, make_example, save_example

_PIXEL_UM = 750 / 512
"""750 x 750 µm on 512 x 512 pixels (paper, section 4)."""
_TRUTH = "truth_labels.npy"


@dataclass(frozen=True)
class Take:
    """One recording of one experiment.

    Attributes
    ----------
    experiment, number : int
        Which experiment, and which of its recordings; from 0.
    config : SimulationConfig
        How it is simulated.
    seed : int
        Seed of the experiment's tissue.
    test : bool
        Whether it belongs to an experiment that is never trained on.
    """

    experiment: int
    number: int
    config: SimulationConfig
    seed: int
    test: bool

    @property
    def name(self) -> str:
        """A short name for files and people."""
        return f"experiment{self.experiment + 1}_recording{self.number + 1}"

    @property
    def diameter_px(self) -> float:
        """Typical soma diameter in pixels."""
        return self.config.soma_diameter_um / self.config.pixel_size_um

    def simulate(self) -> Simulation:
        """Make the recording.

        Returns
        -------
        Simulation
            The same whenever it is called.
        """
        return simulate(self.config, seed=self.seed)


def plan_takes(config: LaboratoryConfig, *, seed: int) -> list[Take]:
    """Say which recordings the experiments consist of.

    Each experiment is a slice of its own, with its own numbers of cells, frame rate and motion, in
    the paper's geometry; its recordings show the same cells.

    Parameters
    ----------
    config : LaboratoryConfig
        Size of the data.
    seed : int
        Seed of everything.

    Returns
    -------
    list of Take
        All recordings, experiment by experiment.
    """
    takes = []
    area = (config.side_px / 256) ** 2
    for experiment, n_takes in enumerate(config.recordings):
        rng = stream(seed, f"laboratory.experiment{experiment}")
        counts = {
            "n_active": (16, 34),
            "n_silent": (25, 60),
            "n_defocused_active": (8, 20),
            "n_defocused_silent": (10, 30),
        }
        drawn = {
            name: max(2, round(area * rng.uniform(low, high)))
            for name, (low, high) in counts.items()
        }
        base = PRESETS["slice"].model_copy(
            update=drawn
            | {
                "split": "training",
                "n_frames": config.n_frames,
                "n_rows": config.side_px,
                "n_columns": config.side_px,
                # A frame in 100 to 250 ms (paper).
                "frame_rate_hz": float(1 / rng.uniform(0.1, 0.25)),
                "pixel_size_um": _PIXEL_UM,
                "soma_diameter_um": float(rng.uniform(12.5, 15.0)),
                "soma_diameter_min_um": 8.0,
                "soma_diameter_max_um": 20.0,
                "drift_px": float(rng.uniform(0.5, 3.0)),
                "takes": n_takes,
            }
        )
        takes += [
            Take(
                experiment,
                number,
                base.model_copy(update={"take": number}),
                100 * seed + experiment,
                experiment >= config.n_training,
            )
            for number in range(n_takes)
        ]
    return takes


def prepare_take(take: Take, folder: Path, *, config: PipelineConfig) -> Path:
    """Simulate and preprocess a recording, with labels of the SRNAME-like teacher.

    A test recording has the exact labels of its frames as well.

    Parameters
    ----------
    take : Take
        The recording.
    folder : Path
        Existing folder in which its own is made; a finished one is kept.
    config : PipelineConfig
        Preprocessing and teacher.

    Returns
    -------
    Path
        Its folder, for `load_example`.
    """
    facts = f"{take.config.model_dump_json()} {take.seed} {config.model_dump_json()}"
    path = folder / f"{take.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    if path.is_dir():
        return path
    cv2.setNumThreads(1)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    simulation = take.simulate()
    how = {
        "simulation": simulation,
        "recording": simulation.recording(name=take.name),
        "config": config,
        "seed": take.seed,
        "diameter_px": take.diameter_px,
    }
    save_example(partial, make_example(labels="srname", **how))  # type: ignore[arg-type]
    if take.test:
        exact = make_example(labels="truth", **how)  # type: ignore[arg-type]
        np.save(partial / _TRUTH, exact.visible, allow_pickle=False)
    partial.rename(path)
    return path


@dataclass(frozen=True)
class Prepared:
    """All that the networks learn from, and what tests them.

    Attributes
    ----------
    recordings : tuple of Path
        A prepared recording for each take, in the order of `plan_takes`.
    frames_training, frames_validation : list of Path
        Random frames of the training experiments, a folder for each recording.
    frames_test : list of Path
        Random frames of the test experiments, with exact labels beside the teacher's.
    training, validation : list of Path
        Whole recordings of the training experiments for the temporal network.
    held_back : tuple of int
        Which takes `validation` are.
    """

    recordings: tuple[Path, ...]
    frames_training: list[Path]
    frames_validation: list[Path]
    frames_test: list[Path]
    training: list[Path]
    validation: list[Path]
    held_back: tuple[int, ...]


def prepare(
    takes: Sequence[Take],
    folder: Path,
    *,
    config: LaboratoryConfig,
    seed: int,
    progress: ProgressCallback,
) -> Prepared:
    """Make all recordings and the data set of random frames, where they are not there yet.

    Parameters
    ----------
    takes : sequence of Take
        From `plan_takes`.
    folder : Path
        Where they lie; made if absent.
    config : LaboratoryConfig
        Size of the data.
    seed : int
        Seed of the choice of frames and of the recordings that validate.
    progress : callable
        Called after each recording.

    Returns
    -------
    Prepared
        Folders.
    """
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    recordings = []
    for take in takes:
        recordings.append(prepare_take(take, folder / "recordings", config=config.pipeline))
        progress(Progress("simulating recordings", len(recordings), len(takes)))
    learning = [i for i, take in enumerate(takes) if not take.test]
    testing = [i for i, take in enumerate(takes) if take.test]
    order = stream(seed, "laboratory.split").permutation(learning)
    held_back = tuple(sorted(order[: n_held_back(len(learning))].tolist()))
    frames: dict[str, list[Path]] = {"training": [], "validation": [], "test": []}
    for part, chosen, share in (
        ("training", learning, 0.8),
        ("validation", learning, 0.1),
        ("test", testing, 0.1),
    ):
        number = max(1, round(share * config.dataset_frames / len(chosen)))
        for i in chosen:
            rng = stream(seed, f"laboratory.frames.{takes[i].name}")
            shuffled = rng.permutation(len(load_example(recordings[i]).images))
            # Validation takes from the end, so that it shares no frame with training.
            picks = shuffled[-number:] if part == "validation" else shuffled[:number]
            frames[part].append(
                _pick_frames(recordings[i], folder / "frames" / part, np.sort(picks))
            )
    return Prepared(
        tuple(recordings),
        frames["training"],
        frames["validation"],
        frames["test"],
        [recordings[i] for i in learning if i not in held_back],
        [recordings[i] for i in held_back],
        held_back,
    )


def _pick_frames(recording: Path, folder: Path, picks: AnyArray) -> Path:
    """Write some frames of a prepared recording as an example of their own."""
    digest = hashlib.sha256(picks.astype("<i8").tobytes()).hexdigest()[:12]
    path = folder / f"{recording.name}-{digest}"
    if path.is_dir():
        return path
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    whole = load_example(recording)
    images, labels = whole.images[picks], whole.visible[picks]
    nothing = np.zeros((len(picks), 1, 1), np.float16)
    none = np.full(images.shape[1:], -1, np.int32)
    save_example(partial, Example(images, images, labels, nothing, labels, none))
    if (recording / _TRUTH).is_file():
        exact = np.load(recording / _TRUTH, mmap_mode="r")[picks]
        np.save(partial / _TRUTH, exact, allow_pickle=False)
    partial.rename(path)
    return path


def load_exact_labels(path: Path) -> AnyArray:
    """Open the exact labels of the frames of a test recording.

    Parameters
    ----------
    path : Path
        One of `Prepared.frames_test`, or a recording of a test experiment.

    Returns
    -------
    ndarray of bool, shape (n_frames, n_rows, n_columns)
        Cells that can be seen, firing or not.
    """
    return np.asarray(np.load(path / _TRUTH, mmap_mode="r"))
