"""Grades as one long table, and its parts: what was graded of one structure, unperturbed or perturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.pairing import BASELINE
from analysis.statistics import Floats

USABLE_FROM = 3
"""Lowest grade that the study calls usable."""

PERTURBED = "perturbed"
TOGETHER = "all"
"""Name of the part that holds unperturbed and perturbed contours together."""

GRADED_WORDS = {BASELINE: "unperturbed", PERTURBED: "perturbed", TOGETHER: "all"}
"""What was graded, in words."""

WORST_WORDS = (
    "Perturbed cases were chosen because they lose most; their usability says how bad it can get, not how often. "
    "Correlations, areas and cut-offs are those of such a choice, too."
)
"""Said wherever perturbed contours are summed up that were all chosen as the worst."""

_CHOSEN = {
    "worst": "because they lose most",
    "random": "at random",
    "stratified": "one from each part, from the least loss to the largest",
    "": "in a way that is not said",
}
"""How perturbed items were chosen, by the column ``sample``, in words."""

KEYS = ("graded", "item", "case", "modality", "perturbation", "severity", "structure", "rater", "grade", "repeat")
"""Columns of the long table, in order; ``sample`` and the metrics follow."""


@dataclass(frozen=True)
class Grades:
    """All grades that were given.

    Attributes
    ----------
    rows
        One row per rater, item, structure and showing: the columns of ``KEYS``, ``sample`` and the metrics. ``graded``
        is ``baseline`` or ``perturbed``, ``repeat`` 1 for a hidden second showing, 0 otherwise.
    metrics
        Columns of metrics; an undefined value is NaN.
    not_given
        ``rater``, ``item`` and ``structure`` of every contour that a rater was not shown or gave no grade.
    notes
        What a reader must know of the input, in sentences.
    synthetic
        Whether a line says that its case is synthetic.
    """

    rows: pd.DataFrame
    metrics: tuple[str, ...]
    not_given: pd.DataFrame
    notes: tuple[str, ...] = ()
    synthetic: bool = False

    @property
    def first_showings(self) -> pd.DataFrame:
        """Grades of contours that a rater saw for the first time; repeats only tell how a rater repeats."""
        return self.rows[self.rows["repeat"] == 0]

    @property
    def raters(self) -> tuple[str, ...]:
        """Raters in order of first appearance."""
        return tuple(dict.fromkeys(self.rows["rater"]))

    @property
    def structures(self) -> tuple[str, ...]:
        """Structures in order of first appearance."""
        return tuple(dict.fromkeys(self.rows["structure"]))

    @property
    def graded(self) -> tuple[str, ...]:
        """Which of ``baseline`` and ``perturbed`` there are, in this order."""
        found = set(self.rows["graded"])
        return tuple(name for name in (BASELINE, PERTURBED) if name in found)

    @property
    def choice_words(self) -> str:
        """How perturbed items were chosen, and what that means for every figure of them; empty where it is not said."""
        of_item = self.rows[self.rows["graded"] == PERTURBED].drop_duplicates("item")["sample"]
        counts = {name: int((of_item == name).sum()) for name in _CHOSEN if name in set(of_item)}
        if not any(counts):
            return ""
        if set(counts) == {"worst"}:
            return WORST_WORDS
        chosen = ", ".join(f"{count} chosen {_CHOSEN[name]}" for name, count in counts.items())
        return (
            f"Perturbed items ({len(of_item)}) are of the most harmful perturbations only: {chosen}. Usability, "
            "correlations, areas and cut-offs are those of this choice, not of perturbed images at large."
        )


@dataclass(frozen=True)
class Part:
    """First showings of one structure, as a table of items by raters.

    Attributes
    ----------
    graded, structure
        What was graded; ``graded`` is ``all`` for unperturbed and perturbed together.
    items
        ``case`` and the metrics by item.
    grades
        A column per rater who gave a grade here, by item; NaN where a rater gave none.
    """

    graded: str
    structure: str
    items: pd.DataFrame
    grades: pd.DataFrame

    @property
    def raters(self) -> tuple[str, ...]:
        """Raters who gave a grade here."""
        return tuple(self.grades.columns)

    @property
    def cases(self) -> npt.NDArray[Any]:
        """Case of each item."""
        return np.asarray(self.items["case"], dtype=str)

    @property
    def keys(self) -> dict[str, str]:
        """First columns of every table of results."""
        return {"graded": self.graded, "structure": self.structure}

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each two raters."""
        return combinations(self.raters, 2)

    def of(self, raters: Sequence[str]) -> Part:
        """Part with the items that all these raters graded."""
        complete = self.grades[list(raters)].notna().all(axis=1)
        return Part(self.graded, self.structure, self.items[complete], self.grades.loc[complete, list(raters)])

    def where(self, kept: npt.NDArray[np.bool_]) -> Part:
        """Part with some of its items."""
        return Part(self.graded, self.structure, self.items[kept], self.grades[kept])

    def usable(self) -> Floats:
        """1 where a grade says usable, 0 where not, NaN where there is none: items by raters."""
        grades = self.grades.to_numpy(dtype=float)
        return np.where(np.isnan(grades), np.nan, grades >= USABLE_FROM)


def parts(grades: Grades, *, together: bool = False) -> Iterator[Part]:
    """Yield the parts that are there: unperturbed first, structures in order of first appearance.

    Parameters
    ----------
    grades
        All grades.
    together
        Yield also the part ``all`` of every structure, last, where both unperturbed and perturbed contours were graded.
    """
    rows = grades.first_showings
    wanted = [(name, rows[rows["graded"] == name]) for name in grades.graded]
    if together and len(wanted) > 1:
        wanted.append((TOGETHER, rows))
    for name, of_name in wanted:
        for structure in grades.structures:
            of_part = of_name[of_name["structure"] == structure]
            if len(of_part):
                yield _part(name, structure, of_part, grades.metrics)


def _part(graded: str, structure: str, rows: pd.DataFrame, metrics: Sequence[str]) -> Part:
    items = rows.drop_duplicates("item").set_index("item")[["case", *metrics]]
    table = rows.set_index(["item", "rater"])["grade"].astype(float).unstack("rater")  # noqa: PD010
    return Part(graded, structure, items, table.reindex(index=items.index, columns=list(dict.fromkeys(rows["rater"]))))


def each_case_once(cases: npt.NDArray[Any]) -> bool:
    """Whether items are of different cases, and so independent."""
    return len(np.unique(cases)) == len(cases)
