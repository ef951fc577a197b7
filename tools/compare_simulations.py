"""Compare simulated recordings with real ones: numbers and pictures.

    COCUYO_REAL_DATA=... python tools/compare_simulations.py --out comparison

measures noise, contrast and spectra of the real one-photon movies in the folder that
COCUYO_REAL_DATA names (left out where it is not set) and of the presets that resemble them, and
writes ``comparison/table.md``, which stands in docs/explanation/simulator.md, and a picture of
each pair. Those pictures show real data and do not belong into the repository. ``--docs FOLDER``
draws the pictures of the documentation, which show simulations only.
"""

import argparse
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from cocuyo.core import AnyArray, FloatArray, TimeArray
from cocuyo.io import open_recording
from cocuyo.simulation import INDICATORS, PRESETS, Simulation, SimulationConfig, simulate
from cocuyo.simulation.indicators import calcium

LIN = "lin_miniscope_dg13/dg13_"
REAL = {
    "culture_neurons_1p": ("culture_neurons_1p/stack400_100x120.tif", "culture"),
    "minian_demo_1p": ("minian_demo_1p/raw.tif", "miniscope_video"),
    "dg13 7-12-17": (f"{LIN}7-12-17.avi", "miniscope_delta_f"),
    "dg13 7-16-17": (f"{LIN}7-16-17.avi", "miniscope_delta_f"),
    "dg13 8-11-17": (f"{LIN}8-11-17.avi", "miniscope_delta_f"),
    "dg13 8-16-17": (f"{LIN}8-16-17.avi", "miniscope_delta_f"),
}
"""Real recordings and the presets made to resemble them."""
SIZES = {
    "culture": (494, 100, 120),
    "miniscope_video": (500, 240, 376),
    "miniscope_delta_f": (600, 200, 200),
}
"""Frames, rows and columns in which those presets are compared, as the real ones have them."""
NEW = tuple(list(PRESETS)[6:])  # the first six are slices without a counterpart here
SEEDS = (1, 2, 3)
_BLOCK_PX = 8  # time courses are means over blocks of so many pixels a side


@dataclass(frozen=True)
class Numbers:
    """What is compared. Frequencies are per pixel and per frame.

    Attributes
    ----------
    level : float
        Mean over the largest count of the data type.
    noise : float
        Noise sd of a pixel (from differences of successive frames) over its mean; median.
    noise_neighbours : float
        Correlation of that noise between neighbours: 0 for a camera, more after lossy video.
    spatial_slope : float
        Slope of the mean image's power spectrum in log-log, 1/64 to 1/6 cycles per pixel.
    blob_contrast : float
        99th percentile of the mean image, band-passed to blobs (2 to 8 px), over its mean.
    activity_contrast : float
        99th percentile of the brightest moment over the median, of frames smoothed over 3 px
        and 3 frames, less what noise alone gives, over the mean.
    temporal_slope : float
        Slope of the blocks' power spectrum in log-log, 1/100 to 1/4 cycles per frame.
    global_share : float
        Share of the blocks' variance over time that follows the mean of the frame.
    slow_change : float
        Standard deviation of the frame's mean over time, smoothed over 15 frames, over the mean.
    """

    level: float
    noise: float
    noise_neighbours: float
    spatial_slope: float
    blob_contrast: float
    activity_contrast: float
    temporal_slope: float
    global_share: float
    slow_change: float


