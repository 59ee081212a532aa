"""Metrics against MONAI, against published vectors of the same convention, and by their properties."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import (
    DiceMetric,
    compute_confusion_matrix_metric,
    compute_hausdorff_distance,
    compute_surface_dice,
    get_confusion_matrix,
)
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn
from scipy import ndimage

from nnunet_plugin.benchmark.metrics import Reference, dice_per_structure

STRUCTURES = {"GTVp": 1, "GTVn": 2}
SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.9, 1.7), (0.4, 0.4, 5.0)]


def monai(reference: np.ndarray, prediction: np.ndarray, spacing) -> dict[str, float]:
    y, y_pred = (torch.from_numpy(mask[None, None].astype(np.uint8)) for mask in (reference, prediction))
    options = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of empty masks and of its own deprecations
        hd_mm = float(compute_hausdorff_distance(y_pred, y, **options))
        # MONAI interpolates between infinite distances for the percentile, which gives NaN; its maximum is sound.
        percentile = {} if math.isinf(hd_mm) else {"percentile": 95}
        counts = get_confusion_matrix(y_pred, y)
        of_counts = {
            name: float(compute_confusion_matrix_metric(name, counts))
            for name in ("sensitivity", "specificity", "accuracy")
        }
        return of_counts | {
            "dice": float(DiceMetric(include_background=True, ignore_empty=False)(y_pred, y)),
            "hd95_mm": float(compute_hausdorff_distance(y_pred, y, **percentile, **options)),
            "hd_mm": hd_mm,
            "surface_dice_2mm": float(compute_surface_dice(y_pred, y, [2.0], **options)),
        }


def blobs(seed: int, shape=(18, 22, 15)) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return np.digitize(smooth, np.quantile(smooth, [0.9, 0.96])).astype(np.uint8)


def assert_equals_monai(reference: np.ndarray, prediction: np.ndarray, spacing) -> None:
    measured = Reference(reference, STRUCTURES, spacing).measure(prediction)
    for name, label in STRUCTURES.items():
        for metric, expected in monai(reference == label, prediction == label, spacing).items():
            tolerance = 1e-4 if "mm" in metric and "dice" not in metric else 1e-6
            assert measured[name][metric] == pytest.approx(expected, abs=tolerance, nan_ok=True), (name, metric)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_monai_on_blobs_with_islands(seed, spacing):
    assert_equals_monai(blobs(seed), blobs(seed + 100), spacing)


small_masks = arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 2))


@st.composite
def pairs_of_label_maps(draw):
    """Of one shape, often with an axis of one voxel: dense ones, and ones with a few voxels far from each other."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 25)).flatmap(st.permutations))
    elements = st.integers(0, 2)
    dense = arrays(np.uint8, shape, elements=elements, fill=elements)
    islands = arrays(np.uint8, shape, elements=elements, fill=st.just(0))
    return draw(dense | islands), draw(dense | islands)


@settings(max_examples=150, deadline=None)
@given(maps=pairs_of_label_maps(), spacing=st.sampled_from(SPACINGS))
def test_equals_monai_on_any_small_label_maps(maps, spacing):
    """Empty structures, single voxels, islands and structures that touch the volume's edge included."""
    assert_equals_monai(*maps, spacing)


@settings(max_examples=60, deadline=None)
@given(a=small_masks, b=small_masks, spacing=st.sampled_from(SPACINGS))
def test_symmetry_bounds_and_counts(a, b, spacing):
    forward, backward = (Reference(x, STRUCTURES, spacing).measure(y) for x, y in ((a, b), (b, a)))
    for name, label in STRUCTURES.items():
        there, back = forward[name], backward[name]
        for metric in ("dice", "hd95_mm", "hd_mm", "surface_dice_2mm", "accuracy"):
            assert there[metric] == pytest.approx(back[metric], nan_ok=True)
        assert 0 <= there["dice"] <= 1
        assert there["tp"] + there["fp"] + there["fn"] + there["tn"] == a.size
        assert (there["fp"], there["fn"]) == (back["fn"], back["fp"])
        assert there["reference_mm3"] == pytest.approx((a == label).sum() * math.prod(spacing))
        assert there["predicted_mm3"] == back["reference_mm3"]
        if not math.isnan(there["hd_mm"]):
            assert there["hd95_mm"] <= there["hd_mm"]
    assert dice_per_structure(a, b, STRUCTURES) == {name: forward[name]["dice"] for name in STRUCTURES}


@pytest.mark.parametrize(
    ("reference", "prediction", "dice", "distance", "surface", "outcome"),
    [
        (0, 0, 1.0, math.nan, math.nan, "true_negative"),
        (1, 0, 0.0, math.inf, 0.0, "missed"),
        (0, 1, 0.0, math.inf, 0.0, "false_positive"),
        (1, 1, 1.0, 0.0, 1.0, "detected"),
    ],
)
def test_empty_masks(reference, prediction, dice, distance, surface, outcome):
    masks = [np.zeros((3, 3, 3), np.uint8) for _ in range(2)]
    masks[0][1, 1, 1], masks[1][1, 1, 1] = reference, prediction
    measured = Reference(masks[0], {"GTVp": 1}, (1, 1, 1)).measure(masks[1])["GTVp"]
    assert measured["dice"] == dice
    assert measured["hd95_mm"] == pytest.approx(distance, nan_ok=True)
    assert measured["surface_dice_2mm"] == pytest.approx(surface, nan_ok=True)
    assert measured["outcome"] == outcome


