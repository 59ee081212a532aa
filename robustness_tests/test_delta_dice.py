"""The gate: one test per modality x perturbation x severity x structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from robustness_tests.gate import Cell, Gate

pytestmark = pytest.mark.robustness


def test_delta_dice(
    robustness_cell: Cell, robustness_gate: Gate, record_property: Callable[[str, object], None]
) -> None:
    """The loss of Dice against the unperturbed prediction stays below the cell's limits."""
    result = robustness_gate.judge(robustness_cell)
    if result is None:
        pytest.skip(f"no reference contour of this cohort has {robustness_cell.structure}")
    for name, value in result.properties().items():
        record_property(name, value)
    if result.violations:
        pytest.fail("; ".join(result.violations), pytrace=False)
