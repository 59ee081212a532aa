"""The authors' public tables: what was worked out elsewhere, and plain scipy, scikit-learn and pandas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from analysis.grading.page import analyse_grades
from analysis.replication.page import Replication

LABEL = {"GTVp": "Primary", "GTVn": "Nodal"}


@pytest.fixture(scope="module")
def claims(public: Replication, read_claims: Callable[[Path], dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return read_claims(public.html.parent)


@pytest.fixture(scope="module")
def baseline(paper_results: Path) -> pd.DataFrame:
    return pd.read_csv(paper_results / "Baseline" / "results_pymia.csv", sep=";").set_index("SUBJECT")


@pytest.fixture(scope="module")
def graded(paper_results: Path) -> pd.DataFrame:
    return pd.read_csv(paper_results / "Baseline" / "Metrics_x_Clinical.csv", sep=";")


def variant(paper_results: Path, name: str) -> pd.DataFrame:
    path = paper_results / "CT" / name / f"results_{name}_pymia.csv"
    return pd.read_csv(path, sep=";").set_index("SUBJECT")


def delta(paper_results: Path, baseline: pd.DataFrame, name: str, structure: str) -> pd.Series:
    perturbed = variant(paper_results, name)
    of = LABEL[structure]
    return baseline.loc[baseline["LABEL"] == of, "DICE"] - perturbed.loc[perturbed["LABEL"] == of, "DICE"]


def table(public: Replication, name: str) -> pd.DataFrame:
    return pd.read_csv(public.html.parent / "tables" / f"{name}.csv")


@pytest.mark.parametrize(
    ("claim", "value", "places", "verdict"),
    [
        ("dice.GTVp.mean", 0.678, 3, "reproduced"),
        ("dice.GTVp.median", 0.766, 3, "reproduced"),
        ("dice.GTVp.iqr", 0.195, 3, "reproduced"),
        ("dice.GTVn.mean", 0.614, 3, "reproduced"),
        ("dice.GTVn.median", 0.698, 3, "reproduced"),
        ("dice.GTVn.iqr", 0.313, 3, "reproduced"),
        ("hd95.GTVp.median", 9.2, 1, "reproduced"),
        ("hd95.GTVp.iqr", 14.3, 1, "reproduced"),
        ("hd95.GTVn.median", 17.6, 1, "reproduced"),
        ("hd95.GTVn.iqr", 62.5, 1, "reproduced"),
        ("missed.GTVp", 1, 0, "reproduced_by_alternative"),
        ("missed.GTVn", 2, 0, "reproduced_by_alternative"),
        ("false_positive.GTVp", 3, 0, "reproduced"),
        ("false_positive.GTVn", 3, 0, "reproduced_by_alternative"),
        ("usable.baseline.GTVp", 79.7, 1, "reproduced"),
        ("usable.baseline.GTVn", 73.4, 1, "reproduced"),
        ("usable.perturbed.GTVp", None, 0, "data_missing"),
        ("usable.perturbed.GTVn", None, 0, "data_missing"),
        ("kappa.baseline.GTVp", 0.648, 3, "reproduced_by_alternative"),
        ("kappa.baseline.GTVn", 0.612, 3, "reproduced_by_alternative"),
        ("kappa.perturbed.GTVp", None, 0, "data_missing"),
        ("kappa.perturbed.GTVn", None, 0, "data_missing"),
        ("spearman.GTVp", 0.662, 3, "reproduced_by_alternative"),
        ("spearman.GTVn", 0.577, 3, "reproduced_by_alternative"),
        ("delta_dice.blur.below_0.05", 0.006, 3, "data_missing"),
        ("delta_dice.ghosting.below_0.05", 0.006, 3, "data_missing"),
        ("delta_dice.motion.below_0.05", 0.003, 3, "data_missing"),
        ("delta_dice.gtvn_above_gtvp", 3, 0, "not_reproduced"),
        ("pearson.size_spike_noise.max", 0.42, 2, "data_missing"),
        ("pearson.entropy_compactness.max", 0.39, 2, "data_missing"),
        ("pearson.pet_contrast_blur_motion.max", 0.21, 2, "data_missing"),
        ("pearson.pet_contrast.sign", 0.21, 2, "data_missing"),
        ("pearson.ghosting.none", 0, 0, "data_missing"),
        ("development.GTVp.median", None, 0, "data_missing"),
        ("development.GTVn.median", None, 0, "data_missing"),
    ],
)
def test_what_others_recomputed(
    claims: dict[str, dict[str, Any]], claim: str, value: float | None, places: int, verdict: str
) -> None:
    found = claims[claim]
    assert found["verdict"] == verdict
    if value is None:
        assert found["recomputed"] is None
    else:
        assert round(found["recomputed"], places) == value


def test_all_claims_are_there(claims: dict[str, dict[str, Any]]) -> None:
    assert len(claims) == 36
    assert claims["most_harmful"]["recomputed"] == "spike, bias, noise, ghosting, blur, motion"
    assert claims["most_harmful"]["verdict"] == "data_missing"
    assert "they tie" in claims["most_harmful"]["note"]


@pytest.mark.parametrize("structure", ["GTVp", "GTVn"])
def test_baseline_with_pandas(claims: dict[str, dict[str, Any]], baseline: pd.DataFrame, structure: str) -> None:
    rows = baseline[baseline["LABEL"] == LABEL[structure]]
    low, high = rows["DICE"].quantile([0.25, 0.75])
    # Ranks that no infinite value touches: pandas may interpolate after capping them.
    capped = rows["HDRFDST"].clip(upper=1e9)
    assert claims[f"dice.{structure}.mean"]["recomputed"] == pytest.approx(rows["DICE"].mean(), abs=1e-12)
    assert claims[f"dice.{structure}.median"]["recomputed"] == pytest.approx(rows["DICE"].median(), abs=1e-12)
    assert claims[f"dice.{structure}.iqr"]["recomputed"] == pytest.approx(high - low, abs=1e-12)
    assert claims[f"hd95.{structure}.median"]["recomputed"] == pytest.approx(capped.median(), abs=1e-9)
    assert claims[f"hd95.{structure}.iqr"]["recomputed"] == pytest.approx(np.subtract(*capped.quantile([0.75, 0.25])))
    assert claims[f"missed.{structure}"]["recomputed"] == int(((rows["DICE"] == 0) & (rows["REFVOL"] > 0)).sum())
    tried = {one["name"]: one["value"] for one in claims[f"missed.{structure}"]["alternatives_tried"]}
    assert tried["all structures with Dice 0, also those without a reference"] == int((rows["DICE"] == 0).sum())


def test_distances_with_both_empty_left_out(claims: dict[str, dict[str, Any]]) -> None:
    assert "it is 14.5 (n = 48)" in claims["hd95.GTVn.median"]["note"]
    assert "it is 55.7 (n = 48)" in claims["hd95.GTVn.iqr"]["note"]
    assert "100th percentile" in claims["hd95.GTVp.median"]["note"]


@pytest.mark.parametrize("structure", ["GTVp", "GTVn"])
def test_grading_with_scipy_and_scikit_learn(
    claims: dict[str, dict[str, Any]], graded: pd.DataFrame, structure: str
) -> None:
    part = graded[graded["LABEL"] == LABEL[structure]]
    first, second = part["Likert 1"], part["Likert 2"]
    kappa = claims[f"kappa.baseline.{structure}"]
    assert kappa["recomputed"] == pytest.approx(
        cohen_kappa_score(first, second, weights="quadratic", labels=[1, 2, 3, 4, 5])
    )
    tried = {one["name"]: one["value"] for one in kappa["alternatives_tried"]}
    assert kappa["alternative"] == "Pearson correlation of the grades"
    assert tried[kappa["alternative"]] == pytest.approx(stats.pearsonr(first, second).statistic)
    assert tried["kappa with linear weights"] == pytest.approx(
        cohen_kappa_score(first, second, weights="linear", labels=[1, 2, 3, 4, 5])
    )
    rho = [stats.spearmanr(part["DICE"], grade).statistic for grade in (first, second)]
    spearman = claims[f"spearman.{structure}"]
    assert spearman["recomputed"] == pytest.approx(np.mean(rho))
    assert spearman["alternative"] == "Pearson, observer 1"
    tried = {one["name"]: one["value"] for one in spearman["alternatives_tried"]}
    assert tried["Pearson, observer 1"] == pytest.approx(stats.pearsonr(part["DICE"], first).statistic)
    usable = 50 * ((first >= 3).mean() + (second >= 3).mean())
    assert claims[f"usable.baseline.{structure}"]["recomputed"] == pytest.approx(usable)


def test_double_rounding_is_named_where_it_takes_it(claims: dict[str, dict[str, Any]]) -> None:
    twice = {name for name, claim in claims.items() if "double rounding" in claim["note"]}
    assert twice == {"kappa.baseline.GTVn", "spearman.GTVp"}
    assert "0.6348, 0.635, 0.64" in claims["kappa.baseline.GTVn"]["note"]
    assert "0.6645, 0.665, 0.67" in claims["spearman.GTVp"]["note"]


@pytest.mark.parametrize(
    ("name", "key"),
    [("Bias2", ("bias", 2)), ("Noise3", ("noise", 3)), ("Ghost1", ("ghosting", 1)), ("Spike3", ("spike", 3))],
)
@pytest.mark.parametrize("structure", ["GTVp", "GTVn"])
def test_cells_with_scipy(
    public: Replication, paper_results: Path, baseline: pd.DataFrame, name: str, key: tuple[str, int], structure: str
) -> None:
    cells = table(public, "delta_dice").set_index(["perturbation", "severity", "structure"])
    cell = cells.loc[(*key, structure)]
    values = delta(paper_results, baseline, name, structure).round(10)
    assert len(values) == cell["n"] == 50
    assert cell["mean"] == pytest.approx(values.mean())
    assert cell["median"] == pytest.approx(values.median())
    assert cell["iqr"] == pytest.approx(values.quantile(0.75) - values.quantile(0.25))
    kept = values[values != 0]
    ranks = stats.rankdata(kept.abs())
    assert cell["rank_biserial"] == pytest.approx((ranks[kept > 0].sum() - ranks[kept < 0].sum()) / ranks.sum())
    # Exact with ties, which scipy is not: a normal approximation is near it at this size.
    approximate = stats.wilcoxon(kept, method="approx").pvalue
    assert cell["p"] == pytest.approx(approximate, rel=0.2) if approximate > 1e-3 else cell["p"] < 1e-3


def test_the_family_of_cells(public: Replication) -> None:
    cells = table(public, "delta_dice")
    assert len(cells) == 36
    assert set(cells["family"]) == {36}
    assert cells["q"].to_numpy() == pytest.approx(stats.false_discovery_control(cells["p"]))
    erased = cells[cells["restates_baseline"]]
    assert set(zip(erased["modality"], erased["perturbation"], erased["severity"], strict=True)) == {
        ("CT", "spike", 2),
        ("CT", "spike", 3),
    }
    own = table(public, "delta_dice_with_reference")
    assert own["n"].tolist() == [47, 45] * 18


def test_erased_cells_lose_the_baseline_dice(public: Replication, paper_results: Path, baseline: pd.DataFrame) -> None:
    lost = delta(paper_results, baseline, "Spike2", "GTVp")
    of = baseline[(baseline["LABEL"] == "Primary") & (baseline["REFVOL"] > 0)]
    assert (lost[of.index] == of["DICE"]).all()


def test_correlations_with_scipy(public: Replication, paper_results: Path, baseline: pd.DataFrame) -> None:
    correlations = table(public, "correlations")
    assert len(correlations) == 468
    assert set(correlations["family"]) == {468}
    assert correlations["q"].to_numpy() == pytest.approx(stats.false_discovery_control(correlations["p"]))
    assert correlations["significant"].sum() == 4
    added = pd.read_csv(paper_results / "Baseline" / "results_add.csv").iloc[:, :15]
    rows = correlations.set_index(["perturbation", "severity", "structure", "descriptor"])
    for structure, start in (("GTVn", 0), ("GTVp", 1)):
        contrast = added.iloc[start::2].set_index("File Name")["PET F/B Contrast"].dropna()
        lost = delta(paper_results, baseline, "Spike2", structure)[contrast.index]
        expected = stats.pearsonr(contrast, lost)
        interval = expected.confidence_interval()
        row = rows.loc["spike", 2, structure, "PET_contrast"]
        assert row["n"] == len(contrast)
        assert (row["r"], row["p"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue, rel=1e-6))
        assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_ranking_with_pandas(public: Replication, paper_results: Path, baseline: pd.DataFrame) -> None:
    ranking = table(public, "ranking")
    of_ct = ranking[ranking["modality"] == "CT"].set_index("perturbation")
    assert of_ct.index.tolist() == ["spike", "bias", "noise", "ghosting", "blur", "motion"]
    for perturbation, stem in (("noise", "Noise"), ("bias", "Bias")):
        values = pd.concat(
            delta(paper_results, baseline, f"{stem}{severity}", structure)
            for severity in (1, 2, 3)
            for structure in LABEL
        )
        assert of_ct.loc[perturbation, "mean"] == pytest.approx(values.mean())
        assert of_ct.loc[perturbation, "median"] == pytest.approx(values.median())
    assert of_ct.loc["spike", "cells_restating_baseline"] == 4


def test_metric_correlations_with_scipy(public: Replication, graded: pd.DataFrame) -> None:
    rows = table(public, "metric_correlations").set_index(["structure", "metric", "method", "rater"])
    assert len(rows) == 2 * 6 * 2 * 3
    part = graded[graded["LABEL"] == "Nodal"]
    # One case has no node and no contour of one: its distance is undefined, and 1000 in the table.
    is_distance = (part["REFVOL"] > 0) | (part["FP"] > 0)
    for metric, column in (("dice", "DICE"), ("hd_mm", "HDRFDST"), ("accuracy", "ACURCY"), ("sensitivity", "SNSVTY")):
        kept = part[is_distance] if metric == "hd_mm" else part
        expected = stats.spearmanr(kept[column], kept["Likert 2"])
        found = rows.loc["GTVn", metric, "spearman", "observer_2"]
        assert (found["r"], found["n"]) == (pytest.approx(expected.statistic), len(kept))
    assert len(part[is_distance]) == 31
    assert rows.loc["GTVn", "hd_mm", "spearman", "observer_1"]["infinite"] == 2
    assert np.isnan(rows.loc["GTVn", "hd_mm", "pearson", "observer_1"]["r"])
    both = [rows.loc["GTVn", "dice", "pearson", f"observer_{k}"]["r"] for k in (1, 2)]
    assert rows.loc["GTVn", "dice", "pearson", "mean_of_coefficients"]["r"] == pytest.approx(np.mean(both))


def test_missing_tables_are_named_and_what_holds_is_said(claims: dict[str, dict[str, Any]]) -> None:
    for name, claim in claims.items():
        if claim["verdict"] == "data_missing":
            assert claim["note"].startswith("Missing: "), name
            assert claim["alternative"] is None
    assert "holds in all 6 CT cells" in claims["delta_dice.blur.below_0.05"]["note"]
    assert "PET/Blur2/results_Blur2_pymia.csv" in claims["delta_dice.blur.below_0.05"]["note"]
    assert "0 of 78 are significant" in claims["pearson.ghosting.none"]["note"]
    assert "PET contrast under spike (0.6222)" in claims["pearson.size_spike_noise.max"]["note"]
    assert "GTVn is erased more often (15)" in claims["delta_dice.gtvn_above_gtvp"]["note"]


def test_grading_analyse_says_the_same_of_the_graded_table(
    public: Replication, claims: dict[str, dict[str, Any]], paper_results: Path, tmp_path: Path
) -> None:
    """The file alone, read as any department's grades are, against the replication's tables and claims."""
    source = paper_results / "Baseline" / "Metrics_x_Clinical.csv"
    tables = analyse_grades([source], tmp_path).html.parent / "tables"
    for name in ("grades", "usability", "agreement", "metric_correlations", "prediction"):
        found, expected = (pd.read_csv(folder / f"{name}.csv") for folder in (tables, public.html.parent / "tables"))
        pd.testing.assert_frame_equal(found, expected)
    usability = pd.read_csv(tables / "usability.csv").set_index(["structure", "rater"])["share"]
    agreement = pd.read_csv(tables / "agreement.csv").set_index(["structure", "statistic"])["value"]
    for structure in ("GTVp", "GTVn"):
        claim = claims[f"usable.baseline.{structure}"]["recomputed"]
        assert 100 * usability[structure, "mean"] == pytest.approx(claim)
        claim = claims[f"kappa.baseline.{structure}"]["recomputed"]
        assert agreement[structure, "kappa_quadratic"] == pytest.approx(claim)
