"""Settings of the analysis of a population."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cocuyo.core import FrozenConfig


class EnsembleConfig(FrozenConfig):
    """How synchrony, correlations, ensembles and responses are judged."""

    bin_s: float | None = Field(
        default=None,
        gt=0,
        description="Length of a time bin, s; None for one frame. Longer bins forgive jitter "
        "between neurons and raise what chance gives.",
    )
    n_shuffles: int = Field(
        default=1000,
        ge=20,
        le=100_000,
        description="Number of shuffled rasters. More give finer p-values and take longer.",
    )
    threshold: Literal["pooled", "maximum"] = Field(
        default="pooled",
        description="What coactivity is compared with: all bins of the shuffled rasters, or the "
        "largest bin of each. The first sees weak synchrony, and false peaks with it, which the "
        "tests of ensembles sort out; the second gives peaks that stand for themselves.",
    )
    significance: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Probability of synchrony by chance (see threshold), and false discovery "
        "rate of pairs, core neurons and responders.",
    )
    join_s: float = Field(
        default=1.0,
        ge=0,
        description="Stretches of significant coactivity at most this far apart are one peak, s. "
        "About a transient; shorter values count one event of the network several times.",
    )
    max_ensembles: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Largest number of groups of peaks that is tried.",
    )
    min_peaks: int = Field(
        default=3,
        ge=2,
        description="Fewest peaks of synchrony in which ensembles are looked for.",
    )
    before_s: float = Field(
        default=2.0,
        gt=0,
        description="Window before a stimulus, s, for the averages.",
    )
    after_s: float = Field(
        default=5.0,
        gt=0,
        description="Window after a stimulus, s, in which a response is looked for. Too long a "
        "window dilutes short responses.",
    )

    @model_validator(mode="after")
    def _shuffles_suffice(self) -> Self:
        if 1 / (self.n_shuffles + 1) > self.significance:
            msg = (
                f"{self.n_shuffles} shuffles cannot reach significance {self.significance:g}; "
                f"{round(1 / self.significance)} or more are needed"
            )
            raise ValueError(msg)
        return self
