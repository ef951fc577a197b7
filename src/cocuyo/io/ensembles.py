"""Ensemble folders: what `cocuyo ensembles` writes, and the stimuli that it reads."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import PopulationAnalysis, RecordingError, ResultError, TimeArray
from cocuyo.io.atomic import write_json
from cocuyo.io.results import (
    FolderKind,
    alone_in,
    cannot_write,
    check_destination,
    partial_folder,
    put_in_place,
    remove,
)
from cocuyo.io.tables import write_rows

ENSEMBLES = FolderKind("ensemble analysis", "ensembles.json", "cocuyo-ensembles")
FORMAT_VERSION = 1


def check_ensembles(
    folder: str | Path, overwrite: bool = False, *, inputs: Iterable[str | Path] = ()
) -> Path:
    """Refuse a folder in which an analysis cannot be saved, before any work is done.

    Parameters
    ----------
    folder : str or Path
        The folder to make.
    overwrite : bool, default: False
        Allow a folder that holds an ensemble analysis of cocuyo; nothing else is ever replaced.
    inputs : iterable of str or Path, optional
        What is read. A folder in which any of it lies is never replaced, nor is one made in it.

    Returns
    -------
    Path
        The absolute path of the folder. Nothing is made.

    Raises
    ------
    ResultError
        If the folder exists and may not be replaced, lies in a result, or its place cannot be
        written.
    """
    inputs = list(inputs)
    checked = check_destination(folder, overwrite, inputs=inputs, kind=ENSEMBLES)
    for path in map(Path, inputs):
        if path.is_dir() and checked.resolve().is_relative_to(path.resolve()):
            msg = (
                f"{checked} lies in {path}, which is not changed; choose another folder with --out."
            )
            raise ResultError(msg)
    return checked


def save_ensembles(
    analysis: PopulationAnalysis,
    folder: str | Path,
    *,
    ids: Sequence[str],
    record: Mapping[str, Any],
    page: str,
    overwrite: bool = False,
    inputs: Iterable[str | Path] = (),
) -> Path:
    """Write the folder of an analysis: tables, page and ``ensembles.json``, whole or not at all.

    Parameters
    ----------
    analysis : PopulationAnalysis
        What was found.
    folder : str or Path
        The folder to make; its parents are made.
    ids : sequence of str
        Id of each neuron.
    record : mapping
        What ``ensembles.json`` says besides settings, seed and numbers: name, versions, inputs.
    page : str
        The page ``ensembles.html``.
    overwrite : bool, default: False
        Replace a folder that holds an ensemble analysis of cocuyo.
    inputs : iterable of str or Path, optional
        What was read; a folder in which any of it lies is never replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ResultError
        If the folder exists and may not be replaced, cannot be written, or another program is
        making it.
    """
    folder = check_ensembles(folder, overwrite, inputs=inputs)
    with alone_in(folder):
        partial = partial_folder(folder)
        try:
            if partial.exists():  # of a run that was killed: check_destination knows it as ours
                remove(partial)
            partial.mkdir(parents=True)
            start = {"format": ENSEMBLES.format, "format_version": FORMAT_VERSION}
            write_json(partial / ENSEMBLES.record, {**start, "status": "partial"})
            _write_tables(partial, analysis, ids)
            (partial / "ensembles.html").write_text(
                page, encoding="utf-8", errors="replace", newline="\n"
            )
            complete = {**start, "status": "complete", **record, **_numbers(analysis)}
            write_json(partial / ENSEMBLES.record, complete)
            put_in_place(partial, folder)
        except BaseException as error:
            _take_back(partial)
            if isinstance(error, OSError):
                raise cannot_write(folder, error) from error
            raise
    return folder


def _take_back(partial: Path) -> None:
    try:
        if partial.is_dir():
            (partial / ENSEMBLES.record).unlink(missing_ok=True)
            remove(partial)
    except OSError:
        pass  # the first error is the one to report; without its record nothing looks finished


def _numbers(analysis: PopulationAnalysis) -> dict[str, Any]:
    found, ensembles = analysis.coactivity, analysis.ensembles
    n_neurons = analysis.n_neurons
    return {
        "seed": analysis.seed,
        "settings": analysis.settings,
        "notes": analysis.notes,
        "n_neurons": n_neurons,
        "n_bins": len(analysis.times_s),
        "bin_frames": analysis.bin_frames,
        "threshold_n_active": found.threshold,
        "n_significant_bins": int(found.significant.sum()),
        "share_significant": float(found.significant.mean()),
        "share_significant_by_chance": float(chance_of(analysis)),
        "n_peaks": len(analysis.peaks),
        "n_peaks_significant_in_recording": int(
            np.count_nonzero(
                analysis.peaks.p_recording <= analysis.settings.get("significance", 0.05)
            )
        ),
        "n_pairs": n_neurons * (n_neurons - 1) // 2,
        "n_significant_pairs": analysis.correlations.n_significant,
        "n_ensembles": len(ensembles),
        "reason": ensembles.reason,
        "silhouette": ensembles.silhouette,
        "groups_p_value": ensembles.p_value,
        "ensembles": [
            {
                "ensemble": number + 1,
                "n_peaks": int(ensembles.n_peaks[number]),
                "n_core": int(ensembles.core[number].sum()),
            }
            for number in range(len(ensembles))
        ],
        "stimuli": [
            {
                "stimulus": response.label,
                "times_s": response.times_s,
                "n_responders": int(response.responders.sum()),
                "population_p_value": response.population_p_value,
            }
            for response in analysis.stimuli
        ],
    }


def chance_of(analysis: PopulationAnalysis) -> float:
    """Share of the bins that chance makes significant.

    Parameters
    ----------
    analysis : PopulationAnalysis
        What was found.

    Returns
    -------
    float
        In [0, 1]; 0 where the threshold is out of reach.
    """
    chance, threshold = analysis.coactivity.chance_bin, analysis.coactivity.threshold
    return float(chance[threshold]) if threshold <= analysis.n_neurons else 0.0


def _write_tables(folder: Path, analysis: PopulationAnalysis, ids: Sequence[str]) -> None:
    times, found, peaks = analysis.times_s, analysis.coactivity, analysis.peaks
    n_neurons = max(analysis.n_neurons, 1)
    write_rows(
        folder / "coactivity.csv",
        ("time_s", "n_active", "share", "threshold", "significant"),
        (
            (_time(time), n, _number(n / n_neurons), found.threshold, int(significant))
            for time, n, significant in zip(
                times.tolist(), found.n_active.tolist(), found.significant.tolist(), strict=True
            )
        ),
    )
    write_rows(
        folder / "peaks.csv",
        ("peak", "onset_s", "peak_s", "offset_s", "n_active", "p_bin", "p_recording", "ensemble"),
        (
            (
                i + 1,
                _time(times[peaks.onset[i]]),
                _time(times[peaks.peak[i]]),
                _time(times[peaks.offset[i]]),
                int(peaks.n_active[i]),
                _number(peaks.p_bin[i]),
                _number(peaks.p_recording[i]),
                int(peaks.ensemble[i]) or "",
            )
            for i in range(len(peaks))
        ),
    )
    write_rows(
        folder / "correlations.csv",
        ("id_1", "id_2", "correlation", "p_value", "q_value", "significant"),
        _pair_rows(analysis, ids),
    )
    ensembles = analysis.ensembles
    numbers = range(1, len(ensembles) + 1)
    write_rows(
        folder / "ensembles.csv",
        ("id", *(f"ensemble_{k}" for k in numbers), *(f"participation_{k}" for k in numbers)),
        (
            (
                name,
                *ensembles.core[:, i].astype(int).tolist(),
                *(_number(value) for value in ensembles.participation[:, i]),
            )
            for i, name in enumerate(ids)
        ),
    )
    write_rows(
        folder / "ensemble_activity.csv",
        ("time_s", *(f"ensemble_{k}" for k in numbers)),
        (
            (_time(time), *(_number(value) for value in row))
            for time, row in zip(times.tolist(), ensembles.activity.T.tolist(), strict=True)
        ),
    )
    if analysis.stimuli:
        _write_stimuli(folder, analysis, ids)


def _pair_rows(analysis: PopulationAnalysis, ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    found = analysis.correlations
    for i in range(analysis.n_neurons):
        for j in range(i + 1, analysis.n_neurons):
            yield (
                ids[i],
                ids[j],
                _number(found.matrix[i, j]),
                _number(found.p_value[i, j]),
                _number(found.q_value[i, j]),
                int(found.significant[i, j]),
            )


def _write_stimuli(folder: Path, analysis: PopulationAnalysis, ids: Sequence[str]) -> None:
    write_rows(
        folder / "stimuli.csv",
        ("stimulus", "id", "n_stimuli", "response", "p_value", "q_value", "responder"),
        (
            (
                each.label,
                name,
                len(each.times_s),
                _number(each.response[i]),
                _number(each.p_value[i]),
                _number(each.q_value[i]),
                int(each.responders[i]),
            )
            for each in analysis.stimuli
            for i, name in enumerate(ids)
        ),
    )
    write_rows(
        folder / "peristimulus.csv",
        ("stimulus", "id", "lag_s", "active", "delta_f_over_f"),
        (
            (
                each.label,
                name,
                _time(lag),
                _number(each.active[i, k]),
                _number(each.delta_f_over_f[i, k]),
            )
            for each in analysis.stimuli
            for i, name in enumerate(ids)
            for k, lag in enumerate(each.lags_s.tolist())
        ),
    )
    write_rows(
        folder / "peristimulus_coactivity.csv",
        ("stimulus", "lag_s", "n_active", "chance_low", "chance_high"),
        (
            (
                each.label,
                _time(lag),
                _number(each.n_active[k]),
                _number(each.n_active_low[k]),
                _number(each.n_active_high[k]),
            )
            for each in analysis.stimuli
            for k, lag in enumerate(each.lags_s.tolist())
        ),
    )


def read_stimuli(path: str | Path) -> tuple[TimeArray, tuple[str, ...]]:
    """Read the times of stimuli from a CSV file.

    Each row is a time in seconds of the recording and, in a second column, a name if wished. A
    first row that does not start with a number is a header; empty rows and those that start with
    ``#`` are passed over. Columns are parted by commas, semicolons or tabs.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    times_s : ndarray of float64, shape (n_stimuli,)
        Times in seconds, in the order of the file.
    labels : tuple of str
        Name of each; empty where the file has none.

    Raises
    ------
    RecordingError
        If the file cannot be read, holds no time, or a row does not start with a number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        msg = f"The stimuli cannot be read from {path}: {what}."
        raise RecordingError(msg) from error
    times: list[float] = []
    labels: list[str] = []
    first = True
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        mark = next((mark for mark in (",", ";", "\t") if mark in line), ",")
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=mark))]
        try:
            time = float(cells[0])
        except ValueError:
            time = math.nan
        if math.isfinite(time):
            times.append(time)
            labels.append(cells[1] if len(cells) > 1 else "")
        elif not first or cells[0].lower() in ("", "nan", "inf", "-inf"):
            msg = (
                f"Line {number} of {path} does not start with a time in seconds: {line[:60]!r}. "
                "Give one stimulus a row: time, name."
            )
            raise RecordingError(msg)
        first = False
    if not times:
        msg = f"{path} holds no stimulus; give one time in seconds a row."
        raise RecordingError(msg)
    return np.array(times, np.float64), tuple(labels)


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _time(value: float) -> str:
    return f"{value:.10g}"
