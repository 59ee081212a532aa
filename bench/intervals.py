"""Intervals of a rank correlation and an area: all draws of cases as weights, against one draw at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.statistics.case_bootstrap import auc_of_draws, case_draws, correlation_of_draws, estimate_of_draws
from bench.results import Agreement, Row, Settings
from bench.timing import interleaved, limited_threads

_ROWS_OF_A_CASE = 37
_SIZES = {False: (1000, 500), True: (50, 20)}
"""Cases and resamples by whether it is to be quick: those of a report of a large run."""

_LIMIT = 1e-9


def measure(settings: Settings) -> list[Row]:
    """One row: both statistics of every resample of the same draws."""
    cases, resamples = _SIZES[settings.quick]
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(cases), _ROWS_OF_A_CASE)
    score = rng.normal(size=len(which))
    dice = score + rng.normal(size=len(which)) + rng.normal(size=cases)[which]
    failed = dice < -1

    def ours() -> npt.NDArray[np.float64]:
        ways = (
            lambda draws: correlation_of_draws(score, dice, draws, ranks=True),
            lambda draws: auc_of_draws(-score, failed, draws),
        )
        return np.array([estimate_of_draws(way, which, resamples=resamples) for way in ways])

    def theirs() -> npt.NDArray[np.float64]:
        correlations, areas = [], []
        for weights in case_draws(which, resamples=resamples):
            drawn = np.repeat(np.arange(len(which)), weights.astype(int))
            correlations.append(stats.spearmanr(score[drawn], dice[drawn]).statistic)
            areas.append(roc_auc_score(failed[drawn], -score[drawn]))
        return np.array([correlations, areas])

    settings.show(f"{resamples} resamples of {cases} cases")
    with limited_threads(1):
        times, of_ours, of_theirs = interleaved(ours, theirs, settings.repeats)
        agreement = Agreement.within(float(np.abs(of_ours - of_theirs).max()), _LIMIT, "of a coefficient")
        extra = {"cases": cases, "rows": len(which), "resamples": resamples}
        return [times.row("intervals", "scipy and scikit-learn on the drawn rows", agreement, **extra)]
