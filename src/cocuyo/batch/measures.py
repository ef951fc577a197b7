"""Figures of a recording, and of the groups that recordings belong to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_INVALID,
    FLAG_UNPLACED,
    AnyArray,
    BoolArray,
    Part,
    Result,
)
from cocuyo.pipeline import peak_snr
from cocuyo.population import EnsembleConfig, correlation_matrix, find_peaks, measure_coactivity
from cocuyo.postprocessing import step_noise


@dataclass(frozen=True)
class Measure:
    """A figure that groups are compared by.

    Attributes
    ----------
    name : str
        Column of the tables.
    title : str
        For people, with its unit.
    """

    name: str
    title: str


COMPARED = (
    Measure("n_active", "functional neurons"),
    Measure("events_per_min", "events per neuron and minute"),
    Measure("active_share", "share of time active"),
    Measure("mean_correlation", "mean pair correlation of rasters"),
    Measure("synchrony_peaks_per_min", "peaks of synchrony per minute"),
)
"""What groups are compared by; each is one number for a recording."""

ROI_COLUMNS = (
    "id",
    "label",
    "accepted",
    "reason",
    "y_px",
    "x_px",
    "area_px",
    "diameter_um",
    "score",
    "snr",
    "n_events",
    "events_per_min",
    "active_share",
    "median_amplitude",
    "noise",
    "in_view",
)


def measure_recordings(result: Result, *, seed: int = 0) -> list[dict[str, Any]]:
    """Measure each recording of a result: the one that it is of, or those of an experiment.

    Parameters
    ----------
    result : Result
        What a run found.
    seed : int
        Seed of the shuffles behind the threshold of synchrony.

    Returns
    -------
    list of dict
        For each its ``figures`` (`measure_result`), its ``rois`` (`measure_rois`) and as ``part``
        the name of its folder of tables within the result; empty where it is the whole result.
    """
    if not result.parts:
        figures = measure_result(result, seed=seed)
        return [{"part": "", "figures": figures, "rois": measure_rois(result)}]
    found = []
    for i, part in enumerate(result.parts):
        own = _with_own_noise(result.part(i))
        figures = measure_result(own, part=part, seed=seed)
        rois = measure_rois(own, part=part)
        found.append({"part": part.name, "figures": figures, "rois": rois})
    return found


def _with_own_noise(result: Result) -> Result:
    """Give a recording of an experiment its own noise and SNR in place of the experiment's."""
    traces = replace(result.traces, noise=step_noise(result.traces.delta_f_over_f))
    return replace(result, traces=traces, rois=replace(result.rois, snr=peak_snr(traces)))


def _in_view(result: Result, part: Part | None) -> BoolArray:
    return np.ones(len(result.rois), np.bool_) if part is None else part.in_view(result.rois)


def measure_result(result: Result, *, part: Part | None = None, seed: int = 0) -> dict[str, Any]:
    """Measure what a row of the summary holds.

    Parameters
    ----------
    result : Result
        What a run found, or one recording of an experiment (`Result.part`).
    part : Part, optional
        The place of that recording in its experiment: what it does not show does not count.
    seed : int
        Seed of the shuffles behind the threshold of synchrony.

    Returns
    -------
    dict
        Plain numbers; None where there is none (no neurons, no pairs).
    """
    accepted = np.flatnonzero(result.rois.accepted & _in_view(result, part))
    n, minutes = len(accepted), _minutes(result)
    counts = result.events.count(len(result.rois))[accepted]
    raster = np.asarray(result.raster[:, :], np.bool_)[accepted]
    flags = np.asarray(result.motion.flags)
    offset_px = (0.0, 0.0) if part is None else part.offset_px
    shifts = np.asarray(result.motion.shifts, np.float64) - offset_px
    return {
        "n_frames": result.n_frames,
        "duration_s": 60 * minutes,
        "frame_rate_hz": result.frame_rate_hz,
        "n_rows": result.rois.frame_shape[0],
        "n_columns": result.rois.frame_shape[1],
        "pixel_size_um": result.pixel_size_um,
        "diameter_px": result.diameter_px,
        "n_neurons": n,
        "n_active": int((counts > 0).sum()),
        "n_candidates": len(result.rois),
        "n_events": int(counts.sum()),
        "events_per_min": float(counts.mean() / minutes) if n else None,
        "active_share": float(raster.mean()) if n else None,
        **_synchrony(raster, result, minutes, seed),
        "median_snr": _median(result.rois.snr[accepted]),
        "median_score": _median(result.rois.score[accepted]),
        "median_noise": _median(np.asarray(result.traces.noise)[accepted]),
        "largest_shift_px": float(np.hypot(*shifts.T).max()) if len(shifts) else None,
        "unplaced_frames": int(((flags & FLAG_UNPLACED) > 0).sum()),
        "invalid_frames": int(((flags & FLAG_INVALID) > 0).sum()),
        "flash_frames": int(((flags & FLAG_FLASH) > 0).sum()),
        "share_in_view": float(np.asarray(result.valid).mean()),
        "field_offset_px": None if part is None else float(np.hypot(*part.offset_px)),
        "field_correlation": None if part is None else float(part.correlation),
    }


def _synchrony(raster: AnyArray, result: Result, minutes: float, seed: int) -> dict[str, Any]:
    names = ("mean_correlation", "synchrony_peaks_per_min", "synchronous_share")
    if len(raster) < 2:
        return dict.fromkeys(names)
    config = EnsembleConfig()
    coactivity = measure_coactivity(
        raster,
        rule=config.threshold,
        n_shuffles=config.n_shuffles,
        significance=config.significance,
        seed=seed,
    )
    joined = round(config.join_s * result.frame_rate_hz)
    peaks = find_peaks(raster, coactivity, join_bins=joined)
    matrix = correlation_matrix(raster)[np.triu_indices(len(raster), 1)]
    finite = matrix[np.isfinite(matrix)]
    values = (
        float(finite.mean(dtype=np.float64)) if len(finite) else None,
        len(peaks) / minutes,
        float(coactivity.significant.mean()),
    )
    return dict(zip(names, values, strict=True))


