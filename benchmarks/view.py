"""How quick the curation page is on a large result: `python benchmarks/view.py`.

Makes a result of many ROIs and its recording, serves it, drives the page in headless Chromium, and
prints: time from click to trace, frames per second while scrubbing and while playing, time from a
decision to its confirmation, time from a change of shape to its trace, memory of the server.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage, sparse

from cocuyo.core import Events, Motion, Result, RoiSet, RunInfo, Traces
from cocuyo.pipeline import load_model

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
RATE_HZ = 10.0
DIAMETER_PX = 9.0


def make_folder(folder: Path, *, n_rois: int, n_frames: int, side: int) -> Path:
    """Write a recording of blinking discs, and the result that a perfect run would give.

    Parameters
    ----------
    folder : Path
        An existing folder.
    n_rois, n_frames, side : int
        Size of everything; frames are square.

    Returns
    -------
    Path
        The result folder.
    """
    rng = np.random.default_rng(0)
    per_side = int(np.ceil(np.sqrt(n_rois)))
    grid = np.linspace(12, side - 12, per_side)
    centres = np.array([(y, x) for y in grid for x in grid])[:n_rois] + rng.uniform(
        -3, 3, (n_rois, 2)
    )
    y, x = np.mgrid[-5:6, -5:6]
    disc = np.hypot(y, x) <= DIAMETER_PX / 2
    rows = []
    for cy, cx in np.rint(centres).astype(int):
        rows.append((y[disc] + cy) * side + x[disc] + cx)
    pixels = np.concatenate(rows)
    size = int(disc.sum())
    footprints = sparse.csr_array(
        (np.ones(len(pixels), np.float32), pixels, np.arange(0, len(pixels) + 1, size)),
        shape=(n_rois, side * side),
    )
    onsets = [np.sort(rng.choice(n_frames - 20, 6, replace=False)) for _ in range(n_rois)]
    spikes = np.zeros((n_rois, n_frames), np.float32)
    for roi, starts in enumerate(onsets):
        spikes[roi, starts] = 1
    kernel = np.exp(-np.arange(30) / 8).astype(np.float32)
    clean = ndimage.convolve1d(spikes, np.pad(kernel, (30, 0)), axis=1, mode="constant")
    dff = 0.3 * clean + rng.normal(0, 0.02, clean.shape).astype(np.float32)
    haze = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 30)
    mean = (800 + 4000 * haze).astype(np.float32)
    mean.ravel()[pixels] += 150
    movie = folder / "large.tif"
    shape = (n_frames, side, side)
    frames = tifffile.memmap(movie, shape=shape, dtype=np.uint16, bigtiff=True)
    for t in range(n_frames):
        frame = mean + rng.standard_normal((side, side), np.float32) * 15
        frame.ravel()[pixels] += np.repeat(250 * clean[:, t], size)
        frames[t] = np.clip(frame, 0, 65535)
    frames.flush()
    dog = ndimage.gaussian_filter1d(dff, 2.5, axis=1) - ndimage.gaussian_filter1d(dff, 10, axis=1)
    dog /= 0.008
    raw = mean.ravel()[pixels].reshape(n_rois, size).mean(axis=1)[:, None] * (1 + dff)
    roi = np.repeat(np.arange(n_rois), 6).astype(np.int32)
    onset = np.concatenate(onsets).astype(np.int32)
    raster = np.zeros((n_rois, n_frames), np.bool_)
    for i, start in zip(roi, onset, strict=True):
        raster[i, start : start + 15] = True
    score = rng.beta(0.6, 0.4, n_rois).astype(np.float32)
    accepted = score >= 0.4
    none = np.zeros((side, side), np.float32)
    one = np.ones(n_rois, np.float32)
    probability = none.copy()
    probability.ravel()[pixels] = np.repeat(score, size)
    result = Result(
        rois=RoiSet(
            footprints,
            (side, side),
            tuple(f"roi_{i + 1:04d}" for i in range(n_rois)),
            accepted,
            tuple("" if ok else "unlike a functional neuron" for ok in accepted),
            score,
            (dff.max(axis=1) / 0.02).astype(np.float32),
        ),
        traces=Traces(
            raw.astype(np.float32),
            raw.astype(np.float32),
            one,
            raw.astype(np.float32),
            dff,
            dog.astype(np.float32),
            3.5 * one,
            0.02 * one,
        ),
        raster=raster,
        events=Events(roi, onset, onset + 1, onset + 14, np.full(len(roi), 0.3, np.float32)),
        probability=probability,
        projections={"mean": mean, "max": mean + 300, "contrast": none},
        valid=np.ones((side, side), np.bool_),
        motion=Motion(
            rng.normal(0, 0.4, (n_frames, 2)).astype(np.float32),
            np.ones(n_frames, np.float32),
            np.zeros(n_frames, np.uint8),
        ),
        times_s=np.arange(n_frames) / RATE_HZ,
        frame_rate_hz=RATE_HZ,
        pixel_size_um=1.2,
        diameter_px=DIAMETER_PX,
        name="large",
        info=RunInfo(
            model="default",
            settings=load_model("default").settings.pipeline.model_dump(mode="json"),
            inputs=({"path": str(movie), "bytes": movie.stat().st_size, "sha256": ""},),
        ),
    )
    from cocuyo.io import save_result

    return save_result(result, folder / "large.cocuyo")


def start(result: Path) -> tuple[subprocess.Popen[str], str, float]:
    """Serve a result; give the process, the address, and the seconds until it was there."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "cocuyo", "view", str(result), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http\S+", line)
    if found is None:
        sys.exit(f"The server did not start: {line}")
    return process, found.group(), time.perf_counter() - began


