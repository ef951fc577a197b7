"""Named random streams, so that a new random step does not move the others."""

import hashlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Make the random generator of one named step.

    Parameters
    ----------
    seed : int
        Seed of the whole run, at least 0.
    name : str
        Name of the step, such as ``"simulation.noise"``.

    Returns
    -------
    numpy.random.Generator
        A generator that depends on the seed and the name only.

    Examples
    --------
    >>> bool(stream(1, "a").random() == stream(1, "a").random())
    True
    >>> bool(stream(1, "a").random() == stream(1, "b").random())
    False
    """
    digest = hashlib.sha256(name.encode()).digest()[:8]
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])
