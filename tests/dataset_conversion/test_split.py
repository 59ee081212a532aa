from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from dataset_conversion.split import Split, authors, stratified

CENTRES = ["CHUM", "CHUP", "CHUS", "CHUV", "HGJ", "HMR", "MDA"]


def test_authors_split_is_their_own_recipe():
    names = [f"{centre}-{number:03d}" for centre in CENTRES for number in range(1, 78)][:524]
    np.random.seed(42)  # noqa: NPY002 (as the authors wrote it)
    held = np.random.choice(sorted(names), 50, replace=False).tolist()  # noqa: NPY002
    development = np.array([name for name in sorted(names) if name not in held])
    folds = [
        sorted(development[chosen].tolist()) for _, chosen in KFold(5, shuffle=True, random_state=42).split(development)
    ]
    split = authors(names[::-1], 50, 5)
    assert split.hold_out == sorted(held)
    assert split.folds == folds
    assert len(split.development) == 474


def test_authors_split_leaves_the_global_generator_alone():
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    authors([f"A-{number}" for number in range(20)], 4, 3)
    assert np.random.random() == expected  # noqa: NPY002


strata_lists = st.lists(
    st.tuples(st.sampled_from(["", "GTVn", "GTVp", "GTVp GTVn"]), st.sampled_from(CENTRES)),
    min_size=4,
    max_size=80,
)


@given(drawn=strata_lists, data=st.data())
def test_stratified_split_is_a_balanced_partition(drawn, data):
    strata = {f"case{number}": stratum for number, stratum in enumerate(drawn)}
    hold_out = data.draw(st.integers(0, len(strata) - 2))
    folds = data.draw(st.integers(2, min(5, len(strata) - hold_out)))
    split = stratified(strata, hold_out, folds, seed=data.draw(st.integers(0, 5)))
    assert sorted(split.hold_out + split.development) == sorted(strata)
    assert len(split.hold_out) == hold_out
    sizes = [len(fold) for fold in split.folds]
    assert max(sizes) - min(sizes) <= 1
    for key in (lambda name: strata[name], lambda name: strata[name][0]):
        counts = [Counter(map(key, fold)) for fold in split.folds]
        total = Counter(map(key, strata))
        held = Counter(map(key, split.hold_out))
        for stratum in total:
            of_folds = [count[stratum] for count in counts]
            assert max(of_folds) - min(of_folds) <= 1
            assert abs(held[stratum] - hold_out * total[stratum] / len(strata)) < 1


def test_stratified_split_depends_on_the_seed_and_on_nothing_else():
    strata = {f"{centre}-{number}": ("GTVp GTVn", centre) for centre in CENTRES for number in range(10)}
    split = stratified(strata, 10, 5, seed=3)
    assert split == stratified(dict(reversed(strata.items())), 10, 5, seed=3)
    assert split != stratified(strata, 10, 5, seed=4)


def test_nnunet_trains_on_every_development_case_not_in_the_fold():
    split = Split(["H"], [["A", "D"], ["B"], ["C"]])
    assert split.as_nnunet() == [
        {"train": ["B", "C"], "val": ["A", "D"]},
        {"train": ["A", "C", "D"], "val": ["B"]},
        {"train": ["A", "B", "D"], "val": ["C"]},
    ]


@pytest.mark.parametrize(("kept", "folds"), [("ACH", [["A"], ["C"]]), ("ADBC", [["A", "D"], ["B"], ["C"]])])
def test_restriction_drops_cases_and_empty_folds(kept, folds):
    split = Split(["H"], [["A", "D"], ["B"], ["C"]]).restricted_to(list(kept))
    assert split.folds == folds
    assert split.hold_out == (["H"] if "H" in kept else [])
