"""Time, memory and cost of the whole program, from a recording on disk to a finished folder.

    python benchmarks/speed.py --out benchmarks/results/speed.md

runs `cocuyo run` on simulated slices: the standard recording (3600 frames of 512 x 512, 16 bit) on
one and on two cores, every precision, and recordings of different lengths, sizes and numbers of
cells; beside it, in the same run, a trivial competitor (maximum projection, threshold, mean
traces). It writes a table, the numbers and a picture of the cost curves. Run it with nothing else
on the machine: the load before each run is printed.

``--suite2p PYTHON`` and ``--caiman PYTHON`` name the Python of an environment in which that program
is installed: it is run on the standard recording with the same two cores. ``--quick`` takes small
recordings, to try the command. Linux only: memory is read from /proc.

Long recordings repeat frames: their pages share strips, so that they need no more disk.
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.simulation import PRESETS, simulate

RATE_HZ = 6.67
PIXEL_UM = PRESETS["slice"].pixel_size_um
TARGETS = "targets: 60 s (stretch 36 s) and 1.0 GB (0.6 GB) for the standard recording"

TRIVIAL = """
import sys, numpy as np, tifffile
from scipy import ndimage
with tifffile.TiffFile(sys.argv[1]) as file:
    highest = None
    for page in file.pages:
        frame = page.asarray()
        highest = frame if highest is None else np.maximum(highest, frame)
    smooth = ndimage.gaussian_filter(highest.astype(np.float32), 1.5)
    labels, n = ndimage.label(smooth > np.percentile(smooth, 95))
    traces = [ndimage.mean(page.asarray(), labels, np.arange(1, n + 1)) for page in file.pages]
np.savez(sys.argv[2], labels=labels, traces=np.array(traces))
"""
SUITE2P = """
import sys, pathlib, suite2p
recording, out, rate, diameter = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
settings = suite2p.default_settings()
settings["fs"], settings["tau"] = rate, 0.7
settings["diameter"] = [diameter, diameter]
db = suite2p.default_db() if hasattr(suite2p, "default_db") else {}
db.update({"data_path": [str(pathlib.Path(recording).parent)], "save_path0": out,
           "input_format": "tif", "file_list": [recording]})
suite2p.run_s2p(db=db, settings=settings)
"""
# Less of what ours does not do either: shifts of the whole frame only, and no deconvolution.
SUITE2P_LESS = SUITE2P.replace(
    "db =",
    """settings["run"]["do_deconvolution"] = False
