"""Fitting the judge of events: traces that the pipeline reads, and simulated ones without a movie.

What a recording teaches is kept in a file of its own, so that a stopped collection goes on.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    ModelError,
    Periods,
    ProgressCallback,
    ignore_progress,
    stream,
)
from cocuyo.evaluation import Matches, event_scores
from cocuyo.evaluation.activity import join_periods
from cocuyo.pipeline.finish import finish_candidates
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.postprocessing import (
    DILATIONS,
    STEM_TAPS,
    TAPS,
    TRACE_CHANNELS,
    EventJudge,
    TraceView,
    ValidationConfig,
    look_at,
    pick_onsets,
    scale_traces,
)
from cocuyo.simulation import Simulation, broad_training_config, simulate_traces, training_config
from cocuyo.training.collect import analyse_one, keep, kept_folder
from cocuyo.training.dataset import DatasetConfig, Split
from cocuyo.training.loop import Curve, Update, fit
from cocuyo.training.settings import EventsRecipe
from cocuyo.training.team import ALONE, Team, collect
from cocuyo.training.verifier import label_candidates

FORMAT = 1
"""Version of the files of collected traces; those of another version are made again."""
_FIRST_SEED: dict[Split, int] = {"training": 969_000, "validation": 959_000, "test": 949_000}
"""Other recordings than those that the networks and the verifier were fitted on."""
_LEVEL_PERCENTILE = 30
_CLEAN_SHARE = 0.3
"""Weight of the second task, to tell the cell's own signal; it is learnt and not shipped."""


@dataclass(frozen=True, eq=False)
class TraceSet:
    """Traces of one recording, with the events in them.

    Attributes
    ----------
    scaled : ndarray of float32, shape (n, n_frames)
        In units of their white noise.
    clean : ndarray of float32, shape (n, n_frames)
        The cell's own signal, in the same unit.
    usable : ndarray of bool, shape (n_frames,)
        Frames that were measured.
    frame_rate_hz : float
        Frames per second.
    events : Periods
        First and last spike of each event, by row of the traces.
    """

    scaled: FloatArray
    clean: FloatArray
    usable: BoolArray
    frame_rate_hz: float
    events: Periods


