"""New limits from measured figures: what is written, what is kept, and that the result is kept by what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.limit_update import MARKER, WHICH, Which, update_limits
from analysis.pairing import CellKey, cells, paired
from analysis.verdict import CellLimits, CellSummary, Limits, judge, summarise_cell, violations

WriteLimits = Callable[[str], Path]
SPIKE, BLUR = CellKey("CT", "spike", 2, "GTVp"), CellKey("PET", "blur", 1, "GTVn")
WRITTEN = """# the physicist's own
[[limit]]
perturbation = "spike"   # known to be bad
median_delta_dice = 0.2
cases_above = { delta_dice = 0.5, share = 0.1 }
"""


def summary(
    median: float, mean: float = 0.1, missed: int = 1, delta: tuple[float, ...] = (0, 0, 0.6, 0.7)
) -> CellSummary:
    return CellSummary(4, median, 0.0, 1.0, mean, missed, 4, "a", max(delta), 0, 0, tuple(map(float, delta)))


def test_failed_raises_what_is_broken_and_keeps_the_hand_written_part(limits_file: WriteLimits) -> None:
    path = limits_file(WRITTEN)
    update = update_limits(Limits.load(path), {SPIKE: summary(0.3), BLUR: summary(0.01)}, "failed")
    assert update.changes == (
        "CT-spike-2-GTVp: median_delta_dice 0.2 -> 0.31",
        "CT-spike-2-GTVp: cases_above 0.1 of the cases above 0.5 -> 0.51 of the cases above 0.5",
    )
    assert path.read_text() == WRITTEN  # nothing before it is asked to write
    update.write()
    assert path.read_text().startswith(WRITTEN)
    limits = Limits.load(path)
    assert limits.of(*SPIKE).median_delta_dice == 0.31
    assert limits.of("CT", "spike", 1, "GTVp").median_delta_dice == 0.2
    assert violations(summary(0.3), limits.of(*SPIKE)) == []


def test_new_limits_only_what_had_none(limits_file: WriteLimits) -> None:
    update = update_limits(Limits.load(limits_file(WRITTEN)), {SPIKE: summary(0.3), BLUR: summary(0.014)}, "new")
    assert update.changes == (
        "PET-blur-1-GTVn: median_delta_dice no limit -> 0.02",
        "PET-blur-1-GTVn: mean_delta_dice no limit -> 0.11",
        "PET-blur-1-GTVn: newly_missed_share no limit -> 0.26",
    )


def test_a_second_update_replaces_its_own_part_only(limits_file: WriteLimits) -> None:
    path = limits_file(WRITTEN)
    update_limits(Limits.load(path), {SPIKE: summary(0.3), BLUR: summary(0.014)}, "all").write()
    update_limits(Limits.load(path), {BLUR: summary(0.5)}, "failed").write()
    assert path.read_text().count(MARKER) == 1
    limits = Limits.load(path)
    assert limits.of(*BLUR).median_delta_dice == 0.51
    assert limits.of(*SPIKE).median_delta_dice == 0.31  # from the first update


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    update_limits(Limits(path, ()), {SPIKE: summary(0.3)}, "new").write()
    assert Limits.load(path).of(*SPIKE) == CellLimits(0.31, 0.11, 0.26)


def test_a_total_loss_has_no_limit_that_it_could_keep(limits_file: WriteLimits) -> None:
    path = limits_file("[[limit]]\nmedian_delta_dice = 0.2\nnewly_missed_share = 0.1")
    everything = summary(1.0, 1.0, 4, (1, 1, 1, 1))
    update = update_limits(Limits.load(path), {SPIKE: everything}, "failed")
    assert update.changes[0] == "CT-spike-2-GTVp: median_delta_dice 0.2 -> no limit"
    update.write()
    assert not Limits.load(path).of(*SPIKE)


def test_cells_without_cases_are_left_alone(limits_file: WriteLimits) -> None:
    nothing = CellSummary(0, math.nan, math.nan, math.nan, math.nan, 0, 0, None, math.nan, 0)
    assert update_limits(Limits.load(limits_file(WRITTEN)), {SPIKE: nothing}, "all").changes == ()


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    update = update_limits(Limits(tmp_path / "file" / "limits.toml", ()), {SPIKE: summary(0.3)}, "new")
    with pytest.raises(AnalysisError, match="cannot be written"):
        update.write()


@pytest.mark.parametrize("which", ["failed", "all"])
def test_a_run_keeps_the_limits_that_were_made_of_it(
    which: Which, rows_of_40: pd.DataFrame, limits_file: WriteLimits
) -> None:
    path = limits_file("[[limit]]\nmedian_delta_dice = 0.01\nworst_delta_dice = 0.02\nnewly_missed_share = 0.01")
    assert not judge(rows_of_40, Limits.load(path)).passed
    summaries = {key: summarise_cell(of_cell) for key, of_cell in cells(paired(rows_of_40))}
    update_limits(Limits.load(path), summaries, which).write()
    assert judge(rows_of_40, Limits.load(path)).passed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WHICH),
    st.lists(st.floats(-1, 1), min_size=1, max_size=6),
    st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8),
)
def test_any_name_and_figure_gives_a_file_that_loads(
    tmp_path: Path, which: Which, delta: list[float], name: str
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[[limit]]\nmedian_delta_dice = -0.5\n")
    key = CellKey(name, "spike", 2, name)
    figures = summary(sorted(delta)[len(delta) // 2], sum(delta) / len(delta), 1, tuple(delta))
    update_limits(Limits.load(path), {key: figures}, which).write()
    limits = Limits.load(path).of(*key)
    assert limits.median_delta_dice is None or figures.median < limits.median_delta_dice or which == "new"
