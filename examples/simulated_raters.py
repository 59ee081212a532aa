"""Grades that nobody gave, to try a kit before clinicians spend an afternoon on it.

Each simulated rater grades by the Dice of a contour, with a strictness and a carelessness of their own, and is only as
good as that: the figures say something about the analysis and nothing about a model.

    python examples/simulated_raters.py KIT KIT-key -o grades.csv
    nnUNetv2_robustness_report grading import KIT grades.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.grading.key import read_key
from analysis.grading.kit import open_kit

THRESHOLDS = (0.2, 0.45, 0.65, 0.85)
"""Dice from which a contour is graded 2, 3, 4 and 5."""

STRICTNESS = 0.06
"""Every rater wants this much more Dice than the one before."""

CARELESSNESS = 0.08
"""Standard deviation of what a rater takes the Dice for."""


def simulate(kit_folder: Path, key_folder: Path, seed: int) -> pd.DataFrame:
    """Grade every item and structure of a kit by every rater; the columns of an import."""
    kit = open_kit(kit_folder)
    key = read_key(key_folder, kit)
    draw = np.random.default_rng(seed)
    tables = []
    for number, rater in enumerate(kit.raters):
        seen = key["dice"] + draw.normal(0, CARELESSNESS, len(key)) - number * STRICTNESS
        grades = 1 + np.searchsorted(THRESHOLDS, seen, side="right")
        seconds = draw.gamma(4, 10, len(key)).round(1)
        tables.append(key[["item", "structure"]].assign(rater=rater, grade=grades, seconds=seconds))
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Write the grades."""
    parser = argparse.ArgumentParser(description="Simulate the raters of a grading kit.")
    parser.add_argument("kit", type=Path, metavar="KIT")
    parser.add_argument("key", type=Path, metavar="KEY")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        simulate(options.kit, options.key, options.seed).to_csv(options.output, index=False)
    except AnalysisError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
