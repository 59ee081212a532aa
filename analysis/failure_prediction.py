"""Whether the model's own confidence tells where it fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.pairing import is_baseline
from analysis.safety import USABLE_DICE
from analysis.statistics import Floats, area_under_curve, spearman
from analysis.statistics.case_bootstrap import (
    FEWEST_CASES,
    auc_of_draws,
    correlation_of_draws,
    estimate_of_draws,
    percentile_interval,
)

CONFIDENCES = {"fold_agreement": "agreement of the folds", "max_probability": "highest probability"}
"""Columns of a row that may predict its Dice, in words."""

PREDICTION_COLUMNS = (
    *("structure", "confidence", "rows", "n", "cases", "failures", "undefined"),
    *("nothing_predicted", "rho", "rho_low", "rho_high", "auc", "auc_low", "auc_high", "auc_within"),
)
"""Columns of :func:`failure_prediction`, in order."""

RESAMPLES = 500


def failure_prediction(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Measure how well each confidence predicts Dice, and Dice below 0.5.

    Parameters
    ----------
    rows
        Rows of a run; those without a reference contour, or without a Dice, are left out.
    seed
        Seed of the bootstrap, which draws whole cases: a case's variants share its fate.

    Returns
    -------
    DataFrame
        One row per structure, confidence and set of rows (``baseline`` or ``all variants``): ``n`` rows of ``cases``
        cases, ``failures`` (Dice < 0.5), ``undefined`` (no confidence: a single fold has no agreement), Spearman's
        ``rho`` with Dice and ``auc`` for failure, with 95 % intervals. ``auc_within`` compares rows of the same variant
        only: what ``auc`` gains over it is telling strong perturbations from weak ones. ``nothing_predicted`` counts
        failures without any prediction, which a probability tells by itself. NaN where undefined, e.g. without
        failures. No interval below ``FEWEST_CASES`` cases (of ``auc``: that fail, and that do not), nor where all
        resamples give the same.
    """
    records = []
    for structure, of_structure in _population(rows).groupby("structure", sort=False):
        for name, of_set in (("baseline", of_structure[is_baseline(of_structure)]), ("all variants", of_structure)):
            for confidence in CONFIDENCES:
                keys = {"structure": structure, "confidence": confidence, "rows": name}
                records.append(keys | _figures(of_set, confidence, seed))
    return pd.DataFrame.from_records(records, columns=list(PREDICTION_COLUMNS))


def _population(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["reference_mm3"] > 0].dropna(subset="dice")


def _figures(rows: pd.DataFrame, confidence: str, seed: int) -> dict[str, Any]:
    known = rows.dropna(subset=confidence)
    dice, score = (known[column].to_numpy(dtype=float) for column in ("dice", confidence))
    failed = dice < USABLE_DICE
    figures: dict[str, Any] = {"n": len(known), "cases": known["case"].nunique(), "failures": int(failed.sum())}
    figures["undefined"] = len(rows) - len(known)
    figures["nothing_predicted"] = int((failed & (known["predicted_mm3"] == 0)).sum())
    figures["auc_within"] = _within_variants(known, -score, failed)
    cases = known["case"]

    def interval(name: str, of_draws: Callable[[Floats], Floats], groups: Sequence[pd.Series]) -> dict[str, float]:
        low, high = math.nan, math.nan
        if all(group.nunique() >= FEWEST_CASES for group in groups):
            estimates = estimate_of_draws(of_draws, list(cases), seed=seed, resamples=RESAMPLES)
            low, high = percentile_interval(estimates, figures["cases"])
        return {f"{name}_low": low, f"{name}_high": high}

    figures["rho"], figures["auc"] = spearman(score, dice).r, area_under_curve(-score, failed)
    figures |= interval("rho", lambda draws: correlation_of_draws(score, dice, draws, ranks=True), [cases])
    figures |= interval("auc", lambda draws: auc_of_draws(-score, failed, draws), [cases[failed], cases[~failed]])
    return figures


def _within_variants(rows: pd.DataFrame, score: npt.NDArray[np.float64], failed: npt.NDArray[np.bool_]) -> float:
    """Share of rightly ordered pairs, over the pairs of one failure and one success of the same variant."""
    right = pairs = 0.0
    for indices in rows.groupby(["modality", "perturbation", "severity"], dropna=False).indices.values():
        of_each = float(failed[indices].sum()) * float((~failed[indices]).sum())
        if of_each:
            right += of_each * area_under_curve(score[indices], failed[indices])
            pairs += of_each
    return right / pairs if pairs else math.nan


def risk_coverage(rows: pd.DataFrame, confidence: str) -> pd.DataFrame:
    """Share of failures among the most confident rows, for every share that could be kept.

    Parameters
    ----------
    rows
        Rows of a run, e.g. of one structure; those without a reference contour are left out.
    confidence
        Column to sort by.

    Returns
    -------
    DataFrame
        ``coverage`` and ``risk``, one row per distinct confidence: rows that are equally confident are kept or
        dropped together. Empty where no row has a confidence.
    """
    known = _population(rows).dropna(subset=confidence)
    failed = (known["dice"] < USABLE_DICE).groupby(known[confidence]).agg(["sum", "count"])
    most_confident_first = failed.sort_index(ascending=False).cumsum()
    risk = most_confident_first["sum"] / most_confident_first["count"]
    return pd.DataFrame({"coverage": most_confident_first["count"] / len(known), "risk": risk}).reset_index(drop=True)
