"""What can be said while the recording still runs: ROIs, traces and events, causal and provisional.

Every frame is placed on the first ones and read at once; the networks see each step; every few
seconds the maps so far are searched for ROIs, in small slices between the frames.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import Field
from scipy import sparse

from cocuyo.core import AnyArray, BoolArray, FloatArray, FrozenConfig, LabelArray, RoiSet
from cocuyo.pipeline.analysis import FirstPass, final_mask
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.pipeline.stream import StreamState
from cocuyo.postprocessing import (
    averaging_weights,
    cut_patches,
    find_seeds,
    outline,
    refine_mask,
    ring_weights,
    split_mask,
)

_SAME = 0.3
"""Overlap (over the smaller one) from which a newly drawn ROI is an earlier one."""
_KEPT = 0.6
"""Overlap (over the union) from which an earlier outline stays as it is, so that traces go on."""
_TWIN = 0.5
"""Overlap (over the smaller one) from which the weaker of two newly drawn ROIs is dropped."""
_MOST_STEPS = 2
"""Steps that may wait for the networks; then the frames wait for them."""
_SLICE_ROIS = 4
"""Candidates drawn in one slice between two frames."""


class ProvisionalConfig(FrozenConfig):
    """Provisional ROIs and causal events of a recording that still runs."""

    refresh_s: float = Field(
        default=5.0,
        gt=0,
        description="Time between two searches for ROIs, in seconds. Shorter shows new cells "
        "sooner and costs time between frames.",
    )
    warm_up_s: float = Field(
        default=5.0,
        ge=0,
        description="Time for which the trace of a new ROI is watched before its events count, in "
        "seconds. Shorter reports sooner, from a baseline that is less sure.",
    )
    min_score: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Probability that the core of a provisional ROI must have, where the final "
        "ones are verified. Lower shows more cells and more that are none.",
    )
    keep_s: float = Field(
        default=30.0,
        gt=0,
        description="Time after which it is kept again where the first pass stands, in seconds. "
        "After a kill at most so much is analysed again; shorter writes more.",
    )
    level_s: float = Field(
        default=1.0,
        gt=0,
        description="Time between two estimates of baseline and noise, in seconds.",
    )


@dataclass(frozen=True, eq=False)
class ProvisionalRoi:
    """An ROI as it is known by now.

    Attributes
    ----------
    id : str
        Stays the same for good.
    pixels : ndarray of int32, shape (n_pixels,)
        Flat indices in the frame, sorted.
    score : float
        Mean probability of a functional neuron in its more probable half.
    found_at : int
        Frame after which it was found first.
    accepted : bool
        Whether the last search found it, sure enough.
    """

    id: str
    pixels: LabelArray
    score: float
    found_at: int
    accepted: bool


@dataclass(frozen=True)
class ProvisionalEvent:
    """A transient at the moment in which it is certain enough.

    Attributes
    ----------
    id : str
        The ROI.
    onset : int
        Frame in which the signal began to stand out.
    frame : int
        Frame that made it certain.
    height_sd : float
        Height of the signal in it, in standard deviations of its noise.
    delta_f_over_f : float
        ΔF/F₀ in it.
    y_px, x_px : float
        Centre of the ROI.
    """

    id: str
    onset: int
    frame: int
    height_sd: float
    delta_f_over_f: float
    y_px: float
    x_px: float


@dataclass(frozen=True, eq=False)
class FrameReport:
    """What one frame brought.

    Attributes
    ----------
    frame : int
        Index of the frame.
    flags : int
        Flags of the frame (`FLAG_FLASH` and others); 0 for a usable one.
    ids : tuple of str
        The ROIs whose traces are followed.
    delta_f_over_f : ndarray of float32, shape (n_rois,)
        Their ΔF/F₀, causal; NaN until their baseline is known.
    events : tuple of ProvisionalEvent
        The events that became certain.
    """

    frame: int
    flags: int
    ids: tuple[str, ...]
    delta_f_over_f: FloatArray
    events: tuple[ProvisionalEvent, ...]


class CausalTraces:
    """ΔF/F₀ and events of some ROIs, frame by frame, from the past alone.

    The surround is subtracted with a coefficient, and the baseline is a percentile, both of the
    last `TraceConfig.baseline_window_s`. Events are found in the difference of two exponential
    means (time constants `ValidationConfig.fast_s` and `slow_s`), which lags by `fast_s`, in units
    of its own noise.

    Parameters
    ----------
    config : PipelineConfig
        Baseline, filters, thresholds.
    rate_hz : float
        Frames per second.
    provisional : ProvisionalConfig
        Warm-up, and how often levels are estimated.
    """

    def __init__(
        self, config: PipelineConfig, *, rate_hz: float, provisional: ProvisionalConfig
    ) -> None:
        self._config = config
        self._rate_hz = rate_hz
        validation = config.validation
        constants = np.array([validation.fast_s, validation.slow_s])
        self._follow = np.asarray(1 - np.exp(-1 / (rate_hz * constants)), np.float32)
        self._window = max(16, round(config.traces.baseline_window_s * rate_hz))
        self._warm_up = max(4, round(provisional.warm_up_s * rate_hz))
        self._every = max(1, round(provisional.level_s * rate_hz))
        self.ids: tuple[str, ...] = ()
        self._start(0)

    def _start(self, n: int) -> None:
        self._past = np.zeros((3, n, self._window), np.float32)  # ROI, ring, difference of means
        self._n_past = np.zeros(n, np.int64)
        self._coefficient = np.ones(n, np.float32)
        self._ring_level = np.zeros(n, np.float32)
        self._baseline = np.full(n, np.nan, np.float32)
        self._noise = np.full(n, np.inf, np.float32)
        self._means = np.zeros((2, n), np.float32)
        self._onset = np.full(n, -1, np.int64)
        self._active = np.zeros(n, np.bool_)

    def choose(self, ids: Sequence[str], *, anew: Sequence[str] = ()) -> None:
        """Follow other ROIs from now on.

        Parameters
        ----------
        ids : sequence of str
            The ROIs, in the order in which their values will be given.
        anew : sequence of str
            Those that were redrawn: their past is of no use.
        """
        known = {name: i for i, name in enumerate(self.ids) if name not in set(anew)}
        before = np.array([known.get(name, -1) for name in ids], np.int64)
        old = dict(vars(self))
        self._start(len(ids))
        kept = before >= 0
        for name in ("_n_past", "_coefficient", "_ring_level", "_baseline", "_noise", "_onset"):
            getattr(self, name)[kept] = old[name][before[kept]]
        self._active[kept] = old["_active"][before[kept]]
        self._past[:, kept] = old["_past"][:, before[kept]]
        self._means[:, kept] = old["_means"][:, before[kept]]
        self.ids = tuple(ids)

    def push(
        self, cells: FloatArray, rings: FloatArray, frame: int
    ) -> tuple[FloatArray, list[tuple[int, int, float]]]:
        """Take the values of one usable frame.

        Parameters
        ----------
        cells, rings : ndarray of float32, shape (n_rois,)
            Means of the ROIs and of their surrounds, in camera counts.
        frame : int
            Index of the frame.

        Returns
        -------
        delta_f_over_f : ndarray of float32, shape (n_rois,)
            NaN where the baseline is not known yet.
        events : list of (int, int, float)
            For each event that became certain: which ROI, its onset, its height.
        """
        n = len(self.ids)
        if n == 0:
            return np.zeros(0, np.float32), []
        at = self._n_past % self._window
        row = np.arange(n)
        self._past[0, row, at], self._past[1, row, at] = cells, rings
        # Not all in one frame: each has its turn.
        due = (self._n_past + 1 + row) % self._every == 0
        corrected = cells - self._coefficient * (rings - self._ring_level)
        ratio = (corrected - self._baseline) / self._floor()
        known = np.isfinite(ratio)
        step = np.where(known, ratio, np.float32(0)) - self._means
        self._means += self._follow[:, None] * step
        difference = self._means[0] - self._means[1]
        self._past[2, row, at] = difference
        self._n_past += 1
        if due.any():
            self._estimate(due)
        height = difference / self._noise
        validation = self._config.validation
        warm = known & (self._n_past > self._warm_up)
        above = warm & (height >= validation.active_sd)
        self._onset = np.where(above, np.where(self._onset < 0, frame, self._onset), -1)
        certain = above & ~self._active & (height >= validation.threshold_sd)
        self._active = (self._active | certain) & above
        events = [(int(i), int(self._onset[i]), float(height[i])) for i in np.flatnonzero(certain)]
        return np.asarray(ratio, np.float32), events

    def _floor(self) -> FloatArray:
        level = self._baseline
        known = np.abs(level[np.isfinite(level)])
        floor = max(0.05 * float(np.median(known)) if known.size else 0.0, 1e-3)
        return np.maximum(level, np.float32(floor))

    def _estimate(self, due: BoolArray) -> None:
        """Estimate coefficient, baseline and noise of some ROIs from their past."""
        traces = self._config.traces
        for i in np.flatnonzero(due):
            n = int(min(self._n_past[i], self._window))
            cell, ring, difference = self._past[:, i, :n]
            level = np.median(ring)
            around = ring - level
            slope = _quiet_slope(cell - np.median(cell), around, largest=traces.max_coefficient)
            self._coefficient[i] = slope
            self._ring_level[i] = level
            corrected = cell - self._coefficient[i] * around
            self._baseline[i] = np.percentile(corrected, traces.baseline_percentile)
            seen = difference[difference != 0]
            if len(seen) >= 4:
                middle = np.median(seen)
                self._noise[i] = max(1.4826 * float(np.median(np.abs(seen - middle))), 1e-6)


def _quiet_slope(own: FloatArray, around: FloatArray, *, largest: float) -> float:
    """Fit own = slope x around + constant on the frames in which the rest is low."""
    quiet = np.ones(len(own), np.bool_)
    slope = 0.0
    for _ in range(4):
        source = around[quiet] - around[quiet].mean()
        power = float(source @ source)
        if power <= 0:
            return 0.0
        slope = float(np.clip(source @ own[quiet] / power, 0.0, largest))
        rest = own - slope * around
        middle, quarter = np.percentile(rest, (50, 25))
        # Transients of the ROI only rise: the spread comes from the lower half.
        quiet = rest <= middle + 2 * max((middle - quarter) / 0.6745, 1e-9)
    return slope


def _core(values: FloatArray) -> float:
    """Mean of the larger half."""
    if len(values) == 0:
        return 0.0
    return float(np.sort(values)[len(values) // 2 :].mean())


@dataclass(frozen=True, eq=False)
class _Readout:
    """Weights that read all followed ROIs and their surrounds from a frame at once."""

    used: LabelArray
    weights: sparse.csr_array
    n: int

    def read(self, frame: FloatArray) -> tuple[FloatArray, FloatArray]:
        values = np.asarray(self.weights @ frame.ravel()[self.used], np.float32)
        return values[: self.n], values[self.n :]


@dataclass(eq=False)
class Provisional:
    """The analysis of a recording that still runs.

    Parameters
    ----------
    first : FirstPass
        The first pass, before its first frame.
    config : ProvisionalConfig
        Settings.
    rois : list of ProvisionalRoi
        ROIs that are known already, after an interruption.
    keep : callable, optional
        Called every now and then, between two steps and beside the frames, to keep where the
        first pass stands.
    """

    first: FirstPass
    config: ProvisionalConfig = field(default_factory=ProvisionalConfig)
    rois: list[ProvisionalRoi] = field(default_factory=list)
    keep: Callable[[FirstPass, StreamState], None] | None = None
    n_events: int = 0

    def __post_init__(self) -> None:
        setup = self.first.setup
        self.n_frames = self.first.n_frames
        self._next_keep = self.n_frames + self._in_frames(self.config.keep_s)
        self.valid = np.ones(self.first.frame_shape, np.bool_)
        self._causal = CausalTraces(setup.config, rate_hz=setup.rate_hz, provisional=self.config)
        self._every = self._in_frames(self.config.refresh_s)
        self._next_refresh = self.n_frames + setup.frames_per_step
        # The networks see the steps beside the frames; their memory is touched by one thread only.
        self._worker = ThreadPoolExecutor(1, "cocuyo-networks")
        self._taking: deque[Future[None]] = deque()
        self._work: Iterator[None] | None = None
        self._rings: dict[str, LabelArray] = {}
        self._centres: dict[str, tuple[float, float]] = {}
        self._readout: _Readout | None = None
        if self.rois:
            for _ in self._read_rois(self.rois, []):
                pass

    def _in_frames(self, seconds: float) -> int:
        return max(1, round(seconds * self.first.setup.rate_hz))

    @property
    def followed(self) -> tuple[str, ...]:
        """Ids of the ROIs whose traces are followed."""
        return self._causal.ids

    def push(self, frame: AnyArray) -> FrameReport:
        """Place a frame, read the traces, look for events, show the networks a whole step.

        Parameters
        ----------
        frame : ndarray, shape (n_rows, n_columns)
            The next frame as acquired.

        Returns
        -------
        FrameReport
            What it brought.
        """
        at, self.n_frames = self.n_frames, self.n_frames + 1
        pushed = self.first.place(frame[None])
        for step in pushed.steps:
            if len(self._taking) >= _MOST_STEPS:
                self._taking.popleft().result()
            self._taking.append(self._worker.submit(self.first.take, step))
            if self.keep is not None and self.n_frames >= self._next_keep:
                self._next_keep = self.n_frames + self._in_frames(self.config.keep_s)
                # After this step, before the next one: sums and stream fit.
                self._taking.append(self._worker.submit(self.keep, self.first, self.first.stream))
        flags = int(pushed.motion.flags[0])
        ids = self._causal.ids
        if flags or self._readout is None:
            return FrameReport(at, flags, ids, np.full(len(ids), np.nan, np.float32), ())
        cells, rings = self._readout.read(pushed.corrected[0])
        ratio, found = self._causal.push(cells, rings, at)
        events = tuple(
            ProvisionalEvent(ids[i], onset, at, height, float(ratio[i]), *self._centres[ids[i]])
            for i, onset, height in found
        )
        self.n_events += len(events)
        return FrameReport(at, flags, ids, ratio, events)

    @property
    def overdue(self) -> bool:
        """Whether the search for ROIs has waited so long that it may keep a frame waiting."""
        return self.n_frames > self._next_refresh + self._every

    def search(self) -> bool | None:
        """Do one slice of the search for ROIs, if one is due.

        Returns
        -------
        bool or None
            None where nothing was to do, True where the search is complete and `rois` are new.
        """
        if self._work is None:
            if self.n_frames < self._next_refresh:
                return None
            if self.overdue:
                self._settle()
            while self._taking and self._taking[0].done():
                self._taking.popleft().result()
            if self._taking or self.first.n_steps == 0:
                return None
            self._next_refresh = self.n_frames + self._every
            self._work = self._search()
        try:
            next(self._work)
        except StopIteration:
            self._work = None
            return True
        return False

    def finish(self) -> None:
        """Take the frames that wait, and search once more, to the end."""
        self._settle()
        self.first.end()
        self._next_refresh, self._work = 0, None
        while self.search() is False:
            pass

    def close(self) -> None:
        """Let the thread of the networks end."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _settle(self) -> None:
        """Wait until the networks have seen all whole steps; raise what went wrong there."""
        while self._taking:
            self._taking.popleft().result()

    def roi_set(self) -> RoiSet:
        """Give all ROIs found so far."""
        size = self.first.frame_shape[0] * self.first.frame_shape[1]
        weights = averaging_weights([roi.pixels for roi in self.rois], size=size)
        rois = RoiSet.given(
            weights,
            self.first.frame_shape,
            ids=[roi.id for roi in self.rois],
            accepted=np.array([roi.accepted for roi in self.rois], np.bool_),
            reasons=["" if roi.accepted else "not found by the last search" for roi in self.rois],
        )
        score = np.array([roi.score for roi in self.rois], np.float32)
        return replace(rois, score=score)

    def _search(self) -> Iterator[None]:
        setup, shape = self.first.setup, self.first.frame_shape
        config, diameter = setup.config, setup.diameter_px
        analysis = self.first.analysis()
        maps = analysis.maps
        yield
        drawn: list[LabelArray] = []
        if config.finish == "verify":
            seeds = find_seeds(
                maps.probability,
                maps.contrast,
                diameter_px=diameter,
                valid=maps.valid,
                soma_contrast=maps.soma_contrast,
                n_steps=maps.n_steps,
                peaks=maps.peaks,
                config=config.candidates,
            )
            yield
            # The contrast stands out most at a cell's centre, the probability fills it: their
            # geometric mean has its half maximum where the cell ends.
            seen = np.sqrt(np.maximum(maps.contrast, 0) * maps.probability)
            noise = 1.4826 * float(np.median(np.abs(seen - np.median(seen))))
            for at in range(0, len(seeds.points), _SLICE_ROIS):
                points = seeds.points[at : at + _SLICE_ROIS]
                patches = cut_patches(
                    points, diameter_px=diameter, frame_shape=shape, config=config.footprints
                )
                side = patches.side
                for index, inside in zip(patches.index, patches.inside, strict=True):
                    found = outline(
                        seen.ravel()[index].reshape(side, side),
                        noise=max(noise, 1e-3),
                        index=index,
                        inside=inside & maps.valid.ravel()[index].reshape(side, side),
                        diameter_px=diameter,
                        config=config.footprints,
                    )
                    drawn.append(np.sort(found.pixels))
                yield
        else:
            mask = refine_mask(final_mask(analysis, config) & maps.valid, diameter_px=diameter)
            yield
            labels = split_mask(mask & maps.valid, diameter_px=diameter).ravel()
            drawn = [
                np.flatnonzero(labels == i).astype(np.int32) for i in range(1, labels.max() + 1)
            ]
            yield
        smallest = config.verification.min_area_share * np.pi * (diameter / 2) ** 2
        scores = [_core(maps.probability.ravel()[pixels]) for pixels in drawn]
        least = self.config.min_score if config.finish == "verify" else 0.0
        good = [
            i
            for i in np.argsort(-np.array(scores), kind="stable")
            if len(drawn[i]) >= smallest and scores[i] >= least
        ]
        rois, redrawn = self._match([drawn[i] for i in good], [scores[i] for i in good])
        yield
        yield from self._read_rois(rois, redrawn)
        self.valid = maps.valid
        self.rois = rois

    def _match(
        self, drawn: list[LabelArray], scores: list[float]
    ) -> tuple[list[ProvisionalRoi], list[str]]:
        """Give newly drawn ROIs the ids of those that they overlap with."""
        size = self.first.frame_shape[0] * self.first.frame_shape[1]
        owner = np.full(size, -1, np.int32)
        for i, roi in enumerate(self.rois):
            free = roi.pixels[owner[roi.pixels] < 0]
            owner[free] = i
        rois = [replace(roi, accepted=False) for roi in self.rois]
        redrawn = []
        taken = np.full(size, -1, np.int32)
        for number, (pixels, score) in enumerate(zip(drawn, scores, strict=True)):
            stronger = taken[pixels][taken[pixels] >= 0]
            if len(stronger):
                most = int(np.bincount(stronger).argmax())
                smaller = min(len(pixels), len(drawn[most]))
                if (stronger == most).sum() > _TWIN * smaller:
                    continue
            taken[pixels[taken[pixels] < 0]] = number
            others = owner[pixels]
            others = others[others >= 0]
            best = int(np.bincount(others).argmax()) if len(others) else -1
            if best >= 0:
                old = rois[best]
                shared = len(np.intersect1d(old.pixels, pixels, assume_unique=True))
                smaller = min(len(old.pixels), len(pixels))
                if shared >= _SAME * smaller and not old.accepted:
                    union = len(old.pixels) + len(pixels) - shared
                    if shared < _KEPT * union:
                        old = replace(old, pixels=pixels)
                        redrawn.append(old.id)
                    rois[best] = replace(old, score=score, accepted=True)
                    continue
            name = f"roi_{len(rois) + 1:04d}"
            rois.append(ProvisionalRoi(name, pixels, score, self.n_frames - 1, accepted=True))
        return rois, redrawn

    def _read_rois(self, rois: list[ProvisionalRoi], redrawn: list[str]) -> Iterator[None]:
        """Prepare to read the traces of the accepted ROIs."""
        shape, config = self.first.frame_shape, self.first.setup.config
        size, columns = shape[0] * shape[1], shape[1]
        accepted = [roi for roi in rois if roi.accepted]
        cells = np.zeros(size, np.bool_)
        for roi in accepted:
            cells[roi.pixels] = True
        avoid = cells.reshape(shape) | ~self.valid
        fresh = set(redrawn)
        changed = [roi for roi in accepted if roi.id in fresh or roi.id not in self._rings]
        for at in range(0, len(changed), _SLICE_ROIS):
            part = changed[at : at + _SLICE_ROIS]
            rings = ring_weights(
                averaging_weights([roi.pixels for roi in part], size=size),
                frame_shape=shape,
                diameter_px=self.first.setup.diameter_px,
                avoid=avoid,
                config=config.traces,
            )
            for i, roi in enumerate(part):
                self._rings[roi.id] = rings.indices[rings.indptr[i] : rings.indptr[i + 1]]
                y, x = roi.pixels // columns, roi.pixels % columns
                self._centres[roi.id] = (round(float(y.mean()), 2), round(float(x.mean()), 2))
            yield
        every = averaging_weights(
            [roi.pixels for roi in accepted] + [self._rings[roi.id] for roi in accepted],
            size=size,
        )
        used = np.unique(every.indices)
        self._readout = _Readout(used, sparse.csr_array(every[:, used]), len(accepted))
        self._causal.choose([roi.id for roi in accepted], anew=redrawn)
