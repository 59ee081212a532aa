from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.comparison import Decision, Margins, Settings, case_table, compare_rows, decide

Rows = Callable[..., pd.DataFrame]
QUICK = Settings(flips=999, resamples=999)


def compare(candidate: pd.DataFrame, reference: pd.DataFrame, margins: Margins | None = None) -> Decision:
    return decide(compare_rows(candidate, reference), margins, QUICK)


def clean(rows: pd.DataFrame) -> pd.Series:
    return rows["perturbation"] == "baseline"


def test_the_same_rows_are_equivalent(reference: pd.DataFrame) -> None:
    decision = compare(reference, reference)
    assert decision.outcome == "pass"
    assert decision.clean.state == decision.perturbed.state == decision.lesions.state == "equivalent"
    assert decision.p_cells == decision.clean.p == 1.0
    assert not decision.changed_lesions
    assert not decision.improved_cells
    assert decision.lesions_clean.at_risk == decision.cases == 40
    assert decision.reasons[0].startswith("equivalent without and equivalent under perturbation")


def test_the_simulated_run_is_equivalent_to_itself(rows_of_40: pd.DataFrame) -> None:
    decision = compare(rows_of_40, rows_of_40)
    assert decision.outcome == "pass"
    assert len(decision.cells) == 74
    assert decision.false_positives[1].rows == 8 * 36


def test_a_worse_model_is_a_regression_with_its_reasons(reference: pd.DataFrame, lose: Rows) -> None:
    rng = np.random.default_rng(0)
    decision = compare(lose(reference, rng.normal(0.08, 0.03, len(reference))), reference)
    assert decision.outcome == "regression"
    assert decision.clean.is_regression
    assert decision.perturbed.is_regression
    assert all(cell.is_regression for cell in decision.cells)
    assert decision.reasons[0].startswith("worse: mean loss of Dice without perturbation 0.0")
    assert "worse in 8 cells by max-T" in decision.reasons[2]


def test_a_better_model_passes_and_its_gains_are_listed(reference: pd.DataFrame, lose: Rows) -> None:
    decision = compare(lose(reference, -0.05, clean(reference)), reference)
    assert decision.outcome == "pass"
    assert decision.clean.state == "superior"
    assert decision.perturbed.state == "equivalent"
    assert [str(cell) for cell in decision.improved_cells] == ["baseline-GTVn", "baseline-GTVp"]


def test_one_bad_cell_is_found_and_named(reference: pd.DataFrame, lose: Rows) -> None:
    cell = (reference["perturbation"] == "spike") & (reference["structure"] == "GTVn")
    decision = compare(lose(reference, np.random.default_rng(0).normal(0.1, 0.05, len(reference)), cell), reference)
    assert decision.outcome == "regression"
    assert not decision.clean.is_regression
    assert [str(found) for found in decision.cells if found.is_regression] == ["PET-spike-1-GTVn"]


def test_a_significant_trifle_passes(reference: pd.DataFrame, lose: Rows) -> None:
    decision = compare(lose(reference, 0.002), reference)
    assert decision.clean.holm_p <= 0.05
    assert decision.outcome == "pass"


@pytest.mark.parametrize(("share", "outcome"), [(0.1, "inconclusive"), (0.3, "regression")])
def test_a_structure_suppressed_in_some_cases_does_not_pass(
    reference: pd.DataFrame, lose: Rows, share: float, outcome: str
) -> None:
    names = sorted(reference["case"].unique())
    hit = names[: round(share * len(names))]
    where = reference["case"].isin(hit) & (reference["structure"] == "GTVp")
    decision = compare(lose(reference, 1.0, where), reference)
    assert decision.outcome == outcome
    assert [str(lesion) for lesion in decision.changed_lesions] == [f"{name} GTVp" for name in hit]
    assert decision.lesions_clean.events == decision.lesions_perturbed.events == len(hit)
    assert not decision.lesions_clean.met
    assert any(reason.startswith(f"newly missed without perturbation: {hit[0]} GTVp") for reason in decision.reasons)


def test_recovered_lesions_weigh_against_missed_ones(reference: pd.DataFrame, lose: Rows) -> None:
    first, second = (reference["case"] == name for name in ("case000", "case001"))
    decision = compare(lose(reference, 1.0, first), lose(reference, 1.0, second))
    assert decision.lesions.mean == 0
    assert [(len(lesion.newly_missed), len(lesion.recovered)) for lesion in decision.changed_lesions] == [
        (4, 0),
        (4, 0),
        (0, 4),
        (0, 4),
    ]


def test_means_of_a_case_weigh_its_structures_alike(rows_of: Rows) -> None:
    before = np.full((2, 4, 2), 0.9)
    after = before.copy()
    after[0, 0] -= [0.1, 0.3]
    after[0, 1:] -= [[0.0, 0.3], [0.3, 0.0], [0.0, 0.0]]
    after[1, 0, 0] -= 0.2
    after[1, 2, 1] = 0.0
    table = case_table(compare_rows(rows_of(after), rows_of(before)))
    np.testing.assert_allclose(table.clean, [0.2, 0.1])
    np.testing.assert_allclose(table.perturbed, [0.1, 0.15])
    # One of three perturbed variants of one of two structures, and nothing unperturbed.
    np.testing.assert_allclose(table.lesions, [0, (0 + 1 / 6) / 2])


