"""What neurons do together: synchrony, correlations, ensembles, responses. Arrays only."""

from cocuyo.population.analyse import analyse_population, bin_raster
from cocuyo.population.correlation import correlate_pairs, correlation_matrix
from cocuyo.population.ensembles import PeakGroups, find_ensembles, group_peaks
from cocuyo.population.settings import EnsembleConfig
from cocuyo.population.stimuli import measure_responses
from cocuyo.population.synchrony import find_peaks, measure_coactivity

__all__ = [
    "EnsembleConfig",
    "PeakGroups",
    "analyse_population",
    "bin_raster",
    "correlate_pairs",
    "correlation_matrix",
    "find_ensembles",
    "find_peaks",
    "group_peaks",
    "measure_coactivity",
    "measure_responses",
]
