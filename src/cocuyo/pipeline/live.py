"""Live: frames are analysed while they are recorded, and once more when all are there.

One thread receives and keeps the frames; this one places them, reads the traces, looks for events
and searches for ROIs in between; the networks run beside it (`Provisional`).
"""

import hashlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    CocuyoError,
    MissingFrameRateError,
    ProgressCallback,
    Recording,
    RecordingError,
    Result,
    RunInfo,
    ignore_progress,
)
from cocuyo.io.live import LiveFacts, LiveFrame, LiveSource, Resumable
from cocuyo.io.livefolder import LiveFolder, spooled_recording
from cocuyo.io.spool import Spool
from cocuyo.pipeline.analysis import FirstPass
from cocuyo.pipeline.checkpoint import keep_first_pass, take_up_first_pass
from cocuyo.pipeline.model import hash_weights, load_model
from cocuyo.pipeline.provisional import (
    FrameReport,
    Provisional,
    ProvisionalConfig,
    ProvisionalEvent,
    ProvisionalRoi,
)
from cocuyo.pipeline.run import choose_diameter, library_versions, load_networks, segment
from cocuyo.pipeline.settings import PipelineConfig, PresetName
from cocuyo.pipeline.stream import StreamState, set_up

Stage = Literal["waiting", "starting", "catching up", "live", "finishing"]
_WAIT_S = 0.02
_SHOW_S = 0.25
_RECORD_S = 2.0
_SO_FAR = "first_pass.npz"
_START_S = 10.0
"""Frames that came while template and networks were made wait at first: latency is counted when
none waits any more, or after so many seconds."""
_MOST_BYTES = 256e6
"""Frames that wait in memory where none are kept on disk; beyond that they are dropped."""
_BINS_PER_DECADE = 200
_DECADES = (-5, 3)


