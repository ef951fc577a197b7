"""Trained models: folders with settings, weights, graphs and a card."""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from pydantic import Field, ValidationError

from cocuyo.core import FloatArray, FrozenConfig, ModelError
from cocuyo.pipeline.settings import PRESETS, PipelineConfig, PresetName
from cocuyo.postprocessing import EventJudge, Verifier
from cocuyo.segmentation import NumberFormat
from cocuyo.segmentation.engine import UNCHECKED_FORMATS

FORMAT_VERSION = 1
_WEIGHTS = ("*.safetensors", "*.xml", "*.bin")


class _Part(Protocol):
    """What a weights file of its own holds."""

    def tensors(self) -> dict[str, FloatArray]: ...

    @classmethod
    def from_tensors(cls, tensors: dict[str, FloatArray]) -> Self: ...


_Kind = TypeVar("_Kind", bound=_Part)
_FILES: dict[type[_Part], str] = {
    Verifier: "verifier.safetensors",
    EventJudge: "events.safetensors",
}


class ModelSettings(FrozenConfig):
    """What ``model.json`` holds."""

    format_version: int = Field(description="Version of the folder's layout.")
    name: str = Field(description="Name of the model.")
    preset: PresetName = Field(description="Preset that it implements.")
    pipeline: PipelineConfig = Field(description="Complete settings of a run with this model.")
    precisions: tuple[NumberFormat, ...] = Field(
        default=UNCHECKED_FORMATS,
        description="Number formats that the networks may run in, the preferred one first: the "
        "processor takes the first that it computes in. `cocuyo train quantise` checks each "
        "against f32.",
    )


@dataclass(frozen=True, eq=False)
class Model:
    """A model folder, read.

    Attributes
    ----------
    folder : Path
        Where it lies.
    settings : ModelSettings
        Settings of a run.
    verifier : Verifier or None
        The verifier of candidates, where the model has one.
    judge : EventJudge or None
        The judge of events, where the model has one.
    """

    folder: Path
    settings: ModelSettings
    verifier: Verifier | None
    judge: EventJudge | None

    @property
    def shipped(self) -> bool:
        """Whether it comes with cocuyo, so that its name is enough to find it."""
        shipped = _shipped_models()
        return shipped in (self.folder, self.folder.parent)


def _shipped_models() -> Path:
    return Path(str(resources.files("cocuyo") / "models"))


def load_model(name: str | Path = "default") -> Model:
    """Read a shipped model by name, or a model folder.

    Parameters
    ----------
    name : str or Path, default: "default"
        ``default``, ``paper``, ``srname``, or the path of a model folder.

    Returns
    -------
    Model
        Settings, verifier and judge; the networks are loaded by the engine.

    Raises
    ------
    ModelError
        If there is no such model, or its ``model.json``, verifier or judge cannot be used.
    """
    shipped = _shipped_models()
    if name == "srname":  # no networks: nothing but settings
        preset = PRESETS["srname"]
        settings = ModelSettings(
            format_version=FORMAT_VERSION, name="srname", preset="srname", pipeline=preset
        )
        return Model(shipped, settings, None, None)
    folder = shipped / str(name)
    if not (isinstance(name, str) and (folder / "model.json").is_file()):
        folder = Path(name)
    path = folder / "model.json"
    if not path.is_file():
        known = sorted(["srname", *(p.parent.name for p in shipped.glob("*/model.json"))])
        msg = (
            f"There is no model {str(name)!r}: it is neither shipped ({', '.join(known)}) "
            "nor a folder with a model.json."
        )
        raise ModelError(msg)
    try:
        text: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = text.get("format_version")
        if version != FORMAT_VERSION:
            msg = (
                f"{path} has format version {version}; this cocuyo reads {FORMAT_VERSION}. "
                "Train the model again, or use the version of cocuyo that made it."
            )
            raise ModelError(msg)
        settings = ModelSettings.model_validate(text)
    except ValidationError as error:
        wrong = error.errors()[0]
        msg = (
            f"{path} is not a model of cocuyo of this version: {'.'.join(map(str, wrong['loc']))}: "
            f"{wrong['msg']}. Train the model again, or use the version of cocuyo that made it."
        )
        raise ModelError(msg) from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        first = str(error).splitlines()[0]
        msg = f"{path} is not a model of cocuyo: {first}"
        raise ModelError(msg) from error
    return Model(folder, settings, _load(Verifier, folder), _load(EventJudge, folder))


def hash_weights(model: Model, *, method: str) -> str:
    """Hash all weights and graphs of a model, so that one trained again is told from before.

    Parameters
    ----------
    model : Model
        The model.
    method : str
        ``blobs`` needs no weights.

    Returns
    -------
    str
        A hash.
    """
    digest = hashlib.sha256(model.settings.name.encode())
    digest.update(",".join(model.settings.precisions).encode())  # one of them is the networks'
    if method != "blobs":
        for pattern in _WEIGHTS:
            for file in sorted(model.folder.glob(pattern)):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def write_settings(folder: Path, settings: ModelSettings) -> None:
    """Write ``model.json``.

    Parameters
    ----------
    folder : Path
        An existing folder.
    settings : ModelSettings
        The settings.
    """
    text = json.dumps(settings.model_dump(mode="json"), indent=2)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def write_part(folder: Path, part: Verifier | EventJudge) -> None:
    """Write the weights of a verifier or of a judge of events.

    Parameters
    ----------
    folder : Path
        An existing folder.
    part : Verifier or EventJudge
        What is written.
    """
    from safetensors.numpy import save

    # Not by its `save_file`, whose files nobody but their owner may read.
    (folder / _FILES[type(part)]).write_bytes(save(part.tensors()))


def _load(kind: type[_Kind], folder: Path) -> _Kind | None:
    path = folder / _FILES[kind]
    if not path.is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        msg = f"{path} cannot be read ({error}); the model folder is damaged."
        raise ModelError(msg) from error
    try:
        return kind.from_tensors(tensors)
    except ModelError as error:
        msg = f"{path} cannot be used. {error}"
        raise ModelError(msg) from error