settings["registration"]["nonrigid"] = False
db =""",
    1,
)
CAIMAN = """
import sys, caiman as cm
from caiman.motion_correction import MotionCorrect
from caiman.source_extraction.cnmf import cnmf, params
recording, rate = sys.argv[1], float(sys.argv[3])
sigma = max(2, int(float(sys.argv[4])) // 3)
options = params.CNMFParams(params_dict={
    "fnames": [recording], "fr": rate, "decay_time": 0.7, "pw_rigid": False,
    "gSig_filt": (sigma,) * 2,
    "method_init": "corr_pnr", "K": None, "gSig": (sigma,) * 2, "gSiz": (4 * sigma + 1,) * 2,
    "p": 1, "nb": 0, "min_corr": 0.8, "min_pnr": 8, "center_psf": True, "only_init": True,
    "rf": 40, "stride": 20, "normalize_init": False, "ring_size_factor": 1.4,
    "del_duplicates": True})
motion = MotionCorrect([recording], **options.get_group("motion"))
motion.motion_correct(save_movie=True)
movie = cm.load(cm.save_memmap(motion.mmap_file, base_name="m", order="C"))
cnmf.CNMF(1, params=options).fit(movie)
"""


@dataclass(frozen=True)
class Case:
    """One run of `cocuyo`."""

    group: str
    name: str
    n_frames: int
    side: int
    cells: float = 1.0
    """Density of cells, relative to the preset."""
    cores: int = 2
    precision: str = "auto"


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def make_cases(*, quick: bool) -> list[Case]:
    """The standard recording first; everything else stands beside it."""
    long, side, short = (240, 128, 120) if quick else (3600, 512, 600)
    cases = [Case("standard", "two cores", long, side)]
    cases += [Case("standard", "one core", long, side, cores=1)]
    cases += [
        Case("precision", precision, short, side, precision=precision)
        for precision in ("int8", "bf16", "f32")
    ]
    cases += [Case("length", f"{n} frames", n, side) for n in (long // 6, 3 * long, 10 * long)]
    cases += [
        Case("size", f"{s} x {s}", short // 2, s) for s in (side // 2, side, 2 * side, 4 * side)
    ]
    cases += [
        Case("cells", f"{d:g} x the cells", short, side, cells=d) for d in (0.1, 0.5, 1.0, 2.0)
    ]
    return cases


def make_frames(n_frames: int, side: int, cells: float) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Simulate an ordinary slice; large ones are tiles of one of at most 512 x 512 pixels."""
    preset, tile = PRESETS["slice"], min(side, 512)
    factor = cells * 0.75 * (tile / 256) ** 2
    counts = {
        key: max(2, round(getattr(preset, key) * factor))
        for key in ("n_active", "n_silent", "n_defocused_active", "n_defocused_silent")
    }
    size = {"n_frames": n_frames, "n_rows": tile, "n_columns": tile, "frame_rate_hz": RATE_HZ}
    dense = {"min_distance": min(preset.min_distance, 0.6)} if cells > 1 else {}
    frames = simulate(preset.model_copy(update=counts | size | dense), seed=7_200).frames
    return np.tile(np.asarray(frames, np.uint16), (1, side // tile, side // tile))


def write_tiff(path: Path, frames: np.ndarray[Any, np.dtype[np.uint16]], n_pages: int) -> None:
    """Write a BigTIFF of any length: its pages go to and fro through the frames."""
    n, rows, columns = frames.shape
    there_and_back = np.concatenate([np.arange(n), np.arange(n - 2, 0, -1)])
    size = rows * columns * 2
    tags = 10
    ifd_size = 8 + 20 * tags + 8
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16 + n * size))
        frames.astype("<u2").tofile(file)
        for page in range(n_pages):
            offset = 16 + int(there_and_back[page % len(there_and_back)]) * size
            entries = [
                (256, 4, columns), (257, 4, rows), (258, 3, 16), (259, 3, 1), (262, 3, 1),
                (273, 16, offset), (277, 3, 1), (278, 4, rows), (279, 16, size), (339, 3, 1),
            ]  # fmt: skip
            file.write(struct.pack("<Q", tags))
            for tag, kind, value in entries:
                file.write(struct.pack("<HHQQ", tag, kind, 1, value))
            last = page == n_pages - 1
            file.write(struct.pack("<Q", 0 if last else file.tell() + 8))
            assert ifd_size == 8 + 20 * tags + 8


def resident_mb(root: int) -> float:
    """Memory of a process and all that descend from it, in MB."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    total, todo = 0.0, [root]
    while todo:
        process = todo.pop()
        todo += parents.get(process, [])
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        total += pages * resource.getpagesize() / 1e6
    return total


def cost_of(words: list[str], *, cores: int, log: Path) -> Cost:
    """Run a command on some cores; its wall and processor time and its peak memory."""
    available = sorted(os.sched_getaffinity(0))[:cores]
    peak, ended = [0.0], threading.Event()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            words,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, available),  # noqa: PLW1509
        )

        def watch() -> None:
            while not ended.wait(0.1):
                peak[0] = max(peak[0], resident_mb(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
    wall = time.perf_counter() - start
    ended.set()
    watcher.join()
    if status != 0:
        msg = f"{words[:4]} ended with status {status}:\n{log.read_text()[-2000:]}"
        raise RuntimeError(msg)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, peak[0])


def run_case(case: Case, recording: Path, out: Path) -> dict[str, Any]:
    """Run `cocuyo` on a recording."""
    known = ["--frame-rate", str(RATE_HZ), "--pixel-size", str(PIXEL_UM), "--diameter", "11"]
    words = [sys.executable, "-m", "cocuyo", "run", str(recording), "--out", str(out), *known]
    load = os.getloadavg()[0]
    cost = cost_of(
        [*words, "--precision", case.precision], cores=case.cores, log=out.with_suffix(".log")
    )
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {
        **vars(case),
        **vars(cost),
        "n_accepted": info["n_accepted"],
        "n_candidates": info["n_candidates"],
        "ran_in": info["precision"],
        "engine": info["engine"],
        "timings_s": info["timings_s"],
        "load_before": load,
    }


def run_other(name: str, python: str, script: str, recording: Path, place: Path) -> dict[str, Any]:
    """Run another program on the standard recording, on two cores."""
    (place / f"{name}.py").write_text(script, encoding="utf-8")
    out = place / f"{name}_out"
    diameter_px = str(round(11 / PIXEL_UM))
    words = [python, str(place / f"{name}.py"), str(recording), str(out), str(RATE_HZ), diameter_px]
    load = os.getloadavg()[0]
    cost = cost_of(words, cores=2, log=place / f"{name}.log")
    return {"group": "others", "name": name, **vars(cost), "load_before": load}


def time_import() -> float:
    """Seconds that `import cocuyo` adds to the start of Python; the least of five."""

    def least(code: str) -> float:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    return least("import cocuyo") - least("pass")


def to_markdown(rows: list[dict[str, Any]], import_s: float) -> str:
    """Tables of all runs; ratios are to the standard recording on two cores."""
    standard = rows[0]
    mega = standard["n_frames"] * standard["side"] ** 2 / 1e6
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors; {TARGETS}. "
        f"`import cocuyo`: {import_s:.2f} s (target 0.3 s).",
        "",
        "| | | frames | pixels | cores | candidates | wall s | ratio | CPU s | µs per 1000 px | "
        "peak MB | ran in | load before |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["group"] == "others":
            shape = [standard["n_frames"], f"{standard['side']}²", 2, "-"]
            pixels, ran = mega, "-"
        else:
            shape = [row["n_frames"], f"{row['side']}²", row["cores"], row["n_candidates"]]
            pixels, ran = row["n_frames"] * row["side"] ** 2 / 1e6, row["ran_in"]
        cells = [
            row["group"],
            row["name"],
            *shape,
            f"{row['wall_s']:.1f}",
            f"{row['wall_s'] / standard['wall_s']:.2f}",
            f"{row['cpu_s']:.1f}",
            f"{1000 * row['cpu_s'] / pixels:.0f}",
            f"{row['peak_mb']:.0f}",
            ran,
            f"{row['load_before']:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "Seconds of each stage of the standard recording, two cores and one:", ""]
    lines += ["| stage | two | one |", "|---|---|---|"]
    alone = rows[1]["timings_s"]
    for stage, seconds in standard["timings_s"].items():
        lines.append(f"| {stage} | {seconds:.1f} | {alone.get(stage, float('nan')):.1f} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Cost curves: time and memory over length, size and number of cells."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    standard = rows[0]
    curves = [
        ("length", "frames", lambda row: row["n_frames"]),
        ("size", "megapixels per frame", lambda row: row["side"] ** 2 / 1e6),
        ("cells", "candidates", lambda row: row["n_candidates"]),
    ]
    curves = [curve for curve in curves if any(row["group"] == curve[0] for row in rows)]
    if not curves:
        return
    figure = Figure(figsize=(1 + 3 * len(curves), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(curves), sharex="col", squeeze=False)
    for column, (group, label, value) in enumerate(curves):
        points = [row for row in rows if row["group"] == group]
        points += [standard] if group == "length" else []
        points.sort(key=value)
        x = [value(row) for row in points]
        axes[0, column].plot(x, [row["wall_s"] for row in points], "o-", color="tab:blue")
        axes[1, column].plot(x, [row["peak_mb"] for row in points], "o-", color="tab:orange")
        axes[1, column].set_xlabel(label)
        for panel in axes[:, column]:
            panel.set_ylim(bottom=0, top=1.08 * panel.get_ylim()[1])
            panel.set_xlim(left=0)
            panel.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("time, s (two cores)")
    axes[1, 0].set_ylabel("peak memory, MB")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, and write table, numbers and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("speed.md"))
    parser.add_argument("--quick", action="store_true", help="small recordings")
    parser.add_argument("--groups", nargs="+", help="only these groups, beside the standard")
    parser.add_argument("--suite2p", metavar="PYTHON")
    parser.add_argument("--caiman", metavar="PYTHON")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    others = {"trivial": (sys.executable, TRIVIAL)}
    if options.suite2p:
        others |= {
            "Suite2p, as it comes": (options.suite2p, SUITE2P),
            "Suite2p, rigid, no deconvolution": (options.suite2p, SUITE2P_LESS),
        }
    others |= {"CaImAn": (options.caiman, CAIMAN)} if options.caiman else {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made: dict[tuple[int, float], np.ndarray[Any, np.dtype[np.uint16]]] = {}
        for i, case in enumerate(make_cases(quick=options.quick)):
            if case.group != "standard" and options.groups and case.group not in options.groups:
                continue
            key = (case.side, case.cells)
            if key not in made:
                made.clear()
                made[key] = make_frames(120 if case.side > 512 else 600, *key)
            recording = place / f"{i}" / "recording.tif"
            recording.parent.mkdir()
            write_tiff(recording, made[key], case.n_frames)
            rows.append(run_case(case, recording, place / f"{i}" / "result"))
            print(json.dumps(rows[-1]), flush=True)
            if i == 0:
                kept = recording.rename(place / "standard.tif")
            else:
                recording.unlink()
        alone = place / "others" / "recording.tif"  # some programs read the whole folder
        alone.parent.mkdir()
        kept.rename(alone)
        for name, (python, script) in others.items():
            try:
                rows.append(run_other(name, python, script, alone, place))
            except RuntimeError as error:  # what was measured before is worth keeping
                print(error, file=sys.stderr)
                continue
            print(json.dumps(rows[-1]), flush=True)
    import_s = time_import()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(to_markdown(rows, import_s), encoding="utf-8")
    draw(rows, options.out.with_suffix(".png"))
    content = {"import_s": import_s, "rows": rows}
    options.out.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
