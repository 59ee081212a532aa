from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.comparison import Margins, noise_floor
from analysis.errors import AnalysisError

Rows = Callable[..., pd.DataFrame]


def repeats(reference: pd.DataFrame, lose: Rows, shifts: np.ndarray) -> list[pd.DataFrame]:
    """Runs that differ by a shift of every unperturbed Dice, and by twice that under perturbation."""
    factor = np.where(reference["perturbation"] == "baseline", 1.0, 2.0)
    return [lose(reference, shift * factor) for shift in shifts]


def test_noise_is_the_spread_of_the_gated_mean(reference: pd.DataFrame, lose: Rows) -> None:
    shifts = np.random.default_rng(0).normal(0, 0.005, 10)
    floor = noise_floor(repeats(reference, lose, shifts))
    assert floor.clean_sd == pytest.approx(shifts.std(ddof=1))
    assert floor.perturbed == pytest.approx(2.8 * 2 * shifts.std(ddof=1))
    assert (floor.repeats, floor.cases) == (10, 40)


def test_which_run_comes_first_does_not_matter(reference: pd.DataFrame, lose: Rows) -> None:
    runs = repeats(reference, lose, np.random.default_rng(0).normal(0, 0.005, 10))
    assert noise_floor(runs[::-1]).clean_sd == pytest.approx(noise_floor(runs).clean_sd)


def test_a_quiet_pipeline_leaves_the_margins_alone(reference: pd.DataFrame) -> None:
    floor = noise_floor([reference] * 10)
    assert floor.clean == floor.perturbed == 0
    assert floor.widened(Margins()) == Margins()


def test_noise_widens_a_margin_within_the_cap(reference: pd.DataFrame, lose: Rows) -> None:
    shifts = np.tile([-0.01, 0.01], 5)
    floor = noise_floor(repeats(reference, lose, shifts))
    margins = floor.widened(Margins())
    assert margins.clean == pytest.approx(2.8 * 0.01 * np.sqrt(10 / 9))
    assert margins.perturbed == pytest.approx(2 * margins.clean)
    assert margins.lesion_limit == 0.10


def test_a_noisy_pipeline_is_refused(reference: pd.DataFrame, lose: Rows) -> None:
    floor = noise_floor(repeats(reference, lose, np.tile([-0.02, 0.02], 5)))
    with pytest.raises(AnalysisError, match=r"2.8 SD of the mean Dice \(clean\) is 0.059, expected at most 2 times"):
        floor.widened(Margins())
    assert floor.widened(Margins(clean=0.05, perturbed=0.1)).clean == floor.clean


def test_nine_repeats_are_too_few(reference: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="found 9 repeated runs, expected at least 10"):
        noise_floor([reference] * 9)


def test_an_incomplete_repeat_is_named(reference: pd.DataFrame) -> None:
    runs = [reference] * 9 + [reference.drop(index=[5])]
    with pytest.raises(AnalysisError, match=r"repeated run 10 beside the first: case000 CT-noise-2 GTVn"):
        noise_floor(runs)


def test_repeats_without_perturbed_rows_are_refused(reference: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="repeated run 1: found no perturbed row"):
        noise_floor([reference[reference["perturbation"] == "baseline"]] * 10)
