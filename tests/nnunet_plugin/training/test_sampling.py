"""Where patches are drawn."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_plugin.training.sampling import ClassRatioDataLoader, centre_probabilities, patch_start

DRAWS = 2000


class Cases:
    identifiers = ("case",)


def loader(patch: tuple[int, int, int], labels: dict[str, int]) -> ClassRatioDataLoader:
    return ClassRatioDataLoader(Cases(), 2, patch, patch, LabelManager(labels, None))


def label_map(*present: int) -> npt.NDArray[np.int8]:
    labels = np.zeros((60, 50, 40), dtype=np.int8)
    for label in present:
        labels[8 * label + 4 : 8 * label + 8, 20:24, 16:20] = label
    return labels


def centre_frequencies(labels: npt.NDArray[np.int8], names: dict[str, int]) -> dict[int, float]:
    locations = {label: np.argwhere(labels[None] == label) for label in range(1, len(names))}
    sampler = loader((8, 8, 8), names)
    np.random.seed(0)  # noqa: NPY002
    drawn = []
    for _ in range(DRAWS):
        starts, ends = sampler.get_bbox(labels.shape, False, locations)
        assert all(start >= 0 for start in starts)
        assert all(end <= size for end, size in zip(ends, labels.shape, strict=True))
        drawn.append(int(labels[tuple(start + 4 for start in starts)]))
    return {label: drawn.count(label) / DRAWS for label in range(len(names))}


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ((1, 2), {0: 0.10, 1: 0.45, 2: 0.45}),
        ((1,), {0: 0.10, 1: 0.90, 2: 0.0}),
        ((2,), {0: 0.10, 1: 0.0, 2: 0.90}),
        ((), {0: 1.0, 1: 0.0, 2: 0.0}),
    ],
)
def test_centres_have_the_studys_frequencies(present: tuple[int, ...], expected: dict[int, float]) -> None:
    names = {"background": 0, "GTVp": 1, "GTVn": 2}
    assert centre_frequencies(label_map(*present), names) == pytest.approx(expected, abs=0.02)


def test_foreground_share_is_split_evenly_over_any_number_of_labels() -> None:
    names = {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    assert centre_frequencies(label_map(1, 2, 3, 4), names) == pytest.approx(
        {0: 0.10, 1: 0.225, 2: 0.225, 3: 0.225, 4: 0.225}, abs=0.025
    )
    assert sum(centre_probabilities(range(1, 8)).values()) == pytest.approx(1)


@given(data=st.data(), patch=st.integers(1, 64), size=st.integers(1, 100))
def test_patch_never_leaves_an_image_that_is_large_enough(data: Any, patch: int, size: int) -> None:
    centre = data.draw(st.integers(0, size - 1))
    start = patch_start(centre, patch, size)
    if size >= patch:
        assert 0 <= start <= centre < start + patch <= size
    else:
        assert start <= 0
        assert start + patch >= size
        assert abs(-start - (start + patch - size)) <= 1  # padded on both sides alike


def test_ignore_label_is_never_the_background() -> None:
    labels = label_map(1)
    annotated = np.argwhere(labels[None, :30] >= 0)
    locations: dict[Any, Any] = {1: np.argwhere(labels[None] == 1), (-1, 0, 1): annotated}
    sampler = loader((2, 2, 2), {"background": 0, "GTVp": 1, "ignore": 2})
    assert sampler.annotated_classes_key in locations
    starts = [sampler.get_bbox(labels.shape, False, locations)[0][0] for _ in range(200)]
    assert max(starts) < 30


def test_asked_class_is_the_centre() -> None:
    labels = label_map(1, 2)
    locations = {label: np.argwhere(labels[None] == label) for label in (1, 2)}
    sampler = loader((8, 8, 8), {"background": 0, "GTVp": 1, "GTVn": 2})
    for _ in range(20):
        starts, _ends = sampler.get_bbox(labels.shape, True, locations, overwrite_class=2)
        assert labels[tuple(start + 4 for start in starts)] == 2