def measure(movie: np.ndarray) -> Numbers:
    """Measure a movie (T, Y, X) of counts."""
    frames = np.asarray(movie, np.float32)
    mean = frames.mean(axis=0)
    level = float(mean.mean())
    steps = np.diff(frames, axis=0)
    # Mean absolute deviation of a normal variable is 0.798 sd; two frames' noise adds.
    sd = np.abs(steps).mean(axis=0) / (np.sqrt(2 / np.pi) * np.sqrt(2))
    lit = mean > 0.1 * np.percentile(mean, 99)
    sample = steps[:: max(1, len(steps) // 100)]
    sample = sample - sample.mean(axis=(1, 2), keepdims=True)
    neighbours = (sample[:, :, 1:] * sample[:, :, :-1]).mean() / max(float(sample.var()), 1e-9)
    band = cv2.GaussianBlur(mean, (0, 0), 2.0) - cv2.GaussianBlur(mean, (0, 0), 8.0)
    blocks = block_courses(frames)
    whole = blocks.mean(axis=0)
    whole = whole - whole.mean()
    gain = blocks @ whole / max(float(whole @ whole), 1e-12)
    explained = (gain**2).sum() * float(whole @ whole) / max(float((blocks**2).sum()), 1e-12)
    course = frames.mean(axis=(1, 2))
    smooth = np.convolve(course, np.ones(15) / 15, mode="valid")
    return Numbers(
        level=level / np.iinfo(movie.dtype).max,
        noise=float(np.median(sd[lit] / mean[lit])),
        noise_neighbours=float(neighbours),
        spatial_slope=spatial_slope(mean),
        blob_contrast=float(np.percentile(band[8:-8, 8:-8], 99)) / level,
        activity_contrast=activity_contrast(frames) / level,
        temporal_slope=temporal_slope(blocks),
        global_share=float(explained),
        slow_change=float(smooth.std()) / level,
    )


def block_courses(frames: FloatArray) -> FloatArray:
    """Relative time courses of square blocks, (n_blocks, T), mean 0."""
    n_frames, rows, columns = frames.shape
    r, c = rows // _BLOCK_PX, columns // _BLOCK_PX
    cut = frames[:, : r * _BLOCK_PX, : c * _BLOCK_PX]
    courses = cut.reshape(n_frames, r, _BLOCK_PX, c, _BLOCK_PX).mean(axis=(2, 4))
    courses = courses.reshape(n_frames, -1).T
    level = courses.mean(axis=1, keepdims=True)
    keep = level[:, 0] > 0.1 * level.max()
    return np.asarray((courses / np.maximum(level, 1e-6) - 1)[keep], np.float32)


def spatial_slope(image: FloatArray) -> float:
    """Slope of the radial power spectrum of an image in log-log."""
    rows, columns = image.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))
    centred = (image - np.average(image, weights=window)) * window
    power = np.abs(np.fft.fft2(centred)) ** 2
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None])
    return slope(radius.ravel(), power.ravel(), low=1 / 64, high=1 / 6)


def temporal_slope(blocks: FloatArray) -> float:
    """Slope of the mean power spectrum of time courses in log-log."""
    window = np.hanning(blocks.shape[1])
    power = (np.abs(np.fft.rfft(blocks * window)) ** 2).mean(axis=0)
    return slope(np.fft.rfftfreq(blocks.shape[1]), power, low=1 / 100, high=1 / 4)


def slope(frequency: FloatArray, power: FloatArray, *, low: float, high: float) -> float:
    """Fit a line through mean powers in 10 bands, equally wide in log frequency."""
    edges = np.geomspace(low, high, 11)
    band = np.digitize(frequency, edges)
    points = [
        (np.log(frequency[band == i].mean()), np.log(power[band == i].mean()))
        for i in range(1, 11)
        if (band == i).any()
    ]
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def activity_contrast(frames: FloatArray) -> float:
    """99th percentile of peaks over the median, less those of the same frames upside down."""
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in frames])
    smooth = smooth - smooth.mean(axis=(1, 2), keepdims=True)
    smooth = (smooth[:-2] + smooth[1:-1] + smooth[2:]) / 3
    middle = np.median(smooth, axis=0)
    up, down = smooth.max(axis=0) - middle, middle - smooth.min(axis=0)
    inner = (slice(8, -8), slice(8, -8))
    # Noise goes up and down alike, transients only up.
    return float(np.percentile(up[inner], 99) - np.percentile(down[inner], 99))


def sized(name: str, n_frames: int, rows: int, columns: int) -> SimulationConfig:
    """A preset in another size, with as many cells for the area."""
    preset = PRESETS[name]
    factor = rows * columns / (preset.n_rows * preset.n_columns)
    counted = ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent", "n_dead_pixels")
    counts = {key: round(getattr(preset, key) * factor) for key in counted}
    size = {"n_frames": n_frames, "n_rows": rows, "n_columns": columns}
    return preset.model_copy(update=size | counts)


