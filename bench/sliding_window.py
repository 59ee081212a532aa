"""The demo's five folds on its hold-out cases, from prepared arrays to label maps: ours against nnU-Net's predictor."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.demo import case_names, find_demo, folds_used, images_of
from bench.machine import cores
from bench.results import Agreement, Row, Settings
from bench.timing import interleaved, limited_threads
from bench.untrained import Study
from nnunet_plugin.benchmark.predictor import Ensemble, PreparedCase

_LIMIT = 0.9999
_ROWS = {
    "sliding_window": (0.5, cores()),
    "sliding_window_one_thread": (0.5, 1),
    "sliding_window_step_1": (1.0, cores()),
}
"""Step size and threads of each."""

LabelMap = npt.NDArray[np.uint8]


def measure(settings: Settings) -> list[Row]:
    """A row for each step size and number of threads; both sides average logits and take the most probable label."""
    study = find_demo()
    rows = []
    for name, (step_size, threads) in _ROWS.items():
        with limited_threads(threads):
            rows.append(_row(name, step_size, study, settings))
    return rows


def _row(name: str, step_size: float, study: Study, settings: Settings) -> Row:
    folds = folds_used(settings.quick)
    ensemble = Ensemble(study.model, folds=folds, step_size=step_size, average="logits", label_rule="argmax")
    stock = _stock_predictor(study, folds, step_size)
    cases = [ensemble.prepare(images_of(study, case)) for case in case_names(study, settings.quick)]
    settings.show(f"{name}: {len(cases)} cases")
    times, ours, theirs = interleaved(
        lambda: [ensemble.predict(case, case.array).label_map for case in cases],
        lambda: [_stock_label_map(stock, case) for case in cases],
        settings.repeats,
    )
    differing = sum(int(np.count_nonzero(a != b)) for a, b in zip(ours, theirs, strict=True))
    labelled, voxels = sum(map(np.count_nonzero, theirs)), sum(map(np.size, theirs))
    equal = 1 - differing / voxels
    figures = f"{differing} differ, {labelled} are labelled"
    agreement = Agreement(f"{100 * equal:.4f} % of voxels equal (limit {100 * _LIMIT:g} %); {figures}", equal >= _LIMIT)
    extra = {"step_size": step_size, "cases": len(cases), "folds": len(folds)}
    return times.row(name, "nnU-Net's nnUNetPredictor", agreement, **extra)


def _stock_predictor(study: Study, folds: tuple[str, ...], step_size: float) -> Any:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    device = torch.device("cpu")
    with contextlib.redirect_stdout(io.StringIO()):  # it reports where it looks for trainers
        predictor = nnUNetPredictor(
            tile_step_size=step_size, device=device, perform_everything_on_device=False, allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(study.model), folds, "checkpoint_final.pth")
    return predictor


def _stock_label_map(predictor: Any, case: PreparedCase) -> LabelMap:
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(case.array))
    label_map: LabelMap = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
        case.properties,
        num_threads_torch=torch.get_num_threads(),
    )
    return label_map