def measure_rois(result: Result, *, part: Part | None = None) -> list[list[Any]]:
    """Measure each candidate: rows of the long table, under `ROI_COLUMNS`.

    Parameters
    ----------
    result : Result
        What a run found, or one recording of an experiment.
    part : Part, optional
        Its place in the experiment; an ROI that it does not show has no activity to measure.

    Returns
    -------
    list of list
        A row for each candidate; None where a figure does not exist.
    """
    rois, minutes = result.rois, _minutes(result)
    counts = result.events.count(len(rois))
    size = result.pixel_size_um
    seen = _in_view(result, part)
    rows = []
    for i in range(len(rois)):
        diameter_px = 2 * math.sqrt(rois.area_px[i] / math.pi)
        rows.append(
            [
                rois.ids[i],
                int(rois.labels[i]),
                int(rois.accepted[i]),
                rois.reasons[i],
                _rounded(rois.centroids[i, 0]),
                _rounded(rois.centroids[i, 1]),
                int(rois.area_px[i]),
                None if size is None else _rounded(diameter_px * size),
                _rounded(rois.score[i]),
                _rounded(rois.snr[i]) if seen[i] else None,
                int(counts[i]) if seen[i] else None,
                _rounded(counts[i] / minutes) if seen[i] else None,
                _rounded(np.asarray(result.raster[i], np.bool_).mean()) if seen[i] else None,
                _rounded(_median(result.events.amplitude[result.events.roi == i])),
                _rounded(np.asarray(result.traces.noise)[i]) if seen[i] else None,
                int(seen[i]),
            ]
        )
    return rows


def _minutes(result: Result) -> float:
    return float(result.times_s[-1] - result.times_s[0] + 1 / result.frame_rate_hz) / 60


def _median(values: AnyArray) -> float | None:
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(np.median(finite)) if len(finite) else None


def _rounded(value: Any) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.6g}")


# --- Groups ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """A unit of observation: an animal, else a field of view, or a recording where none is named.

    Attributes
    ----------
    group : str
        Its group.
    name : str
        Name of the animal, of the experiment, or of the recording.
    n_recordings : int
        Recordings whose mean it is.
    values : dict of str to (float or None)
        Mean of each measure over these recordings; None where none has it.
    """

    group: str
    name: str
    n_recordings: int
    values: dict[str, float | None]


@dataclass(frozen=True)
class Summary:
    """A measure in a group, over its units.

    Attributes
    ----------
    group, measure : str
        Which.
    n_units : int
        Units that have a value.
    mean, sd, median, lower_quartile, upper_quartile : float or None
        Over the units; the standard deviation needs two.
    """

    group: str
    measure: str
    n_units: int
    mean: float | None
    sd: float | None
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None


def gather_units(rows: Sequence[Mapping[str, Any]]) -> list[Unit]:
    """Average the recordings of one animal, else of one field, so that each counts once.

    Parameters
    ----------
    rows : sequence of mapping
        ``recording``, ``group``, ``animal``, ``experiment`` and the measures of each finished
        recording.

    Returns
    -------
    list of Unit
        By group and name. An animal with recordings in two groups (before and after a drug) is a
        unit in each.

    Examples
    --------
    >>> rows = [
    ...     {"recording": "a1", "group": "x", "animal": "a", "experiment": "", "n_active": 10},
    ...     {"recording": "a2", "group": "x", "animal": "a", "experiment": "", "n_active": 20},
    ...     {"recording": "b", "group": "x", "animal": "", "experiment": "", "n_active": 30},
    ... ]
    >>> [(unit.name, unit.values["n_active"]) for unit in gather_units(rows)]
    [('a', 15.0), ('b', 30.0)]
    """
    gathered: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        names = [str(row[kind]) for kind in ("animal", "experiment", "recording")]
        kind = next(i for i, name in enumerate(names) if name)
        gathered.setdefault((str(row["group"]), kind, names[kind]), []).append(row)
    units = []
    for (group, _, name), members in sorted(gathered.items()):
        values = {}
        for measure in COMPARED:
            known = [float(m[measure.name]) for m in members if m.get(measure.name) is not None]
            values[measure.name] = float(np.mean(known)) if known else None
        units.append(Unit(group, name, len(members), values))
    return units


def summarise_groups(units: Sequence[Unit]) -> list[Summary]:
    """Describe each measure in each group over its units; nothing is tested.

    Parameters
    ----------
    units : sequence of Unit
        From `gather_units`.

    Returns
    -------
    list of Summary
        A row for each group and measure.
    """
    rows = []
    for measure in COMPARED:
        for group in sorted({unit.group for unit in units}):
            values = [u.values[measure.name] for u in units if u.group == group]
            known = np.array([v for v in values if v is not None], np.float64)
            n = len(known)
            quartiles = np.percentile(known, (25, 50, 75)).tolist() if n else [None] * 3
            rows.append(
                Summary(
                    group=group,
                    measure=measure.name,
                    n_units=n,
                    mean=float(known.mean()) if n else None,
                    sd=float(known.std(ddof=1)) if n > 1 else None,
                    median=quartiles[1],
                    lower_quartile=quartiles[0],
                    upper_quartile=quartiles[2],
                )
            )
    return rows