def compare(folder: Path | None, out: Path) -> str:
    """Measure everything, draw the pairs, give the table in Markdown."""
    names = [field.name for field in fields(Numbers)]
    lines = [
        "| recording | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    real = {key: read(folder / path) for key, (path, _) in REAL.items()} if folder else {}
    for preset, size in SIZES.items():
        mine = {key: real[key] for key, (_, like) in REAL.items() if like == preset and real}
        lines += [row(key, [measure(movie)]) for key, movie in mine.items()]
        simulations = [simulate(sized(preset, *size), seed=seed) for seed in SEEDS]
        lines.append(row(f"**`{preset}`**", [measure(each.frames) for each in simulations]))
        for key, movie in mine.items():
            draw_pair(
                out / f"{key.replace(' ', '_')}.png", {key: movie, preset: simulations[0].frames}
            )
    return "\n".join(lines)


def row(name: str, numbers: list[Numbers]) -> str:
    """One line of the table: the number, or the range over several recordings."""
    cells = []
    for field in fields(Numbers):
        values = [getattr(each, field.name) for each in numbers]
        low, high = f"{min(values):.2g}", f"{max(values):.2g}"
        cells.append(low if low == high else f"{low} to {high}")
    return f"| {name} | " + " | ".join(cells) + " |"


def read(path: Path) -> AnyArray:
    """The first 600 frames of a movie."""
    recording = open_recording(path)
    return np.asarray(recording.movie.read(0, min(600, recording.n_frames)))


def responses(folder: Path | None) -> str:
    """Compare transients of neurons whose spikes were recorded with those of the indicators.

    The same regression is made of the real fluorescence and of what the simulator makes of the
    same spikes: the mean course after a spike.
    """
    lines = [
        "| recording | neurons | spikes | peak, s | simulated | half decay, s | simulated |",
        "|---|---|---|---|---|---|---|",
    ]
    if folder is None:
        return "\n".join(lines)
    slices = np.genfromtxt(
        folder / "slice_patch_oopsi" / "epi_ogb1_cellA_67Hz.csv", delimiter=",", names=True
    )[5:]  # the first samples are an artefact
    cells = {
        ("OGB-1, slice, camera", "OGB-1"): [(slices["fluorescence"], slices["spikes"], 1 / 0.01495)]
    }
    for number, indicator in ((4, "OGB-1"), (5, "GCaMP6s")):
        stem = folder / "spikefinder_traces" / f"{number}.train"
        traces, spikes = (
            np.genfromtxt(f"{stem}.{kind}.csv", delimiter=",", skip_header=1)
            for kind in ("calcium", "spikes")
        )
        group = []
        for trace, spike in zip(traces.T, spikes.T, strict=True):
            stop = int((np.isfinite(trace) & np.isfinite(spike)).sum()) // 5 * 5
            slow = trace[:stop].reshape(-1, 5).mean(axis=1)
            group.append((slow / slow.std(), spike[:stop].reshape(-1, 5).sum(axis=1), 20.0))
        cells[(f"{indicator}, in vivo, two-photon", indicator)] = group
    for (name, indicator), group in cells.items():
        real = mean_response(group)
        made = mean_response([(answer(s, r, indicator), s, r) for _, s, r in group])
        total = int(sum(spike.sum() for _, spike, _ in group))
        lines.append(
            f"| {name} | {len(group)} | {total} | {real[0]:.2f} | {made[0]:.2f} "
            f"| {real[1]:.2f} | {made[1]:.2f} |"
        )
    return "\n".join(lines)


def answer(spikes: TimeArray, rate_hz: float, name: str) -> TimeArray:
    """ΔF/F of an indicator for given spikes in each sample."""
    indicator = INDICATORS[name]
    fine = 8
    drive = np.zeros(len(spikes) * fine)
    drive[::fine] = spikes
    level = calcium(drive, *indicator.time_constants_s, 1 / (rate_hz * fine))
    return indicator.delta_f_over_f(level).reshape(-1, fine).mean(axis=1)


def mean_response(group: list[tuple[TimeArray, TimeArray, float]]) -> tuple[float, float]:
    """Time to peak and half decay of the mean course after a spike, by ridge regression."""
    rate_hz = group[0][2]
    n_lags = int(2.5 * rate_hz)
    normal, right = np.zeros((n_lags + 1, n_lags + 1)), np.zeros(n_lags + 1)
    for trace, spikes, _ in group:
        detrended = trace - uniform_filter1d(trace, min(int(20 * rate_hz), len(trace)))
        columns = [np.concatenate([np.zeros(k), spikes[: len(spikes) - k]]) for k in range(n_lags)]
        design = np.column_stack([*columns, np.ones(len(trace))])
        normal += design.T @ design
        right += design.T @ detrended
    steps = np.diff(np.eye(n_lags + 1)[:n_lags], axis=0)
    smooth = 0.01 * np.trace(normal) / len(normal) * steps.T @ steps
    smooth += 1e-9 * np.eye(n_lags + 1)
    course = np.linalg.solve(normal + smooth, right)[:n_lags]
    peak = int(course.argmax())
    below = np.flatnonzero(course[peak:] < course[peak] / 2)
    return peak / rate_hz, (below[0] if len(below) else n_lags) / rate_hz


def grey(image: FloatArray) -> FloatArray:
    """An image between its 1st and 99.7th percentile, as 0 to 1."""
    low, high = np.percentile(image, [1, 99.7])
    return np.asarray(np.clip((image - low) / max(high - low, 1e-9), 0, 1))


def views(movie: AnyArray) -> dict[str, FloatArray]:
    """A frame, the mean, and the brightest moment over the median."""
    frames = np.asarray(movie, np.float32)
    return {
        "one frame": frames[len(frames) // 3],
        "mean": frames.mean(axis=0),
        "maximum over median": frames.max(axis=0) - np.median(frames, axis=0),
    }


def draw_pair(path: Path, movies: dict[str, AnyArray]) -> None:
    """Views of recordings below each other."""
    figure = Figure(figsize=(10, 3.4 * len(movies)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(movies), 3, squeeze=False)
    for line, (name, movie) in zip(axes, movies.items(), strict=True):
        for place, (title, image) in zip(line, views(movie).items(), strict=True):
            place.imshow(grey(image), cmap="gray", vmin=0, vmax=1)
            place.set_title(f"{name}: {title}", fontsize=9)
            place.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def draw_docs(folder: Path) -> None:
    """The pictures of the documentation: presets, and what the indicators make of spikes."""
    figure = Figure(figsize=(10, 15.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(NEW), 4, width_ratios=(1, 1, 1, 1.9))
    for line, name in zip(axes, NEW, strict=True):
        simulation = simulate(sized(name, *SIZES.get(name, (400, 200, 200))), seed=SEEDS[0])
        for place, (title, image) in zip(line, views(simulation.frames).items(), strict=False):
            place.imshow(grey(image), cmap="gray", vmin=0, vmax=1)
            place.set_title(name if title == "one frame" else title, fontsize=8)
            place.set_axis_off()
        draw_traces(line[3], simulation)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "simulated-presets.png", dpi=80)
    draw_indicators(folder / "simulated-indicators.png")


def draw_traces(axes: object, simulation: Simulation) -> None:
    """Means over the masks of the clearest cells, in counts, each over its own range."""
    truth = simulation.truth
    best = np.argsort(-truth.snr * truth.functional)[:4]
    masks = truth.cell_masks()[best].astype(np.float32)
    pixels = simulation.frames.reshape(len(simulation.frames), -1)
    traces = (masks @ pixels.T) / masks.sum(axis=1)[:, None]
    times_s = np.arange(traces.shape[1]) / truth.fps
    for step, trace in enumerate(traces):
        axes.plot(times_s, step + 0.9 * (trace - trace.min()) / np.ptp(trace), "k", linewidth=0.6)  # type: ignore[attr-defined]
    axes.set_yticks([])  # type: ignore[attr-defined]
    axes.tick_params(labelsize=7)  # type: ignore[attr-defined]
    axes.set_title("means over four cells, time / s", fontsize=8)  # type: ignore[attr-defined]


def draw_indicators(path: Path) -> None:
    """One spike, and the peak of trains of more and more spikes."""
    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    step_s = 0.001
    counts = np.array([1, 2, 4, 8, 16, 32, 64, 128])
    for name, indicator in INDICATORS.items():
        one = np.zeros(2500)
        one[200] = 1
        level = calcium(one, *indicator.time_constants_s, step_s)
        left.plot(np.arange(-200, 2300) * step_s, indicator.delta_f_over_f(level), label=name)
        peaks = []
        for count in counts:
            train = np.zeros(6000)
            train[100 : 100 + 12 * count : 12] = 1  # 83 Hz
            level = calcium(train, *indicator.time_constants_s, step_s)
            peaks.append(indicator.delta_f_over_f(level).max())
        right.plot(counts, peaks, marker=".", label=name)
    left.set(xlabel="time after one spike / s", ylabel="ΔF/F")
    right.set(xlabel="spikes in a train of 83 Hz", ylabel="peak ΔF/F", xscale="log", yscale="log")
    left.legend(fontsize=8)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the tables and pictures of pairs")
    parser.add_argument("--docs", type=Path, help="folder for the pictures of the documentation")
    options = parser.parse_args()
    if options.out is None and options.docs is None:
        parser.error("give --out, --docs or both")
    if options.docs is not None:
        draw_docs(options.docs)
    if options.out is not None:
        given = os.environ.get("COCUYO_REAL_DATA")
        folder = Path(given) if given else None
        if folder is not None and not folder.is_dir():
            sys.exit(f"COCUYO_REAL_DATA names {folder}, which is no folder.")
        if folder is None:
            print("COCUYO_REAL_DATA is not set: simulations only.")
        options.out.mkdir(parents=True, exist_ok=True)
        text = compare(folder, options.out) + "\n\n" + responses(folder) + "\n"
        (options.out / "table.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
