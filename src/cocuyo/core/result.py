"""What a run gives back: ROIs, traces, events, raster and how they came about."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core.arrays import BoolArray, FloatArray, LabelArray, TimeArray
from cocuyo.core.deformation import Deformation, join_deformations
from cocuyo.core.rois import RoiSet

FLAG_FLASH = 1
"""Bit of `Motion.flags`: the frame's brightness departs abruptly from its neighbours'."""
FLAG_UNPLACED = 2
"""Bit of `Motion.flags`: the frame could not be placed on the template."""
FLAG_INVALID = 4
"""Bit of `Motion.flags`: the frame holds no usable values (NaN, constant)."""


@dataclass(frozen=True, eq=False)
class Traces:
    """Fluorescence of every candidate over time, and the signal that finds its events.

    Attributes
    ----------
    raw : ndarray of float32, shape (n_rois, n_frames)
        Mean of the ROI's pixels, in camera counts, motion corrected and otherwise
        unaltered. NaN, like all its other values, for a given ROI without pixels.
    neuropil : ndarray of float32, shape (n_rois, n_frames)
        Mean of the surrounding ring, in camera counts.
    neuropil_coefficient : ndarray of float32, shape (n_rois,)
        Share of the neuropil's changes that was subtracted, in [0, 1.3].
    corrected : ndarray of float32, shape (n_rois, n_frames)
        ``raw - neuropil_coefficient * (neuropil - its median)``, in camera counts.
    delta_f_over_f : ndarray of float32, shape (n_rois, n_frames)
        Corrected trace relative to its running baseline; 0.5 is 50 % above it.
    dog : ndarray of float32, shape (n_rois, n_frames)
        Difference-of-Gaussians signal of ΔF/F₀ in units of its noise.
    threshold : ndarray of float32, shape (n_rois,)
        Height that an event must reach in `dog`.
    noise : ndarray of float32, shape (n_rois,)
        Standard deviation of ΔF/F₀ from frame to frame noise.
    """

    raw: FloatArray
    neuropil: FloatArray
    neuropil_coefficient: FloatArray
    corrected: FloatArray
    delta_f_over_f: FloatArray
    dog: FloatArray
    threshold: FloatArray
    noise: FloatArray

    @classmethod
    def empty(cls, n_frames: int) -> "Traces":
        """Make the traces of no ROI.

        Parameters
        ----------
        n_frames : int
            Length of the recording.

        Returns
        -------
        Traces
            Arrays with n_rois = 0.
        """
        none = np.zeros(0, np.float32)
        traces = np.zeros((0, n_frames), np.float32)
        return cls(traces, traces, none, traces, traces, traces, none, none)


@dataclass(frozen=True, eq=False)
class Events:
    """Transients found in the traces, sorted by ROI, then onset.

    Attributes
    ----------
    roi : ndarray of int32, shape (n_events,)
        Index of the ROI among the candidates.
    onset, peak, offset : ndarray of int32, shape (n_events,)
        Frames in which the event starts, is highest, and is last active.
    amplitude : ndarray of float32, shape (n_events,)
        Height of the peak in ΔF/F₀ above the level at the onset.
    """

    roi: LabelArray
    onset: LabelArray
    peak: LabelArray
    offset: LabelArray
    amplitude: FloatArray

    def __len__(self) -> int:
        return len(self.roi)

    @classmethod
    def empty(cls) -> "Events":
        """Make an empty list of events.

        Returns
        -------
        Events
            Arrays of length 0.
        """
        none = np.zeros(0, np.int32)
        return cls(none, none, none, none, np.zeros(0, np.float32))

    def count(self, n_rois: int) -> LabelArray:
        """Count the events of each ROI.

        Parameters
        ----------
        n_rois : int
            Number of candidates.

        Returns
        -------
        ndarray of int32, shape (n_rois,)
            Number of events of each.
        """
        return np.bincount(self.roi, minlength=n_rois).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Motion:
    """Where each frame lies relative to the first one.

    Attributes
    ----------
    shifts : ndarray of float32, shape (n_frames, 2)
        How far a point of the tissue moved since frame 0, (dy, dx) in pixels.
    confidence : ndarray of float32, shape (n_frames,)
        Correlation of the placed frame with the template, in [-1, 1].
    flags : ndarray of uint8, shape (n_frames,)
        Bits `FLAG_FLASH`, `FLAG_UNPLACED`, `FLAG_INVALID`.
    deformation : Deformation or None
        What moves differently from the rest of the frame, on top of the shifts; None where the
        frame moves as a whole.
    """

    shifts: FloatArray
    confidence: FloatArray
    flags: np.ndarray[Any, np.dtype[np.uint8]]
    deformation: Deformation | None = None

    def cut(self, start: int, stop: int) -> "Motion":
        """Give some consecutive frames, counted from 0.

        Parameters
        ----------
        start, stop : int
            First frame, and the one after the last.

        Returns
        -------
        Motion
            Of these frames.
        """
        span = slice(start, stop)
        own = None if self.deformation is None else self.deformation.cut(start, stop)
        return Motion(self.shifts[span], self.confidence[span], self.flags[span], own)

    @staticmethod
    def join(parts: Sequence["Motion"]) -> "Motion":
        """Join the motion of consecutive frames.

        Parameters
        ----------
        parts : sequence of Motion
            In order; at least one.

        Returns
        -------
        Motion
            Of all frames.
        """
        return Motion(
            np.concatenate([p.shifts for p in parts]),
            np.concatenate([p.confidence for p in parts]),
            np.concatenate([p.flags for p in parts]),
            join_deformations([p.deformation for p in parts], [len(p.flags) for p in parts]),
        )


@dataclass(frozen=True)
class RunInfo:
    """How a result came about; everything here is plain JSON.

    Attributes
    ----------
    preset, model : str
        Name of the preset and of the model.
    model_folder : str
        Where the model lies; empty for those that cocuyo ships.
    settings : dict
        The complete settings, nested.
    seed : int
        Seed of all random steps.
    versions : dict of str
        Versions of cocuyo and of the libraries that shape the numbers.
    engine, precision : str
        What ran the networks, and in which number format.
    timings_s : dict of float
        Wall time of each stage, in seconds.
    peak_memory_mb : float
        Peak resident memory of the process, in MB.
    warnings, notes : tuple of str
        What the user should know, in sentences.
    inputs : tuple of dict
        For each file read: ``path``, ``bytes``, ``sha256``; ``role`` "rois" where it gave the
        ROIs; ``recording`` in an experiment, the name of the recording that it belongs to, and
        ``frames`` those of it that were read, where they are not the same of all recordings.
    reading : dict
        How the recording was opened, where it takes more than its path: ``dataset``, ``channel``,
        ``plane``, ``axes``, ``frames`` (first, one past the last; None for an open end).
    false_events : dict
        Events found in phase-randomised traces of the accepted ROIs, per minute and ROI:
        ``at_rest_per_min``, ``whole_per_min``, and what they were counted in; empty without ROIs.
    task : str
        ``segment`` where neurons were looked for, ``extract`` where the ROIs were given.
    """

    preset: str = "default"
    model: str = ""
    model_folder: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    engine: str = ""
    precision: str = ""
    timings_s: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    inputs: tuple[dict[str, Any], ...] = ()
    reading: dict[str, Any] = field(default_factory=dict)
    false_events: dict[str, Any] = field(default_factory=dict)
    task: str = "segment"


IN_VIEW_SHARE = 0.5
"""An ROI is in view of a recording that shows at least this share of its pixels at all times: less
of a soma no longer stands for all of it."""


@dataclass(frozen=True, eq=False)
class Part:
    """One recording of an experiment, among the frames of all.

    Attributes
    ----------
    name : str
        Its name within the experiment, which no other part has.
    start, stop : int
        Its first frame, and the one after its last, among the joined frames.
    offset_px : tuple of float
        How far the field lies from where it lay in the first recording, (dy, dx) in pixels. The
        shifts of the result hold it already.
    correlation : float
        Of its mean picture with that of the first recording, laid over each other, in [-1, 1].
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels that are in its view at all times and not excluded.
    mean : ndarray of float32, shape (n_rows, n_columns)
        Mean of its motion-corrected frames, in camera counts and in the experiment's coordinates.
    found : tuple of str
        Ids of the ROIs that this recording alone shows to be neurons.
    """

    name: str
    start: int
    stop: int
    offset_px: tuple[float, float]
    correlation: float
    valid: BoolArray
    mean: FloatArray
    found: tuple[str, ...]

    @property
    def n_frames(self) -> int:
        """Number of its frames."""
        return self.stop - self.start

    def in_view(self, rois: RoiSet) -> BoolArray:
        """Say which ROIs the recording shows; the others have traces of zeros in it.

        Parameters
        ----------
        rois : RoiSet
            ROIs of the experiment.

        Returns
        -------
        ndarray of bool, shape (n_rois,)
            True where at least half of the pixels are in view at all times.
        """
        owner = np.repeat(np.arange(len(rois)), rois.area_px)
        seen = self.valid.ravel()[rois.footprints.indices]
        n_seen = np.bincount(owner[seen], minlength=len(rois))
        return (n_seen > 0) & (n_seen >= IN_VIEW_SHARE * rois.area_px)


@dataclass(frozen=True, eq=False)
class Result:
    """Everything a run found.

    Attributes
    ----------
    rois : RoiSet
        All candidates, accepted and rejected.
    traces : Traces
        Their traces, in the same order.
    raster : ndarray of bool, shape (n_rois, n_frames)
        True while an ROI is active.
    events : Events
        The events behind the raster.
    probability : ndarray of float32, shape (n_rows, n_columns)
        Probability of a functional neuron after the last frame.
    projections : dict of ndarray of float32, shape (n_rows, n_columns)
        ``mean_raw`` and ``max_raw`` before, ``mean`` and ``max`` after motion
        correction (camera counts), ``contrast`` (largest temporal contrast, in units of
        its noise).
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels that are inside the frame at all times and not excluded.
    motion : Motion
        Shift, confidence and flags of each frame.
    times_s : ndarray of float64, shape (n_frames,)
        Time of each frame from 0.
    frame_rate_hz : float
        Frames per second.
    pixel_size_um : float or None
        Side of a pixel in µm, where known.
    diameter_px : float
        Typical soma diameter in pixels that the run used.
    name : str
        Name of the recording.
    info : RunInfo
        Settings, versions, timings, warnings.
    parts : tuple of Part
        The recordings of an experiment, in order; empty for a single recording.
    """

    rois: RoiSet
    traces: Traces
    raster: BoolArray
    events: Events
    probability: FloatArray
    projections: dict[str, FloatArray]
    valid: BoolArray
    motion: Motion
    times_s: TimeArray
    frame_rate_hz: float
    pixel_size_um: float | None
    diameter_px: float
    name: str
    info: RunInfo
    parts: tuple[Part, ...] = ()

    @property
    def n_frames(self) -> int:
        """Number of frames of the recording."""
        return len(self.times_s)

    def part(self, index: int) -> "Result":
        """Give one recording of an experiment as a result of its own.

        Parameters
        ----------
        index : int
            Which of `parts`.

        Returns
        -------
        Result
            All ROIs of the experiment, with the traces, raster, events, shifts and mean picture of
            this recording and times from 0. The score and the probability are the experiment's.
        """
        part = self.parts[index]
        span = slice(part.start, part.stop)
        whole = {each.name: getattr(self.traces, each.name) for each in fields(Traces)}
        traces = {name: v[:, span] if v.ndim == 2 else v for name, v in whole.items()}
        events = self.events
        own = (events.onset >= part.start) & (events.onset < part.stop)
        inputs = tuple(
            {name: value for name, value in entry.items() if name != "recording"}
            for entry in self.info.inputs
            if entry.get("recording") == part.name
        )
        return replace(
            self,
            traces=Traces(**traces),
            raster=self.raster[:, span],
            events=Events(
                roi=events.roi[own],
                onset=(events.onset[own] - part.start).astype(np.int32),
                peak=(events.peak[own] - part.start).astype(np.int32),
                offset=(events.offset[own] - part.start).astype(np.int32),
                amplitude=events.amplitude[own],
            ),
            projections={"mean": part.mean},
            valid=part.valid,
            motion=self.motion.cut(part.start, part.stop),
            times_s=self.times_s[span] - self.times_s[part.start],
            name=part.name,
            info=replace(self.info, inputs=inputs),
            parts=(),
        )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the result folder with its tables, images and report.

        Parameters
        ----------
        folder : str or Path
            The folder to make.
        overwrite : bool, default: False
            Replace a folder that holds a result of cocuyo.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ResultError
            If the folder exists, or cannot be written.
        """
        from cocuyo.io import save_result
        from cocuyo.report import render_report

        return save_result(self, folder, overwrite=overwrite, report_html=render_report)

    @staticmethod
    def load(folder: str | Path) -> "Result":
        """Read a result folder.

        Parameters
        ----------
        folder : str or Path
            A folder that `save` or ``cocuyo run`` made.

        Returns
        -------
        Result
            The result as it was saved.

        Raises
        ------
        ResultError
            If the folder is absent, incomplete or of a newer version.
        """
        from cocuyo.io import load_result

        return load_result(folder)
