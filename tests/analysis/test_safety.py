"""Break-points, missed lesions and crossings by hand; exact intervals against published values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.pairing import paired
from analysis.safety import break_points, clopper_pearson, crossings, missed_rates
from analysis.tables import cell_table
from analysis.verdict import Limits

MakeRow = Callable[..., dict[str, Any]]
BASE = (None, "baseline", 0)


@pytest.fixture
def rows(make_row: MakeRow) -> pd.DataFrame:
    """Three cases with GTVp, one without; blur harms from 2 on, spike from 3 on and erases two of three lesions."""
    dice = {
        BASE: (0.8, 0.7, 0.4),
        ("CT", "blur", 1): (0.79, 0.69, 0.39),
        ("CT", "blur", 2): (0.7, 0.6, 0.3),
        ("CT", "blur", 3): (0.45, 0.6, 0.55),
        ("CT", "spike", 1): (0.8, 0.7, 0.4),
        ("CT", "spike", 2): (0.76, 0.66, 0.36),
        ("CT", "spike", 3): (0.0, 0.0, 0.4),
    }
    rows = [make_row(c, v, "GTVp", d) for v, values in dice.items() for c, d in zip("abc", values, strict=True)]
    rows += [make_row("none", variant, "GTVp", 0.0, 0, 9) for variant in dice]
    return pd.DataFrame(rows)


def test_break_points_are_the_first_level_over_the_limit(rows: pd.DataFrame) -> None:
    points = break_points(cell_table(rows, Limits.load())).set_index("perturbation")
    # median ΔDice: blur 0.01, 0.1, 0.1 (limit 0.05); spike 0, 0.04, 0.7 (no limit)
    assert points["severity"].to_dict() == {"blur": 2, "spike": 3}
    assert points["limited"].to_dict() == {"blur": True, "spike": False}


def test_a_perturbation_that_never_breaks_has_no_break_point(
    rows: pd.DataFrame, limits_file: Callable[[str], Path]
) -> None:
    lenient = Limits.load(limits_file("[[limit]]\nmedian_delta_dice = 0.9"))
    points = break_points(cell_table(rows, lenient))
    assert points["severity"].isna().all()
    assert points["tested"].tolist() == [(1, 2, 3), (1, 2, 3)]


def test_missed_lesions_by_hand(rows: pd.DataFrame) -> None:
    (found,) = missed_rates(rows).to_dict("records")
    assert (found["missed"], found["n"]) == (0, 3)
    assert (found["perturbed_missed"], found["perturbed_n"]) == (2, 18)
    assert (found["worst_variant"], found["worst_missed"], found["worst_n"]) == ("CT spike 3", 2, 3)


def test_exact_interval_has_its_published_values() -> None:
    # 0 of 45: the one-sided 95 % limit 6.4 % is the two-sided 90 % one; 1 - 0.05 ** (1 / 45)
    assert clopper_pearson(0, 45, 0.9) == pytest.approx((0, 1 - 0.05 ** (1 / 45)))
    # Clopper and Pearson's own example form: 10 of 20, R binom.test gives 0.2719578 to 0.7280422
    assert clopper_pearson(10, 20) == pytest.approx((0.2719578, 0.7280422), abs=1e-7)
    assert all(math.isnan(end) for end in clopper_pearson(0, 0))


def test_crossings_are_named_with_their_variants(rows: pd.DataFrame) -> None:
    table = crossings(paired(rows)).to_dict("records")
    found = [(row["direction"], row["case"], row["count"], row["variants"], row["which"]) for row in table]
    assert found == [
        ("falls", "a", 2, 6, "CT blur 3; CT spike 3"),
        ("falls", "b", 1, 6, "CT spike 3"),
        ("rises", "c", 1, 6, "CT blur 3"),
    ]


def test_neighbouring_severities_are_condensed(make_row: MakeRow) -> None:
    levels = {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.6, 5: 0.1}
    rows = [make_row("a", BASE, "GTVp", 0.8)]
    rows += [make_row("a", (m, "bias", s), "GTVp", d) for m in ("CT", "PET") for s, d in levels.items() if s < 4]
    rows += [make_row("a", ("CT", "blur", s), "GTVp", d) for s, d in levels.items() if s > 1 and s != 3]
    (row,) = crossings(paired(pd.DataFrame(rows))).to_dict("records")
    assert row["which"] == "CT bias 1-3; CT blur 2, 5; PET bias 1-3"


def test_nothing_crosses(make_row: MakeRow) -> None:
    rows = pd.DataFrame([make_row("a", BASE, "GTVp", 0.8), make_row("a", ("CT", "blur", 1), "GTVp", 0.7)])
    assert crossings(paired(rows)).empty


def test_levels_without_any_dice_are_not_called_kept(rows: pd.DataFrame) -> None:
    spike = rows["perturbation"] == "spike"
    undefined = rows.assign(dice=rows["dice"].mask(spike))
    points = break_points(cell_table(undefined, Limits.load())).set_index("perturbation")
    assert points.loc["spike", "tested"] == ()
    assert points.loc["spike", "over"] == (1, 2, 3)


def test_a_break_that_does_not_last_is_told_level_by_level(rows: pd.DataFrame) -> None:
    level_3 = (rows["perturbation"] == "blur") & (rows["severity"] == 3)
    baseline = rows[rows["perturbation"] == "baseline"].set_index("case")["dice"]
    mended = rows.assign(dice=rows["dice"].mask(level_3, rows["case"].map(baseline)))
    points = break_points(cell_table(mended, Limits.load())).set_index("perturbation")
    assert points.loc["blur", "over"] == (2,)
