"""The study's figures of the clinical grading, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.formatting import between
from analysis.published.layout import GRADED, OBSERVERS, STRUCTURES
from analysis.published.study import Study
from analysis.replication.claim import Claim, Finding, Published, alternatives_for, judge, shared_matches
from analysis.replication.grades import USABLE_FROM, mean_correlation, missing_grades, usable_share
from analysis.statistics import pearson, spearman, weighted_kappa

_SOURCE = "Schanne et al., clinical evaluation by two radiation oncologists"
_USABLE = {"baseline": {"GTVp": "79.7", "GTVn": "73.4"}, "perturbed": {"GTVp": "77.8", "GTVn": "27.9"}}
_KAPPA = {"baseline": {"GTVp": "0.66", "GTVn": "0.64"}, "perturbed": {"GTVp": "0.83", "GTVn": "0.83"}}
_SPEARMAN = {"baseline": {"GTVp": "0.67", "GTVn": "0.5"}}
_CASES = {"baseline": "unperturbed", "perturbed": "perturbed"}

Floats = npt.NDArray[np.float64]
Readings = Callable[[pd.DataFrame], dict[str, float]]
"""Of one structure's graded rows, the stated value first, then the alternatives by name."""


def grade_claims(study: Study) -> list[Claim]:
    """Judge the figures of the grading.

    Parameters
    ----------
    study
        The published tables.
    """
    claims = []
    for graded, printed in _USABLE.items():
        statement = f"{{printed}} % of the {_CASES[graded]} segmentations of {{structure}} are usable"
        method = f"share of grades of {USABLE_FROM} or more, mean of the two observers, in per cent"
        claims += _claims(study, graded, "usable." + graded, printed, statement, method, _usable_readings)
    for graded, printed in _KAPPA.items():
        statement = f"weighted kappa of the observers for {_CASES[graded]} {{structure}}: {{printed}}"
        method = "Cohen's kappa of the two observers with quadratic weights on the full scale 1 to 5"
        claims += _claims(study, graded, "kappa." + graded, printed, statement, method, _kappa_readings, _kappa_note)
    statement = "Spearman correlation of Dice with the grade for unperturbed {structure}: {printed}"
    method = "Spearman's rank correlation of DICE with each observer's grade, mean of the two coefficients"
    return claims + _claims(study, "baseline", "spearman", _SPEARMAN["baseline"], statement, method, _spearman_readings)


def _claims(
    study: Study,
    graded: str,
    name: str,
    printed: Mapping[str, str],
    statement: str,
    method: str,
    readings: Readings,
    note: Callable[[pd.DataFrame], str] = lambda _part: "",
) -> list[Claim]:
    table, file = study.grades.get(graded), f"Baseline/{GRADED[graded]}"
    parts = {s: table[table["structure"] == s] for s in STRUCTURES} if table is not None else {}
    found = {structure: readings(part) for structure, part in parts.items()}
    stated = {structure: values.pop("stated") for structure, values in found.items()}
    tries = {structure: alternatives_for(printed[structure], values) for structure, values in found.items()}
    shared = shared_matches(tries.values())
    return [
        judge(
            Published(f"{name}.{structure}", _SOURCE, statement.format(printed=figure, structure=structure), figure),
            Finding(
                stated.get(structure),
                f"{method}, from {file}",
                n=len(parts[structure]) if parts else None,
                alternatives=tries.get(structure, ()),
                missing=missing_grades(study, graded),
                note=note(parts[structure]) if parts else "",
            ),
            shared=shared,
        )
        for structure, figure in printed.items()
    ]


def _usable_readings(part: pd.DataFrame) -> dict[str, float]:
    first, second = (part[observer] for observer in OBSERVERS)
    present = part[part["reference_mm3"] > 0]
    return {
        "stated": 100 * usable_share(part),
        "observer 1": 100 * float((first >= USABLE_FROM).mean()),
        "observer 2": 100 * float((second >= USABLE_FROM).mean()),
        "both observers": 100 * float(((first >= USABLE_FROM) & (second >= USABLE_FROM)).mean()),
        "either observer": 100 * float(((first >= USABLE_FROM) | (second >= USABLE_FROM)).mean()),
        "mean grade": 100 * float(((first + second) / 2 >= USABLE_FROM).mean()),
        "structures with a reference only": 100 * usable_share(present),
        "without both-empty structures": 100 * usable_share(_without_both_empty(part)),
    }


def _kappa_readings(part: pd.DataFrame) -> dict[str, float]:
    first, second = _grades(part)
    kept = _grades(_without_both_empty(part))
    return {
        "stated": weighted_kappa(first, second).kappa,
        "Pearson correlation of the grades": pearson(first, second).r,
        "Spearman correlation of the grades": spearman(first, second).r,
        "kappa with linear weights": weighted_kappa(first, second, "linear").kappa,
        "kappa without weights": weighted_kappa(first, second, "none").kappa,
        "quadratic kappa without both-empty structures": weighted_kappa(*kept).kappa,
        "share of equal grades": weighted_kappa(first, second).agreement,
    }


def _kappa_note(part: pd.DataFrame) -> str:
    kappa = weighted_kappa(*_grades(part))
    return f"95 % interval of the kappa: {between(kappa.low, kappa.high)}."


def _spearman_readings(part: pd.DataFrame) -> dict[str, float]:
    mean_grade = part[list(OBSERVERS)].mean(axis=1).to_numpy(dtype=float)
    kept = _without_both_empty(part)
    return {
        "stated": mean_correlation(part, "dice"),
        "Spearman, observer 1": spearman(part["dice"], part["observer_1"]).r,
        "Spearman, observer 2": spearman(part["dice"], part["observer_2"]).r,
        "Pearson, observer 1": pearson(part["dice"], part["observer_1"]).r,
        "Pearson, observer 2": pearson(part["dice"], part["observer_2"]).r,
        "Pearson, mean of the observers": mean_correlation(part, "dice", pearson),
        "Spearman with the mean grade": spearman(part["dice"], mean_grade).r,
        "Pearson with the mean grade": pearson(part["dice"], mean_grade).r,
        "Spearman, mean of the observers, without both-empty structures": mean_correlation(kept, "dice"),
    }


def _grades(part: pd.DataFrame) -> tuple[Floats, Floats]:
    first, second = (part[observer].to_numpy(dtype=float) for observer in OBSERVERS)
    return first, second


def _without_both_empty(part: pd.DataFrame) -> pd.DataFrame:
    return part[part["outcome"] != "true_negative"]
