"""Divide a cohort into hold-out and cross-validation folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from sklearn.model_selection import KFold

AUTHORS_SEED = 42


@dataclass(frozen=True)
class Split:
    """Names of the held-out cases, and for each fold those it validates on; all sorted."""

    hold_out: list[str]
    folds: list[list[str]]

    @property
    def development(self) -> list[str]:
        """All cases that are not held out, sorted."""
        return sorted(name for fold in self.folds for name in fold)

    def restricted_to(self, names: Sequence[str]) -> Split:
        """Return the split without the cases that are not in ``names``; folds left empty are dropped."""
        kept = set(names)
        folds = [[name for name in fold if name in kept] for fold in self.folds]
        return Split([name for name in self.hold_out if name in kept], [fold for fold in folds if fold])

    def as_nnunet(self) -> list[dict[str, list[str]]]:
        """Return the content of nnU-Net's ``splits_final.json``."""
        return [{"train": [name for name in self.development if name not in fold], "val": fold} for fold in self.folds]


def stratified(strata: Mapping[str, tuple[str, ...]], hold_out: int, folds: int, seed: int) -> Split:
    """Split so that hold-out and every fold mirror the cohort.

    The cases are shuffled within their stratum and the strata are put one after the other, those that share
    the first entry next to each other. Every n-th case of that line is held out; the others are dealt to the
    folds in turn. So the share of any stratum, and of any first entry, differs between two folds by one case
    at most. Unlike scikit-learn's stratified splitters this works for strata smaller than the number of
    folds.

    Parameters
    ----------
    strata : mapping
        For each case what the split has to balance, most important first.
    hold_out : int
        Number of cases to hold out.
    folds : int
        Number of folds, at most the number of cases that are not held out.
    seed : int
        Seed of the shuffling.
    """
    rng = np.random.default_rng(seed)
    line: list[str] = []
    for _, group in groupby(sorted(strata, key=lambda name: (strata[name], name)), key=strata.__getitem__):
        line.extend(rng.permutation(list(group)).tolist())
    held = {line[int((index + 0.5) * len(line) / hold_out)] for index in range(hold_out)}
    rest = [name for name in line if name not in held]
    return Split(sorted(held), [sorted(rest[fold::folds]) for fold in range(folds)])


def authors(names: Sequence[str], hold_out: int, folds: int) -> Split:
    """Split as the study's authors did: a random hold-out, then scikit-learn's ``KFold``, both with seed 42.

    Parameters
    ----------
    names : sequence of str
        All cases of the cohort, in any order.
    hold_out : int
        Number of cases to hold out (the study: 50 of 524).
    folds : int
        Number of folds (the study: 5).
    """
    ordered = sorted(names)
    # The legacy generator is the authors' own: RandomState(42) draws what numpy.random does after seed(42).
    drawn = np.random.RandomState(AUTHORS_SEED).choice(ordered, hold_out, replace=False)
    held = set(drawn.tolist())
    development = [name for name in ordered if name not in held]
    splitter = KFold(folds, shuffle=True, random_state=AUTHORS_SEED)
    validation = [[development[index] for index in chosen] for _, chosen in splitter.split(development)]
    return Split(sorted(held), [sorted(fold) for fold in validation])