def test_missed_by_a_false_positive_elsewhere():
    reference, prediction = np.zeros((9, 1, 1), np.uint8), np.zeros((9, 1, 1), np.uint8)
    reference[0], prediction[8] = 1, 1
    measured = Reference(reference, {"GTVp": 1}, (2.0, 1.0, 1.0)).measure(prediction)["GTVp"]
    assert measured["outcome"] == "missed"
    assert measured["hd95_mm"] == 16.0


def test_one_voxel_apart_in_the_direction_of_the_spacing():
    for axis, spacing in enumerate((3.0, 2.0, 1.5)):
        reference, prediction = np.zeros((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
        reference[2, 2, 2] = 1
        prediction[tuple(2 + (k == axis) for k in range(3))] = 1
        measured = Reference(reference, {"GTVp": 1}, (3.0, 2.0, 1.5)).measure(prediction)["GTVp"]
        assert measured["hd95_mm"] == measured["hd_mm"] == spacing
        assert measured["surface_dice_2mm"] == float(spacing <= 2.0)


def test_voxels_with_the_ignore_label_do_not_count():
    """As in nnU-Net's own evaluation, whose counts are the oracle."""
    rng = np.random.default_rng(0)
    reference, prediction = (rng.integers(0, top, (6, 7, 8)).astype(np.uint8) for top in (4, 3))
    measured = Reference(reference, STRUCTURES, (1, 1, 1), ignore_label=3).measure(prediction)
    for name, label in STRUCTURES.items():
        expected = compute_tp_fp_fn_tn(reference == label, prediction == label, ignore_mask=reference == 3)
        assert tuple(measured[name][count] for count in ("tp", "fp", "fn", "tn")) == expected
    elsewhere = np.zeros((1, 1, 9), np.uint8)
    elsewhere[..., :2], elsewhere[..., 8] = 1, 3
    far = np.where(elsewhere == 3, 1, elsewhere)
    assert Reference(elsewhere, {"GTVp": 1}, (1, 1, 1), ignore_label=3).measure(far)["GTVp"]["hd_mm"] == 0


def test_other_shape_is_refused():
    one, other = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="differ in shape"):
        Reference(one, STRUCTURES, (1, 1, 1)).measure(other)
    with pytest.raises(ValueError, match="differ in shape"):
        dice_per_structure(one, other, STRUCTURES)


@pytest.mark.parametrize("order", ["C", "F"])
def test_inputs_are_left_alone_in_either_memory_order(order):
    reference, prediction = (np.asarray(blobs(seed), order=order) for seed in (1, 2))
    before = reference.copy(), prediction.copy()
    measured = Reference(reference, STRUCTURES, (1, 2, 3), ignore_label=2).measure(prediction)
    assert np.array_equal(reference, before[0])
    assert np.array_equal(prediction, before[1])
    contiguous = [np.ascontiguousarray(array) for array in before]
    assert measured == Reference(contiguous[0], STRUCTURES, (1, 2, 3), ignore_label=2).measure(contiguous[1])


def _sphere(radius, centre, spacing):
    axes = [np.arange(99) * s - c for s, c in zip(spacing, centre, strict=True)]
    return (sum(np.meshgrid(*[a**2 for a in axes], indexing="ij", sparse=True)) <= radius**2).astype(np.uint8)


def test_monais_published_hausdorff_distances(oracles):
    """MONAI's own test vectors (edges are mask xor erosion), undirected Euclidean."""
    cases = json.loads((oracles / "segmentation_metrics.json").read_text())["cases"]
    spheres = [c for c in cases if c["convention"] == "monai_voxel_edge" and isinstance(c["input"], dict)]
    assert len(spheres) >= 6
    for case in spheres:
        drawn = case["input"]["image_spacing_used_to_draw"]
        masks = [_sphere(case["input"][k]["r"], case["input"][k]["c"], drawn) for k in ("gt_sphere", "pred_sphere")]
        measured = Reference(masks[0], {"x": 1}, case["input"]["spacing"] or (1, 1, 1)).measure(masks[1])["x"]
        metric = "hd95_mm" if case["input"]["percentile"] == 95 else "hd_mm"
        assert measured[metric] == pytest.approx(case["expected"]["euclidean_undirected"], abs=1e-4), case["id"]


def test_metrics_reloadeds_published_values(oracles):
    """MetricsReloaded shares the voxel border and the maximum of directed percentiles; its figures are 2-D."""
    cases = json.loads((oracles / "segmentation_metrics.json").read_text())["cases"]
    case = next(c for c in cases if c["id"] == "mr_fig5c_annotation_error")
    reference, prediction = np.zeros((14, 14), np.uint8), np.zeros((14, 14), np.uint8)
    reference[9:12, 9:12] = prediction[9:12, 9:12] = 1
    reference[1, 1] = 1
    measured = Reference(reference, {"x": 1}, (1, 1)).measure(prediction)["x"]
    assert measured["hd95_mm"] == pytest.approx(case["expected"]["hd95"], abs=0.01)
    assert measured["hd_mm"] == pytest.approx(case["expected"]["hd"], abs=0.01)
