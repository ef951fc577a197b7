"""Training commands: prepare, fit, save; each goes on where it stopped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cocuyo.core import ModelError, ProgressCallback, SettingsError, ignore_progress
from cocuyo.pipeline.model import FORMAT_VERSION, ModelSettings, write_part, write_settings
from cocuyo.pipeline.settings import PRESETS, PipelineConfig, PresetName
from cocuyo.postprocessing import VIEW_SIDE
from cocuyo.segmentation.networks import TemporalNetwork, UNet
from cocuyo.segmentation.weights import save_networks, save_outline_network
from cocuyo.training.dataset import prepare_recordings
from cocuyo.training.events import collect_traces, fit_judge
from cocuyo.training.loop import Curve, save_curve
from cocuyo.training.networks import fit_temporal, fit_unet, write_inputs
from cocuyo.training.outline import collect_views, fit_outline_network
from cocuyo.training.quantise import withdraw_int8
from cocuyo.training.settings import TRAININGS, TrainingConfig
from cocuyo.training.team import ALONE, Team
from cocuyo.training.verifier import collect_examples, fit_verifier

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Workshop:
    """Where a training works, and on what.

    Attributes
    ----------
    folder : Path
        Holds data, checkpoints, curves and the finished model; kept between commands.
    preset : {"default", "paper"}
        What is trained.
    pipeline : PipelineConfig
        Settings of the model.
    training : TrainingConfig
        Recipes.
    seed : int
        Seed of everything.
    n_workers : int
        Processes for simulation.
    team : Team
        The processes that train together; `ALONE` for this one.
    """

    folder: Path
    preset: PresetName
    pipeline: PipelineConfig
    training: TrainingConfig
    seed: int
    n_workers: int
    team: Team = ALONE

    @property
    def model(self) -> Path:
        """Folder of the finished model."""
        return self.folder / "model"


def open_workshop(
    folder: str | Path,
    *,
    preset: PresetName = "default",
    pipeline: PipelineConfig | None = None,
    training: TrainingConfig | None = None,
    seed: int = 1,
    n_workers: int = 1,
    team: Team = ALONE,
) -> Workshop:
    """Prepare a folder for training, or reopen one with the same settings.

    Parameters
    ----------
    folder : str or Path
        Made if absent.
    preset : {"default", "paper"}
        What is trained.
    pipeline, training : optional
        Settings in place of the preset's.
    seed : int, default: 1
        Seed of everything.
    n_workers : int, default: 1
        Processes for simulation, of each of the team.
    team : Team, optional
        The processes that train together, from `open_team`.

    Returns
    -------
    Workshop
        Ready for `train_unet`.

    Raises
    ------
    SettingsError
        If the preset has no networks, the folder was begun with other settings, or not all
        processes see it.
    """
    if preset not in TRAININGS:
        msg = f"The preset {preset!r} has no networks to train; choose one of {list(TRAININGS)}."
        raise SettingsError(msg)
    shop = Workshop(
        Path(folder),
        preset,
        pipeline or PRESETS[preset],
        training or TRAININGS[preset],
        seed,
        n_workers,
        team,
    )
    shop.folder.mkdir(parents=True, exist_ok=True)
    marker = shop.folder / "training.json"
    key: dict[str, Any] = {
        "preset": preset,
        "networks": shop.pipeline.networks.model_dump(mode="json"),
        "training": shop.training.model_dump(
            mode="json", exclude={"outline", "events", "verifier"}
        ),
        "seed": seed,
    }
    if team.leads and not marker.is_file():
        marker.write_text(json.dumps(key, indent=2), encoding="utf-8")
    team.wait()
    try:
        begun = json.loads(marker.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = (
            f"{shop.folder} is not the same folder for all processes; --work must lie where all "
            "machines see it under the same path."
        )
        raise SettingsError(msg) from error
    if begun != key:
        msg = (
            f"{shop.folder} holds a training with other settings; choose another folder, or "
            "delete it."
        )
        raise SettingsError(msg)
    return shop


Prepared = tuple[list[Path], list[Path]]
"""Folders of prepared recordings for training and for validation (`save_example`)."""


def train_unet(
    shop: Workshop,
    *,
    recordings: Prepared | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Curve:
    """Fit the spatial network; writes ``unet.safetensors`` and its curve.

    Parameters
    ----------
    shop : Workshop
        From `open_workshop`.
    recordings : tuple of list of Path, optional
        What to train on and what to validate on; simulated recordings if None.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    Curve
        Losses and validation SDC.
    """
    training, validation = recordings or _recordings(shop, progress)
    unet, curve = fit_unet(
        training,
        validation,
        config=shop.pipeline.networks,
        recipe=shop.training.unet,
        seed=shop.seed,
        checkpoint=shop.folder / "unet.checkpoint",
        progress=progress,
        team=shop.team,
    )
    if shop.team.leads:
        save_file(_packed(unet), shop.folder / "unet.safetensors")
        save_curve(curve, shop.folder, name="unet")
    return curve


def train_temporal(
    shop: Workshop,
    *,
    recordings: Prepared | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Curve:
    """Fit the temporal network on the spatial one's output; assembles the model folder.

    Parameters
    ----------
    shop : Workshop
        After `train_unet`.
    recordings : tuple of list of Path, optional
        What to train on and what to validate on; simulated recordings if None.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    Curve
        Losses and validation SDC.

    Raises
    ------
    ModelError
        If there is no trained spatial network.
    """
    unet = UNet(shop.pipeline.networks.unet)
    unet.load_state_dict(_tensors(shop.folder / "unet.safetensors", "train unet"))
    training, validation = recordings or _recordings(shop, progress)
    write_inputs(
        [*training, *validation],
        unet,
        config=shop.pipeline.networks,
        progress=progress,
        team=shop.team,
    )
    temporal, curve = fit_temporal(
        training,
        validation,
        config=shop.pipeline.networks,
        recipe=shop.training.temporal,
        seed=shop.seed,
        checkpoint=shop.folder / "temporal.checkpoint",
        progress=progress,
        team=shop.team,
    )
    if shop.team.leads:
        save_file(_packed(temporal), shop.folder / "temporal.safetensors")
        save_curve(curve, shop.folder, name="temporal")
        _assemble(shop, unet, temporal)
    return curve


def train_outline(shop: Workshop, *, progress: ProgressCallback = ignore_progress) -> Curve:
    """Fit the outline network on what the first two find; adds it to the model folder.

    Parameters
    ----------
    shop : Workshop
        After `train_temporal`.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    Curve
        Losses, and mean SDC of the outlines of validation neurons.

    Raises
    ------
    SettingsError
        If the preset has no such network.
    ModelError
        If there is no model folder with the first two networks.
    """
    outline = shop.pipeline.networks.outline
    if outline is None:
        msg = f"The preset {shop.preset!r} has no outline network; it draws by morphology."
        raise SettingsError(msg)
    _require_networks(shop)
    training, validation = _collected(
        shop, collect_views, "outlines", shop.training.outline, progress
    )
    network, curve = fit_outline_network(
        training,
        validation,
        config=outline,
        recipe=shop.training.outline,
        seed=shop.seed,
        checkpoint=shop.folder / "outline.checkpoint",
        progress=progress,
        team=shop.team,
    )
    if shop.team.leads:
        withdraw_int8(shop.model)
        save_outline_network(shop.model, network, view_side=VIEW_SIDE)
        save_curve(curve, shop.folder, name="outline")
        _write_curves(shop)
    return curve


def train_events(shop: Workshop, *, progress: ProgressCallback = ignore_progress) -> Curve:
    """Fit the judge of events on traces that the networks lead to; adds it to the model folder.

    Parameters
    ----------
    shop : Workshop
        After `train_temporal`, and `train_outline` where the preset has that network.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    Curve
        Losses and validation event F1.

    Raises
    ------
    ModelError
        If there is no model folder with networks.
    """
    _require_networks(shop, outline=True)
    training, validation = _collected(
        shop, collect_traces, "traces", shop.training.events, progress
    )
    judge, curve = fit_judge(
        training,
        validation,
        recipe=shop.training.events,
        config=shop.pipeline.validation,
        seed=shop.seed,
        checkpoint=shop.folder / "events.checkpoint",
        progress=progress,
        team=shop.team,
    )
    if shop.team.leads:
        write_part(shop.model, judge)
        save_curve(curve, shop.folder, name="events", score_name="event F1")
        _write_curves(shop)
    return curve


def train_verifier(
    shop: Workshop, *, progress: ProgressCallback = ignore_progress
) -> dict[str, float]:
    """Fit the verifier on the candidates that the networks find; adds it to the model folder.

    Parameters
    ----------
    shop : Workshop
        After `train_temporal`, and `train_outline` where the preset has that network.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    dict
        Validation loss, accuracy and numbers.

    Raises
    ------
    ModelError
        If there is no model folder with networks.
    """
    _require_networks(shop, outline=True)
    training, validation = _collected(
        shop, collect_examples, "examples", shop.training.verifier, progress
    )
    verifier, metrics = fit_verifier(
        training, validation, recipe=shop.training.verifier, seed=shop.seed
    )
    if shop.team.leads:
        write_part(shop.model, verifier)  # first: the folder's own may be of another version
        withdraw_int8(shop.model)
        _write_metrics(shop, {"verifier": metrics})
    return metrics


def _collected(
    shop: Workshop,
    collect: Callable[..., _Kind],
    name: str,
    recipe: object,
    progress: ProgressCallback,
) -> tuple[_Kind, _Kind]:
    """What further recordings teach, for training and for validation."""
    training, validation = (
        collect(
            shop.model,
            cache=shop.folder / "data" / name,
            dataset=shop.training.dataset,
            recipe=recipe,
            config=shop.pipeline,
            split=split,
            seed=shop.seed,
            n_workers=shop.n_workers,
            progress=progress,
            team=shop.team,
        )
        for split in ("training", "validation")
    )
    return training, validation


def _recordings(shop: Workshop, progress: ProgressCallback) -> tuple[list[Path], list[Path]]:
    training, validation = (
        prepare_recordings(
            shop.folder / "data",
            dataset=shop.training.dataset,
            config=shop.pipeline,
            split=split,
            seed=shop.seed,
            n_workers=shop.n_workers,
            progress=progress,
            team=shop.team,
        )
        for split in ("training", "validation")
    )
    return training, validation


def _assemble(shop: Workshop, unet: UNet, temporal: TemporalNetwork) -> None:
    """Write the model folder, keeping a verifier that is already there."""
    shop.model.mkdir(exist_ok=True)
    if (shop.model / "model.json").is_file():
        withdraw_int8(shop.model)
    save_networks(shop.model, unet, temporal, shop.pipeline.networks)
    write_settings(
        shop.model,
        ModelSettings(
            format_version=FORMAT_VERSION,
            name=shop.preset,
            preset=shop.preset,
            pipeline=shop.pipeline,
        ),
    )
    _write_curves(shop)
    _write_metrics(shop, {"training": _describe(shop)})


def _require_networks(shop: Workshop, *, outline: bool = False) -> None:
    if not (shop.model / "unet.xml").is_file():
        msg = f"{shop.folder} has no trained networks; run `cocuyo train temporal` first."
        raise ModelError(msg)
    needed = outline and shop.pipeline.networks.outline is not None
    if needed and not (shop.model / "outline.xml").is_file():
        msg = f"{shop.folder} has no trained outline network; run `cocuyo train outline` first."
        raise ModelError(msg)


def _write_curves(shop: Workshop) -> None:
    """Show all learning curves there are in the model folder."""
    curves = _read_metrics(shop).get("curves", {})
    for path in sorted(shop.folder.glob("*_curve.json")):
        curves[path.stem.removesuffix("_curve")] = json.loads(path.read_text(encoding="utf-8"))
        shutil.copy(path.with_suffix(".png"), shop.model)
    _write_metrics(shop, {"curves": curves})


def _describe(shop: Workshop) -> dict[str, Any]:
    """What a card must say of a training, as plain JSON."""
    return {"seed": shop.seed, "recipe": shop.training.model_dump(mode="json")}


def _write_metrics(shop: Workshop, new: dict[str, Any]) -> None:
    text = json.dumps(_read_metrics(shop) | new, indent=2)
    (shop.model / "metrics.json").write_text(text + "\n", encoding="utf-8")


def _read_metrics(shop: Workshop) -> dict[str, Any]:
    path = shop.model / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _packed(network: nn.Module) -> dict[str, Tensor]:
    """Weights in the layout that safetensors writes."""
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def _tensors(path: Path, command: str) -> dict[str, Any]:
    if not path.is_file():
        msg = f"{path} is not there; run `cocuyo {command}` first."
        raise ModelError(msg)
    return load_file(path)
