"""A candidate's rows beside those of the model in use, with every gap named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.comparison.record import Record
from analysis.errors import AnalysisError
from analysis.pairing import BASELINE, ROW_KEY
from analysis.statistics import DECIMALS

VARIANT = ["modality", "perturbation", "severity"]
_MEASURED = ["dice", "outcome", "reference_mm3", "predicted_mm3"]
_SIDES = ("reference", "candidate")
# A contour measured twice may differ by how its voxel size was rounded.
_SAME_VOLUME = 1e-6


@dataclass(frozen=True)
class Gap(Record):
    """A case, variant and structure that cannot be compared.

    Attributes
    ----------
    case, variant, structure
        Where; the variant as ``CT-spike-2`` or ``baseline``.
    reason
        What is missing, in words.
    """

    case: str
    variant: str
    structure: str
    reason: str

    def __str__(self) -> str:
        """As in messages: ``CHUM-001 CT-spike-2 GTVp: missing in the candidate run``."""
        return f"{self.case} {self.variant} {self.structure}: {self.reason}"


def compare_rows(candidate: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Join the rows of two models measured on the same cases, variants and structures.

    The result holds the full grid of all cases, variants and structures of either run: what one of them lacks, or
    both, is a row with a ``gap``, so that nothing can leave the population unseen.

    Parameters
    ----------
    candidate, reference
        Rows of the model that may replace another, and of that other (the model in use).

    Returns
    -------
    DataFrame
        One row per case, variant (``modality`` None for the baseline) and structure, sorted, with ``reference_mm3``
        (volume of the contour; NaN where unknown) and ``reference_present`` (the contour has the structure: the
        population of tests); of each model, prefixed ``reference_`` and ``candidate_``: ``dice``, ``detected``,
        ``false_positive`` and ``predicted_mm3``; ``d`` (Dice of the reference model minus that of the candidate,
        positive = harm, NaN in a gap); ``newly_missed`` (found by the reference model, missed by the candidate) and
        ``recovered``, both False in a gap; and ``gap``, the reason in words, empty where there is none.

    Raises
    ------
    AnalysisError
        Where a column is missing, a row is there twice, or the two runs have other contours.
    """
    sides = {name: _keyed(rows, name) for name, rows in zip(_SIDES, (reference, candidate), strict=True)}
    both = pd.concat(sides.values(), ignore_index=True)
    frame = _grid(both).merge(_contour_volumes(both), on=["case", "structure"], how="left")
    for name, rows in sides.items():
        columns = {column: f"{name}_{column}" for column in ("dice", "outcome", "predicted_mm3")}
        measured = rows.drop(columns="reference_mm3").rename(columns=columns).assign(**{f"{name}_row": True})
        frame = frame.merge(measured, on=ROW_KEY, how="left", validate="one_to_one")
        frame[f"{name}_row"] = frame[f"{name}_row"].notna()
    frame["gap"] = _gap_reasons(frame)
    frame = _flagged(frame)
    frame["modality"] = frame["modality"].astype(object).where(frame["modality"] != "", None)
    return frame


def gaps(differences: pd.DataFrame) -> tuple[Gap, ...]:
    """Name every row that could not be compared.

    Parameters
    ----------
    differences
        From :func:`compare_rows`.
    """
    of_gaps = differences[differences["gap"] != ""]
    variants = [variant_name(*values) for values in of_gaps[VARIANT].itertuples(index=False)]
    columns = (of_gaps["case"], variants, of_gaps["structure"], of_gaps["gap"])
    return tuple(Gap(*map(str, values)) for values in zip(*columns, strict=True))


def variant_name(modality: str | None, perturbation: str, severity: int) -> str:
    """Name a variant as elsewhere: ``CT-spike-2``, or ``baseline``."""
    return BASELINE if perturbation == BASELINE else f"{modality or ''}-{perturbation}-{severity}"