class Latencies:
    """Latencies counted in bins of 1 %, so that a day needs no more memory than a minute."""

    def __init__(self) -> None:
        self._counts = np.zeros((_DECADES[1] - _DECADES[0]) * _BINS_PER_DECADE, np.int64)
        self._largest = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency.

        Parameters
        ----------
        seconds : float
            The latency.
        """
        place = (math.log10(max(seconds, 1e-9)) - _DECADES[0]) * _BINS_PER_DECADE
        self._counts[int(np.clip(place, 0, len(self._counts) - 1))] += 1
        self._largest = max(self._largest, seconds)

    def summary(self) -> dict[str, float | int | None]:
        """Give p50, p99 and largest in milliseconds, and the number of frames."""
        n = int(self._counts.sum())
        if n == 0:
            return {"p50_ms": None, "p99_ms": None, "max_ms": None, "n_frames": 0}
        below = np.cumsum(self._counts)
        p50, p99 = (
            min(
                10 ** (_DECADES[0] + (int(np.searchsorted(below, q * n)) + 1) / _BINS_PER_DECADE),
                self._largest,
            )
            for q in (0.5, 0.99)
        )
        return {
            "p50_ms": round(1e3 * p50, 2),
            "p99_ms": round(1e3 * p99, 2),
            "max_ms": round(1e3 * self._largest, 2),
            "n_frames": n,
        }


@dataclass(frozen=True)
class LiveStatus:
    """Where a live recording stands.

    Attributes
    ----------
    stage : str
        What is going on.
    address : str
        Where frames come from.
    n_received, n_analysed, n_dropped : int
        Frames that arrived, that were analysed, and that never arrived or were lost.
    n_promised : int or None
        How many there will be, where known.
    rate_hz : float or None
        Frames per second, as recorded.
    latency : dict
        ``p50_ms``, ``p99_ms``, ``max_ms``, ``n_frames``.
    n_rois, n_events : int
        ROIs accepted at present, and events so far.
    last_events : tuple of str
        The latest events, in words.
    frame_shape : tuple of int or None
        Rows and columns.
    """

    stage: Stage
    address: str
    n_received: int = 0
    n_analysed: int = 0
    n_dropped: int = 0
    n_promised: int | None = None
    rate_hz: float | None = None
    latency: dict[str, float | int | None] | None = None
    n_rois: int = 0
    n_events: int = 0
    last_events: tuple[str, ...] = ()
    frame_shape: tuple[int, int] | None = None


ShowStatus = Callable[[LiveStatus], None]


class _Store(Protocol):
    """Where received frames wait for the analysis."""

    n_frames: int

    def append(self, frame: AnyArray, *, number: int, time_s: float, arrived_s: float) -> None: ...

    def read(self, start: int, stop: int) -> AnyArray: ...

    def entries(self) -> AnyArray: ...


class _Memory:
    """The frames that wait for the analysis, where none are kept."""

    def __init__(self, facts: LiveFacts) -> None:
        self._facts = facts
        self._frames: deque[AnyArray] = deque()
        self._first = 0
        self._entries: list[tuple[float, float, float]] = []
        size = facts.frame_shape[0] * facts.frame_shape[1] * np.dtype(facts.dtype).itemsize
        self._most = max(64, int(_MOST_BYTES / size))
        self.n_frames = 0
        self.n_dropped = 0

    def append(self, frame: AnyArray, *, number: int, time_s: float, arrived_s: float) -> None:
        if len(self._frames) >= self._most:
            self.n_dropped += 1
            raise _Full
        self._frames.append(np.array(frame))
        self._entries.append((number, time_s, arrived_s))
        self.n_frames += 1

    def read(self, start: int, stop: int) -> AnyArray:
        return np.stack([self._frames[i - self._first] for i in range(start, stop)])

    def entries(self) -> AnyArray:
        return np.array(self._entries).reshape(-1, 3)

    def release(self, before: int) -> None:
        while self._first < before and self._frames:
            self._frames.popleft()
            self._first += 1


class _Full(Exception):  # noqa: N818 - a finding, not a failure
    """No room for another frame."""


class _Receiver:
    """Takes frames from a source in a thread of its own and keeps them."""

    def __init__(
        self, source: LiveSource, make_store: Callable[[LiveFacts], _Store], idle_s: float
    ) -> None:
        self._source = source
        self._make_store = make_store
        self._idle_s = idle_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cocuyo-receive", daemon=True)
        self.news = threading.Condition()
        self.facts: LiveFacts | None = None
        self.store: _Store | None = None
        self.n_before = 0
        self.n_dropped = 0
        self.arrivals: deque[float] = deque()
        self.error: Exception | None = None
        self.ended = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def n_frames(self) -> int:
        return 0 if self.store is None else self.store.n_frames

    def _run(self) -> None:
        try:
            self._receive()
        except Exception as error:  # handed to the thread that waits for frames
            self.error = error
        self.ended = True
        with self.news:
            self.news.notify_all()

    def _receive(self) -> None:
        facts = self._source.open(self._stop.is_set)
        if facts is None:
            return
        store = self._make_store(facts)
        self.n_before = store.n_frames
        expected: int | None = None
        if self.n_before:
            numbers = store.entries()[:, 0]
            expected = int(numbers[-1]) + 1
            self.n_dropped = expected - int(numbers[0]) - len(numbers)
        self.facts, self.store = facts, store
        last = time.monotonic()
        for frame in self._source.frames(self.n_before):
            if self._stop.is_set():
                return
            if frame is None:
                if self._idle_s and time.monotonic() - last > self._idle_s:
                    return
                continue
            last = time.monotonic()
            self._keep(frame, expected)
            expected = frame.number + 1

    def _keep(self, frame: LiveFrame, expected: int | None) -> None:
        assert self.store is not None
        arrived = time.perf_counter()
        if expected is not None:
            self.n_dropped += max(0, frame.number - expected)
        with self.news:
            # Before the frame can be seen, so that each has its time of arrival.
            self.arrivals.append(arrived)
        try:
            self.store.append(
                frame.pixels, number=frame.number, time_s=frame.time_s, arrived_s=time.time()
            )
        except _Full:
            self.n_dropped += 1
            with self.news:
                self.arrivals.pop()
            return
        except BaseException:
            with self.news:
                self.arrivals.pop()
            raise
        with self.news:
            self.news.notify_all()

    def wait(self, seconds: float, *, beyond: int) -> None:
        """Wait until there are more than some frames, the end, or some time has passed."""
        with self.news:
            if self.n_frames <= beyond and not self.ended:
                self.news.wait(seconds)


@dataclass(frozen=True)
class LiveOptions:
    """How a live recording is analysed.

    Attributes
    ----------
    preset : str
        Which shipped model to use.
    model : str, Path or None
        Another model.
    config : PipelineConfig or None
        Settings in place of the model's.
    diameter_um : float or None
        Typical diameter of a soma, in µm.
    exclude : ndarray of bool or None
        Pixels to leave out; a function of the frames' shape where it is not known yet.
    seed : int
        Recorded in the result.
    spool : bool
        Whether the frames are kept, and the final result made.
    publish : bool
        Whether ROIs and events go back through the source.
    idle_s : float
        The recording ends when no frame came for so long, in seconds; 0 for never.
    provisional : ProvisionalConfig
        How ROIs and events are found meanwhile.
    """

    preset: PresetName = "default"
    model: str | Path | None = None
    config: PipelineConfig | None = None
    diameter_um: float | None = None
    exclude: Callable[[tuple[int, int]], BoolArray] | None = None
    seed: int = 0
    spool: bool = True
    publish: bool = False
    idle_s: float = 0.0
    provisional: ProvisionalConfig = field(default_factory=ProvisionalConfig)


@dataclass(frozen=True, eq=False)
class Followed:
    """What is there when the last frame has come.

    Attributes
    ----------
    recording : Recording or None
        The frames that were kept; None where none were, or fewer than two came.
    first : FirstPass or None
        The first pass over them; None where they were too few to begin.
    n_frames, n_dropped : int
        Frames received and lost.
    latency : dict
        ``p50_ms``, ``p99_ms``, ``max_ms``, ``n_frames``.
    n_rois, n_events : int
        Provisional ones.
    facts : LiveFacts or None
        What the frames are; None where no source said so.
    """

    recording: Recording | None
    first: FirstPass | None
    n_frames: int
    n_dropped: int
    latency: dict[str, float | int | None]
    n_rois: int
    n_events: int
    facts: LiveFacts | None


class _Nothing:
    """A source that gives nothing more: the recording is closed as it is."""

    def __init__(self, facts: LiveFacts) -> None:
        self._facts = facts

    def open(self, stopped: Callable[[], bool]) -> LiveFacts | None:
        return self._facts

    def frames(self, start: int) -> Any:
        return iter(())

    def publish(self, message: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def follow(
    source: LiveSource | None,
    folder: LiveFolder,
    options: LiveOptions,
    *,
    address: str = "",
    show: ShowStatus = lambda status: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Followed:
    """Receive, keep and analyse frames until the source ends or somebody stops it.

    Parameters
    ----------
    source : LiveSource or None
        Where the frames come from; None to close a recording with those that `folder` holds.
    folder : LiveFolder
        Where they are kept, and provisional tables are written.
    options : LiveOptions
        How they are analysed.
    address : str
        What the source is called, for people.
    show : callable
        Called several times a second with a `LiveStatus`.
    stopped : callable
        Says whether the recording is to end now.

    Returns
    -------
    Followed
        The frames, and the first pass over them.

    Raises
    ------
    RecordingError
        If the source cannot be used, or fails; the frames before are kept.
    MissingFrameRateError
        If nobody says the frame rate.
    """
    facts = folder.facts
    if source is None:
        if facts is None:
            msg = f"{folder.path} holds no frames; there is nothing to complete."
            raise RecordingError(msg)
        source = _Nothing(facts)
    spool: Spool | None = None
    if facts is not None and options.spool:
        spool = Spool(folder.path, facts.frame_shape, np.dtype(facts.dtype))
        if isinstance(source, Resumable):
            numbers = spool.entries()[:, 0]
            source.expect(facts, int(numbers[-1]) + 1 if len(numbers) else 0)

    def make_store(facts: LiveFacts) -> _Store:
        nonlocal spool
        if folder.facts is None:
            folder.write(facts=asdict(facts))
        if not options.spool:
            return _Memory(facts)
        if spool is None:
            spool = Spool(folder.path, facts.frame_shape, np.dtype(facts.dtype))
        spool.expect(facts.frame_shape, np.dtype(facts.dtype))
        return spool

    receiver = _Receiver(source, make_store, options.idle_s)
    session = _Session(receiver, source, folder, options, address, show)
    receiver.start()
    try:
        session.run(stopped)
    finally:
        receiver.stop()
        session.close()
        if spool is not None:
            spool.close()
        source.close()
    if receiver.error is not None:
        raise receiver.error
    return session.outcome(spool)


class _Session:
    """The loop that analyses frames as they come."""

    def __init__(
        self,
        receiver: _Receiver,
        source: LiveSource,
        folder: LiveFolder,
        options: LiveOptions,
        address: str,
        show: ShowStatus,
    ) -> None:
        self._receiver = receiver
        self._source = source
        self._folder = folder
        self._options = options
        self._address = address
        self._show = show
        self._latencies = Latencies()
        self._provisional: Provisional | None = None
        self._model = load_model(options.model if options.model is not None else options.preset)
        self._settings = options.config or self._model.settings.pipeline
        self._last_events: deque[str] = deque(maxlen=5)
        self._shown_s = self._written_s = 0.0
        self._delays: dict[str, float] = {}
        self._began_s = time.perf_counter()
        self._caught_up_at: int | None = None
        self._set_up_s: float | None = None
        self._n = 0

    # --- the loop ---

    def run(self, stopped: Callable[[], bool]) -> None:
        while True:
            if stopped():
                self._receiver.stop()
            there, ended = self._receiver.n_frames, self._receiver.ended
            if self._provisional is None and not self._begin(there, ended):
                if ended:
                    return
                self._tell("waiting" if there == 0 else "starting")
                self._receiver.wait(_WAIT_S, beyond=there)
                continue
            if self._n < there:
                self._take_frame()
                if self._provisional is not None and self._provisional.overdue:
                    self._search()
            elif ended:
                self._end()
                return
            elif not self._search():
                self._receiver.wait(_WAIT_S, beyond=self._n)
            if self._caught_up_at is None:
                self._look_whether_caught_up()
            self._tell("catching up" if self._caught_up_at is None else "live")

    def _look_whether_caught_up(self) -> None:
        """End the start where no frame waits any more, or the analysis does not keep up."""
        now = time.perf_counter()
        if self._n <= self._receiver.n_before or self._set_up_s is None:
            self._set_up_s = now
        if self._n >= self._receiver.n_frames or now - self._set_up_s >= _START_S:
            self._caught_up_at = self._n
            self._delays["start_s"] = round(now - self._began_s, 3)

    def _begin(self, there: int, ended: bool) -> bool:
        """Set up from the first frames, once they are there."""
        facts, store = self._receiver.facts, self._receiver.store
        if facts is None or store is None or there == 0:
            return False
        if facts.frame_rate_hz is None and not np.isfinite(store.entries()[0, 1]):
            msg = (
                f"The frame rate of {facts.name} is neither in the frames' source nor given. "
                "Give it in frames per second with --frame-rate."
            )
            raise MissingFrameRateError(msg)
        n = self._settings.first_frames
        if there < (2 if ended else n):
            return False
        n = min(n, there)
        head = self._head(facts, store, n)
        exclude = (
            None if self._options.exclude is None else self._options.exclude(facts.frame_shape)
        )
        diameter_px = choose_diameter(head, self._settings, [], [])
        setup = set_up(head, config=self._settings, diameter_px=diameter_px, exclude=exclude)
        networks = load_networks(
            self._model, self._settings, head, diameter_px, engine="auto", precision="auto"
        )
        first = FirstPass(setup, networks, frame_shape=facts.frame_shape)
        keep = None
        if isinstance(store, Spool):
            path, key = self._folder.path / _SO_FAR, self._key(head)
            resumed = self._folder.resumed
            if resumed and take_up_first_pass(path, first, key=key, n_frames=there):
                self._n = first.n_frames
                self._folder.write(taken_up_at=self._n)

            def keep(first: FirstPass, stream: StreamState) -> None:
                with suppress(OSError):  # a full disk: the frames themselves will say it
                    keep_first_pass(path, first, stream, key=key)

        self._provisional = Provisional(first, self._options.provisional, _kept(self._folder), keep)
        provisional = self._options.provisional
        self._delays = {
            "events_s": self._settings.validation.fast_s,
            "maps_s": round(setup.frames_per_step / setup.rate_hz, 4),
            "rois_s": round(provisional.refresh_s + provisional.warm_up_s, 4),
        }
        return True

    def _key(self, head: Recording) -> str:
        """Name what the first pass depends on, beside the frames that lie in the same folder."""
        digest = hashlib.sha256(json.dumps(library_versions(), sort_keys=True).encode())
        digest.update(json.dumps(self._folder.record["key"], sort_keys=True).encode())
        digest.update(hash_weights(self._model, method=self._settings.method).encode())
        digest.update(head.movie.read(0, head.n_frames).tobytes())
        return digest.hexdigest()

    def _head(self, facts: LiveFacts, store: _Store, n: int) -> Recording:
        if isinstance(store, Spool):
            return spooled_recording(
                store, facts, diameter_um=self._options.diameter_um, n_frames=n
            )
        times = store.entries()[:n, 1]
        return Recording.from_array(
            store.read(0, n), pixel_size_um=facts.pixel_size_um, name=facts.name
        ).with_metadata(
            frame_rate_hz=facts.frame_rate_hz,
            diameter_um=self._options.diameter_um,
            timestamps_s=times if np.isfinite(times).all() else None,
        )

    def _take_frame(self) -> None:
        receiver, provisional = self._receiver, self._provisional
        assert receiver.store is not None
        assert provisional is not None
        at = self._n
        frame = receiver.store.read(at, at + 1)[0]
        if isinstance(receiver.store, _Memory):
            receiver.store.release(at)
        report = provisional.push(frame)
        self._n += 1
        arrived = None
        if at >= receiver.n_before:
            with receiver.news:
                arrived = receiver.arrivals.popleft()
        if at < receiver.n_before:  # told before the interruption
            return
        self._write(report)
        # Those that came before the set-up was done waited for it: the start is stated apart.
        if arrived is not None and self._caught_up_at is not None:
            self._latencies.add(time.perf_counter() - arrived)

    def _time_of(self, frame: int) -> float:
        """Time of a frame in seconds from the first one, as far as it is known now."""
        assert self._provisional is not None
        return frame / self._provisional.first.setup.rate_hz

    def _write(self, report: FrameReport) -> None:
        self._folder.add_traces(
            report.ids, report.frame, self._time_of(report.frame), report.delta_f_over_f.tolist()
        )
        for event in report.events:
            self._tell_event(event)

    def _tell_event(self, event: ProvisionalEvent) -> None:
        onset, detected = self._time_of(event.onset), self._time_of(event.frame)
        if self._options.publish:
            message = asdict(event) | {"onset_s": onset, "detected_s": detected}
            self._source.publish({"type": "event", **_rounded(message)})
        self._folder.add_event(
            event.id,
            onset,
            detected,
            event.height_sd,
            event.delta_f_over_f,
            event.y_px,
            event.x_px,
        )
        self._last_events.append(f"{event.id} at {detected:.2f} s, {event.height_sd:.1f} sd")

    def _search(self) -> bool:
        """Do a slice of the search for ROIs; True where there was something to do."""
        assert self._provisional is not None
        done = self._provisional.search()
        if done:
            self._write_rois()
        return done is not None

    def _write_rois(self) -> None:
        provisional, facts = self._provisional, self._receiver.facts
        assert provisional is not None
        assert facts is not None
        rois = provisional.rois
        times = [self._time_of(roi.found_at) for roi in rois]
        self._folder.write_rois(
            provisional.roi_set(), pixel_size_um=facts.pixel_size_um, times=times
        )
        lengths = [len(roi.pixels) for roi in rois]
        self._folder.keep_rois(
            {
                "id": [roi.id for roi in rois] or np.zeros(0, "U1"),
                "pixels": np.concatenate([np.zeros(0, np.int32), *(r.pixels for r in rois)]),
                "lengths": np.array(lengths, np.int64),
                "score": np.array([roi.score for roi in rois], np.float32),
                "found_at": np.array([roi.found_at for roi in rois], np.int64),
                "accepted": np.array([roi.accepted for roi in rois], np.bool_),
            }
        )
        if self._options.publish:
            columns = facts.frame_shape[1]
            listed = [
                {
                    "id": roi.id,
                    "y_px": round(float((roi.pixels // columns).mean()), 2),
                    "x_px": round(float((roi.pixels % columns).mean()), 2),
                    "area_px": len(roi.pixels),
                    "score": round(roi.score, 3),
                }
                for roi in rois
                if roi.accepted
            ]
            frame = provisional.n_frames - 1
            self._source.publish({"type": "rois", "frame": frame, "rois": listed})

    def _end(self) -> None:
        assert self._provisional is not None
        self._tell("finishing", at_once=True)
        self._provisional.finish()
        self._write_rois()
        if self._options.publish:
            self._source.publish({"type": "closed", "n_frames": self._n})

    # --- what is told ---

    def _tell(self, stage: Stage, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._written_s >= _RECORD_S or at_once:
            self._written_s = now
            self._folder.write(**self._numbers())
        if now - self._shown_s < _SHOW_S and not at_once:
            return
        self._shown_s = now
        provisional, facts = self._provisional, self._receiver.facts
        self._show(
            LiveStatus(
                stage,
                self._address,
                self._receiver.n_frames,
                self._n,
                self._receiver.n_dropped,
                None if facts is None else facts.n_frames,
                None if provisional is None else provisional.first.setup.rate_hz,
                self._latencies.summary(),
                0 if provisional is None else len(provisional.followed),
                0 if provisional is None else provisional.n_events,
                tuple(self._last_events),
                None if facts is None else facts.frame_shape,
            )
        )

    def _numbers(self) -> dict[str, Any]:
        provisional = self._provisional
        return {
            "n_frames": self._receiver.n_frames,
            "n_dropped": self._receiver.n_dropped,
            "n_rois": 0 if provisional is None else len(provisional.followed),
            "n_events": 0 if provisional is None else provisional.n_events,
            "latency": self._latencies.summary(),
            "delay": self._delays,
        }

    def close(self) -> None:
        if self._provisional is not None:
            self._provisional.close()
        self._folder.close()

    def outcome(self, spool: Spool | None) -> Followed:
        facts, provisional = self._receiver.facts, self._provisional
        numbers = self._numbers()
        self._folder.write(**numbers)
        recording = None
        if spool is not None and facts is not None and spool.n_frames >= 2:
            recording = spooled_recording(spool, facts, diameter_um=self._options.diameter_um)
        return Followed(
            recording,
            None if provisional is None else provisional.first,
            numbers["n_frames"],
            numbers["n_dropped"],
            numbers["latency"],
            numbers["n_rois"],
            numbers["n_events"],
            facts,
        )


def complete(
    followed: Followed,
    options: LiveOptions,
    *,
    work: Path | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Result:
    """Make the final result of the frames that were kept: that of a run over them.

    Parameters
    ----------
    followed : Followed
        From `follow`.
    options : LiveOptions
        The same.
    work : Path, optional
        Existing folder for the maps, as `segment` takes it.
    progress : callable, optional
        Called as the work goes on.

    Returns
    -------
    Result
        What `segment` gives for the recording.

    Raises
    ------
    RecordingError
        If fewer than two frames came.
    """
    recording = followed.recording
    if recording is None:
        msg = f"{followed.n_frames} frame(s) came; activity can be found from two frames on."
        raise RecordingError(msg)
    exclude = None if options.exclude is None else options.exclude(recording.frame_shape)
    result = segment(
        recording,
        preset=options.preset,
        model=options.model,
        config=options.config,
        exclude=exclude,
        seed=options.seed,
        work=work,
        begun=followed.first,
        progress=progress,
    )
    latency = followed.latency
    notes = list(result.info.notes)
    if latency["n_frames"]:
        notes.append(
            f"Recorded live: latency p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms, "
            f"largest {latency['max_ms']} ms over {latency['n_frames']} frames; "
            f"{followed.n_dropped} frames dropped."
        )
    info: RunInfo = replace(result.info, notes=tuple(notes))
    return replace(result, info=info)


def _kept(folder: LiveFolder) -> list[ProvisionalRoi]:
    """ROIs that were found before an interruption."""
    kept = folder.kept_rois()
    if kept is None:
        return []
    try:
        ends = np.cumsum(kept["lengths"])
        pixels = np.split(np.asarray(kept["pixels"], np.int32), ends[:-1])
        return [
            ProvisionalRoi(str(name), own, float(score), int(found_at), bool(accepted))
            for name, own, score, found_at, accepted in zip(
                kept["id"],
                pixels if len(ends) else [],
                kept["score"],
                kept["found_at"],
                kept["accepted"],
                strict=True,
            )
        ]
    except (KeyError, ValueError) as error:
        msg = f"{folder.path / 'rois.npz'} is damaged ({error}); remove that file."
        raise CocuyoError(msg) from error


def _rounded(message: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in message.items()}
