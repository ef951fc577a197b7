"""A result that looks like a run's, without running anything."""

from dataclasses import fields, replace

import numpy as np
from scipy import ndimage, sparse

from cocuyo.core import (
    FLAG_FLASH,
    FLAG_UNPLACED,
    Deformation,
    Events,
    Motion,
    Part,
    Result,
    RoiSet,
    RunInfo,
    Traces,
)

REASONS = ("no event in its trace", "edge not sharp (0.21 < 0.35)", "area 9 px < 20 px")


def make_result(
    *,
    n_rois: int = 6,
    n_frames: int = 120,
    frame_shape: tuple[int, int] = (40, 56),
    frame_rate_hz: float = 10.0,
    pixel_size_um: float | None = 1.5,
    radius_px: float = 4.0,
    seed: int = 3,
    name: str = "slice 1",
    warnings: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Result:
    """Draw cells with transients; one in five is rejected, two frames are unplaced."""
    rng = np.random.default_rng(seed)
    rows, columns = frame_shape
    y, x = np.mgrid[:rows, :columns]
    indptr, indices, weights = [0], [], []
    image = np.zeros(frame_shape, np.float32)
    for _ in range(n_rois):
        cy = rng.uniform(radius_px, max(rows - radius_px, radius_px + 1))
        cx = rng.uniform(radius_px, max(columns - radius_px, radius_px + 1))
        wobble = 1 + 0.25 * np.sin(2 * np.arctan2(y - cy, x - cx) + rng.uniform(0, 6))
        r = np.hypot(y - cy, x - cx) / (radius_px * wobble * rng.uniform(0.8, 1.3))
        profile = np.exp(-0.7 * r**2)
        image += (rng.uniform(60, 250) * profile).astype(np.float32)
        flat = np.flatnonzero(profile >= 0.5)
        if flat.size == 0:
            flat = np.array([int(cy) * columns + int(cx)])
        weight = profile.ravel()[flat]
        indices.append(flat)
        weights.append(weight / weight.max())
        indptr.append(indptr[-1] + flat.size)
    footprints = sparse.csr_array(
        (
            np.concatenate([*weights, []]).astype(np.float32),
            np.concatenate([*indices, []]).astype(np.int32),
            np.array(indptr, np.int32),
        ),
        shape=(n_rois, rows * columns),
    )
    accepted = np.arange(n_rois) % 5 != 4
    raster = np.zeros((n_rois, n_frames), np.bool_)
    dff = rng.normal(0, 0.01, (n_rois, n_frames)).astype(np.float32)
    rise, decay = max(1, round(0.2 * frame_rate_hz)), 1.2 * frame_rate_hz
    found = []
    for roi in range(n_rois):
        n_events = rng.poisson(max(1.0, n_frames / frame_rate_hz / 12)) if accepted[roi] else 0
        for onset in np.sort(rng.choice(max(n_frames - 4, 1), min(n_events, n_frames // 8), False)):
            t = np.arange(n_frames - onset)
            height = rng.uniform(0.05, 0.3)
            dff[roi, onset:] += height * np.minimum(t / rise, np.exp(-(t - rise) / decay))
            offset = min(onset + int(1.2 * decay), n_frames - 1)
            peak = min(onset + rise, offset)
            if not raster[roi, onset : offset + 2].any():
                raster[roi, onset : offset + 1] = True
                found.append((roi, onset, peak, offset, height))
    events = np.array(found, np.float64).reshape(-1, 5)
    baseline = rng.uniform(150, 900, (n_rois, 1)).astype(np.float32)
    neuropil = (80 + 4 * np.sin(np.arange(n_frames) / 40) + np.zeros((n_rois, 1))).astype(
        np.float32
    )
    corrected = baseline * (1 + dff)
    dog = ndimage.gaussian_filter1d(dff, 1.5, axis=1) - ndimage.gaussian_filter1d(dff, 25, axis=1)
    dog /= np.float32(0.006)
    flags = np.zeros(n_frames, np.uint8)
    if n_frames > 50:
        flags[[30, 31]] = FLAG_UNPLACED
        flags[48] = FLAG_FLASH
    drift = np.cumsum(rng.normal(0, 0.06, (n_frames, 2)), axis=0)
    haze = 300 + 120 * np.exp(
        -(((y - rows / 2) / rows) ** 2 + ((x - columns / 3) / columns) ** 2) * 3
    )
    mean = (haze + image + rng.normal(0, 3, frame_shape)).astype(np.float32)
    valid = np.ones(frame_shape, np.bool_)
    valid[:, :2] = False
    mask = np.zeros(rows * columns)
    mask[footprints[np.flatnonzero(accepted)].indices] = 1
    probability = ndimage.gaussian_filter(mask.reshape(frame_shape), 1.2).astype(np.float32)
    return Result(
        rois=RoiSet(
            footprints=footprints,
            frame_shape=frame_shape,
            ids=tuple(f"roi_{i + 1:04d}" for i in range(n_rois)),
            accepted=accepted,
            reasons=tuple("" if ok else REASONS[i % 3] for i, ok in enumerate(accepted)),
            score=rng.uniform(0.5, 1, n_rois).astype(np.float32)
            * np.where(accepted, 1, 0.5).astype("f4"),
            snr=rng.uniform(3, 12, n_rois).astype(np.float32),
        ),
        traces=Traces(
            raw=(corrected + 0.7 * (neuropil - 80)).astype(np.float32),
            neuropil=neuropil,
            neuropil_coefficient=np.full(n_rois, 0.7, np.float32),
            corrected=corrected.astype(np.float32),
            delta_f_over_f=dff,
            dog=dog.astype(np.float32),
            threshold=np.full(n_rois, 3.5, np.float32),
            noise=np.full(n_rois, 0.01, np.float32),
        ),
        raster=raster,
        events=Events(
            *(events[:, i].astype(np.int32) for i in range(4)), events[:, 4].astype(np.float32)
        ),
        probability=probability,
        projections={
            "mean_raw": ndimage.uniform_filter(mean, 3),
            "max_raw": ndimage.uniform_filter(mean * 1.3, 3),
            "mean": mean,
            "max": (mean * 1.3).astype(np.float32),
            "contrast": (image / 20).astype(np.float32),
        },
        valid=valid,
        motion=Motion(
            shifts=drift.astype(np.float32),
            confidence=np.clip(rng.normal(0.95, 0.01, n_frames), 0, 1).astype(np.float32),
            flags=flags,
        ),
        times_s=np.arange(n_frames) / frame_rate_hz,
        frame_rate_hz=frame_rate_hz,
        pixel_size_um=pixel_size_um,
        diameter_px=2 * radius_px,
        name=name,
        info=RunInfo(
            preset="default",
            model="default",
            settings={"validation": {"threshold": 3.5}, "list": [1, 2]},
            seed=7,
            versions={"cocuyo": "0.1.0", "numpy": np.__version__},
            engine="openvino",
            precision="f32",
            timings_s={"motion": 1.5, "network": 4.25},
            peak_memory_mb=512.0,
            warnings=warnings,
            notes=notes,
            inputs=({"path": "slice_1.tif", "bytes": 12, "sha256": "ab" * 32},),
        ),
    )


BORDER = 70
"""First frame of the second recording of `make_experiment`."""


def make_experiment(names=("b", "a")):
    """Cut a result in two: the second recording does not show the upper rows."""
    result = make_result()
    events = result.events
    within = (events.onset >= BORDER) | (events.offset < BORDER)  # no event crosses
    events = Events(**{each.name: getattr(events, each.name)[within] for each in fields(Events)})
    result = replace(result, events=events)
    upper = np.ones(result.valid.shape, np.bool_)
    upper[:20] = False
    mean = result.projections["mean"]
    views = (np.ones(result.valid.shape, np.bool_), upper)
    bounds = ((0, BORDER), (BORDER, result.n_frames))
    parts = tuple(
        Part(
            name=name,
            start=start,
            stop=stop,
            offset_px=(1.5 * i, -2.25 * i),
            correlation=1 - 0.125 * i,
            valid=view,
            mean=mean + i,
            found=result.rois.ids[i : i + 2],
        )
        for i, (name, (start, stop), view) in enumerate(zip(names, bounds, views, strict=True))
    )
    y, x = (np.linspace(0, size - 1, n, dtype=np.float32) for size, n in ((40, 3), (56, 4)))
    grid = np.random.default_rng(3).normal(0, 0.5, (5, 3, 4, 2)).astype(np.float32)
    frames = np.array([0, BORDER // 2, BORDER - 1, BORDER, result.n_frames - 1], np.int32)
    motion = replace(result.motion, deformation=Deformation(frames, grid, y, x))
    return replace(result, motion=motion, parts=parts)
