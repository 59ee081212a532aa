from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.comparison import compare_rows, gaps
from analysis.errors import AnalysisError

Rows = Callable[..., pd.DataFrame]
SIMPLE = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def only(frame: pd.DataFrame) -> pd.Series:
    assert len(frame) == 1
    return frame.iloc[0]


def pick(frame: pd.DataFrame, case: int, perturbation: str, severity: int, structure: str) -> pd.Series:
    mask = (frame["case"] == f"case{case:03d}") & (frame["structure"] == structure)
    return only(frame[mask & (frame["perturbation"] == perturbation) & (frame["severity"] == severity)])


def test_harm_is_positive_and_free_of_floating_point_noise(rows_of: Rows) -> None:
    before, after = np.full((1, 4, 2), 0.3), np.full((1, 4, 2), 0.1)
    frame = compare_rows(rows_of(after), rows_of(before))
    assert (frame["d"] == 0.2).all()
    assert (frame["gap"] == "").all()
    assert frame["modality"].isna().sum() == 2


@pytest.mark.parametrize(
    ("before", "after", "newly_missed", "recovered"),
    [(0.5, 0.0, True, False), (0.0, 0.5, False, True), (0.0, 0.0, False, False), (0.5, 0.4, False, False)],
)
def test_lesions_that_change_hands(
    rows_of: Rows, before: float, after: float, newly_missed: bool, recovered: bool
) -> None:
    frame = compare_rows(rows_of(np.full((1, 1, 1), after)), rows_of(np.full((1, 1, 1), before)))
    row = only(frame)
    assert (row["newly_missed"], row["recovered"]) == (newly_missed, recovered)
    assert (row["reference_detected"], row["candidate_detected"]) == (before > 0, after > 0)


def test_without_contour_only_false_positives_are_counted(rows_of: Rows) -> None:
    # A Dice of 1 stands for ten predicted voxels here, of 0 for none.
    before, after = np.full((1, 1, 1), 0.0), np.full((1, 1, 1), 1.0)
    row = only(compare_rows(rows_of(after, [(0, 0)]), rows_of(before, [(0, 0)])))
    assert not row["reference_present"]
    assert (row["reference_false_positive"], row["candidate_false_positive"]) == (False, True)
    assert row["candidate_predicted_mm3"] == 640
    assert not row["newly_missed"]
    assert not row["recovered"]


@pytest.mark.parametrize("side", ["candidate", "reference", "both"])
def test_a_missing_row_stays_in_the_population_with_its_name(reference: pd.DataFrame, side: str) -> None:
    short = reference.drop(index=reference.index[2])
    sides = {
        "candidate": short if side != "reference" else reference,
        "reference": short if side != "candidate" else reference,
    }
    frame = compare_rows(**sides)
    assert len(frame) == len(reference)
    (gap,) = gaps(frame)
    words = "both runs" if side == "both" else f"the {side} run"
    assert str(gap) == f"case000 CT-noise-1 GTVp: missing in {words}"
    row = pick(frame, 0, "noise", 1, "GTVp")
    assert row["reference_present"]
    assert np.isnan(row["d"])
    assert not row["newly_missed"]
    assert not row["recovered"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_dice_that_is_no_number_is_a_gap(reference: pd.DataFrame, value: float) -> None:
    broken = reference.copy()
    broken.loc[0, "dice"] = value
    (gap,) = gaps(compare_rows(broken, reference))
    assert gap.to_dict() == {
        "case": "case000",
        "variant": "baseline",
        "structure": "GTVp",
        "reason": "the candidate run's Dice is not a number",
    }


def test_an_unknown_contour_is_a_gap(reference: pd.DataFrame) -> None:
    unknown = reference.assign(reference_mm3=np.nan)
    found = gaps(compare_rows(unknown, unknown))
    assert len(found) == len(reference)
    assert found[0].reason == "the volume of the contour is not known"


def test_the_spelling_of_no_modality_does_not_matter(reference: pd.DataFrame) -> None:
    other = reference.assign(modality=reference["modality"].where(reference["modality"].notna(), np.nan))
    assert not gaps(compare_rows(other, reference))


def test_a_row_that_is_there_twice_is_refused(reference: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="candidate run, case case000: baseline GTVp is there more than once"):
        compare_rows(pd.concat([reference, reference.head(1)]), reference)


def test_other_contours_are_refused(reference: pd.DataFrame) -> None:
    other = reference.copy()
    other.loc[other["case"] == "case003", "reference_mm3"] = 1.0
    with pytest.raises(AnalysisError, match=r"case case003: the contour of GTV. has 1 mm3 in one row and 6400 mm3"):
        compare_rows(other, reference)


def test_a_missing_column_is_named(reference: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="rows of the reference run: found no column dice, outcome"):
        compare_rows(reference, reference.drop(columns=["dice", "outcome"]))


def test_two_empty_runs_give_no_rows(reference: pd.DataFrame) -> None:
    assert compare_rows(reference.head(0), reference.head(0)).empty


@SIMPLE
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_rows_is_irrelevant(reference: pd.DataFrame, lose: Rows, seed: int) -> None:
    candidate = lose(reference, 0.03)
    shuffled = [frame.sample(frac=1, random_state=seed) for frame in (candidate, reference)]
    pd.testing.assert_frame_equal(compare_rows(*shuffled), compare_rows(candidate, reference))


def test_swapping_the_models_turns_the_signs(reference: pd.DataFrame, lose: Rows) -> None:
    candidate = lose(reference, np.linspace(-0.5, 0.8, len(reference)))
    there, back = compare_rows(candidate, reference), compare_rows(reference, candidate)
    np.testing.assert_array_equal(there["d"], -back["d"])
    np.testing.assert_array_equal(there["newly_missed"], back["recovered"])
    np.testing.assert_array_equal(there["candidate_false_positive"], back["reference_false_positive"])
