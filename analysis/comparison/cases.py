"""What the decision is made from: a few numbers per case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.comparison.differences import VARIANT, variant_name
from analysis.pairing import BASELINE

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

MOSTLY = 0.5
"""A lesion counts as found under perturbation where it is found in at least this share of the variants."""


class Cell(NamedTuple):
    """A variant seen in one structure; the modality is None for the baseline."""

    modality: str | None
    perturbation: str
    severity: int
    structure: str

    @property
    def is_clean(self) -> bool:
        """Whether the variant is the unperturbed one."""
        return self.perturbation == BASELINE

    def __str__(self) -> str:
        """As in test ids: ``CT-spike-2-GTVp``, ``baseline-GTVp``."""
        return f"{variant_name(*self[:3])}-{self.structure}"


@dataclass(frozen=True)
class CaseTable:
    """Differences of two models by case; a row of each array is a case whose contour has a structure.

    Attributes
    ----------
    cases
        Names.
    clean, perturbed
        Mean d within a structure, then over the structures that the case has; NaN where nothing was compared.
    lesions
        Newly missed minus recovered, averaged as ``clean`` and ``perturbed`` are and over these two: the net share of
        the case's lesions that is lost.
    cells, of_cells
        Columns of the matrix of d, and the matrix; NaN where the case lacks the structure or the row.
    structures
        Columns of the flags below.
    reference_clean, candidate_clean
        Which lesions each model finds without perturbation.
    reference_perturbed, candidate_perturbed
        Which it finds in at least half of the perturbed variants.
    """

    cases: tuple[str, ...]
    clean: Floats
    perturbed: Floats
    lesions: Floats
    cells: tuple[Cell, ...]
    of_cells: Floats
    structures: tuple[str, ...]
    reference_clean: Flags
    candidate_clean: Flags
    reference_perturbed: Flags
    candidate_perturbed: Flags

    def drawn(self, cases: Indices) -> CaseTable:
        """Take other cases, each as often as its index is there."""
        arrays = {name: getattr(self, name)[cases] for name in (*_DIFFERENCES, *_FLAGS)}
        return replace(self, cases=tuple(self.cases[index] for index in cases), **arrays)

    def exchanged(self, which: Flags) -> CaseTable:
        """Let the two models change places in some of the cases."""
        sign = np.where(which, -1.0, 1.0)
        arrays = {name: (getattr(self, name).T * sign).T for name in _DIFFERENCES}
        for block in ("clean", "perturbed"):
            ours, theirs = getattr(self, f"candidate_{block}"), getattr(self, f"reference_{block}")
            arrays[f"candidate_{block}"] = np.where(which[:, np.newaxis], theirs, ours)
            arrays[f"reference_{block}"] = np.where(which[:, np.newaxis], ours, theirs)
        return replace(self, **arrays)


_DIFFERENCES = ("clean", "perturbed", "lesions", "of_cells")
_FLAGS = ("reference_clean", "candidate_clean", "reference_perturbed", "candidate_perturbed")


def case_table(differences: pd.DataFrame) -> CaseTable:
    """Reduce compared rows to what the decision needs.

    Parameters
    ----------
    differences
        From :func:`analysis.comparison.compare_rows`. Rows whose contour lacks the structure are left out; rows with a
        gap count as not measured, and stay the caller's to report.
    """
    present = differences[differences["reference_present"]]
    cases = pd.Index(sorted(present["case"].unique()))
    structures = pd.Index(sorted(present["structure"].unique()))
    measured = present[present["gap"] == ""]
    is_clean = measured["perturbation"] == BASELINE
    blocks = {"clean": measured[is_clean], "perturbed": measured[~is_clean]}
    net = {name: _aggregate(of_block.assign(net=_net(of_block)), "net", cases) for name, of_block in blocks.items()}
    flags = {
        f"{side}_{name}": _found(of_block, f"{side}_detected", cases, structures)
        for name, of_block in blocks.items()
        for side in ("reference", "candidate")
    }
    cells, of_cells = _cell_matrix(measured, cases)
    return CaseTable(
        cases=tuple(map(str, cases)),
        clean=_aggregate(blocks["clean"], "d", cases),
        perturbed=_aggregate(blocks["perturbed"], "d", cases),
        lesions=pd.DataFrame(net).mean(axis=1).to_numpy(dtype=float),
        cells=cells,
        of_cells=of_cells,
        structures=tuple(map(str, structures)),
        **flags,
    )


def aggregate_by_case(rows: pd.DataFrame, column: str) -> pd.Series:
    """Average a column over the rows of a case's structure, then over its structures."""
    return rows.groupby(["case", "structure"])[column].mean().groupby(level="case").mean()


def _aggregate(rows: pd.DataFrame, column: str, cases: pd.Index) -> Floats:
    values: Floats = aggregate_by_case(rows, column).reindex(cases).to_numpy(dtype=float)
    return values


def _net(rows: pd.DataFrame) -> pd.Series:
    return rows["newly_missed"].astype(float) - rows["recovered"].astype(float)


def _found(rows: pd.DataFrame, column: str, cases: pd.Index, structures: pd.Index) -> Flags:
    share = rows.assign(found=rows[column].astype(float)).pivot_table(index="case", columns="structure", values="found")
    # A lesion that was not measured compares as not found: NaN is not at least anything.
    found: Flags = share.reindex(index=cases, columns=structures).to_numpy(dtype=float) >= MOSTLY
    return found


def _cell_matrix(measured: pd.DataFrame, cases: pd.Index) -> tuple[tuple[Cell, ...], Floats]:
    columns = [*VARIANT, "structure"]
    # Grouping drops a null key, which the baseline's modality is.
    filled = measured.assign(modality=measured["modality"].where(measured["modality"].notna(), ""))
    matrix = filled.pivot_table(index="case", columns=columns, values="d", aggfunc="first").reindex(cases)
    keys = tuple(Cell(str(m) or None, str(p), int(severity), str(s)) for m, p, severity, s in matrix.columns)
    return keys, matrix.to_numpy(dtype=float)
