"""Confidence and failure, against scipy and scikit-learn, and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.failure_prediction import RESAMPLES, failure_prediction, risk_coverage

MakeRow = Callable[..., dict[str, Any]]
DrawnItems = Callable[..., list[npt.NDArray[np.intp]]]
BASE = (None, "baseline", 0)


def test_agrees_with_scipy_and_scikit_learn(rows_of_40: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    rows = rows_of_40[rows_of_40["severity"] < 2].assign(
        fold_agreement=lambda of: of["dice"] + rng.normal(0, 0.2, len(of))
    )
    table = failure_prediction(rows)
    for found in table[table["confidence"] == "fold_agreement"].to_dict("records"):
        chosen = rows[(rows["structure"] == found["structure"]) & (rows["reference_mm3"] > 0)]
        if found["rows"] == "baseline":
            chosen = chosen[chosen["perturbation"] == "baseline"]
        failed = chosen["dice"] < 0.5
        assert (found["n"], found["failures"]) == (len(chosen), failed.sum())
        assert found["rho"] == pytest.approx(stats.spearmanr(chosen["fold_agreement"], chosen["dice"]).statistic)
        assert found["auc"] == pytest.approx(roc_auc_score(failed, -chosen["fold_agreement"]))
        enough = min(chosen.loc[failed, "case"].nunique(), chosen.loc[~failed, "case"].nunique()) >= 10
        assert np.isnan(found["auc_low"]) != enough
        assert not enough or found["auc_low"] <= found["auc"] <= found["auc_high"]
        assert found["nothing_predicted"] == (failed & (chosen["predicted_mm3"] == 0)).sum()
        assert found["rho_low"] <= found["rho"] <= found["rho_high"]


def test_intervals_are_those_of_one_resample_at_a_time(rows_of_40: pd.DataFrame, drawn_items: DrawnItems) -> None:
    """Drawn as rows, measured by scipy and scikit-learn."""
    rng = np.random.default_rng(1)
    rows = rows_of_40[rows_of_40["severity"] < 2]
    # Rounded, so that there are ties.
    rows = rows.assign(max_probability=(rows["dice"] + rng.normal(0, 0.2, len(rows))).round(1))
    found = failure_prediction(rows).set_index(["structure", "confidence", "rows"])
    of = rows[(rows["structure"] == "GTVp") & (rows["reference_mm3"] > 0)]
    dice, score = of["dice"].to_numpy(), of["max_probability"].to_numpy()
    measures = {
        "rho": lambda drawn: float(stats.spearmanr(score[drawn], dice[drawn]).statistic),
        "auc": lambda drawn: float(roc_auc_score(dice[drawn] < 0.5, -score[drawn])),
    }
    for name, measure in measures.items():
        expected = np.quantile([measure(drawn) for drawn in drawn_items(of["case"], RESAMPLES)], [0.025, 0.975])
        row = found.loc[("GTVp", "max_probability", "all variants")]
        assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(expected, abs=1e-9)


def test_confidence_that_never_errs_shows_no_spread(make_row: MakeRow) -> None:
    """All resamples give 1, from which no interval follows."""
    rows = [make_row(str(i), BASE, "GTVp", 0.02 * i) | {"max_probability": 0.02 * i} for i in range(5, 45)]
    found = (
        failure_prediction(pd.DataFrame(rows)).set_index(["confidence", "rows"]).loc[("max_probability", "baseline")]
    )
    assert (found["rho"], found["auc"]) == pytest.approx((1, 1))
    assert found[["rho_low", "rho_high", "auc_low", "auc_high"]].isna().all()


def test_variants_of_a_case_are_no_independent_evidence(make_row: MakeRow) -> None:
    """Each case copied into many variants: the interval of all rows is that of the cases."""
    rng = np.random.default_rng(1)
    rows = []
    for case in range(30):
        dice, agreement = rng.uniform(size=2)
        rows += [
            make_row(str(case), variant, "GTVp", (dice + agreement) / 2) | {"fold_agreement": agreement}
            for variant in (BASE, *(("CT", "blur", level) for level in range(1, 9)))
        ]
    table = failure_prediction(pd.DataFrame(rows)).set_index(["confidence", "rows"])
    baseline, everything = (table.loc[("fold_agreement", name)] for name in ("baseline", "all variants"))
    assert everything["n"] == 9 * baseline["n"]
    assert (everything["rho_low"], everything["rho_high"]) == pytest.approx((baseline["rho_low"], baseline["rho_high"]))


def test_a_single_fold_has_no_agreement_and_is_counted(make_row: MakeRow) -> None:
    rows = [make_row(str(i), BASE, "GTVp", 0.1 * i) | {"fold_agreement": math.nan} for i in range(1, 8)]
    table = failure_prediction(pd.DataFrame(rows)).set_index(["confidence", "rows"])
    agreement = table.loc[("fold_agreement", "baseline")]
    assert (agreement["n"], agreement["undefined"]) == (0, 7)
    assert math.isnan(agreement["rho"])
    assert table.loc[("max_probability", "baseline"), "rho"] == pytest.approx(1)


def test_without_failures_there_is_nothing_to_predict(make_row: MakeRow) -> None:
    table = failure_prediction(pd.DataFrame([make_row(str(i), BASE, "GTVp", 0.6 + 0.01 * i) for i in range(8)]))
    assert (table["failures"] == 0).all()
    assert table["auc"].isna().all()


def test_too_few_cases_have_no_interval(make_row: MakeRow) -> None:
    table = failure_prediction(pd.DataFrame([make_row(str(i), BASE, "GTVp", 0.3 + 0.1 * i) for i in range(4)]))
    assert table["rho"].notna().all()
    assert table["rho_low"].isna().all()


def test_risk_coverage_by_hand(make_row: MakeRow) -> None:
    confident = {"a": (0.9, 0.8), "b": (0.8, 0.2), "c": (0.8, 0.7), "d": (0.1, 0.0)}
    rows = [make_row(c, BASE, "GTVp", dice) | {"max_probability": p} for c, (p, dice) in confident.items()]
    rows.append(make_row("absent", BASE, "GTVp", 0.0, 0, 9))
    curve = risk_coverage(pd.DataFrame(rows), "max_probability")
    # b and c are equally confident: kept or dropped together
    assert curve["coverage"].tolist() == [0.25, 0.75, 1.0]
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 3, 1 / 2])


def test_risk_coverage_without_a_confidence(make_row: MakeRow) -> None:
    rows = pd.DataFrame([make_row("a", BASE, "GTVp", 0.5) | {"fold_agreement": math.nan}])
    assert risk_coverage(rows, "fold_agreement").empty


def test_strong_and_weak_variants_do_not_help_within_them(make_row: MakeRow) -> None:
    """Confidence that follows the variant alone: perfect over all rows, chance within each variant."""
    rows = []
    for case in range(12):
        for severity, confidence in ((1, 0.9), (2, 0.1)):
            dice = 0.8 if (severity == 1) != (case == severity) else 0.2
            rows.append(make_row(str(case), ("CT", "spike", severity), "GTVp", dice) | {"max_probability": confidence})
    found = failure_prediction(pd.DataFrame(rows)).set_index(["confidence", "rows"])
    everything = found.loc[("max_probability", "all variants")]
    assert everything["auc"] == pytest.approx(11 / 12, abs=0.02)
    assert everything["auc_within"] == pytest.approx(0.5)
