"""A study of six cases, worked out by hand: see ``write_study``."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.descriptors import STUDY_13
from analysis.published.layout import DESCRIPTORS
from analysis.published.study import read_study
from analysis.replication.page import Replication, write_replication

MakeStudy = Callable[..., Path]
ReadClaims = Callable[[Path], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def replication(small_replication: Replication) -> Replication:
    return small_replication


@pytest.fixture(scope="module")
def claims(replication: Replication, read_claims: ReadClaims) -> dict[str, dict[str, Any]]:
    return read_claims(replication.html.parent)


def table(replication: Replication, name: str) -> pd.DataFrame:
    return pd.read_csv(replication.html.parent / "tables" / f"{name}.csv")


def test_the_descriptors_are_those_that_a_run_computes() -> None:
    assert tuple(DESCRIPTORS) == STUDY_13


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("dice.GTVp.mean", 3.5 / 6),  # 0, 0.5, 0.6, 0.7, 0.8, 0.9
        ("dice.GTVp.median", 0.65),
        ("dice.GTVp.iqr", 0.775 - 0.525),
        ("dice.GTVn.mean", 3.1 / 6),  # 0, 0, 0.6, 0.7, 0.8, 1
        ("dice.GTVn.median", 0.65),
        ("dice.GTVn.iqr", 0.775 - 0.15),
        ("hd95.GTVp.median", 5.5),  # 3, 4, 5, 6, 7, infinite
        ("hd95.GTVp.iqr", 6.75 - 4.25),
        ("hd95.GTVn.median", None),  # 4, 5, 6 and three infinite
        ("hd95.GTVn.iqr", None),
        ("missed.GTVp", 0),
        ("missed.GTVn", 1),
        ("false_positive.GTVp", 1),
        ("false_positive.GTVn", 1),
        ("usable.baseline.GTVp", 100 * 7 / 12),
        ("usable.perturbed.GTVn", 100 * 8 / 12),
        ("delta_dice.blur.below_0.05", 0.03),
        ("delta_dice.ghosting.below_0.05", 0.0),
        ("delta_dice.motion.below_0.05", 0.06),
        ("pearson.ghosting.none", 0),
        ("development.GTVp.median", None),
    ],
)
def test_figures(claims: dict[str, dict[str, Any]], claim: str, value: float | None) -> None:
    found = claims[claim]["recomputed"]
    assert found is None if value is None else found == pytest.approx(value, abs=1e-9)


def test_counts_of_another_reading(claims: dict[str, dict[str, Any]]) -> None:
    tried = {one["name"]: one["value"] for one in claims["missed.GTVn"]["alternatives_tried"]}
    assert tried == {
        "all structures with Dice 0, also those without a reference": 2,
        "structures with an undefined distance": 3,
        "structures with an empty prediction": 2,
    }


def test_a_loss_above_the_bound_is_not_reproduced(claims: dict[str, dict[str, Any]]) -> None:
    verdicts = {name: claims[f"delta_dice.{name}.below_0.05"]["verdict"] for name in ("blur", "ghosting", "motion")}
    # Severity 3 of motion loses 0.06 in every structure that has anything to lose.
    assert verdicts == {"blur": "reproduced", "ghosting": "reproduced", "motion": "not_reproduced"}


def test_cells(replication: Replication) -> None:
    cells = table(replication, "delta_dice").set_index(["modality", "perturbation", "severity", "structure"])
    assert len(cells) == 72
    noise = cells.loc["CT", "noise", 2, "GTVp"]
    assert (noise["n"], noise["with_reference"], noise["zero_differences"]) == (6, 5, 1)
    assert noise["mean"] == pytest.approx(5 * 0.2 / 6)
    assert noise["median"] == pytest.approx(0.2)
    assert (noise["p"], noise["rank_biserial"]) == (pytest.approx(2 / 2**5), 1)
    assert not noise["restates_baseline"]
    assert cells[cells["restates_baseline"]].index.unique("perturbation").tolist() == ["spike"]
    assert cells["restates_baseline"].sum() == 12
    spike = cells.loc["PET", "spike", 1, "GTVn"]
    assert spike["median_with_reference"] == pytest.approx(0.65)
    assert (spike["erased"], spike["with_reference"]) == (4, 4)
    assert (cells["family"] == cells["p"].notna().sum()).all()


def test_ranking(replication: Replication) -> None:
    ranking = table(replication, "ranking")
    order = ["spike", "bias", "noise", "motion", "blur", "ghosting"]
    assert ranking["perturbation"].tolist() == order * 3
    assert ranking["modality"].tolist() == ["CT"] * 6 + ["PET"] * 6 + ["together"] * 6
    assert ranking["rank_by_mean"].tolist() == [1, 2, 3, 4, 5, 6] * 3
    assert ranking["n"].tolist() == [36] * 12 + [72] * 6
    # What is erased loses its baseline Dice: 3.5 in GTVp and 2.1 in GTVn, of 12 rows.
    assert ranking["mean"][0] == pytest.approx(5.6 / 12)


def test_most_harmful_holds_here(claims: dict[str, dict[str, Any]]) -> None:
    claim = claims["most_harmful"]
    assert claim["recomputed"] == "spike, bias, noise, motion, blur, ghosting"
    assert (claim["verdict"], claim["n"]) == ("reproduced", 6)
    # Noise loses 0.2 on average over severities where there is something to lose, bias more.
    assert "bias 0.264, noise 0.133" in claim["note"]
    assert "0.131, without an interval: too few cases or no spread." in claim["note"]
    assert "no independent findings" in claim["note"]


def test_correlations(replication: Replication, claims: dict[str, dict[str, Any]]) -> None:
    correlations = table(replication, "correlations")
    assert len(correlations) == 936
    spike = correlations[(correlations["perturbation"] == "spike") & (correlations["descriptor"] == "PET_contrast")]
    assert spike["r"].to_numpy() == pytest.approx(1.0)
    assert spike["restates_baseline"].all()
    assert set(spike["n"]) == {5, 4}
    ghosting = correlations[correlations["perturbation"] == "ghosting"]
    assert ghosting[["r", "p", "q"]].isna().all(axis=None)
    assert "PET contrast under spike" in json.dumps(claims["pearson.size_spike_noise.max"])
    assert "no finding of its own" in claims["pearson.size_spike_noise.max"]["note"]


def test_only_what_is_published_nowhere_is_missing(claims: dict[str, dict[str, Any]]) -> None:
    missing = {name for name, claim in claims.items() if claim["verdict"] == "data_missing"}
    assert missing == {"development.GTVp.median", "development.GTVn.median"}


def test_grades(replication: Replication) -> None:
    grades = table(replication, "grades")
    of_first = grades[(grades["rater"] == "observer_1") & (grades["graded"] == "baseline")]
    assert of_first[of_first["structure"] == "GTVp"]["count"].tolist() == [2, 1, 1, 2, 0]
    usability = table(replication, "usability").set_index(["graded", "structure", "rater"])
    first = usability.loc["baseline", "GTVp", "observer_1"]
    assert (first["usable"], first["n"], first["interval"]) == (3, 6, "Wilson")
    assert (first["low"], first["high"]) == (pytest.approx(0.1876, abs=1e-4), pytest.approx(0.8124, abs=1e-4))
    assert usability.loc["baseline", "GTVp", "mean"]["usable"] == 7
    agreement = table(replication, "agreement").set_index(["graded", "structure", "statistic"])
    assert agreement.loc["baseline", "GTVp", "percent_agreement"]["value"] == pytest.approx(50)


def test_undefined_distances_of_graded_cases_rank_last(small: Path) -> None:
    grades = read_study(small).grades["perturbed"]
    nodal = grades[grades["structure"] == "GTVn"]
    assert nodal["hd_mm"].tolist() == [4, 5, 6, math.inf, math.inf, math.inf]
    assert nodal["jaccard"].tolist()[3:] == [0, 1, 0]


def test_the_csv_says_the_same_as_the_json(replication: Replication, claims: dict[str, dict[str, Any]]) -> None:
    with (replication.html.parent / "claims.csv").open(newline="", encoding="utf-8") as file:
        lines = {line["id"]: line for line in csv.DictReader(file)}
    assert lines.keys() == claims.keys()
    for name, line in lines.items():
        assert line["verdict"] == claims[name]["verdict"]
        assert json.loads(line["alternatives_tried"]) == claims[name]["alternatives_tried"]
        if isinstance(claims[name]["recomputed"], float):
            assert float(line["recomputed"]) == claims[name]["recomputed"]


def test_a_second_run_writes_the_same(make_study: MakeStudy, replication: Replication, tmp_path: Path) -> None:
    again = write_replication(make_study(tmp_path / "study"), tmp_path / "again")
    for file in sorted(replication.html.parent.rglob("*.*")):
        other = again.html.parent / file.relative_to(replication.html.parent)
        assert other.read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("keep", ["nothing but the baseline", "no descriptors", "no grades", "one variant missing"])
def test_any_part_may_be_missing(keep: str, small: Path, tmp_path: Path, read_claims: ReadClaims) -> None:
    gone = {
        "nothing but the baseline": ["CT", "PET", "Baseline/results_add.csv", "Baseline/Metrics_x_Clinical.csv"],
        "no descriptors": ["Baseline/results_add.csv"],
        "no grades": ["Baseline/Metrics_x_Clinical.csv", "Baseline/Metrics_x_Clinical_perturbed.csv"],
        "one variant missing": ["PET/Noise2"],
    }[keep]
    for name in gone:
        (shutil.rmtree if (small / name).is_dir() else Path.unlink)(small / name)
    replication = write_replication(small, tmp_path / "out")
    claims = read_claims(tmp_path / "out")
    assert len(claims) == 36
    missing = {name.partition(".")[0] for name, claim in claims.items() if claim["verdict"] == "data_missing"}
    expected = {
        "nothing but the baseline": {
            "development",
            "usable",
            "kappa",
            "spearman",
            "delta_dice",
            "most_harmful",
            "pearson",
        },
        "no descriptors": {"development", "pearson"},
        "no grades": {"development", "usable", "kappa", "spearman"},
        "one variant missing": {"development", "most_harmful", "pearson"},
    }[keep]
    assert missing == expected
    if keep == "one variant missing":
        assert replication.missing == ("PET/Noise2/results_Noise2_pymia.csv",)
        assert "PET/Noise2/results_Noise2_pymia.csv" in claims["most_harmful"]["note"]
        # Contrast under blur and motion does not depend on noise, but the family of ghosting's q-values does.
        assert claims["pearson.pet_contrast.sign"]["verdict"] != "data_missing"
        assert claims["pearson.ghosting.none"]["verdict"] == "data_missing"
