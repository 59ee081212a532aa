"""Which lesions changed hands, and what is found where nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.comparison.differences import VARIANT, variant_name
from analysis.comparison.record import Record
from analysis.pairing import BASELINE


@dataclass(frozen=True)
class ChangedLesion(Record):
    """A lesion that one model finds and the other misses, in at least one variant.

    Attributes
    ----------
    case, structure
        Which lesion.
    newly_missed, recovered
        Names of the variants in which the candidate misses what the reference model finds, and the reverse.
    variants
        In how many variants it was compared.
    """

    case: str
    structure: str
    newly_missed: tuple[str, ...]
    recovered: tuple[str, ...]
    variants: int

    @property
    def is_lost_without_perturbation(self) -> bool:
        """Whether the candidate misses it in the unperturbed image too."""
        return BASELINE in self.newly_missed

    def __str__(self) -> str:
        """As in messages: ``CHUM-001 GTVp``."""
        return f"{self.case} {self.structure}"


@dataclass(frozen=True)
class FalsePositives(Record):
    """Structures found where the contour has none.

    Attributes
    ----------
    block
        ``clean`` or ``perturbed``.
    rows
        Cases x variants x structures without contour.
    reference, candidate
        How many of them each model finds something in.
    reference_mm3, candidate_mm3
        Volume of that, in total.
    """

    block: Literal["clean", "perturbed"]
    rows: int
    reference: int
    candidate: int
    reference_mm3: float
    candidate_mm3: float


def changed_lesions(differences: pd.DataFrame) -> tuple[ChangedLesion, ...]:
    """Name the lesions that changed hands, worst first.

    Parameters
    ----------
    differences
        From :func:`analysis.comparison.compare_rows`.
    """
    population = differences[differences["reference_present"] & (differences["gap"] == "")]
    found = []
    for (case, structure), rows in population.groupby(["case", "structure"]):
        lost, won = (_variants(rows[rows[column]]) for column in ("newly_missed", "recovered"))
        if lost or won:
            found.append(ChangedLesion(str(case), str(structure), lost, won, len(rows)))
    return tuple(sorted(found, key=_severity))


def false_positives(differences: pd.DataFrame) -> tuple[FalsePositives, ...]:
    """Count what each model finds where the contour has nothing.

    Parameters
    ----------
    differences
        From :func:`analysis.comparison.compare_rows`; rows with a gap are left out.
    """
    absent = differences[~differences["reference_present"] & (differences["gap"] == "")]
    is_clean = absent["perturbation"] == BASELINE
    return _count("clean", absent[is_clean]), _count("perturbed", absent[~is_clean])


def _count(block: Literal["clean", "perturbed"], rows: pd.DataFrame) -> FalsePositives:
    flags = {side: rows[f"{side}_false_positive"] for side in ("reference", "candidate")}
    volumes = {side: float(rows.loc[flag, f"{side}_predicted_mm3"].sum()) for side, flag in flags.items()}
    return FalsePositives(
        block=block,
        rows=len(rows),
        reference=int(flags["reference"].sum()),
        candidate=int(flags["candidate"].sum()),
        reference_mm3=volumes["reference"],
        candidate_mm3=volumes["candidate"],
    )


def _variants(rows: pd.DataFrame) -> tuple[str, ...]:
    return tuple(variant_name(*values) for values in rows[VARIANT].itertuples(index=False))


def _severity(lesion: ChangedLesion) -> tuple[bool, int, str]:
    net = len(lesion.newly_missed) - len(lesion.recovered)
    return not lesion.is_lost_without_perturbation, -net, str(lesion)
