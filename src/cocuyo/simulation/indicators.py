"""Calcium indicators: what fluorescence makes of a spike."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.signal import lfilter

from cocuyo.core import TimeArray

REST_NM = 50.0
"""Free calcium of a neuron at rest, nM (Maravall et al. 2000, Biophys. J. 78:2655: 30 to 110)."""


@dataclass(frozen=True)
class Indicator:
    """How an indicator answers to one spike, and where it saturates.

    Calcium jumps up with each spike and decays; fluorescence is a Hill function of calcium.
    The constants of calcium follow from the published response to one spike, so that a single
    transient has the published height, rise and decay, and bursts saturate.

    Attributes
    ----------
    response : float
        Peak ΔF/F of one spike.
    peak_s : float
        Time from the spike to the peak, s.
    half_decay_s : float
        Time from the peak to half of it, s.
    largest : float
        ΔF/F when all indicator is bound.
    kd_nm : float
        Calcium at half saturation, nM.
    hill : float
        Hill coefficient: above 1, two spikes give more than twice one.
    source : str
        Where the numbers come from.
    """

    response: float
    peak_s: float
    half_decay_s: float
    largest: float
    kd_nm: float
    hill: float
    source: str

    def delta_f_over_f(self, calcium: TimeArray) -> TimeArray:
        """Fluorescence for calcium above rest.

        Parameters
        ----------
        calcium : ndarray of float64
            Calcium above rest, in units of the peak that one spike gives.

        Returns
        -------
        ndarray of float64
            ΔF/F, 0 at rest and `response` at 1.
        """
        rest = self._bound(np.asarray(REST_NM))
        bound = self._bound(REST_NM + self.spike_nm * np.asarray(calcium))
        return np.asarray(self.largest * (bound - rest) / (1 - rest))

    @property
    def spike_nm(self) -> float:
        """Rise of free calcium at the peak of one spike, nM."""
        return self._calcium_nm(self.response) - REST_NM

    @property
    def time_constants_s(self) -> tuple[float, float]:
        """Rise and decay constants of calcium, s, which give the published times."""
        return _time_constants(self)

    def _bound(self, calcium_nm: TimeArray) -> TimeArray:
        ratio = (np.maximum(calcium_nm, 0) / self.kd_nm) ** self.hill
        return np.asarray(ratio / (1 + ratio))

    def _calcium_nm(self, response: float) -> float:
        """Invert the Hill function."""
        rest = float(self._bound(np.asarray(REST_NM)))
        bound = rest + response / self.largest * (1 - rest)
        return float(self.kd_nm * (bound / (1 - bound)) ** (1 / self.hill))


def _dye(*, response: float, peak_s: float, half_decay_s: float, kd_nm: float, contrast: float,
         source: str) -> Indicator:  # fmt: skip
    """Make an indicator with one binding site from its brightness bound over free."""
    rest = REST_NM / (REST_NM + kd_nm)
    largest = (contrast - 1) * (1 - rest) / (1 + (contrast - 1) * rest)
    return Indicator(response, peak_s, half_decay_s, largest, kd_nm, 1.0, source)


INDICATORS: dict[str, Indicator] = {
    "GCaMP6f": Indicator(
        0.19, 0.045, 0.142, 13.1, 375.0, 2.27,
        "Chen et al. 2013, Nature 499:295: one spike in V1 (suppl. table 3), ΔF/F of 160 spikes "
        "in culture, Kd and Hill coefficient of the protein",
    ),
    "GCaMP6s": Indicator(
        0.23, 0.179, 0.55, 16.8, 144.0, 2.90,
        "Chen et al. 2013, as for GCaMP6f",
    ),
    "OGB-1": _dye(
        response=0.10, peak_s=0.03, half_decay_s=0.40, kd_nm=170.0, contrast=14.0,
        source="Kd and brightness bound over free: manufacturer (Molecular Probes Handbook); one "
        "spike about 10 %: Kerr et al. 2005, PNAS 102:14063; decay as in the patched slice "
        "neurons that docs/explanation/simulator.md compares",
    ),
    "Fluo-4": _dye(
        response=0.08, peak_s=0.05, half_decay_s=0.70, kd_nm=345.0, contrast=100.0,
        source="Kd and brightness bound over free: Gee et al. 2000, Cell Calcium 27:97; one spike "
        "and decay: typical of neurons loaded with the AM ester, not one published number",
    ),
}  # fmt: skip
"""Numbers of each indicator by its name in `SimulationConfig.indicator`."""


@cache
def _time_constants(indicator: Indicator) -> tuple[float, float]:
    # Fluorescence is halved when calcium is at this share of its peak.
    half = (indicator._calcium_nm(0.5 * indicator.response) - REST_NM) / indicator.spike_nm
    peak_s, half_decay_s = indicator.peak_s, indicator.half_decay_s

    def rise_for(decay_s: float) -> float:
        """Rise constant with which the peak comes at `peak_s`."""
        return float(
            brentq(lambda rise: _peak_time(rise, decay_s) - peak_s, 1e-6 * decay_s, 0.999 * decay_s)
        )

    def excess(decay_s: float) -> float:
        rise_s = rise_for(decay_s)
        late = _kernel(peak_s + half_decay_s, rise_s, decay_s) / _kernel(peak_s, rise_s, decay_s)
        return late - half

    decay_s = float(brentq(excess, 1.002 * peak_s, 100 * half_decay_s))
    return rise_for(decay_s), decay_s


def _peak_time(rise_s: float, decay_s: float) -> float:
    return float(np.log(decay_s / rise_s) * decay_s * rise_s / (decay_s - rise_s))


def _kernel(time_s: float, rise_s: float, decay_s: float) -> float:
    return float(np.exp(-time_s / decay_s) - np.exp(-time_s / rise_s))


def calcium(drive: TimeArray, rise_s: float, decay_s: float, step_s: float) -> TimeArray:
    """Filter spikes with exp(-t/decay) - exp(-t/rise), scaled to a peak of 1.

    Parameters
    ----------
    drive : ndarray of float64
        Height of the spikes in each step.
    rise_s, decay_s : float
        Time constants, s.
    step_s : float
        Length of a step, s.

    Returns
    -------
    ndarray of float64
        As long as `drive`.
    """
    slow, fast = np.exp(-step_s / decay_s), np.exp(-step_s / rise_s)
    peak_s = np.log(decay_s / rise_s) * decay_s * rise_s / (decay_s - rise_s)
    peak = np.exp(-peak_s / decay_s) - np.exp(-peak_s / rise_s)
    response = lfilter([1.0], [1.0, -slow], drive) - lfilter([1.0], [1.0, -fast], drive)
    return np.asarray(response / peak, dtype=np.float64)
