"""The judge of events: a small convolutional network over time that says where events begin.

It sees a whole trace, forwards and backwards: the shape of each rise and decay, what still decays
from before, and how large and how frequent the transients of this cell are elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import ndimage

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    ModelError,
    map_in_threads,
)

TRACE_CHANNELS = ("trace", "small changes", "interpolated", "frame rate")
"""What the network sees of a trace, in order."""
DILATIONS = (1, 2, 4, 8)
"""Frames between the taps of the residual blocks, before the context and again after it."""
STEM_TAPS, TAPS = 5, 3
CONTEXT_S = 90.0
"""Width of the running mean that tells each frame what the cell does elsewhere, in seconds."""
SLOWEST_HZ = 2.0
"""Slower recordings the network did not learn from: at 0.5 Hz it finds 44 events in 300 frames of
noise, at 2 Hz and above 0.04 at most."""
_TYPICAL_HZ = 7.0
_FASTEST_HZ = 12.5
"""Frames that come faster are averaged in groups: the network learnt from 2 to 12 per second."""
_ROWS = 128
"""Frames of one product of matrices: larger ones are parted among threads, which then wait for each
other longer than they compute."""
_AROUND_S = 0.3
"""Half width of the window in which an event's onset is sought, in seconds: how well a transient of
few frames tells its beginning."""
_NONE = 1e-6
"""Onsets expected in a window that count as none: rounding leaves less where there are none."""


@dataclass(frozen=True, eq=False)
class EventJudge:
    """Weights of the network; its shape follows from them.

    Attributes
    ----------
    layers : mapping of str to ndarray of float32
        ``<layer>.weight`` (outputs, inputs, taps) and ``<layer>.bias`` (outputs) of the layers that
        `layer_names` lists.
    """

    layers: Mapping[str, FloatArray]

    def probability(
        self, scaled: FloatArray, usable: BoolArray, *, frame_rate_hz: float
    ) -> FloatArray:
        """Say how probable it is that an event begins in each frame.

        Parameters
        ----------
        scaled : ndarray of float32, shape (n_rois, n_frames)
            Traces in units of their white noise; finite.
        usable : ndarray of bool, shape (n_frames,)
            Frames that were measured and not interpolated.
        frame_rate_hz : float
            Frames per second. Above 12.5, frames are averaged in groups.

        Returns
        -------
        ndarray of float32, shape (n_rois, n_frames)
            The sum over some frames is the number of events expected to begin in them.
        """
        found = np.zeros(scaled.shape, np.float32)

        def judge(roi: int) -> None:
            view = look_at(scaled[[roi]], usable, frame_rate_hz=frame_rate_hz)
            logits = self._run(np.ascontiguousarray(view.channels[0].T), view.context)
            middle = view.group * np.arange(len(logits)) + view.group // 2
            at = np.minimum(middle, scaled.shape[1] - 1)
            found[roi, at] = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))

        # One by one: their layers fit a processor's cache.
        map_in_threads(judge, range(len(scaled)))
        return found

    def _run(self, seen: FloatArray, context: int) -> FloatArray:
        """Logits of one trace; frames are rows, so that every layer is a product of matrices."""
        hidden = _relu(self._convolve("stem", seen))
        for i, dilation in enumerate(DILATIONS):
            hidden += self._block(f"before_{i}", hidden, dilation)
        elsewhere = _running_mean(_relu(self._convolve("context", hidden)), context)
        hidden += self._convolve("mix", elsewhere)
        for i, dilation in enumerate(DILATIONS):
            hidden += self._block(f"after_{i}", hidden, dilation)
        return self._convolve("onset", _relu(hidden))[:, 0]

    def _block(self, name: str, hidden: FloatArray, dilation: int) -> FloatArray:
        inner = _relu(self._convolve(f"{name}.first", hidden, dilation))
        return self._convolve(f"{name}.second", inner, dilation)

    def _convolve(self, name: str, values: FloatArray, dilation: int = 1) -> FloatArray:
        weight = self.layers[f"{name}.weight"]
        n, (n_out, n_in, n_taps) = len(values), weight.shape
        # What all taps see lies side by side, so that a layer is one product.
        seen = np.zeros((n + -n % _ROWS, n_taps, n_in), np.float32)
        for tap in range(n_taps):
            back = (n_taps // 2 - tap) * dilation  # how long before each frame this tap looks
            if back > 0:
                seen[back:n, tap] = values[:-back]
            else:
                seen[: max(0, n + back), tap] = values[-back:]
        matrix = weight.transpose(2, 1, 0).reshape(n_taps * n_in, n_out)
        out = seen.reshape(-1, _ROWS, n_taps * n_in) @ matrix
        return np.asarray(out.reshape(-1, n_out)[:n] + self.layers[f"{name}.bias"], np.float32)

    def tensors(self) -> dict[str, FloatArray]:
        """Return the weights as named arrays, for a weights file."""
        return dict(self.layers)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, FloatArray]) -> Self:
        """Rebuild a judge from the arrays of `tensors`.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            Named arrays.

        Returns
        -------
        EventJudge
            The judge.

        Raises
        ------
        ModelError
            If an array is missing, does not fit the others or is not finite.
        """
        if "stem.bias" not in tensors:
            msg = "The judge of events lacks the array stem.bias: another version made it, or it "
            msg += "is damaged. Train it again."
            raise ModelError(msg)
        width = tensors["stem.bias"].size
        layers: dict[str, FloatArray] = {}
        for name, n_in, n_out, taps in layer_shapes(width):
            for part, shape in (("weight", (n_out, n_in, taps)), ("bias", (n_out,))):
                array = tensors.get(f"{name}.{part}")
                if array is None or array.shape != shape or not np.isfinite(array).all():
                    found = "is missing" if array is None else f"has shape {array.shape}"
                    msg = (
                        f"The judge of events cannot be read: {name}.{part} {found}, where finite "
                        f"numbers of shape {shape} are needed. Train it again."
                    )
                    raise ModelError(msg)
                layers[f"{name}.{part}"] = np.asarray(array, np.float32)
        return cls(layers)


def layer_shapes(width: int) -> Iterator[tuple[str, int, int, int]]:
    """List the layers of a judge: name, inputs, outputs, taps.

    Parameters
    ----------
    width : int
        Channels of the hidden layers.

    Yields
    ------
    tuple of (str, int, int, int)
        In the order in which they are run.
    """
    yield "stem", len(TRACE_CHANNELS), width, STEM_TAPS
    for part in ("before", "after"):
        for i in range(len(DILATIONS)):
            yield f"{part}_{i}.first", width, width, TAPS
            yield f"{part}_{i}.second", width, width, TAPS
        if part == "before":
            yield "context", width, width, 1
            yield "mix", width, width, 1
    yield "onset", width, 1, 1


@dataclass(frozen=True, eq=False)
class TraceView:
    """Traces as the network sees them.

    Attributes
    ----------
    channels : ndarray of float32, shape (n_rois, n_channels, n_groups)
        In the order of `TRACE_CHANNELS`.
    group : int
        Frames that are averaged to one.
    context : int
        Half width of the running mean of `CONTEXT_S`, in groups.
    """

    channels: FloatArray
    group: int
    context: int


def look_at(scaled: FloatArray, usable: BoolArray, *, frame_rate_hz: float) -> TraceView:
    """Show traces as the network sees them.

    Parameters
    ----------
    scaled : ndarray of float32, shape (n_rois, n_frames)
        Traces in units of their white noise; at least one frame.
    usable : ndarray of bool, shape (n_frames,)
        Frames that were measured.
    frame_rate_hz : float
        Frames per second. Above 12.5, frames are averaged in groups.

    Returns
    -------
    TraceView
        What the network sees.
    """
    group = max(1, int(np.ceil(frame_rate_hz / _FASTEST_HZ)))
    rate = frame_rate_hz / group
    missing = -scaled.shape[1] % group
    traces = np.pad(scaled, ((0, 0), (0, missing)), mode="edge")
    # A group was measured where one of its frames was; its mean has less noise than they.
    known = np.pad(usable, (0, missing)).reshape(-1, group).any(axis=1)
    traces = traces.reshape(len(scaled), -1, group).mean(axis=2) * np.sqrt(group)
    traces -= np.median(traces, axis=1, keepdims=True)
    seen = np.empty((len(scaled), len(TRACE_CHANNELS), traces.shape[1]), np.float32)
    seen[:, 0] = np.arcsinh(traces / 2)  # a line near 0, a logarithm for large transients
    seen[:, 1] = np.clip(traces, -3, 3) / 3
    seen[:, 2] = ~known
    seen[:, 3] = np.log(rate / _TYPICAL_HZ)
    return TraceView(seen, group, round(CONTEXT_S * rate) // 2)


def pick_onsets(
    probability: FloatArray,
    *,
    frame_rate_hz: float,
    least: float,
    usable: BoolArray | None = None,
) -> list[LabelArray]:
    """Choose the frames in which events begin.

    The likeliest window first, and no other that shares a frame with it: one event is not
    reported twice because its beginning is uncertain by a frame.

    Parameters
    ----------
    probability : ndarray of float32, shape (n_rois, n_frames)
        From `EventJudge.probability`.
    frame_rate_hz : float
        Frames per second.
    least : float
        Number of onsets expected in a window from which it holds one.
    usable : ndarray of bool, shape (n_frames,), optional
        Frames that were measured; a window without any holds no onset.

    Returns
    -------
    list of ndarray of int32
        Onsets of each ROI, rising.
    """
    half = max(1, round(_AROUND_S * frame_rate_hz))
    width = 2 * half + 1
    n_frames = probability.shape[1]
    expected = ndimage.uniform_filter1d(probability, width, axis=1, mode="constant") * width
    if usable is not None:
        expected[:, ~ndimage.maximum_filter1d(usable, width, mode="constant")] = 0
    onsets = []
    for own, window in zip(probability, expected, strict=True):
        chosen: list[int] = []
        free = np.array(window)
        while free.size and free[best := int(free.argmax())] >= max(least, _NONE):
            start, stop = max(0, best - half), min(n_frames, best + half + 1)
            frames = np.arange(start, stop)
            chosen.append(round(float(np.average(frames, weights=own[start:stop]))))
            free[max(0, best - width + 1) : best + width] = 0
        onsets.append(np.array(sorted(set(chosen)), np.int32))
    return onsets


def _relu(values: FloatArray) -> FloatArray:
    return np.maximum(values, 0, out=values)


def _running_mean(values: FloatArray, reach: int) -> FloatArray:
    """Mean over `reach` frames before and after each; over those there are at the ends."""
    n = len(values)
    total: AnyArray = np.zeros((n + 1, values.shape[1]))
    np.cumsum(values, axis=0, dtype=np.float64, out=total[1:])
    start, stop = np.maximum(np.arange(n) - reach, 0), np.minimum(np.arange(n) + reach + 1, n)
    return np.asarray((total[stop] - total[start]) / (stop - start)[:, None], np.float32)
