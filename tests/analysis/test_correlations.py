"""Correlations of descriptors with ΔDice, against scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.correlations import correlation_table
from analysis.pairing import paired

MakeRow = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def descriptors(rows_of_40: pd.DataFrame) -> pd.DataFrame:
    """One row per case and structure with a reference; one column never changes."""
    present = rows_of_40[rows_of_40["reference_mm3"] > 0][["case", "structure"]].drop_duplicates()
    rng = np.random.default_rng(0)
    return present.assign(volume_mm3=rng.gamma(2, 5000, len(present)), regions=1.0)


def test_agrees_with_scipy_and_statsmodels(rows_of_40: pd.DataFrame, descriptors: pd.DataFrame) -> None:
    pairs = paired(rows_of_40)
    table = correlation_table(pairs, descriptors, ["volume_mm3", "regions"])
    assert len(table) == 36 * 2 * 2
    sizes = table[table["descriptor"] == "volume_mm3"]
    for found in sizes.sample(10, random_state=0).to_dict("records"):
        key = ["modality", "perturbation", "severity", "structure"]
        cell = pairs[np.logical_and.reduce([pairs[name] == found[name] for name in key])]
        joined = cell.merge(descriptors, on=["case", "structure"])
        linear = stats.pearsonr(joined["volume_mm3"], joined["delta_dice"])
        ranks = stats.spearmanr(joined["volume_mm3"], joined["delta_dice"])
        assert found["n"] == len(joined)
        assert (found["r"], found["rho"]) == pytest.approx((linear.statistic, ranks.statistic))
        assert found["p"] == pytest.approx(ranks.pvalue)
        assert found["low"] < found["rho"] < found["high"]
    assert sizes["q"].tolist() == pytest.approx(list(multipletests(sizes["p"], method="fdr_bh")[1]))


def test_a_constant_descriptor_is_no_part_of_the_family(rows_of_40: pd.DataFrame, descriptors: pd.DataFrame) -> None:
    table = correlation_table(paired(rows_of_40), descriptors, ["volume_mm3", "regions"])
    assert table.loc[table["descriptor"] == "regions", "r"].isna().all()
    assert set(table["family"]) == {36 * 2}


def test_cases_without_the_structure_are_left_out(rows_of_40: pd.DataFrame, descriptors: pd.DataFrame) -> None:
    table = correlation_table(paired(rows_of_40), descriptors, ["volume_mm3"])
    assert set(table.loc[table["structure"] == "GTVp", "n"]) == {40}
    assert set(table.loc[table["structure"] == "GTVn", "n"]) == {32}


def test_without_descriptors_the_table_is_empty(rows_of_40: pd.DataFrame) -> None:
    nothing = pd.DataFrame(columns=["case", "structure", "volume_mm3"])
    assert correlation_table(paired(rows_of_40), nothing, ["volume_mm3"]).empty


def test_a_cell_that_erases_everything_only_restates_the_baseline(
    rows_of_40: pd.DataFrame, descriptors: pd.DataFrame
) -> None:
    spike = (rows_of_40["modality"] == "CT") & (rows_of_40["perturbation"] == "spike") & (rows_of_40["severity"] == 3)
    erased = rows_of_40.assign(dice=rows_of_40["dice"].mask(spike, 0.0))
    table = correlation_table(paired(erased), descriptors, ["volume_mm3"])
    marked = table[table["restates_baseline"]]
    assert set(zip(marked["modality"], marked["perturbation"], marked["severity"], strict=True)) == {("CT", "spike", 3)}
    baseline = erased[erased["perturbation"] == "baseline"].merge(descriptors, on=["case", "structure"])
    for row in marked.to_dict("records"):
        of_structure = baseline[baseline["structure"] == row["structure"]]
        assert row["r"] == pytest.approx(stats.pearsonr(of_structure["volume_mm3"], of_structure["dice"]).statistic)


def test_the_study_tests_pearsons(rows_of_40: pd.DataFrame, descriptors: pd.DataFrame) -> None:
    pairs = paired(rows_of_40)
    table = correlation_table(pairs, descriptors, ["volume_mm3"], test="pearson")
    first = table.iloc[0]
    key = ["modality", "perturbation", "severity", "structure"]
    joined = pairs[np.logical_and.reduce([pairs[name] == first[name] for name in key])].merge(
        descriptors, on=["case", "structure"]
    )
    assert first["p"] == pytest.approx(stats.pearsonr(joined["volume_mm3"], joined["delta_dice"]).pvalue)


def test_few_cases_are_not_tested(rows_of_40: pd.DataFrame, descriptors: pd.DataFrame) -> None:
    few = rows_of_40[rows_of_40["case"].isin(rows_of_40["case"].unique()[:9])]
    table = correlation_table(paired(few), descriptors, ["volume_mm3"])
    assert table["r"].notna().all()
    assert table["p"].isna().all()
    assert set(table["family"]) == {0}


def test_chance_is_rarely_called_significant_where_few_cases_lose_everything(make_row: MakeRow) -> None:
    """Skewed descriptors, two lost structures of fifty: a whole family is right in about nine of ten studies."""
    rng = np.random.default_rng(0)
    base, alarms = (None, "baseline", 0), 0
    cases = [f"c{i}" for i in range(50)]
    for _ in range(40):
        rows = [make_row(case, base, "GTVp", 0.8) for case in cases]
        for severity in range(1, 5):
            lost = set(rng.choice(cases, 2, replace=False))
            rows += [
                make_row(c, ("CT", "spike", severity), "GTVp", 0.0 if c in lost else 0.8 - abs(rng.normal(0, 0.01)))
                for c in cases
            ]
        described = pd.DataFrame({"case": cases, "structure": "GTVp"})
        names = [f"d{i}" for i in range(13)]
        described[names] = rng.lognormal(0, 1, (50, 13))
        alarms += correlation_table(paired(pd.DataFrame(rows)), described, names)["significant"].any()
    assert alarms <= 6
