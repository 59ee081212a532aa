"""Pure functions of statistics, each with a defined answer, and no warning, for degenerate input."""

from analysis.statistics.association import (
    LIKERT,
    Correlation,
    Kappa,
    area_under_curve,
    pearson,
    spearman,
    weighted_kappa,
)
from analysis.statistics.paired import (
    DECIMALS,
    AdjustedFamily,
    SignedRankTest,
    benjamini_hochberg,
    minimum_detectable_difference,
    signed_rank_test,
)
from analysis.statistics.resampling import (
    LEVEL,
    RESAMPLES,
    Floats,
    Interval,
    Values,
    bootstrap_interval,
    quantile,
)

__all__ = [
    "DECIMALS",
    "LEVEL",
    "LIKERT",
    "RESAMPLES",
    "AdjustedFamily",
    "Correlation",
    "Floats",
    "Interval",
    "Kappa",
    "SignedRankTest",
    "Values",
    "area_under_curve",
    "benjamini_hochberg",
    "bootstrap_interval",
    "minimum_detectable_difference",
    "pearson",
    "quantile",
    "signed_rank_test",
    "spearman",
    "weighted_kappa",
]
