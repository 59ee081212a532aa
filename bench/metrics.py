"""Every figure of a prediction with two structures: ours against MONAI on the full volume."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import torch
from monai.metrics import (
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
    get_confusion_matrix,
)

from bench.results import Agreement, Row, Settings
from bench.timing import Times, interleaved, limited_threads, timed
from bench.volumes import FULL, QUICK, STRUCTURES, LabelMap, predictions, reference_map
from nnunet_plugin.benchmark.metrics import Reference, dice_per_structure

_SPACING = (1.0, 1.0, 1.0)
_LIMIT_MM = 1e-4
_LIMIT = 1e-6
_OF_COUNTS = ("sensitivity", "specificity", "accuracy")

Figures = dict[str, dict[str, float]]


def measure(settings: Settings) -> list[Row]:
    """One row: a good prediction, one with islands far away, one with an empty structure, a scattered one."""
    shape = QUICK if settings.quick else FULL
    label_map = reference_map(shape)
    reference, masks = Reference(label_map, STRUCTURES, _SPACING), one_hot(label_map)
    predicted = predictions(shape)
    by_kind: dict[str, Times] = {}
    largest_mm = largest = 0.0
    with limited_threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of empty masks
        for kind, prediction in predicted.items():
            settings.show(kind)
            theirs = partial(with_monai, masks, one_hot(prediction), _SPACING)
            by_kind[kind], of_ours, of_theirs = interleaved(
                partial(reference.measure, prediction), theirs, settings.repeats
            )
            in_mm, others = _differences(of_ours, of_theirs)
            largest_mm, largest = max(largest_mm, in_mm), max(largest, others)
        return [_row(by_kind, largest_mm, largest, _seconds_of_dice(predicted), shape)]


def one_hot(label_map: LabelMap) -> torch.Tensor:
    """(1, structures, x, y, z), as MONAI takes it."""
    return torch.from_numpy(np.stack([label_map == label for label in STRUCTURES.values()])[None].astype(np.uint8))


def with_monai(reference: torch.Tensor, prediction: torch.Tensor, spacing: Sequence[float]) -> Figures:
    """The figures of every structure by MONAI, from masks of :func:`one_hot`."""
    options = {"include_background": True, "spacing": tuple(spacing)}
    counts = get_confusion_matrix(prediction, reference)
    figures = {name: compute_confusion_matrix_metric(name, counts) for name in _OF_COUNTS}
    figures["dice"] = compute_dice(prediction, reference, include_background=True, ignore_empty=False)
    figures["hd95_mm"] = compute_hausdorff_distance(prediction, reference, percentile=95, **options)
    figures["hd_mm"] = compute_hausdorff_distance(prediction, reference, **options)
    figures["surface_dice_2mm"] = compute_surface_dice(prediction, reference, [2.0] * len(STRUCTURES), **options)
    return {
        structure: {name: float(values[0, index]) for name, values in figures.items()}
        for index, structure in enumerate(STRUCTURES)
    }


def _differences(ours: dict[str, dict[str, Any]], theirs: Figures) -> tuple[float, float]:
    """The largest difference of distances, and of the figures without a unit."""
    in_mm, others = [0.0], [0.0]
    for structure, figures in theirs.items():
        for name, value in figures.items():
            # Between infinite distances MONAI interpolates a percentile, which gives NaN: its maximum is sound.
            expected = math.inf if name == "hd95_mm" and math.isinf(figures["hd_mm"]) else value
            (in_mm if name in ("hd95_mm", "hd_mm") else others).append(_difference(ours[structure][name], expected))
    return max(in_mm), max(others)


def _difference(a: float, b: float) -> float:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    difference = abs(a - b)
    return math.inf if math.isnan(difference) else difference


def _seconds_of_dice(maps: dict[str, LabelMap]) -> float:
    """What the agreement with the baseline prediction takes per variant."""
    seconds, _ = timed(lambda: [dice_per_structure(maps["good"], one, STRUCTURES) for one in maps.values()])
    return seconds / len(maps)


def _row(by_kind: dict[str, Times], largest_mm: float, largest: float, of_dice: float, shape: tuple[int, ...]) -> Row:
    limits = f"{largest_mm:.2g} mm (limit {_LIMIT_MM:g}) and {largest:.2g} in figures without unit (limit {_LIMIT:g})"
    agreement = Agreement(limits, largest_mm <= _LIMIT_MM and largest <= _LIMIT)
    total = reduce(add, by_kind.values())
    return total.row(
        "metrics",
        "MONAI on the full volume",
        agreement,
        shape=list(shape),
        ratios={kind: round(times.ratio, 1) for kind, times in by_kind.items()},
        ours_s_per_variant=float(np.median(total.ours)) / len(by_kind),
        dice_to_baseline_s_per_variant=of_dice,
    )
