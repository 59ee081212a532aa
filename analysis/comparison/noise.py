"""How much a gated mean moves when nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.comparison.cases import aggregate_by_case
from analysis.comparison.differences import compare_rows, gaps
from analysis.comparison.margins import Margins
from analysis.comparison.record import Record
from analysis.errors import AnalysisError
from analysis.pairing import BASELINE

FEWEST_REPEATS = 10

REPEATABILITY = 2.8
"""1.96 times the root of 2: two runs of the same model differ by less than this many SD in 95 % of pairs."""

MOST_WIDENING = 2.0
"""A margin may grow to this multiple of what was configured."""


@dataclass(frozen=True)
class NoiseFloor(Record):
    """Spread of the gated means over repeated runs of one unchanged model.

    Attributes
    ----------
    repeats, cases
        Runs, and cases in each.
    clean_sd, perturbed_sd
        SD over the runs of the mean Dice that the gate compares, without and under perturbation; 0 where every run
        gives the same.
    clean, perturbed
        2.8 of these: what two runs of one model may differ by.
    """

    repeats: int
    cases: int
    clean_sd: float
    perturbed_sd: float
    clean: float
    perturbed: float

    def widened(self, margins: Margins, most: float = MOST_WIDENING) -> Margins:
        """Widen margins to the noise; a pipeline that needs more than a multiple of them is refused.

        Parameters
        ----------
        margins
            As configured.
        most
            Largest multiple of a configured margin.

        Raises
        ------
        AnalysisError
            Where the noise is larger: a gate that wide would let harm through.
        """
        wide = {}
        for name in ("clean", "perturbed"):
            configured, noise = getattr(margins, name), getattr(self, name)
            if noise > most * configured:
                raise AnalysisError(
                    f"repeated runs of the unchanged model: 2.8 SD of the mean Dice ({name}) is {noise:.3f}, expected "
                    f"at most {most:g} times the margin {configured:g}; the pipeline is too noisy for that margin: "
                    "measure more cases, make the runs repeatable (seed, device), or configure a margin you can defend"
                )
            wide[name] = max(configured, noise)
        return replace(margins, **wide)


def noise_floor(repeats: Sequence[pd.DataFrame]) -> NoiseFloor:
    """Measure the noise of a pipeline from repeated runs of the same model on the same cases.

    Parameters
    ----------
    repeats
        Rows of at least ten runs.

    Returns
    -------
    NoiseFloor
        SD over the runs (n - 1) of the mean Dice, taken as the gate takes the mean of d: within a case and structure,
        then over the case's structures, then over cases. That is the SD of every run's d against the mean of all runs,
        or against any one of them: what they are compared with only shifts them all.

    Raises
    ------
    AnalysisError
        For fewer than ten runs, runs that differ in their cases, variants or contours, or that lack a Dice.
    """
    if len(repeats) < FEWEST_REPEATS:
        raise AnalysisError(
            f"found {len(repeats)} repeated runs, expected at least {FEWEST_REPEATS}: fewer say too little about the "
            f"spread; repeat the run with --repeat {FEWEST_REPEATS}"
        )
    means = np.array([_means(run, repeats[0], number) for number, run in enumerate(repeats, start=1)])
    clean_sd, perturbed_sd = (float(sd) for sd in means[:, :2].std(axis=0, ddof=1))
    return NoiseFloor(
        repeats=len(repeats),
        cases=int(means[0, 2]),
        clean_sd=clean_sd,
        perturbed_sd=perturbed_sd,
        clean=REPEATABILITY * clean_sd,
        perturbed=REPEATABILITY * perturbed_sd,
    )


def _means(run: pd.DataFrame, first: pd.DataFrame, number: int) -> tuple[float, float, int]:
    pairs = compare_rows(run, first)
    found = gaps(pairs)
    if found:
        raise AnalysisError(
            f"repeated run {number} beside the first: {found[0]} ({len(found)} such); expected the same cases and "
            "variants, all with a Dice; complete the runs first"
        )
    present = pairs[pairs["reference_present"]]
    is_clean = present["perturbation"] == BASELINE
    blocks = [aggregate_by_case(rows, "d") for rows in (present[is_clean], present[~is_clean])]
    for name, of_block in zip(("unperturbed", "perturbed"), blocks, strict=True):
        if of_block.empty:
            raise AnalysisError(
                f"repeated run {number}: found no {name} row with a contour; expected the whole grid; run it without "
                "leaving variants away"
            )
    return float(blocks[0].mean()), float(blocks[1].mean()), len(blocks[0])