# Between the choice of an ROI and its trace on the canvas; from its own store, so that the click
# itself is a real one.
_CLICKED = """(id) => new Promise((done) => {
  const { store, trace } = window.cocuyo;
  const began = performance.now();
  const look = () => {
    if (trace.canvas.dataset.shows === id) done(performance.now() - began);
    else requestAnimationFrame(look);
  };
  document.getElementById(`row-${id}`).click();
  look();
})"""
_SCRUB = """async (frames) => {
  const { field, movie, picture } = window.cocuyo;
  const scrub = document.getElementById("scrub");
  const before = field.shownFrames;
  const began = performance.now();
  for (const frame of frames) {
    scrub.value = frame;
    scrub.dispatchEvent(new Event("input"));
    await new Promise(requestAnimationFrame);
  }
  const seconds = (performance.now() - began) / 1000;
  return { drawn: (field.shownFrames - before) / seconds, asked: frames.length / seconds };
}"""
_PLAY = """async (speed) => {
  const { movie, picture } = window.cocuyo;
  movie.go(0);
  movie.setSpeed(speed);
  const before = movie.drawn;
  movie.play();
  await new Promise((done) => setTimeout(done, 4000));
  movie.pause();
  return { drawn: (movie.drawn - before) / 4, reached: movie.frame };
}"""
_DECIDE = """async (id) => {
  const { store } = window.cocuyo;
  store.choose(id);
  const began = performance.now();
  await store.act({ do: "reject", rois: [id] });
  return performance.now() - began;
}"""
_RESHAPE = """(id) => new Promise((done, failed) => {
  const { store, trace } = window.cocuyo;
  store.choose(id);
  const roi = store.rois.get(id);
  const began = performance.now();
  trace.canvas.dataset.shows = "";
  const area = { kind: "stroke", points: [[roi.y, roi.x + 5]], radius_px: 2 };
  store.act({ do: "add", roi: id, area }).catch(failed);
  const look = () => {
    const now = store.rois.get(id);
    const shown = trace.canvas.dataset.shows === id;
    if (now.shape && !now.pending && shown) done(performance.now() - began);
    else setTimeout(look, 10);
  };
  look();
})"""


def measure(url: str) -> dict[str, str]:
    """Drive the page and give what was measured, in words."""
    from playwright.sync_api import sync_playwright

    found: dict[str, str] = {}

    def spread(values: list[float]) -> str:
        return f"{np.median(values):.0f} ms (median), {np.percentile(values, 95):.0f} ms (95 %)"

    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.perf_counter()
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        found["page ready after"] = f"{time.perf_counter() - began:.1f} s"
        page.wait_for_timeout(1000)
        ids = page.evaluate("window.cocuyo.store.listed")
        clicks = []
        for at in np.linspace(0, len(ids) - 1, 40).astype(int):
            page.evaluate(
                "(top) => { document.getElementById('rows').scrollTop = top; }", int(at) * 25
            )
            page.wait_for_selector(f"#row-{ids[at]}")
            clicks.append(page.evaluate(_CLICKED, ids[at]))
        found["click to trace"] = spread(clicks)
        n_frames = page.evaluate("window.cocuyo.store.facts.n_frames")
        page.evaluate("window.cocuyo.picture.choose('movie corrected')")
        page.wait_for_timeout(1500)
        first = page.evaluate(_SCRUB, list(range(0, min(300, n_frames))))
        again = page.evaluate(_SCRUB, list(range(min(300, n_frames) - 1, -1, -1)))
        jumps = page.evaluate(_SCRUB, [int(v) for v in np.linspace(0, n_frames - 1, 120)])
        found["scrubbing frame by frame, first time"] = (
            f"{first['drawn']:.0f} frames drawn per second"
        )
        found["scrubbing back over the same"] = f"{again['drawn']:.0f} frames drawn per second"
        found["scrubbing over all of it in 120 jumps"] = (
            f"{jumps['drawn']:.0f} frames drawn per second"
        )
        for speed in (1, 5):
            played = page.evaluate(_PLAY, speed)
            found[f"playing at {speed}x"] = (
                f"{played['drawn']:.0f} frames drawn per second, "
                f"{played['reached'] / (4 * speed * RATE_HZ):.0%} of the wanted speed"
            )
        decided = [page.evaluate(_DECIDE, ids[i]) for i in range(20)]
        found["decision to confirmation (on the disk, shown)"] = spread(decided)
        reshaped = [page.evaluate(_RESHAPE, ids[i]) for i in range(40, 45)]
        found["change of shape to its trace"] = spread(reshaped)
        browser.close()
    return found


def main() -> None:
    """Make, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rois", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder to make the result in, or to find it in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = folder / "large.cocuyo"
        if not result.exists():
            made = {"n_rois": given.rois, "n_frames": given.frames, "side": given.side}
            result = make_folder(folder, **made)
        (result / "edits.jsonl").unlink(missing_ok=True)
        shutil.rmtree(result / "edits.traces", ignore_errors=True)
        process, url, seconds = start(result)
        try:
            found = {"server ready after": f"{seconds:.1f} s", **measure(url)}
            status = Path(f"/proc/{process.pid}/status")
            if status.exists():
                peak = re.search(r"VmHWM:\s+(\d+)", status.read_text())
                found["peak memory of the server"] = (
                    f"{int(peak.group(1)) / 1024:.0f} MB" if peak else ""
                )
        finally:
            process.terminate()
            process.wait()
    movie = (folder / "large.tif").stat().st_size if given.keep else 0
    print(f"{given.rois} ROIs, {given.frames} frames of {given.side} x {given.side}", end="")
    print(f" ({movie / 1e9:.1f} GB)" if movie else "")
    for name, value in found.items():
        print(f"{name + ' ':.<50} {value}")


if __name__ == "__main__":
    main()
