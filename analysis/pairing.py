"""Each perturbed result beside the unperturbed one of the same case and structure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from analysis.errors import AnalysisError
from analysis.statistics import DECIMALS

BASELINE = "baseline"
CELL_COLUMNS = ["modality", "perturbation", "severity", "structure"]
ROW_KEY = ["case", *CELL_COLUMNS]


class CellKey(NamedTuple):
    """One modality perturbed in one way at one severity, seen in one structure."""

    modality: str
    perturbation: str
    severity: int
    structure: str

    def __str__(self) -> str:
        """As in test ids: ``CT-spike-2-GTVp``."""
        return "-".join(str(part) for part in self)

    @property
    def variant(self) -> str:
        """The perturbation in words: ``CT spike 2``."""
        return f"{self.modality} {self.perturbation} {self.severity}"


def is_baseline(rows: pd.DataFrame) -> pd.Series:
    """Which rows are unperturbed."""
    return rows["perturbation"] == BASELINE


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """Join every perturbed row with its baseline.

    Parameters
    ----------
    rows
        Rows of a run, baseline rows included.

    Returns
    -------
    DataFrame
        One row per case, variant and structure with ``baseline_dice``, ``dice``, ``delta_dice`` (baseline
        minus variant, positive = harm; NaN where either is missing), ``baseline_outcome``, ``outcome`` and
        the flags ``reference_present`` (the population of every summary of ΔDice), ``at_risk`` (detected in
        the baseline), ``newly_missed``, ``nothing_predicted`` (newly missed, and nothing predicted elsewhere
        either), ``recovered``, ``false_positive``, and ``relative_change`` of the image (RMS of the change over its
        SD; NaN where it was not recorded).

    Raises
    ------
    AnalysisError
        Where a row is there twice: a case would count double.
    """
    _refuse_duplicates(rows)
    wanted = [*ROW_KEY, "dice", "outcome", "reference_mm3", "predicted_mm3", "parameters"]
    unperturbed = rows.loc[is_baseline(rows), ["case", "structure", "dice", "outcome"]]
    unperturbed = unperturbed.rename(columns={"dice": "baseline_dice", "outcome": "baseline_outcome"})
    frame = rows.loc[~is_baseline(rows), wanted].merge(unperturbed, on=["case", "structure"], how="left")
    for column in ("baseline_dice", "dice", "reference_mm3"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    frame["delta_dice"] = (frame["baseline_dice"] - frame["dice"]).round(DECIMALS)
    present = frame["reference_mm3"] > 0
    was_detected = frame["baseline_outcome"] == "detected"
    frame["reference_present"] = present
    frame["at_risk"] = present & was_detected
    frame["newly_missed"] = present & was_detected & (frame["outcome"] == "missed")
    frame["nothing_predicted"] = frame["newly_missed"] & (frame["predicted_mm3"] == 0)
    frame["recovered"] = present & (frame["baseline_outcome"] == "missed") & (frame["outcome"] == "detected")
    frame["false_positive"] = ~present & (frame["outcome"] == "false_positive")
    # The structures of a case share a draw: each text is read once.
    changes = {text: _relative_change(text) for text in frame["parameters"].unique()}
    frame["relative_change"] = frame["parameters"].map(changes).astype(float)
    return frame.drop(columns=["reference_mm3", "predicted_mm3", "parameters"])


def cells(pairs: pd.DataFrame) -> Iterator[tuple[CellKey, pd.DataFrame]]:
    """Every cell with its paired rows, in order of first appearance."""
    for (modality, perturbation, severity, structure), of_cell in pairs.groupby(CELL_COLUMNS, sort=False):
        yield CellKey(str(modality), str(perturbation), int(severity), str(structure)), of_cell


def absent_structures(rows: pd.DataFrame) -> dict[str, str]:
    """Structures that no reference contour of the run has, with the reason why they are skipped."""
    present = rows.assign(present=rows["reference_mm3"] > 0).groupby("structure", sort=False)
    return {
        str(structure): f"no reference contour of the {of_structure['case'].nunique()} measured cases has {structure}"
        for structure, of_structure in present
        if not of_structure["present"].any()
    }


def _refuse_duplicates(rows: pd.DataFrame) -> None:
    twice = rows[rows.duplicated(ROW_KEY)]
    if len(twice):
        first = twice.iloc[0]
        name = " ".join(str(first[column]) for column in CELL_COLUMNS if not pd.isna(first[column]))
        raise AnalysisError(
            f"rows of case {first['case']}: {name!r} is there more than once; expected each variant and "
            "structure once per case; delete rows/CASE.jsonl of that case and measure it again"
        )


def _relative_change(parameters: str | None) -> float:
    drawn = json.loads(parameters) if isinstance(parameters, str) else None
    return float(drawn.get("relative_change", math.nan)) if isinstance(drawn, dict) else math.nan
