"""Limits files: what applies to a cell, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.limit_table import CasesAbove
from analysis.verdict import CellLimits, Limits

WriteLimits = Callable[[str], Path]


def test_the_study_limits_the_median_of_three_perturbations() -> None:
    limits = Limits.load()
    for perturbation in ("blur", "ghosting", "motion"):
        for severity in (1, 2, 3):
            assert limits.of("PET", perturbation, severity, "GTVn") == CellLimits(median_delta_dice=0.05)
    for perturbation in ("spike", "bias", "noise"):
        assert not limits.of("CT", perturbation, 1, "GTVp")


def test_a_later_table_overrides_an_earlier_one_key_by_key(limits_file: WriteLimits) -> None:
    limits = Limits.load(
        limits_file(
            """
            [[limit]]
            median_delta_dice = 0.1
            mean_delta_dice = 0.2
            [[limit]]
            perturbation = ["spike", "noise"]
            severity = [2, 3]
            median_delta_dice = 0.3
            newly_missed_share = 0.25
            [[limit]]
            modality = "CT"
            structure = "GTVn"
            severity = 3
            mean_delta_dice = inf
            """
        )
    )
    assert limits.of("CT", "spike", 1, "GTVp") == CellLimits(0.1, 0.2, None)
    assert limits.of("CT", "spike", 2, "GTVp") == CellLimits(0.3, 0.2, 0.25)
    assert limits.of("CT", "noise", 3, "GTVn") == CellLimits(0.3, None, 0.25)
    assert limits.of("PET", "blur", 3, "GTVn") == CellLimits(0.1, 0.2, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no [[limit]] table", "expected at least one"]),
        ("limit = []", ["no [[limit]] table"]),
        ("limit = 3", ["limit = 3"]),
        ("[[limits]]\nmedian_delta_dice = 1", ["'limits'", "did you mean 'limit'?"]),
        ("[[limit]]\nmedian_delta_dcie = 0.05", ["number 1", "did you mean 'median_delta_dice'?"]),
        ("[[limit]]\nperturbations = 'blur'", ["did you mean 'perturbation'?"]),
        ("[[limit]]\nperturbation = 'blur'", ["sets no limit"]),
        ("[[limit]]\nmedian_delta_dice = '0.05'", ["'0.05'", "expected a number"]),
        ("[[limit]]\nmedian_delta_dice = true", ["True", "expected a number"]),
        ("[[limit]]\nmedian_delta_dice = nan", ["nan", "expected a number"]),
        ("[[limit]]\nmedian_delta_dice = 5", ["= 5", "not per cent"]),
        ("[[limit]]\nmedian_delta_dice = -inf", ["-inf"]),
        ("[[limit]]\nnewly_missed_share = 0", ["above 0", "strictly below"]),
        ("[[limit]]\nmean_delta_dice = 0.1\n[[limit]]\nseverity = 'x'\nmean_delta_dice = 0.1", ["number 2", "whole"]),
        ("[[limit]]\nmean_delta_dice = 0.1\nseverity = true", ["severity = True"]),
        ("[[limit]]\nmean_delta_dice = 0.1\nmodality = []", ["modality = []"]),
        ("[[limit]]\nmean_delta_dice = 0.1\nmodality = [1]", ["modality = [1]", "expected a name"]),
        ("[[limit]\n", ["not valid TOML"]),
    ],
)
def test_a_file_that_is_not_understood_is_refused(text: str, words: list[str], limits_file: WriteLimits) -> None:
    path = limits_file(text)
    with pytest.raises(AnalysisError) as error:
        Limits.load(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"nowhere\.toml.*No such file"):
        Limits.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("perturbation = 'blurr'", ["'blurr'", "did you mean 'blur'?", "blur, spike"]),
        ("modality = ['CT', 'PT']", ["'PT'", "did you mean 'PET'?"]),
        ("structure = 'GTVx'", ["'GTVx'", "GTVp, GTVn"]),
        ("severity = 7", ["severity = 7", "1, 2, 3"]),
    ],
)
def test_a_name_that_the_benchmark_does_not_have_is_refused(
    selector: str, words: list[str], limits_file: WriteLimits
) -> None:
    limits = Limits.load(limits_file(f"[[limit]]\nmean_delta_dice = 0.1\n{selector}"))
    with pytest.raises(AnalysisError) as error:
        limits.check_names(["CT", "PET"], ["blur", "spike"], ["GTVp", "GTVn"], [1, 2, 3])
    for word in words:
        assert word in str(error.value)


def test_known_names_are_accepted_and_the_study_fits_any_catalogue(limits_file: WriteLimits) -> None:
    text = "[[limit]]\nperturbation='blur'\nmodality='CT'\nstructure=['GTVp']\nmean_delta_dice=0.1"
    Limits.load(limits_file(text)).check_names(["CT"], ["blur"], ["GTVp"])
    Limits.load().check_names(["T1"], ["gamma"], ["tumour"], [1])


toml_values = st.sampled_from(
    [
        "0.1",
        "-3",
        "nan",
        "inf",
        "true",
        "'blur'",
        "['CT', 3]",
        "[]",
        "{}",
        "{a = 1}",
        "1979-05-27",
        "[[1]]",
        "2",
        "'''x'''",
    ]
)
keys = st.sampled_from(["modality", "severity", "structure", "median_delta_dice", "newly_missed_share", "x"])


@given(st.lists(st.dictionaries(keys, toml_values, max_size=4), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_says_it_loads_or_is_refused_in_words(
    limits_file: WriteLimits, tables: list[dict[str, str]]
) -> None:
    text = "\n".join("[[limit]]\n" + "\n".join(f"{k} = {v}" for k, v in table.items()) for table in tables)
    path = limits_file(text)
    refused = False
    try:
        limits = Limits.load(path)
    except AnalysisError:
        refused = True
    with pytest.raises(AnalysisError, match="expected") if refused else nullcontext():
        Limits.load(path)
    if not refused:
        # Whatever loads has tables, each with at least one limit within the documented ranges.
        of_cell = limits.of("CT", "blur", 2, "GTVp")
        assert tables
        assert of_cell.median_delta_dice in {None, 0.1}
        assert of_cell.newly_missed_share in {None, 0.1}


def test_names_may_be_patterns_and_match_themselves(limits_file: WriteLimits) -> None:
    limits = Limits.load(
        limits_file(
            "[[limit]]\nperturbation = 'b*'\nstructure = ['GTV?', '[x]']\nseverity = '*'\nmean_delta_dice = 0.1"
        )
    )
    assert limits.of("CT", "blur", 3, "GTVp")
    assert limits.of("CT", "bias", 1, "[x]")
    assert not limits.of("CT", "spike", 1, "GTVp")
    assert not limits.of("CT", "blur", 1, "x")
    limits.check_names(["CT"], ["bias"], ["GTVp", "[x]"], [1])
    with pytest.raises(AnalysisError, match=r"perturbation = 'b\*' names nothing"):
        limits.check_names(["CT"], ["spike"], ["GTVp", "[x]"], [1])


def test_the_share_of_cases_and_the_worst_case_can_be_limited(limits_file: WriteLimits) -> None:
    limits = Limits.load(
        limits_file("[[limit]]\nworst_delta_dice = 0.8\ncases_above = { delta_dice = 0.3, share = 0.1 }")
    )
    assert limits.of("CT", "spike", 1, "GTVp") == CellLimits(
        worst_delta_dice=0.8, cases_above=CasesAbove(delta_dice=0.3, share=0.1)
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.3", "expected { delta_dice = 0.3, share = 0.1 }"),
        ("{ delta_dice = 0.3 }", "expected { delta_dice = 0.3, share = 0.1 }"),
        ("{ delta_dice = 0.3, share = 0 }", "cases_above: share = 0"),
        ("{ delta_dice = 'x', share = 0.1 }", "cases_above: delta_dice = 'x'"),
    ],
)
def test_a_share_of_cases_that_is_not_understood_is_refused(value: str, words: str, limits_file: WriteLimits) -> None:
    with pytest.raises(AnalysisError) as error:
        Limits.load(limits_file(f"[[limit]]\ncases_above = {value}"))
    assert words in str(error.value)
