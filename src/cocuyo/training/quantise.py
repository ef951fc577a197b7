"""The U-Net in int8: quantised after the training, and kept only if it finds the same neurons."""

import contextlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import (
    BoolArray,
    FloatArray,
    MissingExtraError,
    ModelError,
    Progress,
    ProgressCallback,
    SettingsError,
    ignore_progress,
)
from cocuyo.evaluation import pixel_scores
from cocuyo.pipeline.model import Model, ModelSettings, load_model, write_settings
from cocuyo.pipeline.run import segment
from cocuyo.segmentation import NumberFormat, load_engine, pad_to_multiple, unet_multiple
from cocuyo.segmentation.engine import (
    INT8_GRAPH,
    UNCHECKED_FORMATS,
    processor_formats,
    without_usage_reports,
)
from cocuyo.training.dataset import make_example, training_simulation
from cocuyo.training.settings import QuantiseRecipe

_FILES = (f"{INT8_GRAPH}.bin", f"{INT8_GRAPH}.xml")
_METRICS = "precision"
_TIMED = tuple(product((512, 320), (1, 2)))
"""Side of a frame in pixels, and threads, at which a call of the U-Net is timed."""


@dataclass(frozen=True)
class PrecisionCheck:
    """What a number format gives, against f32 and against the truth.

    Attributes
    ----------
    mask_sdc : float
        SDC of the final masks (accepted ROIs) with those of f32, over the pixels of all
        recordings together; 1 where both are empty.
    map_sdc : float
        The same of the temporal network's map at 0.5.
    truth_sdc : float
        Mean over the recordings of the final mask's SDC with the truth.
    call_ms : dict of float
        Shortest time of a call of the U-Net in milliseconds, by size and threads.
    rows : tuple of dict
        Of each recording: seed, both SDC with f32, SDC with the truth, number of ROIs.
    """

    mask_sdc: float
    map_sdc: float
    truth_sdc: float
    call_ms: dict[str, float]
    rows: tuple[dict[str, float], ...]


def quantise(
    folder: Path,
    *,
    recipe: QuantiseRecipe = QuantiseRecipe(),
    seed: int = 1,
    progress: ProgressCallback = ignore_progress,
) -> dict[NumberFormat, PrecisionCheck]:
    """Make the U-Net's int8 graph, check bf16 and int8 against f32, and store what may be used.

    Post-training quantisation (nncf) of weights and activations, calibrated on step images of
    simulated recordings of the split ``training``, preprocessed as in a training. Whole runs on
    recordings of the split ``validation`` decide: a number format whose masks or maps agree with
    those of f32 less than `recipe.min_sdc`, or that loses more than `recipe.max_loss` of the
    truth, may not be used. ``model.json`` gets the formats that may, the fastest first;
    ``metrics.json`` gets the figures.

    Parameters
    ----------
    folder : Path
        A complete model folder; it gets ``unet_int8.xml`` and ``unet_int8.bin``.
    recipe : QuantiseRecipe
        Recordings and limits.
    seed : int, default: 1
        Seed of the recordings.
    progress : callable, optional
        Called after each recording.

    Returns
    -------
    dict of str to PrecisionCheck
        The figures of f32, of bf16 where this processor computes in it, and of int8.

    Raises
    ------
    ModelError
        If int8 does not agree with f32: the figures are stored, the graph is not. Also where the
        folder is no model with networks.
    MissingExtraError
        If nncf is not installed.
    SettingsError
        If this processor cannot compute in int8, so that nothing can be checked on it.
    """
    model = load_model(folder)
    if not (folder / "unet.xml").is_file():
        msg = f"{folder} holds no networks to quantise; train them first."
        raise ModelError(msg)
    here = processor_formats()
    if "int8" not in here:
        msg = "This processor has no VNNI, so int8 cannot be checked here; use one that has it."
        raise SettingsError(msg)
    _import_nncf()  # before the images take their minutes
    images = _calibration_images(model, recipe, seed, progress)
    with tempfile.TemporaryDirectory(prefix="cocuyo-int8-") as place:
        trial = Path(place) / "model"
        shutil.copytree(folder, trial)
        _write_int8(trial, images, unet_multiple(model.settings.pipeline.networks.unet))
        formats: tuple[NumberFormat, ...] = ("int8", *UNCHECKED_FORMATS)
        write_settings(trial, model.settings.model_copy(update={"precisions": formats}))
        checks = _check(load_model(trial), here, recipe, seed, progress)
        allowed = _allowed(checks, recipe)
        if "int8" in allowed:
            for name in _FILES:
                shutil.copy(trial / name, folder / name)
    write_settings(folder, model.settings.model_copy(update={"precisions": allowed}))
    _write_checks(folder, checks, recipe, seed, len(images))
    if "int8" not in allowed:
        _remove_graph(folder)
        found = checks["int8"]
        msg = (
            f"The int8 graph is not kept: against f32 its masks reach an SDC of "
            f"{found.mask_sdc:.4f} and its maps {found.map_sdc:.4f} ({recipe.min_sdc:g} is "
            f"needed), against the truth {found.truth_sdc:.4f} where f32 reaches "
            f"{checks['f32'].truth_sdc:.4f} (at most {recipe.max_loss:g} less is allowed)."
        )
        raise ModelError(msg)
    return checks


