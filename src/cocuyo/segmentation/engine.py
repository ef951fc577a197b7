"""Run the networks: OpenVINO on a processor, torch as reference and on a GPU.

An engine is made for one frame shape. It is stateless: the recurrent state is passed in and
comes back.
"""

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from cocuyo.core import FloatArray, MissingExtraError, ModelError, SettingsError
from cocuyo.segmentation.settings import NetworkConfig, TemporalConfig, UNetConfig

EngineName = Literal["auto", "openvino", "torch"]
NumberFormat = Literal["int8", "bf16", "f32"]
Precision = Literal["auto", "int8", "bf16", "f32"]
UNCHECKED_FORMATS: tuple[NumberFormat, ...] = ("bf16", "f32")
"""What a model may run in that nobody has quantised."""
GRAPHS = ("unet", "step", "classify")
"""Graphs of a model folder: ``<name>.xml`` and ``<name>.bin`` each; ``outline`` where it has that
network."""
INT8_GRAPH = "unet_int8"
"""Takes the place of ``unet`` in int8. The other networks gain nothing and stay in bf16 or f32."""
_VNNI = ("AVX512VNNI", "AVX_VNNI")
"""OpenCV's names of what makes int8 quick; OpenCV 4 does not know the second, of laptops."""
_VIEWS_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class TemporalState:
    """What the temporal network remembers.

    Attributes
    ----------
    hidden, maximum : ndarray of float32, shape (1, channels, height, width)
        Hidden state, and its maximum over all steps so far.
    """

    hidden: FloatArray
    maximum: FloatArray


