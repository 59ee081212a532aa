"""What a run should hold and does not: a report of half a run must not look like one of a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.pairing import BASELINE

_Variant = tuple[str, str, int]


@dataclass(frozen=True)
class Completeness:
    """What is missing from a run.

    Attributes
    ----------
    cases
        Number of cases of the cohort.
    variants
        Number of expected variants per case, the baseline included.
    missing_cases
        Cases of the cohort without any row.
    missing_variants
        Names of the variants that a measured case lacks, by case.
    failures
        Why cases could not be measured, by case.
    grid_is_recorded
        Whether the run says which variants it should have. Without that, a variant that no case has goes
        unnoticed.
    """

    cases: int
    variants: int
    missing_cases: tuple[str, ...]
    missing_variants: Mapping[str, tuple[str, ...]]
    failures: Mapping[str, str]
    grid_is_recorded: bool

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not (self.missing_cases or self.missing_variants or self.failures)


def check_completeness(rows: pd.DataFrame, settings: Mapping[str, Any], failures: Mapping[str, str]) -> Completeness:
    """Compare the rows of a run with what its settings promise.

    Parameters
    ----------
    rows
        All rows.
    settings
        Content of ``run.toml``.
    failures
        Messages of cases that could not be measured.
    """
    present: dict[str, set[_Variant]] = {str(case): set() for case in rows["case"].unique()}
    # By variant, of which there are few, and not by case.
    for key, of_variant in rows.groupby(["modality", "perturbation", "severity"], sort=False, dropna=False):
        variant = _variant(*key)
        for case in of_variant["case"].unique():
            present[str(case)].add(variant)
    expected = _expected_variants(rows, settings)
    cases = tuple(settings["cohort"].get("cases", present))
    missing = {
        case: tuple(_name(variant) for variant in expected if variant not in variants)
        for case, variants in present.items()
    }
    return Completeness(
        cases=len(cases),
        variants=len(expected),
        missing_cases=tuple(case for case in cases if case not in present),
        missing_variants={case: names for case, names in missing.items() if names},
        failures=dict(failures),
        grid_is_recorded=severities_of(settings) is not None,
    )


def severities_of(settings: Mapping[str, Any]) -> Mapping[str, int] | None:
    """Look up the number of severities of each perturbation, where the run records them."""
    recorded: Mapping[str, int] | None = settings.get("catalogue", {}).get("severities")
    return recorded


def perturbations_of(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[str]:
    """List the perturbations of a run: as recorded, else those that were measured."""
    recorded = severities_of(settings)
    measured = [str(name) for name in rows["perturbation"].unique() if name != BASELINE]
    return measured if recorded is None else list(recorded)


def levels_of(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[int]:
    """List the severities of a run: as recorded, else those that were measured."""
    recorded = severities_of(settings)
    highest = int(rows["severity"].max()) if recorded is None else max(recorded.values())
    return list(range(1, highest + 1))


def _expected_variants(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[_Variant]:
    modalities: Sequence[str] = settings["cohort"]["modalities"]
    recorded = severities_of(settings)
    if recorded is None:
        perturbed = rows[rows["perturbation"] != BASELINE]
        levels = list(dict.fromkeys(zip(perturbed["perturbation"], perturbed["severity"], strict=True)))
    else:
        levels = [(name, level) for name, count in recorded.items() for level in range(1, count + 1)]
    grid = [_variant(modality, *level) for modality in modalities for level in levels]
    return [_variant(None, BASELINE, 0), *grid]


def _variant(modality: Any, perturbation: Any, severity: Any) -> _Variant:
    return "" if pd.isna(modality) else str(modality), str(perturbation), int(severity)


def _name(variant: _Variant) -> str:
    return BASELINE if variant[1] == BASELINE else "-".join(str(part) for part in variant)
