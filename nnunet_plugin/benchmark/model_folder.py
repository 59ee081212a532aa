"""What nnU-Net's training leaves behind: which folds are there, and hashes that tell one model from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_plugin.benchmark.errors import BenchmarkError

CHECKPOINT = "checkpoint_final.pth"


def find_folds(model_folder: Path, folds: Sequence[str] | None) -> tuple[str, ...]:
    """Check a model folder and settle which folds are used.

    Raises
    ------
    BenchmarkError
        Where the folder is no model, or a wanted fold has no final checkpoint.
    """
    for name in ("plans.json", "dataset.json"):
        if not (model_folder / name).is_file():
            raise BenchmarkError(
                f"{model_folder}: found no {name}; expected a trained model, "
                "nnUNet_results/DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION"
            )
    trained = sorted(f.parent.name.removeprefix("fold_") for f in model_folder.glob(f"fold_*/{CHECKPOINT}"))
    if folds is None:
        folds = [fold for fold in trained if fold != "all"] or trained
    missing = [fold for fold in folds if fold not in trained]
    if missing or not folds:
        wanted = f"fold {', '.join(missing)}" if missing else "any fold"
        raise BenchmarkError(
            f"{model_folder}: no {CHECKPOINT} of {wanted}; trained folds: {', '.join(trained) or 'none'}"
        )
    if len(set(folds)) != len(folds):
        raise BenchmarkError(f"folds: {' '.join(folds)} names a fold twice; name each once")
    return tuple(folds)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_hashes(model_folder: Path, folds: Sequence[str]) -> dict[str, Any]:
    """SHA-256 of plans, ``dataset.json`` and every fold's checkpoint, and of all together."""
    parts = {name: file_sha256(model_folder / f"{name}.json") for name in ("plans", "dataset")}
    checkpoints = {fold: file_sha256(model_folder / f"fold_{fold}" / CHECKPOINT) for fold in folds}
    everything = hashlib.sha256(json.dumps([parts, checkpoints], sort_keys=True).encode()).hexdigest()
    return {"sha256": everything, "plans_sha256": parts["plans"], "checkpoints_sha256": checkpoints}