class Engine(Protocol):
    """The networks, ready for frames of one shape."""

    @property
    def name(self) -> str:
        """Name of the engine."""
        ...

    @property
    def precision(self) -> str:
        """Number format it computes in; ``int8+bf16``: the U-Net in int8, the rest in bf16."""
        ...

    def segment(self, image: FloatArray) -> FloatArray:
        """Return the probability of "cell" for an equalised frame, shape (rows, columns)."""
        ...

    def start(self) -> TemporalState:
        """Return the state before the first step."""
        ...

    def step(
        self, probability: FloatArray, contrast: FloatArray | None, state: TemporalState
    ) -> TemporalState:
        """Take one step with a probability and a temporal contrast, (rows, columns) each."""
        ...

    def classify(self, state: TemporalState) -> FloatArray:
        """Return the probability of "functional neuron", shape (rows, columns)."""
        ...

    def outline(self, views: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the probability of each view's pixels, and the logit of "a neuron" of each view.

        Shapes (n, channels, side, side) in, (n, side, side) and (n,) out.
        """
        ...


def unet_multiple(config: UNetConfig) -> int:
    """Number that the height and width of the U-Net's input must be multiples of.

    Parameters
    ----------
    config : UNetConfig
        The network's settings.

    Returns
    -------
    int
        Product of all strides.
    """
    return int(config.stem_stride * 2**config.n_levels)


def pad_to_multiple(image: FloatArray, multiple: int) -> FloatArray:
    """Grow an image at its lower and right border by mirroring.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        The image.
    multiple : int
        Height and width of the result are multiples of this.

    Returns
    -------
    ndarray of float32, shape (>= n_rows, >= n_columns)
        The padded image; the same array where nothing was missing.
    """
    rows, columns = image.shape
    below, right = -rows % multiple, -columns % multiple
    if below == right == 0:
        return image
    # "symmetric" also serves images smaller than what is missing; "reflect" does not.
    return np.pad(image, ((0, below), (0, right)), mode="symmetric")


def temporal_inputs(
    probability: FloatArray, contrast: FloatArray | None, config: TemporalConfig
) -> FloatArray:
    """Stack what the temporal network sees in one step.

    The contrast is compressed by ``arcsinh(z / 2)``: linear within the noise, logarithmic
    far above it, so that it never saturates.

    Parameters
    ----------
    probability : ndarray of float32, shape (n_rows, n_columns)
        Output of the spatial network, in [0, 1].
    contrast : ndarray of float32, shape (n_rows, n_columns), or None
        Temporal contrast in units of its noise; needed if `config.contrast_input`.
    config : TemporalConfig
        Which inputs, at which resolution.

    Returns
    -------
    ndarray of float32, shape (n_inputs, height, width)
        Inputs at the resolution of the hidden state.
    """
    channels = [probability]
    if config.contrast_input:
        if contrast is None:
            msg = "This temporal network needs the temporal contrast beside the probability."
            raise ModelError(msg)
        channels.append(np.arcsinh(contrast / 2).astype(np.float32))
    if config.resolution == "half":
        channels = [_halve(channel) for channel in channels]
    return np.stack(channels).astype(np.float32)


def load_engine(
    folder: Path,
    config: NetworkConfig,
    *,
    frame_shape: tuple[int, int],
    engine: EngineName = "auto",
    precision: Precision = "auto",
    formats: Sequence[NumberFormat] = UNCHECKED_FORMATS,
    n_threads: int = 0,
) -> Engine:
    """Load the networks of a model folder for frames of one shape.

    Parameters
    ----------
    folder : Path
        Model folder with ``weights.safetensors`` and the graphs ``unet``, ``step``,
        ``classify`` (``.xml`` and ``.bin``); also ``outline``, where the settings have it, and
        ``unet_int8``, where `formats` has int8.
    config : NetworkConfig
        Settings of the networks.
    frame_shape : tuple of int
        Rows and columns of the frames.
    engine : {"auto", "openvino", "torch"}
        ``auto`` takes a GPU through torch where there is one, else OpenVINO.
    precision : {"auto", "int8", "bf16", "f32"}
        Number format; ``auto`` is the first of `formats` that the processor computes in.
        With int8 the U-Net alone is in int8. torch computes in f32.
    formats : sequence of {"int8", "bf16", "f32"}
        What the model may run in, preferred first; f32 always.
    n_threads : int, default: 0
        Threads of the engine; 0 leaves the choice to it.

    Returns
    -------
    Engine
        Ready to run.

    Raises
    ------
    ModelError
        If the folder lacks a file, or holds one that is damaged or made for other settings.
    MissingExtraError
        If torch is asked for and not installed.
    SettingsError
        If the model, the processor or torch cannot do with the precision asked for.
    """
    any_format = precision in ("auto", "f32")
    if engine == "torch" or (engine == "auto" and any_format and _gpu_available()):
        if not any_format:
            msg = (
                f"The engine torch computes in f32, not in {precision}; "
                "choose the engine openvino, or the precision f32."
            )
            raise SettingsError(msg)
        return _TorchEngine(folder, config, frame_shape)
    chosen = _choose_format(precision, formats, folder)
    return _OpenVinoEngine(folder, config, frame_shape, chosen, n_threads)


@cache
def _openvino_core() -> Any:
    """Load OpenVINO's part for processors, once and for good.

    It gives the thread that loads it another stack for signals, and frees that when it is
    unloaded, in whatever thread: Ctrl-C would then end the process with a segmentation fault
    (OpenVINO 2026.4). So it is never unloaded.
    """
    with without_usage_reports():
        import openvino as ov

    return ov.Core()


def computes_in_bf16() -> bool:
    """Say whether this processor computes in bf16; others take far longer with it than with f32."""
    return "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def computes_in_int8() -> bool:
    """Say whether this processor has VNNI or the like, so that int8 is quick and exact.

    Older ones add pairs of products in 16 bits, which may overflow: a graph that was checked
    elsewhere gives something else there.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    # Every x86 processor that computes in bf16 has VNNI.
    known = (n for n in range(64) if cv2.getHardwareFeatureName(n) in _VNNI)
    return computes_in_bf16() or any(map(cv2.checkHardwareSupport, known)) or _linux_says_vnni()


def processor_formats() -> tuple[NumberFormat, ...]:
    """Say which number formats this processor computes in.

    Returns
    -------
    tuple of {"int8", "bf16", "f32"}
        f32 always.
    """
    found: list[NumberFormat] = []
    if computes_in_int8():
        found.append("int8")
    if computes_in_bf16():
        found.append("bf16")
    return (*found, "f32")


def _linux_says_vnni() -> bool:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx_vnni" in flags.split()


def _choose_format(
    precision: Precision, formats: Sequence[NumberFormat], folder: Path
) -> NumberFormat:
    """Decide what the networks run in, or say why they cannot run in what was asked for."""
    if precision == "f32":
        return "f32"
    here = processor_formats()
    if precision == "auto":
        return next((name for name in formats if name in here), "f32")
    others = " or ".join(["auto", *(name for name in formats if name in here)])
    if precision not in formats:
        how = (
            ", or make what is missing with `cocuyo train quantise`" if precision == "int8" else ""
        )
        msg = (
            f"The model {folder.name} may not run in {precision}: it was not found to give there "
            f"what it gives in f32. Choose the precision {others}{how}."
        )
        raise SettingsError(msg)
    if precision not in here:
        msg = (
            f"This processor does not compute in {precision}; it would be slower than f32. "
            f"Choose the precision {others}."
        )
        raise SettingsError(msg)
    return precision


@contextmanager
def without_usage_reports() -> Iterator[None]:
    """Decline the usage reports that OpenVINO sends to its makers over the network.

    It sends them by default, when it is imported and when it converts a network, each from a
    copy (fork) of this process.

    Yields
    ------
    None
        While this lasts, OpenVINO takes its user's answer to be no.
    """
    try:
        consent: Any = import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:  # a part that OpenVINO does without
        yield
        return
    usual = consent.OptInChecker.check
    consent.OptInChecker.check = lambda *_, **__: consent.ConsentCheckResult.DECLINED
    try:
        yield
    finally:
        consent.OptInChecker.check = usual


class _Shapes:
    """Padded sizes for one frame shape."""

    def __init__(self, config: NetworkConfig, frame_shape: tuple[int, int]) -> None:
        self.frame = frame_shape
        self.multiple = unet_multiple(config.unet)
        divisor = 2 if config.temporal.resolution == "half" else 1
        rows, columns = frame_shape
        self.unet = (rows + -rows % self.multiple, columns + -columns % self.multiple)
        self.state = (-(-rows // divisor), -(-columns // divisor))

    def to_frame(self, image: FloatArray) -> FloatArray:
        """Bring a map of the hidden state's resolution to the frame's."""
        rows, columns = self.frame
        if image.shape == (rows, columns):
            return image
        size = (2 * self.state[1], 2 * self.state[0])
        return np.asarray(
            cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[:rows, :columns], np.float32
        )


class _OpenVinoEngine:
    name = "openvino"

    def __init__(
        self,
        folder: Path,
        config: NetworkConfig,
        frame_shape: tuple[int, int],
        number_format: NumberFormat,
        n_threads: int,
    ) -> None:
        core = _openvino_core()
        rest: str = number_format
        self.precision: str = number_format
        files = {"unet": "unet"}
        if number_format == "int8":
            # What is not quantised: the U-Net's few other layers, and the other networks.
            rest = "bf16" if computes_in_bf16() else "f32"
            self.precision = f"int8+{rest}"
            files = {"unet": INT8_GRAPH}
        self._config = config
        self._shapes = _Shapes(config, frame_shape)
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": rest,
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned threads of two processes that run side by side would share a core.
            "ENABLE_CPU_PINNING": False,
        }
        if n_threads:
            options["INFERENCE_NUM_THREADS"] = n_threads
        hidden = config.temporal.hidden
        n_inputs = 2 if config.temporal.contrast_input else 1
        state = [1, hidden, *self._shapes.state]
        sizes = {
            "unet": [[1, 1, *self._shapes.unet]],
            "step": [[1, n_inputs, *self._shapes.state], state, state],
            "classify": [state, state],
        }
        self._graphs = {}
        for graph in GRAPHS if config.outline is None else (*GRAPHS, "outline"):
            path = folder / f"{files.get(graph, graph)}.xml"
            if not path.is_file():
                msg = (
                    f"The model folder {folder} has no {path.name}; "
                    "train it again, or give a complete model folder."
                )
                raise ModelError(msg)
            try:
                model = core.read_model(path)
                if graph in sizes:
                    model.reshape(dict(enumerate(sizes[graph])))
                self._graphs[graph] = core.compile_model(model, "CPU", options)
            except RuntimeError as error:  # the only one OpenVINO raises
                first = " ".join(str(error).split())[:200]
                msg = (
                    f"The graph {path} (with its .bin) is damaged or does not fit the settings "
                    f"in model.json: {first}. Train it again, or give a complete model folder."
                )
                raise ModelError(msg) from error

    def segment(self, image: FloatArray) -> FloatArray:
        rows, columns = self._shapes.frame
        padded = pad_to_multiple(image, self._shapes.multiple)[None, None]
        # Read before the next call, which writes over it.
        logits = self._graphs["unet"](np.ascontiguousarray(padded), share_outputs=True)[0]
        return _sigmoid(logits[0, 0, :rows, :columns])

    def start(self) -> TemporalState:
        return _start_state(self._config.temporal.hidden, self._shapes.state)

    def step(
        self, probability: FloatArray, contrast: FloatArray | None, state: TemporalState
    ) -> TemporalState:
        inputs = temporal_inputs(probability, contrast, self._config.temporal)[None]
        output = self._graphs["step"]([inputs, state.hidden, state.maximum])
        return TemporalState(output[0], output[1])

    def classify(self, state: TemporalState) -> FloatArray:
        logits = self._graphs["classify"]([state.hidden, state.maximum])[0]
        return self._shapes.to_frame(_sigmoid(logits[0, 0]))

    def outline(self, views: FloatArray) -> tuple[FloatArray, FloatArray]:
        def run(some: FloatArray) -> tuple[FloatArray, FloatArray]:
            output = self._graphs["outline"]([some])
            return np.array(output[0]), np.array(output[1])

        return _outline(run, views)


class _TorchEngine:
    name = "torch"

    def __init__(self, folder: Path, config: NetworkConfig, frame_shape: tuple[int, int]) -> None:
        try:
            import torch

            from cocuyo.segmentation.weights import load_networks, load_outline_network
        except ImportError as error:
            msg = f'The engine "torch" needs PyTorch: pip install "cocuyo[train]" ({error}).'
            raise MissingExtraError(msg) from error

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = "f32"
        self._config = config
        self._shapes = _Shapes(config, frame_shape)
        unet, temporal = load_networks(folder, config)
        self._outline: Any = (
            None
            if config.outline is None
            else load_outline_network(folder, config.outline).to(self._device)
        )
        self._unet = unet.to(self._device).eval()
        self._temporal = temporal.to(self._device).eval()

    def segment(self, image: FloatArray) -> FloatArray:
        rows, columns = self._shapes.frame
        padded = pad_to_multiple(image, self._shapes.multiple)[None, None]
        with self._torch.inference_mode():
            logits = self._unet(self._send(padded))
        return _sigmoid(self._fetch(logits)[0, 0, :rows, :columns])

    def start(self) -> TemporalState:
        return _start_state(self._config.temporal.hidden, self._shapes.state)

    def step(
        self, probability: FloatArray, contrast: FloatArray | None, state: TemporalState
    ) -> TemporalState:
        inputs = temporal_inputs(probability, contrast, self._config.temporal)[None]
        with self._torch.inference_mode():
            hidden, maximum = self._temporal.step(
                self._send(inputs), self._send(state.hidden), self._send(state.maximum)
            )
        return TemporalState(self._fetch(hidden), self._fetch(maximum))

    def classify(self, state: TemporalState) -> FloatArray:
        with self._torch.inference_mode():
            logits = self._temporal.classify(self._send(state.hidden), self._send(state.maximum))
        return self._shapes.to_frame(_sigmoid(self._fetch(logits)[0, 0]))

    def outline(self, views: FloatArray) -> tuple[FloatArray, FloatArray]:
        def run(some: FloatArray) -> tuple[FloatArray, FloatArray]:
            with self._torch.inference_mode():
                outline, score = self._outline(self._send(some))
            return self._fetch(outline), self._fetch(score)

        return _outline(run, views)

    def _send(self, array: FloatArray) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _fetch(self, tensor: Any) -> FloatArray:
        return np.asarray(tensor.cpu().numpy(), np.float32)


def _outline(
    run: Callable[[FloatArray], tuple[FloatArray, FloatArray]], views: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Take the views in parts of one size, whatever their number."""
    n, side = len(views), views.shape[-1]
    outlines, scores = np.zeros((n, side, side), np.float32), np.zeros(n, np.float32)
    for start in range(0, n, _VIEWS_AT_ONCE):
        part = slice(start, start + _VIEWS_AT_ONCE)
        logits, score = run(np.ascontiguousarray(views[part], np.float32))
        outlines[part], scores[part] = _sigmoid(logits[:, 0]), score[:, 0]
    return outlines, scores


def _start_state(hidden: int, shape: tuple[int, int]) -> TemporalState:
    # The hidden state starts at 0 and stays in (-1, 1): its maximum starts below all of it.
    zeros = np.zeros((1, hidden, *shape), np.float32)
    return TemporalState(zeros, np.full_like(zeros, -1.0))


def _sigmoid(logits: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30))), np.float32)


def _halve(image: FloatArray) -> FloatArray:
    padded = pad_to_multiple(image, 2)
    size = (padded.shape[1] // 2, padded.shape[0] // 2)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), np.float32)


def _gpu_available() -> bool:
    if not _gpu_driver_present():  # torch takes a second and 190 MB to say so
        return False
    try:
        import jaxtyping  # noqa: F401 - the networks need it as well as torch
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _gpu_driver_present() -> bool:
    """Say whether there is a driver of a GPU that torch could compute on."""
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    # NVIDIA, AMD, and either in a Linux within Windows.
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or any(
        (devices / name).exists() for name in ("kfd", "dxg")
    )
