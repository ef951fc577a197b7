"""What the tests of this package share: false discovery rate and circular shifts."""

import numpy as np
from scipy import fft

from cocuyo.core import AnyArray, TimeArray

# Rows up to this length are counted without error in single precision, which is twice as fast.
_MAX_SINGLE = 100_000


def discovery_rate(p_values: AnyArray) -> TimeArray:
    """Correct p-values for their number: false discovery rate of Benjamini and Hochberg.

    Parameters
    ----------
    p_values : ndarray of float64, shape (n,)
        P-values of the tests, in [0, 1].

    Returns
    -------
    ndarray of float64, shape (n,)
        Q-values: the smallest false discovery rate at which each test is significant
        (J. R. Stat. Soc. B 57:289, 1995).

    Examples
    --------
    >>> import numpy as np
    >>> discovery_rate(np.array([0.01, 0.04, 0.03, 0.5])).round(3).tolist()
    [0.04, 0.053, 0.053, 0.5]
    """
    p = np.asarray(p_values, np.float64)
    n = len(p)
    order = np.argsort(p, kind="stable")
    ranked = p[order] * n / np.arange(1, n + 1)
    q = np.empty(n)
    q[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1)
    return q


def spectrum(rows: AnyArray) -> AnyArray:
    """Transform rows for `overlaps`.

    Parameters
    ----------
    rows : ndarray, shape (..., n_bins)
        True or counts.

    Returns
    -------
    ndarray of complex64 or complex128, shape (..., n_bins // 2 + 1)
        Their Fourier transform; the latter for long rows.
    """
    kind = np.float32 if np.shape(rows)[-1] <= _MAX_SINGLE else np.float64
    return np.asarray(fft.rfft(np.asarray(rows, kind), axis=-1))


def overlaps(first: AnyArray, second: AnyArray, n_bins: int) -> AnyArray:
    """Count the bins in which two rows are both active, at every circular shift of one of them.

    Parameters
    ----------
    first, second : ndarray of complex, shape (..., n_bins // 2 + 1)
        What `spectrum` gave for the rows; broadcast against each other.
    n_bins : int
        Length of the rows.

    Returns
    -------
    ndarray of float32 or float64, shape (..., n_bins)
        Whole numbers; the first is the overlap without a shift.
    """
    return np.asarray(np.rint(fft.irfft(np.conj(first) * second, n=n_bins, axis=-1)))
