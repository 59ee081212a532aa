"""Correlation heat maps and risk-coverage curves: what is drawn is what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.association_figures import draw_correlations, draw_risk_coverage
from analysis.correlations import correlation_table
from analysis.formatting import MINUS
from analysis.pairing import paired

LABELS = {"volume_mm3": "volume", "PET_max": "PET maximum"}


@pytest.fixture(scope="module")
def correlations(rows_of_40: pd.DataFrame) -> pd.DataFrame:
    pairs = paired(rows_of_40)
    pairs = pairs[pairs["reference_present"]]
    spike = pairs[(pairs["modality"] == "CT") & (pairs["perturbation"] == "spike") & (pairs["severity"] == 2)]
    # The first is what one cell loses, the second is chance.
    chance = np.random.default_rng(0).gamma(4, 2, len(spike))
    described = spike[["case", "structure"]].assign(volume_mm3=1000 * spike["delta_dice"], PET_max=chance)
    return correlation_table(pairs, described, list(LABELS))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    return figures


def test_numbers_and_frames_are_those_of_the_table(
    correlations: pd.DataFrame, drawn: list[Figure], tmp_path: Path
) -> None:
    drawing = draw_correlations(correlations, LABELS, "CT", "GTVp", tmp_path)
    assert drawing is not None
    axes = drawn[0].axes[0]
    panel = correlations[(correlations["modality"] == "CT") & (correlations["structure"] == "GTVp")]
    texts = [text.get_text() for text in axes.texts if re.fullmatch(rf"[{MINUS}0-9.]+", text.get_text())]
    expected = [
        f"{r:.2f}".replace("-0.00", "0.00").replace("-", MINUS)
        for name in LABELS
        for r in panel.loc[panel["descriptor"] == name, "r"]
    ]
    assert texts == expected
    assert len(axes.patches) == (panel["q"] < 0.05).sum() > 0
    assert [label.get_text() for label in axes.get_yticklabels()] == ["volume", "PET maximum"]
    assert "n = 40 cases" in drawing.caption
    assert f"all {panel['family'].iloc[0]} tests" in drawing.caption


def test_few_cases_are_called_chance_and_a_phantom_a_phantom(correlations: pd.DataFrame, tmp_path: Path) -> None:
    few = draw_correlations(correlations.assign(n=4), LABELS, "CT", "GTVn", tmp_path, "phantom")
    assert few is not None
    assert "Below 10 cases nothing is tested" in few.caption
    assert few.caption.startswith("Phantom.")


def test_no_figure_without_a_correlation(correlations: pd.DataFrame, tmp_path: Path) -> None:
    assert draw_correlations(correlations.assign(r=np.nan), LABELS, "CT", "GTVp", tmp_path) is None
    assert draw_correlations(correlations, LABELS, "MR", "GTVp", tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_curves_end_at_the_share_of_failures(rows_of_40: pd.DataFrame, drawn: list[Figure], tmp_path: Path) -> None:
    drawing = draw_risk_coverage(rows_of_40, ["GTVp", "GTVn"], tmp_path)
    assert drawing is not None
    for axes, structure in zip(drawn[0].axes, ("GTVp", "GTVn"), strict=True):
        chosen = rows_of_40[(rows_of_40["structure"] == structure) & (rows_of_40["reference_mm3"] > 0)]
        failures = (chosen["dice"] < 0.5).mean()
        *curves, overall = axes.lines
        assert len(curves) == 2
        for curve in curves:
            assert (curve.get_xdata()[-1], curve.get_ydata()[-1]) == pytest.approx((1, failures))
        assert overall.get_ydata()[0] == pytest.approx(failures)
        assert f"{structure} n = {len(chosen)} contours of {chosen['case'].nunique()} cases" in drawing.caption


def test_a_structure_without_confidence_is_left_out(
    rows_of_40: pd.DataFrame, drawn: list[Figure], tmp_path: Path
) -> None:
    unknown = rows_of_40.assign(fold_agreement=np.nan, max_probability=np.nan)
    assert draw_risk_coverage(unknown, ["GTVp"], tmp_path) is None
    one_fold = rows_of_40.assign(fold_agreement=np.nan)
    assert draw_risk_coverage(one_fold, ["GTVp"], tmp_path) is not None
    assert len(drawn[0].axes[0].lines) == 2


def test_names_of_a_cohort_cannot_inject_anything(correlations: pd.DataFrame, tmp_path: Path) -> None:
    evil = correlations.replace({"structure": {"GTVp": "$x$</svg><script>"}})
    drawing = draw_correlations(evil, LABELS, "CT", "$x$</svg><script>", tmp_path)
    assert drawing is not None
    assert "<script" not in drawing.svg
    assert drawing.svg.count("</svg>") == 1
    assert all(file.parent == tmp_path for file in drawing.files)
