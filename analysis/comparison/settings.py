"""What the figures of a comparison depend on beside the rows and the margins."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.comparison.permutation import FLIPS
from analysis.comparison.record import Record
from analysis.errors import AnalysisError

ALPHA = 0.05
"""Chance of a false alarm that a comparison accepts."""

RESAMPLES = 9999


@dataclass(frozen=True)
class Settings(Record):
    """How to test and to resample.

    Attributes
    ----------
    alpha
        Family-wise level of the tests.
    flips, resamples
        Sign flips of each test, bootstrap resamples of each interval.
    seed
        Of both.

    Raises
    ------
    AnalysisError
        For a level outside (0, 1), or nothing to draw.
    """

    alpha: float = ALPHA
    flips: int = FLIPS
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or self.flips < 1 or self.resamples < 1:
            raise AnalysisError(
                f"found alpha = {self.alpha}, flips = {self.flips}, resamples = {self.resamples}; expected alpha "
                "between 0 and 1 and at least one flip and one resample; leave them away for the defaults"
            )
