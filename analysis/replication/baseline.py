"""Figures of the unperturbed model, over the authors' rows: all cases, also those without a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.published.layout import STRUCTURES
from analysis.published.study import Study, baseline_of
from analysis.replication.claim import Claim, Finding, Published, alternatives_for, judge, shared_matches
from analysis.statistics import quantile

_SOURCE = "Schanne et al., segmentation of the held-out cases without perturbation"
_TABLE = "Baseline/results_pymia.csv"
_DICE = {
    "mean": {"GTVp": "0.678", "GTVn": "0.614"},
    "median": {"GTVp": "0.766", "GTVn": "0.698"},
    "iqr": {"GTVp": "0.195", "GTVn": "0.313"},
}
_DISTANCE = {"median": {"GTVp": "9.2", "GTVn": "17.6"}, "iqr": {"GTVp": "14.3", "GTVn": "62.5"}}
_MISSED = {"GTVp": "4", "GTVn": "5"}
_FALSE_POSITIVE = {"GTVp": "3", "GTVn": "5"}
_WORDS = {"mean": "mean", "median": "median", "iqr": "interquartile range"}


def interquartile_range(values: pd.Series) -> float:
    """Range between the quartiles, in which infinite values keep their rank; NaN between two infinite ones."""
    low, high = (quantile(values.to_numpy(dtype=float), q) for q in (0.25, 0.75))
    return math.nan if math.isinf(low) else high - low


_STATISTICS: dict[str, Callable[[pd.Series], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: quantile(values.to_numpy(dtype=float), 0.5),
    "iqr": interquartile_range,
}


def baseline_claims(study: Study) -> list[Claim]:
    """Judge the figures of the unperturbed model.

    Parameters
    ----------
    study
        The published tables.
    """
    claims = [_dice(study, structure, name) for structure in STRUCTURES for name in _DICE]
    claims += [_distance(study, structure, name) for structure in STRUCTURES for name in _DISTANCE]
    claims += _counts(study, "missed", "missed structures (“false negatives”)", _MISSED, _missed)
    claims += _counts(study, "false_positive", "false positives", _FALSE_POSITIVE, _false_positives)
    return claims + [_development(structure) for structure in STRUCTURES]


def _dice(study: Study, structure: str, name: str) -> Claim:
    rows = baseline_of(study, structure)
    statistic, printed = _STATISTICS[name], _DICE[name][structure]
    readings = {label: statistic(kept["dice"]) for label, kept in _populations(rows).items()}
    return judge(
        Published(f"dice.{structure}.{name}", _SOURCE, f"Dice of {structure}: {_WORDS[name]} {printed}", printed),
        Finding(
            statistic(rows["dice"]),
            f"{_WORDS[name]} of DICE over all rows of {_TABLE}, both-empty (1) and false positives (0) included",
            n=len(rows),
            alternatives=alternatives_for(printed, readings),
        ),
    )


def _distance(study: Study, structure: str, name: str) -> Claim:
    rows = baseline_of(study, structure)
    statistic, printed = _STATISTICS[name], _DISTANCE[name][structure]
    readings = {label: statistic(kept["hd_mm"]) for label, kept in _populations(rows).items()}
    readings["without undefined distances"] = statistic(rows["hd_mm"][np.isfinite(rows["hd_mm"])])
    without = _populations(rows)["without both-empty structures"]
    dropped = len(rows) - len(without)
    both_empty = (
        f" With the {dropped} both-empty left out it is {statistic(without['hd_mm']):.1f} (n = {len(without)})."
        if dropped
        else ""
    )
    undefined = int(np.isinf(rows["hd_mm"]).sum())
    return judge(
        Published(
            f"hd95.{structure}.{name}",
            _SOURCE,
            f"Hausdorff distance of {structure}: {_WORDS[name]} {printed} mm",
            printed,
        ),
        Finding(
            statistic(rows["hd_mm"]),
            f"{_WORDS[name]} of HDRFDST over all rows of {_TABLE}, undefined distances ranked as infinite",
            n=len(rows),
            alternatives=alternatives_for(printed, readings),
            note=f"The column is the maximum (100th percentile) Hausdorff distance, not the 95th: the public table has "
            f"no other, and no HD95 can be compared with it. {undefined} of {len(rows)} are undefined.{both_empty}",
        ),
    )


def _populations(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        "structures with a reference only": rows[rows["reference_mm3"] > 0],
        "without both-empty structures": rows[rows["outcome"] != "true_negative"],
        "detected structures only": rows[rows["outcome"] == "detected"],
    }


@dataclass(frozen=True)
class _Count:
    """A count as stated, how, its other readings, and what else there is to say."""

    method: str
    value: int
    readings: Mapping[str, int]
    note: str


def _counts(
    study: Study, name: str, words: str, printed: Mapping[str, str], count: Callable[[pd.DataFrame], _Count]
) -> list[Claim]:
    found = {structure: count(baseline_of(study, structure)) for structure in STRUCTURES}
    tries = {name: alternatives_for(printed[name], found[name].readings) for name in STRUCTURES}
    shared = shared_matches(tries.values())
    return [
        judge(
            Published(
                f"{name}.{structure}", _SOURCE, f"{printed[structure]} {words} in {structure}", printed[structure]
            ),
            Finding(
                of_structure.value,
                f"{of_structure.method}, in {_TABLE}",
                n=len(baseline_of(study, structure)),
                alternatives=tries[structure],
                note=of_structure.note,
            ),
            shared=shared,
        )
        for structure, of_structure in found.items()
    ]


def _missed(rows: pd.DataFrame) -> _Count:
    zero = int((rows["dice"] == 0).sum())
    missed = int((rows["outcome"] == "missed").sum())
    readings = {
        "all structures with Dice 0, also those without a reference": zero,
        "structures with an undefined distance": int(np.isinf(rows["hd_mm"]).sum()),
        "structures with an empty prediction": int((rows["predicted_mm3"] == 0).sum()),
    }
    note = f"{zero} structures have Dice 0, of which {missed} had a reference that could be missed."
    return _Count("structures with a reference and Dice 0", missed, readings, note)


def _false_positives(rows: pd.DataFrame) -> _Count:
    absent = int((rows["reference_mm3"] == 0).sum())
    wrong = int((rows["outcome"] == "false_positive").sum())
    readings = {
        "structures without a reference, whatever was predicted": absent,
        "all structures with Dice 0": int((rows["dice"] == 0).sum()),
    }
    note = f"{absent} cases have no reference; in {absent - wrong} of them the prediction is empty too (Dice 1)."
    return _Count("structures without a reference that are predicted", wrong, readings, note)


def _development(structure: str) -> Claim:
    return judge(
        Published(
            f"development.{structure}.median",
            "Schanne et al., cross-validation of the development cases",
            f"Median Dice of {structure} in the five-fold cross-validation",
            None,
        ),
        Finding(
            None,
            "none: per-case tables of the cross-validation were not published",
            missing="per-case tables of the cross-validation, which are not public",
        ),
    )