def _keyed(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    lacking = [column for column in (*ROW_KEY, *_MEASURED) if column not in rows]
    if lacking:
        raise AnalysisError(
            f"rows of the {side} run: found no column {', '.join(lacking)}; expected the rows of a run; "
            "read them from its metrics.parquet or rows folder"
        )
    frame = rows[[*ROW_KEY, *_MEASURED]].reset_index(drop=True)
    # Joining needs one spelling of "no modality": None, NaN and NA are different to pandas.
    frame["modality"] = frame["modality"].astype(object).where(frame["modality"].notna(), "").astype(str)
    frame = frame.astype({"case": str, "perturbation": str, "severity": int, "structure": str})
    for column in ("dice", "reference_mm3", "predicted_mm3"):
        values = pd.to_numeric(frame[column], errors="coerce").astype(float)
        frame[column] = values.where(np.isfinite(values))
    _refuse_duplicates(frame, side)
    return frame


def _refuse_duplicates(frame: pd.DataFrame, side: str) -> None:
    twice = frame[frame.duplicated(ROW_KEY)]
    if len(twice):
        first = twice.iloc[0]
        variant = variant_name(first["modality"], first["perturbation"], first["severity"])
        raise AnalysisError(
            f"rows of the {side} run, case {first['case']}: {variant} {first['structure']} is there more than once; "
            "expected each variant and structure once per case; delete rows/CASE.jsonl of that case and measure again"
        )


def _grid(both: pd.DataFrame) -> pd.DataFrame:
    parts = [both[columns].drop_duplicates() for columns in (["case"], VARIANT, ["structure"])]
    grid = parts[0].merge(parts[1], how="cross").merge(parts[2], how="cross")
    return grid.sort_values(ROW_KEY, ignore_index=True)


def _contour_volumes(both: pd.DataFrame) -> pd.DataFrame:
    volumes = both.groupby(["case", "structure"])["reference_mm3"].agg(["min", "max"]).reset_index()
    differ = volumes[volumes["max"] - volumes["min"] > _SAME_VOLUME * volumes["max"]]
    if len(differ):
        first = differ.iloc[0]
        raise AnalysisError(
            f"case {first['case']}: the contour of {first['structure']} has {first['min']:g} mm3 in one row and "
            f"{first['max']:g} mm3 in another; expected both runs to be measured against the same contours; measure "
            "one of them again"
        )
    return volumes.rename(columns={"max": "reference_mm3"}).drop(columns="min")


def _gap_reasons(frame: pd.DataFrame) -> pd.Series:
    there = {name: frame[f"{name}_row"] for name in _SIDES}
    conditions = [~there["reference"] & ~there["candidate"], ~there["candidate"], ~there["reference"]]
    reasons = ["missing in both runs", "missing in the candidate run", "missing in the reference run"]
    conditions += [frame[f"{name}_dice"].isna() for name in _SIDES]
    reasons += [f"the {name} run's Dice is not a number" for name in _SIDES]
    conditions.append(frame["reference_mm3"].isna())
    reasons.append("the volume of the contour is not known")
    return pd.Series(np.select(conditions, reasons, default=""), index=frame.index, dtype=object)


def _flagged(frame: pd.DataFrame) -> pd.DataFrame:
    present, complete = frame["reference_mm3"] > 0, frame["gap"] == ""
    difference = (frame["reference_dice"] - frame["candidate_dice"]).round(DECIMALS)
    # A negative zero would sort and print unlike zero.
    frame["d"] = difference.where(complete) + 0.0
    frame["reference_present"] = present
    for name in _SIDES:
        frame[f"{name}_detected"] = present & (frame[f"{name}_outcome"] == "detected")
        frame[f"{name}_false_positive"] = ~present & (frame[f"{name}_outcome"] == "false_positive")
    missed = {name: present & complete & (frame[f"{name}_outcome"] == "missed") for name in _SIDES}
    frame["newly_missed"] = frame["reference_detected"] & missed["candidate"]
    frame["recovered"] = frame["candidate_detected"] & missed["reference"]
    return frame[_COLUMNS]


def _columns_of(side: str) -> Sequence[str]:
    return tuple(f"{side}_{column}" for column in ("dice", "detected", "false_positive", "predicted_mm3"))


_COLUMNS = [*ROW_KEY, "reference_mm3", "reference_present", *_columns_of("reference"), *_columns_of("candidate")]
_COLUMNS += ["d", "newly_missed", "recovered", "gap"]
