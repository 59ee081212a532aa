from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.comparison import CaseTable, case_table, compare_rows, operating_tables
from analysis.comparison.operating import simulate
from analysis.comparison.settings import Settings
from analysis.errors import AnalysisError

Rows = Callable[..., pd.DataFrame]
FAST = Settings(flips=99, resamples=99)


@pytest.fixture(scope="module")
def table(reference: pd.DataFrame, lose: Rows) -> CaseTable:
    return case_table(
        compare_rows(lose(reference, np.random.default_rng(0).normal(0, 0.02, len(reference))), reference)
    )


def test_no_change_seldom_alarms_and_harm_always(table: CaseTable) -> None:
    calm = simulate(table, settings=FAST, runs=60)
    assert calm.regressions <= 6
    assert calm.passes > 50
    harmed = simulate(table, harm_clean=0.06, harm_perturbed=0.06, settings=FAST, runs=20)
    assert harmed.regressions == harmed.significant == 20
    assert harmed.passes == harmed.clean_non_inferior == harmed.perturbed_non_inferior == 0


def test_the_seed_decides(table: CaseTable) -> None:
    assert simulate(table, settings=FAST, runs=5, seed=3) == simulate(table, settings=FAST, runs=5, seed=3)


def test_a_rate_has_its_exact_interval(table: CaseTable) -> None:
    figures = simulate(table, cases=10, settings=FAST, runs=20)
    assert (figures.runs, figures.cases) == (20, 10)
    assert figures.rate(0)[:2] == (0.0, 0.0)
    assert figures.rate(0)[2] == pytest.approx(0.168, abs=1e-3)


def test_exchanging_the_models_turns_everything(table: CaseTable) -> None:
    swapped = table.exchanged(np.ones(len(table.cases), bool))
    np.testing.assert_array_equal(swapped.of_cells, -table.of_cells)
    np.testing.assert_array_equal(swapped.candidate_clean, table.reference_clean)
    nothing = table.exchanged(np.zeros(len(table.cases), bool))
    np.testing.assert_array_equal(nothing.lesions, table.lesions)


@pytest.mark.parametrize(("cases", "runs"), [(0, 5), (5, 0)])
def test_nothing_to_simulate_is_refused(table: CaseTable, cases: int, runs: int) -> None:
    with pytest.raises(AnalysisError, match="expected at least one of each"):
        simulate(table, cases=cases, runs=runs)


def test_catastrophes_lose_everything_in_their_share_of_cases(table: CaseTable) -> None:
    found = operating_tables.catastrophic(table, 80)
    assert np.mean(found.clean == 0.8) == pytest.approx(0.08)
    assert found.clean.mean() == pytest.approx(0.064)
    assert np.mean(found.lesions) == pytest.approx(0.08)
    assert np.mean(found.reference_clean & ~found.candidate_clean) == pytest.approx(0.08)


def test_other_populations_are_what_they_are_called(table: CaseTable) -> None:
    np.testing.assert_allclose(np.nanmean(operating_tables.centred(table).of_cells, axis=0), 0, atol=1e-12)
    assert np.mean(operating_tables.zero_inflated(table).clean == 0) >= 0.8
    assert len(operating_tables.duplicated(table).cells) == 3 * len(table.cells)


def test_the_tables_are_markdown(
    rows_of_40: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operating_tables, "RUNS", 1)
    monkeypatch.setattr(operating_tables, "NULL_RUNS", 1)
    monkeypatch.setattr(operating_tables, "read_study", lambda _folder: SimpleNamespace(rows=rows_of_40))
    rows_of_40.to_parquet(tmp_path / "metrics.parquet")
    operating_tables.main(["study", str(tmp_path / "metrics.parquet"), "--seed", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| alike | 40 | 74 |")
    assert {line.count("|") for line in lines} >= {6, 7}
