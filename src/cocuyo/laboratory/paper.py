"""The paper's experiments from beginning to end: data, both trainings, tables and figures."""

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocuyo.core import (
    Progress,
    ProgressCallback,
    Recording,
    Regions,
    SettingsError,
    ignore_progress,
)
from cocuyo.evaluation import PixelScores, evaluate, pixel_scores, regions_of
from cocuyo.io.atomic import write_atomically, write_json
from cocuyo.laboratory import figures
from cocuyo.laboratory.data import Prepared, Take, plan_takes, prepare
from cocuyo.laboratory.measure import (
    REFERENCES,
    Annotation,
    FrameTest,
    Row,
    Seen,
    annotate,
    choose_thresholds,
    keep_seen,
    look_at_take,
    pool,
    score_experiment,
    score_frames,
)
from cocuyo.laboratory.settings import (
    PUBLISHED_RECALL,
    PUBLISHED_TABLE_1,
    PUBLISHED_TABLE_2,
    SIZES,
    Four,
    LaboratoryConfig,
    SizeName,
)
from cocuyo.pipeline import Model, load_model, segment
from cocuyo.pipeline.run import library_versions
from cocuyo.training import ALONE, Team, Workshop, open_workshop, train_temporal, train_unet

FIGURES = ("figure2", "figure5", "figure6", "figure7", "figure8")
_TITLES = {"srname": "SRNAME-like (as published)", "truth": "exact truth"}
_SCORES = ("SDC", "IoU", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What came out.

    Attributes
    ----------
    folder : Path
        Holds tables, figures, ``results.json`` and the trained model.
    results : dict
        Everything in ``results.json``.
    """

    folder: Path
    results: dict[str, Any]


def reproduce(
    folder: str | Path,
    *,
    size: SizeName = "standard",
    config: LaboratoryConfig | None = None,
    seed: int = 1,
    annotated: Sequence[tuple[Recording, Regions]] = (),
    team: Team = ALONE,
    progress: ProgressCallback = ignore_progress,
) -> Reproduction:
    """Do the paper's experiments on simulated recordings.

    Each stage keeps what it made in the folder; what is there is not made again.

    Parameters
    ----------
    folder : str or Path
        Made if absent; one that was begun with the same size and seed is gone on with.
    size : {"full", "standard", "quick"}
        How large: the paper's, one for two cores, or one to try the command.
    config : LaboratoryConfig, optional
        Sizes in place of those of `size`.
    seed : int, default: 1
        Seed of everything.
    annotated : sequence of (Recording, Regions), optional
        Real recordings in which a person marked cells: on these the trained networks are tried.
    team : Team, optional
        From `open_team`; one process only.
    progress : callable, optional
        Called as the work goes on; may raise `Cancelled`.

    Returns
    -------
    Reproduction
        Tables and figures.

    Raises
    ------
    SettingsError
        If the folder holds something else, or several processes were started.
    """
    place, name = Path(folder), size if config is None else "own"
    config = config or SIZES[size]
    if seed < 0:
        msg = f"The seed is {seed}; it must be 0 or more."
        raise SettingsError(msg)
    if team.size > 1:
        msg = "`paper` is the work of one process; start it without torchrun, or with one process."
        raise SettingsError(msg)
    _begin(place, config, seed)
    takes = plan_takes(config, seed=seed)
    prepared = prepare(takes, place / "work", config=config, seed=seed, progress=progress)
    model = _train(place / "work" / "training", prepared, config, seed, team, progress)
    seen = _look(place / "work" / "seen", takes, prepared, model, progress)
    frames = score_frames(prepared, model, progress=progress)
    thresholds = choose_thresholds([seen[i] for i in prepared.held_back])
    tests = _by_experiment(takes, seen)
    rows = [row for i, one in enumerate(tests) for row in score_experiment(i, one, thresholds)]
    marks = [
        annotate(i, one, misses=config.annotator_misses, seed=seed) for i, one in enumerate(tests)
    ]
    progress(Progress("drawing", 0, 1))
    (place / "figures").mkdir(exist_ok=True)
    _draw(place / "figures", tests, frames, marks)
    results = _results(name, config, seed, takes, frames, tests, rows, marks, model)
    results["annotated"] = _try_on(annotated, model, progress)
    _write(place, results)
    progress(Progress("drawing", 1, 1))
    return Reproduction(place, results)


def _begin(folder: Path, config: LaboratoryConfig, seed: int) -> None:
    """Refuse a folder in which something else lies."""
    marker = folder / "paper.json"
    wanted = {"seed": seed, "config": config.model_dump(mode="json")}
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) != wanted:
            msg = (
                f"{folder} was begun with another size or seed; choose another folder, or delete "
                "it."
            )
            raise SettingsError(msg)
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder} exists and is no reproduction of the paper; choose another folder."
        raise SettingsError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(marker, wanted)


def _train(
    folder: Path,
    prepared: Prepared,
    config: LaboratoryConfig,
    seed: int,
    team: Team,
    progress: ProgressCallback,
) -> Model:
    """Fit both networks, unless they are there."""
    shop = open_workshop(
        folder,
        preset="paper",
        pipeline=config.pipeline,
        training=config.training,
        seed=seed,
        team=team,
    )
    frames = prepared.frames_training, prepared.frames_validation
    _once(shop, "unet", lambda: train_unet(shop, recordings=frames, progress=progress))
    whole = prepared.training, prepared.validation
    _once(shop, "temporal", lambda: train_temporal(shop, recordings=whole, progress=progress))
    return load_model(shop.model)


def _once(shop: Workshop, name: str, train: Callable[[], object]) -> None:
    """Train where it was not done; a training that was stopped goes on from its last epoch."""
    done = shop.folder / f"{name}.done"
    if done.is_file():
        return
    start = time.perf_counter()
    train()
    write_json(done, {"seconds_of_last_start": round(time.perf_counter() - start, 1)})


def _look(
    folder: Path,
    takes: Sequence[Take],
    prepared: Prepared,
    model: Model,
    progress: ProgressCallback,
) -> dict[int, Seen]:
    """Analyse the recordings that test, and those that a threshold is chosen on."""
    folder.mkdir(exist_ok=True)
    wanted = [i for i, take in enumerate(takes) if take.test or i in prepared.held_back]
    seen = {}
    for i in wanted:
        take, path = takes[i], prepared.recordings[i]
        seen[i] = keep_seen(
            folder / f"{take.name}.npz",
            lambda take=take, path=path: look_at_take(take, path, model),  # type: ignore[misc]
        )
        progress(Progress("analysing recordings", len(seen), len(wanted)))
    return seen


def _try_on(
    annotated: Sequence[tuple[Recording, Regions]], model: Model, progress: ProgressCallback
) -> list[dict[str, Any]]:
    """Run the trained model over real recordings and look which marked cells it finds."""
    lines = []
    for recording, marked in annotated:
        result = segment(recording, model=model.folder, progress=progress)
        scores = evaluate(regions_of(result), marked)
        cells = scores.distance_strict
        lines.append(
            {
                "name": recording.name,
                "rois": int(result.rois.accepted.sum()),
                "recall of pixels": _number(scores.pixels.recall),
                "precision of pixels": _number(scores.pixels.precision),
                "marked": None if cells is None else cells.tp + cells.fn,
                "found": None if cells is None else cells.tp,
                "recall": None if cells is None else _number(cells.recall),
            }
        )
    return lines


def _by_experiment(takes: Sequence[Take], seen: Mapping[int, Seen]) -> list[list[Seen]]:
    tests: dict[int, list[Seen]] = {}
    for i, take in enumerate(takes):
        if take.test:
            tests.setdefault(take.experiment, []).append(seen[i])
    return list(tests.values())


def _draw(
    folder: Path, tests: list[list[Seen]], frames: FrameTest, marks: list[Annotation]
) -> None:
    figures.draw_activity(folder / "figure2.png", [one for each in tests for one in each])
    figures.draw_frames(folder / "figure5.png", frames)
    figures.draw_masks(folder / "figure6.png", tests)
    figures.draw_refinement(folder / "figure7.png", tests)
    figures.draw_annotation(folder / "figure8.png", tests, marks)


def _results(
    size: str,
    config: LaboratoryConfig,
    seed: int,
    takes: Sequence[Take],
    frames: FrameTest,
    tests: list[list[Seen]],
    rows: list[Row],
    marks: list[Annotation],
    model: Model,
) -> dict[str, Any]:
    """Everything as plain JSON."""
    every = [one for each in tests for one in each]
    temporal = {
        name: pool(
            pixel_scores(
                s.masks["ours"], s.masks[name], ignore=s.ignore if name == "truth" else None
            )
            for s in every
        )
        for name in REFERENCES
    }
    table_1 = [
        _line({"model": model_name, "n": n}, scores[name], name, PUBLISHED_TABLE_1[model_name])
        for model_name, scores, n in (
            ("U-Net", frames.scores, frames.n_frames),
            ("CGRU", temporal, len(every)),
        )
        for name in REFERENCES
    ]
    table_2 = [
        _line(
            {
                "experiment": row.experiment + 1,
                "method": row.method,
                "threshold": None if row.threshold is None else round(row.threshold, 3),
            },
            row.scores,
            row.reference,
            PUBLISHED_TABLE_2[row.experiment].get(row.method),
        )
        for row in rows
    ]
    curves = json.loads((model.folder / "metrics.json").read_text(encoding="utf-8"))["curves"]
    return {
        "size": size,
        "seed": seed,
        "config": config.model_dump(mode="json"),
        "recordings": [
            {"name": take.name, "test": take.test, "frame_rate_hz": take.config.frame_rate_hz}
            for take in takes
        ],
        "epochs": {
            name: {"run": len(curve["loss"]), "best": curve["best_epoch"] + 1}
            for name, curve in curves.items()
        },
        "curves": curves,
        "table_1": table_1,
        "table_2": table_2,
        "figure_8": [
            {
                "experiment": i + 1,
                "marked": len(one.found) + len(one.missed),
                "found": len(one.found),
                "recall": _number(one.recall),
                "published_recall": PUBLISHED_RECALL[i],
                "functional": one.n_functional,
                "rois": one.n_rois,
                "rois_without_mark": one.n_unmarked,
                "of_them_overlooked_neurons": one.n_overlooked,
            }
            for i, one in enumerate(marks)
        ],
        "versions": library_versions(),
    }


def _line(
    start: dict[str, Any], scores: PixelScores, reference: str, published: Four | None
) -> dict[str, Any]:
    own = (scores.sdc, scores.iou, scores.precision, scores.recall)
    line = {**start, "reference": reference}
    line |= {name: _number(value) for name, value in zip(_SCORES, own, strict=True)}
    # The paper compares with its teacher only.
    beside = published if reference == "srname" else None
    line |= {
        f"published {name}": None if beside is None else beside[k] for k, name in enumerate(_SCORES)
    }
    return line | {"tp": scores.tp, "fp": scores.fp, "fn": scores.fn}


def _number(value: float) -> float | None:
    """Round; None where a denominator is 0."""
    return round(value, 4) if value == value else None  # noqa: PLR0124 - NaN


def _write(folder: Path, results: dict[str, Any]) -> None:
    """Write tables, the page that shows all, and the figures' numbers."""
    (folder / "tables").mkdir(exist_ok=True)
    pages = {}
    for number, first in ((1, ["model", "n"]), (2, ["experiment", "method", "threshold"])):
        lines = results[f"table_{number}"]
        with (
            write_atomically(folder / "tables" / f"table{number}.csv") as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            table = csv.DictWriter(file, list(lines[0]))
            table.writeheader()
            table.writerows(lines)
        pages[number] = "\n".join(
            part for name in REFERENCES for part in _markdown(lines, name, first)
        )
        _write_text(folder / "tables" / f"table{number}.md", pages[number] + "\n")
    write_json(folder / "results.json", results)
    _write_text(folder / "README.md", _page(results, pages))


def _write_text(path: Path, text: str) -> None:
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _markdown(lines: list[dict[str, Any]], reference: str, first: list[str]) -> list[str]:
    """A table against one reference; published values in brackets."""
    columns = [*first, *_SCORES]
    text = [
        f"Compared with {_TITLES[reference]}:",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for line in lines:
        if line["reference"] != reference:
            continue
        cells = ["" if line[name] is None else str(line[name]) for name in first]
        for name in _SCORES:
            value, published = line[name], line[f"published {name}"]
            cell = "–" if value is None else f"{value:.3f}"
            cells.append(cell if published is None else f"{cell} ({published:.3f})")
        text.append("| " + " | ".join(cells) + " |")
    return [*text, ""]


def _page(results: dict[str, Any], pages: Mapping[int, str]) -> str:
    config, epochs = results["config"], results["epochs"]
    text = [
        "# The paper's experiments on simulated recordings",
        "",
        f"Size `{results['size']}`, seed {results['seed']}: {len(results['recordings'])} "
        f"recordings of {config['n_frames']} x {config['side_px']} x {config['side_px']} in "
        f"{len(config['recordings'])} experiments, two of them never trained on. U-Net of width "
        f"{config['base_width']}, trained for {epochs['unet']['run']} epochs (best: "
        f"{epochs['unet']['best']}), temporal network for {epochs['temporal']['run']} (best: "
        f"{epochs['temporal']['best']}). The paper trained for 100 at most. Published values are "
        "in brackets; they are of other recordings.",
    ]
    if results["size"] == "quick":
        text += ["", "**This size tries the command. It is too small for any conclusion.**"]
    text += [
        "",
        "## Table 1: both networks on experiments never seen",
        "",
        "n: frames (U-Net) or recordings (CGRU).",
        "",
        pages[1],
        "## Table 2: masks of the two test experiments",
        "",
        pages[2],
    ]
    for figure, caption in (
        ("figure2", "activity of one neuron: trace, DoG signal with threshold, active frames"),
        ("figure5", "frames, the teacher's masks, the U-Net's"),
        ("figure6", "masks of the methods, combined by maximum"),
        ("figure7", "refinement and validation"),
        ("figure8", "cells marked by a simulated annotator: found (green), not found (red)"),
    ):
        text += [
            f"## Figure {figure[-1]}: {caption}",
            "",
            f"![{caption}](figures/{figure}.png)",
            "",
        ]
    for one in results["figure_8"]:
        recall = "–" if one["recall"] is None else f"{one['recall']:.3f}"
        text.append(
            f"Test experiment {one['experiment']}: recall {recall} ({one['published_recall']}), "
            f"{one['found']} of {one['marked']} marked cells. The annotator overlooked "
            f"{one['functional'] - one['marked']} of {one['functional']} neurons. Of "
            f"{one['rois']} accepted ROIs, {one['rois_without_mark']} have no mark; "
            f"{one['of_them_overlooked_neurons']} of these are neurons that were overlooked."
        )
        text.append("")
    if results["annotated"]:
        text += ["## Real recordings with marked cells", ""]
    for one in results["annotated"]:
        cells = (
            "single cells were not marked"
            if one["marked"] is None
            else f"{one['found']} of {one['marked']} marked cells found within 5 px"
        )
        shares = [
            "–" if one[f"{name} of pixels"] is None else f"{one[f'{name} of pixels']:.3f}"
            for name in ("recall", "precision")
        ]
        text += [
            f"{one['name']}: {one['rois']} ROIs; {cells}; recall of marked pixels {shares[0]}, "
            f"precision {shares[1]}.",
            "",
        ]
    return "\n".join(text)