class OnsetNetwork(nn.Module):
    """The network of `EventJudge`, to be fitted, with a second output that is not shipped.

    Parameters
    ----------
    width : int
        Channels of the hidden layers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()

        def convolution(n_in: int, n_out: int, taps: int, dilation: int = 1) -> nn.Conv1d:
            return nn.Conv1d(n_in, n_out, taps, padding=taps // 2 * dilation, dilation=dilation)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleDict(
                    {part: convolution(width, width, TAPS, d) for part in ("first", "second")}
                )
                for d in DILATIONS
            )

        self.stem = convolution(len(TRACE_CHANNELS), width, STEM_TAPS)
        self.before, self.after = blocks(), blocks()
        self.context, self.mix = convolution(width, width, 1), convolution(width, width, 1)
        self.onset, self.clean = convolution(width, 1, 1), convolution(width, 1, 1)
        with torch.no_grad():
            self.onset.bias = nn.Parameter(torch.full((1,), -4.0))  # onsets are rare
            for block in (*self.before, *self.after):
                block["second"].weight *= 0.2

    def forward(self, seen: Tensor, context: int) -> tuple[Tensor, Tensor]:
        """Run the network.

        Parameters
        ----------
        seen : Tensor, shape (n, n_channels, n_frames)
            Channels of a `TraceView`.
        context : int
            Half width of the running mean, in frames.

        Returns
        -------
        onset : Tensor, shape (n, n_frames)
            Logits of an event's beginning.
        clean : Tensor, shape (n, n_frames)
            The cell's own signal, compressed as the trace is.
        """
        hidden = functional.relu(self.stem(seen))
        hidden = _through(self.before, hidden)
        elsewhere = functional.relu(self.context(hidden))
        hidden = hidden + self.mix(_running_mean(elsewhere, context))
        hidden = functional.relu(_through(self.after, hidden))
        return self.onset(hidden)[:, 0], self.clean(hidden)[:, 0]

    def judge(self) -> EventJudge:
        """Return the weights as the judge that runs without torch."""
        layers = {
            name.replace("before.", "before_").replace("after.", "after_"): (
                value.cpu().numpy().copy()
            )
            for name, value in self.state_dict().items()
            if not name.startswith("clean.")
        }
        return EventJudge.from_tensors(layers)


def collect_traces(
    folder: Path,
    *,
    cache: Path,
    dataset: DatasetConfig,
    recipe: EventsRecipe,
    config: PipelineConfig,
    split: Split,
    seed: int,
    n_workers: int = 1,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> list[TraceSet]:
    """Run the pipeline on simulated recordings and keep the traces of what is a neuron.

    Parameters
    ----------
    folder : Path
        Model folder with the networks.
    cache : Path
        Folder for what has been collected; made if absent.
    dataset : DatasetConfig
        Size of the recordings; their length varies around its number of frames.
    recipe : EventsRecipe
        Number of the recordings.
    config : PipelineConfig
        Settings.
    split : {"training", "validation", "test"}
        Which recordings.
    seed : int
        Seed of the training.
    n_workers : int, default: 1
        Processes.
    progress : callable, optional
        Called after each recording.
    team : Team, optional
        Those who share the work.

    Returns
    -------
    list of TraceSet
        Of the recordings in which a candidate is a functional neuron.
    """
    number = recipe.n_training if split == "training" else recipe.n_validation
    seeds = [_FIRST_SEED[split] + 1000 * seed + i for i in range(number)]
    kept = kept_folder(cache, folder, facts=FORMAT, dataset=dataset, config=config, split=split)
    sets = collect(
        partial(_traces_of, folder, kept, dataset, config, split),
        seeds,
        n_workers=n_workers,
        stage=f"collecting traces ({split})",
        progress=progress,
        team=team,
    )
    return [one for one in sets if len(one.scaled)]


def fit_judge(
    training: list[TraceSet],
    validation: list[TraceSet],
    *,
    recipe: EventsRecipe,
    config: ValidationConfig,
    seed: int,
    checkpoint: Path,
    progress: ProgressCallback = ignore_progress,
    team: Team = ALONE,
) -> tuple[EventJudge, Curve]:
    """Fit the judge of events.

    Each update sees the traces of one recording: one that the pipeline analysed, or simulated ones.

    Parameters
    ----------
    training, validation : list of TraceSet
        From different recordings.
    recipe : EventsRecipe
        Width, schedule, epochs, share of simulated traces.
    config : ValidationConfig
        Probability from which an event is one, in validation.
    seed : int
        Seed of weights, order and simulated traces.
    checkpoint : Path
        Written after each epoch, resumed from where it exists.
    progress : callable, optional
        Called after each epoch.
    team : Team, optional
        Those who fit it together.

    Returns
    -------
    judge : EventJudge
        With the weights of the best epoch.
    curve : Curve
        Losses, and event F1 on the validation recordings (their mean).

    Raises
    ------
    ModelError
        If there are no traces with events.
    """
    for what, sets in (("training", training), ("validation", validation)):
        if not any(len(one.events) for one in sets):
            msg = f"No neuron for {what} has an event; simulate more or longer recordings."
            raise ModelError(msg)
    torch.manual_seed(seed)
    network = OnsetNetwork(recipe.width).to(team.device or torch.device("cpu"))
    n_simulated = round(len(training) * recipe.simulated_share / (1 - recipe.simulated_share))

    def train_epoch(epoch: int, update: Update) -> None:
        rng = stream(seed, f"training.events.{epoch}")
        own = team.own(rng)
        for i in rng.permutation(len(training) + n_simulated).tolist():
            if i < len(training):
                rows = rng.permutation(len(training[i].scaled))[: recipe.batch]
                rows = rows[team.share(len(rows))]
                shown = _vary(training[i], rows, own)
            else:
                rows = np.arange(recipe.batch)[team.share(recipe.batch)]
                shown = _without_movie(int(own.integers(2**31)), n_cells=len(rows))
            if len(rows):
                update(_loss(network, shown), len(rows))
            else:
                update(None, 0)

    def validate() -> float:
        judge = network.judge()
        return float(np.mean([_event_f1(judge, one, config) for one in validation]))

    curve = fit(
        network,
        recipe=recipe,
        updates_per_epoch=len(training) + n_simulated,
        train_epoch=train_epoch,
        validate=validate,
        checkpoint=checkpoint,
        progress=progress,
        stage="judge of events",
        score_name="event F1",
        team=team,
    )
    return network.judge(), curve


def _traces_of(
    folder: Path,
    kept: Path,
    dataset: DatasetConfig,
    config: PipelineConfig,
    split: Split,
    seed: int,
) -> TraceSet:
    def make() -> dict[str, AnyArray]:
        found = _collect_one(folder, dataset, config, split, seed)
        return {
            "scaled": found.scaled,
            "clean": found.clean,
            "usable": found.usable,
            "frame_rate_hz": np.array(found.frame_rate_hz),
            "roi": found.events.roi,
            "first_s": found.events.first_s,
            "last_s": found.events.last_s,
        }

    stored = keep(kept / f"{seed:07d}.npz", make)
    return TraceSet(
        stored["scaled"],
        stored["clean"],
        stored["usable"],
        float(stored["frame_rate_hz"]),
        Periods(stored["roi"], stored["first_s"], stored["last_s"]),
    )


def _collect_one(
    folder: Path, dataset: DatasetConfig, config: PipelineConfig, split: Split, seed: int
) -> TraceSet:
    case = analyse_one(folder, dataset, config, split, seed)
    found = finish_candidates(
        case.recording,
        case.analysis.motion,
        case.analysis.maps,
        config=config,
        diameter_px=case.diameter_px,
        verifier=None,
        engine=case.engine,
    )
    cell, _ = label_candidates(found.rois, case.simulation)
    rows = np.flatnonzero(cell >= 0)
    return label_traces(
        found.traces.delta_f_over_f[rows],
        cell[rows],
        case.simulation,
        usable=np.asarray(case.analysis.motion.flags) == 0,
        config=config.validation,
    )


def label_traces(
    traces: FloatArray,
    cell: AnyArray,
    simulation: Simulation,
    *,
    usable: BoolArray,
    config: ValidationConfig,
) -> TraceSet:
    """Say which events of the truth lie in each trace.

    Parameters
    ----------
    traces : ndarray of float32, shape (n, n_frames)
        ΔF/F₀.
    cell : ndarray of int, shape (n,)
        The neuron of the truth that each shows.
    simulation : Simulation
        With its truth.
    usable : ndarray of bool, shape (n_frames,)
        Frames that were measured.
    config : ValidationConfig
        How the noise is measured.

    Returns
    -------
    TraceSet
        Scaled traces with their events.
    """
    truth, rate = simulation.truth, simulation.truth.fps
    scaled = scale_traces(traces, frame_rate_hz=rate, usable=usable, config=config)
    clean = np.array(truth.traces[cell], np.float32).reshape(traces.shape)
    clean -= np.percentile(clean, _LEVEL_PERCENTILE, axis=1, keepdims=True) if clean.size else 0
    # How much of the neuron's signal reaches the trace is what least squares finds in it.
    power = np.maximum((clean**2).sum(axis=1, keepdims=True), 1e-9)
    level = scaled - np.median(scaled, axis=1, keepdims=True) if scaled.size else scaled
    clean *= np.maximum((clean * level).sum(axis=1, keepdims=True) / power, 0)
    rows = truth.events
    events = join_periods(Periods(rows[:, 0].astype(np.int32), rows[:, 1], rows[:, 2]))
    own = [np.flatnonzero(events.roi == one) for one in cell]
    at = np.concatenate([np.zeros(0, np.int64), *own])
    return TraceSet(
        scaled,
        clean,
        usable,
        float(rate),
        Periods(
            np.repeat(np.arange(len(own)), [len(one) for one in own]).astype(np.int32),
            events.first_s[at],
            events.last_s[at],
        ),
    )


def _vary(one: TraceSet, rows: AnyArray, rng: np.random.Generator) -> TraceSet:
    """Some of the traces, two times in five fainter than they were."""
    place = np.full(len(one.scaled), -1)
    place[rows] = np.arange(len(rows))
    events = one.events
    kept = place[events.roi] >= 0
    scaled, clean = one.scaled[rows], one.clean[rows]
    if rng.random() < 0.4:
        noise = float(rng.uniform(0.2, 1.0))
        scaled = scaled + np.float32(noise) * rng.standard_normal(scaled.shape).astype(np.float32)
        scaled, clean = scaled / np.hypot(1, noise), clean / np.hypot(1, noise)
    return TraceSet(
        scaled,
        clean,
        one.usable,
        one.frame_rate_hz,
        Periods(
            place[events.roi[kept]].astype(np.int32), events.first_s[kept], events.last_s[kept]
        ),
    )


def _without_movie(seed: int, *, n_cells: int) -> TraceSet:
    """Traces without a movie: half as slices, half as any preparation would give them."""
    rng = stream(seed, "training.events.simulated")
    draw = training_config if rng.random() < 0.5 else broad_training_config
    n_frames = round(float(np.exp(rng.uniform(np.log(350), np.log(1000)))))
    made = simulate_traces(draw(seed, n_frames=n_frames), seed=seed, n_cells=n_cells)
    scaled = scale_traces(made.traces, frame_rate_hz=made.frame_rate_hz, usable=made.usable)
    return TraceSet(scaled, made.clean, made.usable, made.frame_rate_hz, made.events)


def _loss(network: OnsetNetwork, shown: TraceSet) -> Tensor:
    view = look_at(shown.scaled, shown.usable, frame_rate_hz=shown.frame_rate_hz)
    device = network.onset.weight.device
    onset, clean = network(torch.from_numpy(view.channels).to(device), view.context)
    target = torch.from_numpy(_onsets(shown, view)).to(device)
    # Per trace and 20 frames: an event weighs the same in a long recording as in a short one.
    told = 20 * functional.binary_cross_entropy_with_logits(onset, target)
    return told + _CLEAN_SHARE * functional.smooth_l1_loss(
        clean, torch.from_numpy(_compressed(shown.clean, view)).to(device)
    )


def _onsets(shown: TraceSet, view: TraceView) -> FloatArray:
    """1 in the frame of the first spike of each event."""
    n_frames = view.channels.shape[2]
    target = np.zeros((len(shown.scaled), n_frames), np.float32)
    frame = (shown.events.first_s * shown.frame_rate_hz / view.group).astype(np.int64)
    target[shown.events.roi, np.clip(frame, 0, n_frames - 1)] = 1
    return target


def _compressed(clean: FloatArray, view: TraceView) -> FloatArray:
    missing = -clean.shape[1] % view.group
    padded = np.pad(clean, ((0, 0), (0, missing)), mode="edge")
    grouped = padded.reshape(len(clean), -1, view.group).mean(axis=2) * np.sqrt(view.group)
    return np.asarray(np.arcsinh(grouped / 2), np.float32)


def _event_f1(judge: EventJudge, one: TraceSet, config: ValidationConfig) -> float:
    """F1 of the onsets that the judge finds, by the definitions of scoring."""
    rate = one.frame_rate_hz
    probability = judge.probability(one.scaled, one.usable, frame_rate_hz=rate)
    onsets = pick_onsets(probability, frame_rate_hz=rate, least=config.min_probability)
    roi = np.repeat(np.arange(len(onsets)), [len(own) for own in onsets])
    times = np.concatenate([np.zeros(0, np.int32), *onsets]) / rate
    n = len(one.scaled)
    each = np.arange(n, dtype=np.int32)
    matches = Matches(each, each, np.ones(n), n_predicted=n, n_truth=n)
    scored = event_scores(Periods.from_times(roi.astype(np.int32), times), one.events, matches).f1
    return scored if np.isfinite(scored) else 1.0


def _through(blocks: nn.ModuleList, hidden: Tensor) -> Tensor:
    for block in blocks:
        inner = functional.relu(block["first"](hidden))  # type: ignore[index]  # a ModuleDict
        hidden = hidden + block["second"](inner)  # type: ignore[index]
    return hidden


def _running_mean(values: Tensor, reach: int) -> Tensor:
    n = values.shape[-1]
    total = functional.pad(values.double().cumsum(-1), (1, 0))
    at = torch.arange(n, device=values.device)
    start, stop = (at - reach).clamp(min=0), (at + reach + 1).clamp(max=n)
    return ((total[..., stop] - total[..., start]) / (stop - start)).float()
