"""Rasters with known ensembles, and rasters without any."""

import numpy as np


def independent_raster(
    n_neurons: int, n_frames: int, *, seed: int, rate: float = 0.006, duration: int = 6
) -> np.ndarray:
    """Draw transients of each neuron on its own; rates differ between neurons."""
    rng = np.random.default_rng(seed)
    onset = rng.random((n_neurons, n_frames)) < rate * rng.uniform(0.3, 2, (n_neurons, 1))
    raster = np.zeros_like(onset)
    for k in range(duration):
        raster[:, k:] |= onset[:, : n_frames - k]
    raster.setflags(write=False)
    return raster


def planted_raster(
    *, seed: int, sizes: tuple[int, ...] = (9, 8), n_neurons: int = 50, n_frames: int = 1500
) -> np.ndarray:
    """Let the first neurons fire in ensembles, twelve times each, four in five taking part."""
    rng = np.random.default_rng(seed)
    raster = independent_raster(n_neurons, n_frames, seed=seed, rate=0.002).copy()
    first = 0
    times = rng.permutation(n_frames // 30)[: 12 * len(sizes)] * 30
    for size, own in zip(sizes, times.reshape(len(sizes), 12), strict=True):
        for time in own:
            for neuron in range(first, first + size):
                if rng.random() < 0.8:
                    onset = time + rng.integers(0, 3)
                    raster[neuron, onset : onset + 6] = True
        first += size
    raster.setflags(write=False)
    return raster
