"""Rows of two models on the same cases, made from arrays of Dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

VARIANTS = ((None, "baseline", 0), ("CT", "noise", 1), ("CT", "noise", 2), ("PET", "spike", 1))
STRUCTURES = ("GTVp", "GTVn")
FULL_GRID_CASES = 40


@pytest.fixture(scope="session")
def rows_of(make_row: Callable[..., dict[str, Any]]) -> Callable[..., pd.DataFrame]:
    """Rows from Dice of (cases, variants, structures); ``absent`` holds (case, structure) without contour."""

    def build(dice: Any, absent: Sequence[tuple[int, int]] = ()) -> pd.DataFrame:
        values = np.asarray(dice, dtype=float)
        rows = [
            make_row(
                f"case{case:03d}",
                VARIANTS[variant],
                STRUCTURES[structure],
                values[case, variant, structure],
                *((0, round(10 * values[case, variant, structure])) if (case, structure) in absent else (100,)),
            )
            for case, variant, structure in np.ndindex(values.shape)
        ]
        return pd.DataFrame(rows)

    return build


@pytest.fixture(scope="session")
def reference(rows_of: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """A model with a Dice around 0.7 and some loss under perturbation."""
    rng = np.random.default_rng(5)
    clean = rng.uniform(0.5, 0.85, (FULL_GRID_CASES, 1, 2))
    loss = rng.uniform(0, 0.2, (FULL_GRID_CASES, 4, 2)) * np.array([0, 1, 1, 1]).reshape(1, 4, 1)
    return rows_of(clean - loss)


@pytest.fixture(scope="session")
def lose() -> Callable[..., pd.DataFrame]:
    """Rows with less Dice, in all or chosen rows; what falls to 0 is missed."""

    def apply(rows: pd.DataFrame, loss: Any, where: Any = True) -> pd.DataFrame:
        worse = rows.copy()
        change = np.broadcast_to(loss, len(rows)) * np.broadcast_to(where, len(rows))
        worse["dice"] = np.clip(rows["dice"] - change, 0, 1)
        present = rows["reference_mm3"] > 0
        worse.loc[present, "outcome"] = np.where(worse.loc[present, "dice"] > 0, "detected", "missed")
        return worse

    return apply
