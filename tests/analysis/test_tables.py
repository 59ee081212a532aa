"""Pairs, the baseline table and the table of all cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.errors import AnalysisError
from analysis.tables import baseline_table, cell_table, paired, worst_cells
from analysis.verdict import Limits

MakeRow = Callable[..., dict[str, Any]]
BASE = (None, "baseline", 0)
SPIKE = ("CT", "spike", 2)


@pytest.fixture
def six_cases(make_row: MakeRow) -> pd.DataFrame:
    """One cell: kept, newly missed, recovered, missed in both, and two cases without a reference."""
    dice = {"kept": (0.8, 0.7), "lost": (0.6, 0.0), "won": (0.0, 0.3), "never": (0.0, 0.0)}
    rows = [make_row(c, v, "GTVp", d) for c, pair in dice.items() for v, d in zip((BASE, SPIKE), pair, strict=True)]
    rows += [make_row("none", BASE, "GTVp", 1.0, 0, 0), make_row("none", SPIKE, "GTVp", 0.0, 0, 9)]
    rows += [make_row("ghost", BASE, "GTVp", 0.0, 0, 9), make_row("ghost", SPIKE, "GTVp", 1.0, 0, 0)]
    return pd.DataFrame(rows)


def test_pairs_by_hand(six_cases: pd.DataFrame) -> None:
    pairs = paired(six_cases).set_index("case")
    assert len(pairs) == 6
    assert pairs["delta_dice"].to_dict() == pytest.approx(
        {"kept": 0.1, "lost": 0.6, "won": -0.3, "never": 0.0, "none": 1.0, "ghost": -1.0}
    )
    flags = {
        "reference_present": {"kept", "lost", "won", "never"},
        "at_risk": {"kept", "lost"},
        "newly_missed": {"lost"},
        "recovered": {"won"},
        "false_positive": {"none"},
    }
    for flag, cases in flags.items():
        assert set(pairs.index[pairs[flag]]) == cases, flag


def test_a_row_without_baseline_has_no_delta_and_is_kept(six_cases: pd.DataFrame) -> None:
    without = six_cases[~((six_cases["case"] == "kept") & (six_cases["perturbation"] == "baseline"))]
    pairs = paired(without).set_index("case")
    assert math.isnan(pairs.loc["kept", "delta_dice"])
    assert not pairs.loc["kept", "newly_missed"]


def test_a_row_that_is_there_twice_is_refused(six_cases: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="case lost: 'CT spike 2 GTVp' is there more than once"):
        paired(pd.concat([six_cases, six_cases[six_cases["case"] == "lost"].tail(1)]))


def test_baseline_by_hand(six_cases: pd.DataFrame) -> None:
    table = baseline_table(six_cases).set_index("structure").loc["GTVp"]
    assert (table["n"], table["absent"]) == (4, 2)
    assert (table["missed"], table["false_positives"], table["hd95_infinite"]) == (2, 1, 2)
    # Dice 0.8, 0.6, 0, 0
    assert table["dice_mean"] == pytest.approx(0.35)
    assert (table["dice_median"], table["dice_q1"], table["dice_q3"]) == pytest.approx((0.3, 0.0, 0.65))
    # distances 8, 12, inf, inf: ranked, the median lies between 12 and inf
    assert table["hd95_mm_median"] == math.inf
    assert table["hd95_mm_q1"] == pytest.approx(11.0)
    assert table["hd95_mm_iqr"] == math.inf
    assert table["sensitivity_mean"] == pytest.approx(0.35)


def test_a_cell_by_hand(six_cases: pd.DataFrame) -> None:
    cell = cell_table(six_cases, Limits.load()).iloc[0]
    # ΔDice -0.3, 0, 0.1, 0.6
    assert (cell["n"], cell["zero_differences"], cell["recovered"]) == (4, 1, 1)
    assert (cell["mean"], cell["median"], cell["iqr"]) == pytest.approx((0.1, 0.05, 0.225 + 0.075))
    assert (cell["newly_missed"], cell["at_risk"]) == (1, 2)
    assert (cell["false_positives"], cell["absent"]) == (1, 2)
    assert (cell["worst_case"], cell["worst_delta"]) == ("lost", pytest.approx(0.6))
    # ranks of 0.1, -0.3, 0.6 are 1, 2, 3: W+ = 4, W- = 2; p = 6/8 (sign sums of 2 or more, either way)
    assert cell["rank_biserial"] == pytest.approx(2 / 6)
    assert cell["p"] == pytest.approx(0.75)
    assert (cell["limited"], cell["violations"]) == (False, "")


def test_forty_cases_agree_with_pandas_scipy_and_statsmodels(rows_of_40: pd.DataFrame) -> None:
    table = cell_table(rows_of_40, Limits.load()).set_index(["modality", "perturbation", "severity", "structure"])
    assert len(table) == 2 * 6 * 3 * 2
    wide = rows_of_40[rows_of_40["reference_mm3"] > 0].pivot_table(
        index=["case", "structure"], columns=["modality", "perturbation", "severity"], values="dice", dropna=False
    )
    baseline = rows_of_40[rows_of_40["perturbation"] == "baseline"].set_index(["case", "structure"])["dice"]
    for key in [("CT", "spike", 3, "GTVn"), ("PET", "blur", 1, "GTVp"), ("PET", "noise", 2, "GTVn")]:
        delta = (baseline - wide[key[:3]]).xs(key[3], level="structure").dropna().round(10)
        row = table.loc[key]
        assert (row["n"], row["zero_differences"]) == (len(delta), (delta == 0).sum())
        assert (row["mean"], row["median"]) == pytest.approx((delta.mean(), delta.median()))
        assert row["iqr"] == pytest.approx(stats.iqr(delta))
        nonzero = delta[delta != 0]
        assert row["p"] == pytest.approx(stats.wilcoxon(nonzero, method="exact").pvalue)
    assert (table["family"] == 72).all()
    assert table["q"].to_numpy() == pytest.approx(multipletests(table["p"], method="fdr_bh")[1])


def test_cells_that_cannot_be_tested_are_no_part_of_the_family(make_row: MakeRow, six_cases: pd.DataFrame) -> None:
    few = [make_row(c, ("PET", "blur", 1), "GTVp", 0.5) for c in ("kept", "lost")]
    table = cell_table(pd.concat([six_cases, pd.DataFrame(few)]), Limits.load()).set_index("perturbation")
    assert math.isnan(table.loc["blur", "p"])
    assert math.isnan(table.loc["blur", "q"])
    assert table.loc["spike", "q"] == table.loc["spike", "p"]
    assert list(table["family"]) == [1, 1]


def test_an_absent_structure_has_no_cells(make_row: MakeRow, six_cases: pd.DataFrame) -> None:
    absent = [make_row("kept", variant, "GTVn", 1.0, 0, 0) for variant in (BASE, SPIKE)]
    table = cell_table(pd.concat([six_cases, pd.DataFrame(absent)]), Limits.load())
    assert list(table["structure"]) == ["GTVp"]
    only_absent = cell_table(pd.DataFrame(absent), Limits.load())
    assert len(only_absent) == 0
    assert baseline_table(pd.DataFrame(absent))["n"].tolist() == [0]


def test_the_order_of_rows_changes_no_figure(rows_of_40: pd.DataFrame) -> None:
    some = rows_of_40[rows_of_40["perturbation"].isin(["baseline", "spike", "blur"])]
    shuffled = some.sample(frac=1, random_state=np.random.default_rng(1))
    keys = ["modality", "perturbation", "severity", "structure"]
    first, second = (cell_table(rows, Limits.load()).sort_values(keys) for rows in (some, shuffled))
    exact = ["n", "median", "median_low", "median_high", "zero_differences", "newly_missed", "p", "q", "worst_case"]
    pd.testing.assert_frame_equal(first[exact].reset_index(drop=True), second[exact].reset_index(drop=True))


def test_worst_cells_rank_by_median_then_by_lesions_then_by_mean() -> None:
    table = pd.DataFrame(
        {
            "name": ["mild", "mean", "undefined", "missed", "worst"],
            "median": [0.1, 0.3, math.nan, 0.3, 0.5],
            "mean": [0.1, 0.4, math.nan, 0.3, 0.4],
            "newly_missed": [3, 0, 0, 1, 0],
            "at_risk": [4, 4, 0, 4, 0],
        }
    )
    assert worst_cells(table)["name"].tolist() == ["worst", "missed", "mean", "mild", "undefined"]
    assert len(worst_cells(table, 2)) == 2


def test_draws_without_effect_are_counted_among_those_recorded(make_row: MakeRow) -> None:
    changes = {"a": 0.4, "b": 0.0005, "c": 0.0, "d": None}
    rows = [make_row(case, BASE, "GTVp", 0.8) for case in changes]
    for case, change in changes.items():
        drawn = {"transform": "Spike", "arguments": {}} | ({} if change is None else {"relative_change": change})
        rows.append(make_row(case, SPIKE, "GTVp", 0.7) | {"parameters": json.dumps(drawn)})
    cell = cell_table(pd.DataFrame(rows), Limits.load()).iloc[0]
    assert (cell["draws_without_effect"], cell["draws"]) == (2, 3)


def test_a_lost_structure_is_missed_with_nothing_predicted_or_with_a_prediction_elsewhere(make_row: MakeRow) -> None:
    rows = [make_row(case, BASE, "GTVp", 0.8) for case in "abc"]
    rows += [make_row("a", SPIKE, "GTVp", 0.0, 100, 0), make_row("b", SPIKE, "GTVp", 0.0, 100, 500)]
    rows += [make_row("c", SPIKE, "GTVp", 0.0, 100, 3)]
    cell = cell_table(pd.DataFrame(rows), Limits.load()).iloc[0]
    assert (cell["newly_missed"], cell["nothing_predicted"]) == (3, 1)
    assert cell["restates_baseline"]


def test_a_recovered_structure_keeps_a_cell_from_restating_the_baseline(make_row: MakeRow) -> None:
    rows = [
        make_row(c, v, "GTVp", d)
        for c, *pair in (("a", 0.8, 0.0), ("b", 0.0, 0.6))
        for v, d in zip((BASE, SPIKE), pair, strict=True)
    ]
    assert not cell_table(pd.DataFrame(rows), Limits.load()).iloc[0]["restates_baseline"]