def test_a_case_that_lacks_a_structure_counts_with_the_others(rows_of: Rows) -> None:
    before, absent = np.full((3, 4, 2), 0.9), [(1, 1), (2, 0), (2, 1)]
    after = before - np.array([0.1, 0.3])
    decision = compare(rows_of(after, absent), rows_of(before, absent))
    assert decision.clean.n == decision.cases == 2
    assert decision.clean.mean == pytest.approx((0.2 + 0.1) / 2)
    assert decision.cases_without_structure == ("case002",)
    assert {cell.structure: cell.n for cell in decision.cells} == {"GTVp": 2, "GTVn": 1}
    assert decision.false_positives[0].rows == 3


@pytest.mark.parametrize("kind", ["row missing", "Dice missing", "case missing"])
def test_a_gap_is_named_and_prevents_a_pass(reference: pd.DataFrame, kind: str) -> None:
    broken = reference.copy()
    if kind == "row missing":
        broken = broken.drop(index=[0])
    elif kind == "case missing":
        broken = broken[broken["case"] != "case000"]
    else:
        broken.loc[0, "dice"] = np.nan
    decision = compare(broken, reference)
    assert decision.outcome == "inconclusive"
    assert "case000 baseline GTVp" in decision.reasons[0]
    assert len(decision.gaps) == (8 if kind == "case missing" else 1)
    assert decision.cases == 40


def test_a_gap_does_not_hide_a_regression(reference: pd.DataFrame, lose: Rows) -> None:
    assert compare(lose(reference, 0.2).drop(index=[0]), reference).outcome == "regression"


def test_without_perturbed_rows_nothing_passes(reference: pd.DataFrame) -> None:
    only_clean = reference[clean(reference)]
    decision = compare(only_clean, only_clean)
    assert decision.outcome == "inconclusive"
    assert decision.clean.state == "equivalent"
    assert "mean loss of Dice under perturbation: nothing to compare" in decision.reasons


@pytest.mark.parametrize("cases", [0, 1, 3])
def test_few_cases_are_inconclusive_and_say_how_many_it_takes(reference: pd.DataFrame, cases: int) -> None:
    few = reference[reference["case"] < f"case{cases:03d}"]
    decision = compare(few, few)
    assert decision.outcome == "inconclusive"
    if cases:
        assert any("it takes 29 cases at this number of events" in reason for reason in decision.reasons)


def test_an_undecided_mean_says_how_many_cases_would_decide(reference: pd.DataFrame, lose: Rows) -> None:
    names = sorted(reference["case"].unique())
    offset = dict(zip(names, np.random.default_rng(0).normal(0.0, 0.15, len(names)), strict=True))
    decision = compare(lose(reference, reference["case"].map(offset), clean(reference)), reference)
    assert decision.outcome == "inconclusive"
    assert decision.clean.cases_to_decide is not None
    assert decision.clean.cases_to_decide > 40
    assert any(f"about {decision.clean.cases_to_decide} cases would tell" in text for text in decision.reasons)


@pytest.mark.parametrize("cases", [0, 1, 40])
def test_a_decision_is_plain_data(reference: pd.DataFrame, lose: Rows, cases: int) -> None:
    some = reference[reference["case"] < f"case{cases:03d}"]
    content = json.loads(json.dumps(compare(lose(some, 0.1), some).to_dict(), allow_nan=False))
    assert content["margins"]["clean"] == 0.02
    assert content["clean"]["n"] == cases
    assert content["settings"] == {"alpha": 0.05, "flips": 999, "resamples": 999, "seed": 0}


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_rows_is_irrelevant(reference: pd.DataFrame, lose: Rows, seed: int) -> None:
    worse = lose(reference, np.random.default_rng(1).normal(0.02, 0.05, len(reference)))
    shuffled = [frame.sample(frac=1, random_state=seed) for frame in (worse, reference)]
    assert compare(*shuffled).to_dict() == compare(worse, reference).to_dict()


def test_swapping_the_models_turns_the_signs(reference: pd.DataFrame, lose: Rows) -> None:
    worse = lose(reference, np.random.default_rng(1).normal(0.04, 0.3, len(reference)))
    there, back = compare(worse, reference), compare(reference, worse)
    for name in ("clean", "perturbed", "lesions"):
        for figure in ("mean", "median", "hodges_lehmann"):
            assert getattr(getattr(there, name), figure) == pytest.approx(-getattr(getattr(back, name), figure))
        assert getattr(there, name).low == pytest.approx(-getattr(back, name).high, abs=0.02)
    np.testing.assert_allclose([c.mean for c in there.cells], [-c.mean for c in back.cells])
    assert [lesion.newly_missed for lesion in there.changed_lesions if lesion.newly_missed]
    assert {str(c): c.newly_missed for c in there.changed_lesions} == {
        str(c): c.recovered for c in back.changed_lesions
    }


def test_margins_decide(reference: pd.DataFrame, lose: Rows) -> None:
    worse = lose(reference, 0.04)
    assert compare(worse, reference).outcome == "regression"
    wide = Margins(clean=0.05, perturbed=0.05, lesion_limit=0.1)
    assert compare(worse, reference, wide).outcome == "pass"
    assert compare(worse, reference, Margins(0.05, 0.05, lesion_limit=0.07)).outcome == "inconclusive"
