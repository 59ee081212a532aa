"""What is chosen: the study's counts, the worst by a sort of their own, every stratum once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.grading.samples import SAMPLES
from analysis.grading.selection import select
from analysis.pairing import paired

STUDY = {"baseline": 32, "top": 3, "per": 3, "seed": 0}


def losses_of(rows):
    pairs = paired(rows)
    pairs = pairs[pairs["reference_present"]]
    return pairs.groupby(["perturbation", "modality", "case", "severity"])["delta_dice"].mean()


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_counts_of_the_study(rows_of_40, sample):
    """32 unperturbed and 18 perturbed: 3 perturbations x 3 cases x 2 modalities."""
    found = select(rows_of_40, sample=sample, **STUDY)
    assert Counter(item.perturbation for item in found.chosen) == {"baseline": 32, "spike": 6, "bias": 6, "noise": 6}
    assert Counter(item.modality for item in found.chosen) == {None: 32, "CT": 9, "PET": 9}
    assert len(set(found.chosen)) == 50
    for name, modality in {(item.perturbation, item.modality) for item in found.chosen[32:]}:
        of_both = [item for item in found.chosen if (item.perturbation, item.modality) == (name, modality)]
        assert len({item.case for item in of_both}) == 3
    assert found.notes == ()
    # The simulated harm is that of tests/analysis/conftest.py.
    assert list(found.harm["perturbation"]) == ["spike", "bias", "noise", "motion", "blur", "ghosting"]


def test_the_worst_are_those_that_lose_most(rows_of_40):
    losses = losses_of(rows_of_40)
    found = select(rows_of_40, sample="worst", **STUDY)
    for name in ("spike", "bias", "noise"):
        for modality in ("CT", "PET"):
            worst_of_case = losses[name, modality].groupby("case").max().sort_values()
            chosen = [item for item in found.chosen if (item.perturbation, item.modality) == (name, modality)]
            chosen_losses = [losses[name, modality, item.case, item.severity] for item in chosen]
            np.testing.assert_allclose(sorted(chosen_losses), worst_of_case.to_numpy()[-3:])


def test_each_stratum_gives_one(rows_of_40):
    losses = losses_of(rows_of_40)
    found = select(rows_of_40, sample="stratified", **STUDY | {"per": 4})
    for name, modality in {(item.perturbation, item.modality) for item in found.chosen[32:]}:
        of_both = losses[name, modality]
        ranks = of_both.rank(ascending=False, method="first")
        chosen = [item for item in found.chosen if (item.perturbation, item.modality) == (name, modality)]
        parts = [int((ranks[item.case, item.severity] - 1) // (len(of_both) / 4)) for item in chosen]
        # Ties of ΔDice at the border of two parts may be ranked either way.
        assert sorted(parts) == [0, 1, 2, 3]


def test_random_cases_are_not_the_worst_ones(rows_of_40):
    losses = losses_of(rows_of_40)

    def mean_loss(sample):
        chosen = select(rows_of_40, sample=sample, **STUDY | {"per": 10}).chosen[32:]
        return np.mean([losses[i.perturbation, i.modality, i.case, i.severity] for i in chosen])

    everything = losses[["spike", "bias", "noise"]].mean()
    assert mean_loss("worst") > 1.5 * everything
    assert mean_loss("random") == pytest.approx(everything, abs=0.06)
    assert mean_loss("stratified") == pytest.approx(everything, abs=0.04)


@given(st.integers(0, 2**32), st.sampled_from(SAMPLES), st.integers(1, 60), st.integers(0, 7), st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_whatever_is_asked_for(rows_of_40, seed, sample, baseline, top, per):
    asked = {"baseline": baseline, "top": top, "per": per, "sample": sample, "seed": seed}
    found = select(rows_of_40, **asked)
    assert found.chosen == select(rows_of_40, **asked).chosen
    assert len(set(found.chosen)) == len(found.chosen)
    assert sum(item.modality is None for item in found.chosen) == min(baseline, 40)
    assert sum(item.modality is not None for item in found.chosen) == 2 * min(top, 6) * min(per, 40)
    assert len(found.notes) == (baseline > 40) + (top > 6) + (2 * min(top, 6) if per > 40 else 0)


def test_the_order_of_the_rows_changes_nothing(rows_of_40):
    shuffled = rows_of_40.sample(frac=1, random_state=1)
    for sample in SAMPLES:
        found, again = (select(rows, sample=sample, **STUDY).chosen for rows in (rows_of_40, shuffled))
        assert set(found) == set(again)


def test_nothing_to_choose(rows_of_40):
    with pytest.raises(AnalysisError, match="--baseline"):
        select(rows_of_40, baseline=0, top=0, per=1, sample="worst", seed=0)
