"""Write small simulated recordings, some of them broken, to try `cocuyo batch` on.

`python tools/make_batch.py FOLDER` writes 40 recordings, in the folders `control` and `drug`; five
of them are broken, each in another way. Those of one name in both folders show one field of view.
Used by the slow tests and for trying a cluster.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile

from cocuyo.simulation import PRESETS, simulate

BROKEN = ("cut", "empty", "garbage", "single", "no rate")


def make_recordings(
    folder: Path, *, n: int = 40, n_broken: int = 5, size: int = 96, n_frames: int = 90
) -> None:
    """Write recordings, the last ones broken."""
    settings = PRESETS["demo"].model_copy(
        update={"n_rows": size, "n_columns": size, "n_frames": 2 * n_frames}
    )
    both = np.empty(0)
    for i in range(n):
        group = ("control", "drug")[i % 2]
        path = folder / group / f"animal{i // 4 + 1:02d}_slice{i % 4 // 2 + 1}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 2 == 0:
            both = simulate(settings, seed=100 + i).frames
        frames = both[n_frames:] if i % 2 else both[:n_frames]
        kind = BROKEN[(i - (n - n_broken)) % len(BROKEN)] if i >= n - n_broken else ""
        if kind == "single":
            frames = frames[0]
        rate_hz = None if kind == "no rate" else settings.frame_rate_hz
        _write(path, frames, rate_hz, settings.pixel_size_um)
        if kind == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "garbage":
            path.write_bytes(np.random.default_rng(i).bytes(5000))


def _write(path: Path, frames: np.ndarray, rate_hz: float | None, pixel_um: float) -> None:
    rate = {} if rate_hz is None else {"finterval": 1 / rate_hz, "fps": rate_hz}
    tifffile.imwrite(
        path,
        frames,
        imagej=True,
        byteorder="<",
        resolution=(1 / pixel_um, 1 / pixel_um),
        metadata={"axes": "TYX"[3 - frames.ndim :], "unit": "um", **rate},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--broken", type=int, default=5)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--frames", type=int, default=90)
    given = parser.parse_args()
    make_recordings(
        given.folder, n=given.n, n_broken=given.broken, size=given.size, n_frames=given.frames
    )