def withdraw_int8(folder: Path) -> None:
    """Take the int8 graph back: it was checked with networks that are about to change.

    Parameters
    ----------
    folder : Path
        A model folder, with or without such a graph.
    """
    settings: ModelSettings = load_model(folder).settings
    if "int8" in settings.precisions:
        write_settings(folder, settings.model_copy(update={"precisions": UNCHECKED_FORMATS}))
    _remove_graph(folder)
    path = folder / "metrics.json"
    if path.is_file():
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if metrics.pop(_METRICS, None) is not None:
            path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def _remove_graph(folder: Path) -> None:
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _calibration_images(
    model: Model, recipe: QuantiseRecipe, seed: int, progress: ProgressCallback
) -> list[FloatArray]:
    """Step images (or single frames, where the U-Net sees those) as a training prepares them."""
    config, images = model.settings.pipeline, list[FloatArray]()
    for i in range(recipe.n_calibration):
        one = 1000 * seed + i  # as for the recordings of a training
        simulation, recording = training_simulation(
            one,
            split="training",
            n_frames=recipe.n_frames,
            side_px=recipe.side_px,
            preparations="all",
        )
        example = make_example(simulation, recording, config=config, labels="truth", seed=one)
        step_means = config.networks.unet.input_frames == "step mean"
        shown = example.images if step_means else example.single_images
        picks = np.linspace(0, len(shown) - 1, min(len(shown), recipe.images_per_recording))
        images += [shown[int(k)].astype(np.float32) / 255 for k in picks]
        progress(Progress("calibrating", i + 1, recipe.n_calibration))
    return images


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hold back what nncf prints, and its report of its use, which OpenVINO makes as well."""
    with without_usage_reports(), contextlib.redirect_stdout(io.StringIO()):
        yield


def _import_nncf() -> Any:
    with _quietly():
        try:
            import nncf
        except ImportError as error:
            msg = f'Quantising needs the extra "train": pip install "cocuyo[train]" ({error}).'
            raise MissingExtraError(msg) from error
    return nncf


def _write_int8(folder: Path, images: list[FloatArray], multiple: int) -> None:
    with _quietly():
        nncf = _import_nncf()
        import openvino as ov

        def prepare(image: FloatArray) -> FloatArray:
            return np.ascontiguousarray(pad_to_multiple(image, multiple)[None, None])

        whole = ov.Core().read_model(folder / "unet.xml")
        # The bottleneck's pooled branch says one number a channel for the whole frame, so its
        # error is one of every pixel: left in f32, which costs no time, single maps agreed to
        # 0.989 in place of 0.977. The first and last layers, usually delicate, brought nothing.
        pooled = [op.get_friendly_name() for op in whole.get_ordered_ops() if _is_of_one_pixel(op)]
        graph = nncf.quantize(
            whole,
            nncf.Dataset(images, prepare),
            preset=nncf.QuantizationPreset.MIXED,  # not symmetric: activations follow ReLU
            subset_size=len(images),
            # The exact correction of the layers' biases is slower here and as fast in a run; with
            # it the final masks of six recordings agreed to 0.9995 in place of 0.9970.
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=pooled) if pooled else None,
        )
    ov.save_model(graph, folder / f"{INT8_GRAPH}.xml", compress_to_fp16=False)


def _is_of_one_pixel(op: Any) -> bool:
    """Say whether a node is a convolution whose result is one row and one column."""
    if op.get_type_name() != "Convolution":
        return False
    rows, columns = list(op.output(0).partial_shape)[2:]
    return bool(rows.is_static and columns.is_static and rows == columns == 1)


def _check(
    model: Model,
    here: tuple[NumberFormat, ...],
    recipe: QuantiseRecipe,
    seed: int,
    progress: ProgressCallback,
) -> dict[NumberFormat, PrecisionCheck]:
    formats: tuple[NumberFormat, ...] = ("f32", *(name for name in here if name != "f32"))
    rows: dict[NumberFormat, list[dict[str, float]]] = {name: [] for name in formats}
    pairs: dict[NumberFormat, list[tuple[BoolArray, ...]]] = {name: [] for name in formats}
    for i in range(recipe.n_validation):
        one = 1000 * seed + i
        simulation, recording = training_simulation(
            one,
            split="validation",
            n_frames=recipe.n_frames,
            side_px=recipe.side_px,
            preparations="all",
        )
        truth = simulation.truth.mask()
        for name in formats:
            result = segment(
                recording, model=model.folder, engine="openvino", precision=name, n_threads=1
            )
            masks = (result.rois.mask(), result.probability >= 0.5)
            reference = pairs["f32"][i][:2] if name != "f32" else masks
            pairs[name].append((*masks, *reference))
            rows[name].append(
                {
                    "seed": one,
                    "mask_sdc": _agreement([(masks[0], reference[0])]),
                    "map_sdc": _agreement([(masks[1], reference[1])]),
                    "truth_sdc": _agreement([(masks[0], truth)]),
                    "n_rois": float(result.rois.accepted.sum()),
                }
            )
        progress(Progress("checking", i + 1, recipe.n_validation))
    times = _time_calls(model, formats)
    return {
        name: PrecisionCheck(
            _agreement([(mask, like) for mask, _, like, _ in pairs[name]]),
            _agreement([(found, like) for _, found, _, like in pairs[name]]),
            float(np.mean([row["truth_sdc"] for row in rows[name]])),
            times[name],
            tuple(rows[name]),
        )
        for name in formats
    }


def _agreement(pairs: list[tuple[BoolArray, BoolArray]]) -> float:
    """SDC over the pixels of all pairs; 1 where all are empty."""
    sdc = pixel_scores(
        np.concatenate([a.ravel() for a, _ in pairs])[None],
        np.concatenate([b.ravel() for _, b in pairs])[None],
    ).sdc
    return 1.0 if np.isnan(sdc) else sdc


def _time_calls(
    model: Model, formats: tuple[NumberFormat, ...], *, n_calls: int = 100
) -> dict[NumberFormat, dict[str, float]]:
    """Shortest of some calls, by turns, so that a busy machine is as busy for each."""
    times: dict[NumberFormat, dict[str, float]] = {name: {} for name in formats}
    for side, n_threads in _TIMED:
        image = np.random.default_rng(0).random((side, side), np.float32)
        engines = {
            name: load_engine(
                model.folder,
                model.settings.pipeline.networks,
                frame_shape=image.shape,
                engine="openvino",
                precision=name,
                formats=model.settings.precisions,
                n_threads=n_threads,
            )
            for name in formats
        }
        shortest = dict.fromkeys(formats, np.inf)
        for _ in range(n_calls):
            for name, engine in engines.items():
                start = time.perf_counter()
                engine.segment(image)
                shortest[name] = min(shortest[name], time.perf_counter() - start)
        for name in formats:
            times[name][f"{side} x {side}, {n_threads} thread{'s' * (n_threads > 1)}"] = round(
                1e3 * shortest[name], 2
            )
    return times


def _allowed(
    checks: dict[NumberFormat, PrecisionCheck], recipe: QuantiseRecipe
) -> tuple[NumberFormat, ...]:
    """What may be used, the fastest first; bf16 stays where it could not be checked."""
    least = checks["f32"].truth_sdc - recipe.max_loss

    def good(name: NumberFormat) -> bool:
        found = checks[name]
        agrees = min(found.mask_sdc, found.map_sdc) >= recipe.min_sdc
        return name == "f32" or (agrees and found.truth_sdc >= least)

    kept = sorted(
        (name for name in checks if good(name)), key=lambda name: sum(checks[name].call_ms.values())
    )
    if "bf16" not in checks:
        kept.insert(kept.index("f32"), "bf16")
    return tuple(kept)


def _write_checks(
    folder: Path,
    checks: dict[NumberFormat, PrecisionCheck],
    recipe: QuantiseRecipe,
    seed: int,
    n_images: int,
) -> None:
    path = folder / "metrics.json"
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    metrics[_METRICS] = {
        "seed": seed,
        "recipe": recipe.model_dump(mode="json"),
        "n_images": n_images,
        "formats": {name: vars(_rounded(found)) for name, found in checks.items()},
    }
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def _rounded(found: PrecisionCheck) -> PrecisionCheck:
    rows = tuple({name: round(value, 4) for name, value in row.items()} for row in found.rows)
    return replace(
        found,
        mask_sdc=round(found.mask_sdc, 4),
        map_sdc=round(found.map_sdc, 4),
        truth_sdc=round(found.truth_sdc, 4),
        rows=rows,
    )
