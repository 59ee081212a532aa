"""Run folders of any size without a model or images, and how long they take to open."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_plugin.benchmark.catalogue import Catalogue, load_catalogue
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import encoded_line

_NUMBERS = {"motion": (14, 21, 28), "ghosting": (2, 2, 2), "spike": (4, 7, 10)}
_NUMBERS |= {"bias": (20, 20, 35), "noise": (2, 2, 2), "blur": (3, 3, 3)}
"""Drawn numbers of each perturbation of the paper's catalogue by severity: they make most of a row's length."""

_HARM = {"motion": 0.02, "ghosting": 0.01, "spike": 0.2, "bias": 0.1, "noise": 0.08, "blur": 0.01}
_VOXELS = 192**3
_VOXEL_MM3 = 1.0
_SECONDS_AGO = 3600

_Variant = tuple[str | None, str, int]


def write_simulated_run(
    folder: Path,
    cases: int,
    structures: Sequence[str] = ("GTVp", "GTVn"),
    modalities: Sequence[str] = ("CT", "PET"),
    seed: int = 0,
) -> RunFolder:
    """Write a complete run of the paper's grid: rows of the real format and length, of made-up figures.

    The files are dated an hour back, as those of a session that has long ended, and are not flushed one by one.

    Parameters
    ----------
    folder
        The run folder; made if it is not there.
    cases
        Number of cases.
    structures
        Names of the structures; the last one is absent from every fifth case.
    modalities
        Names of the input channels.
    seed
        Seed of the figures. Runs of different seeds are those of different models on the same cohort.
    """
    catalogue = load_catalogue("paper")
    grid: list[_Variant] = [(None, "baseline", 0)]
    grid += [(m, entry.perturbation, entry.severity) for m in modalities for entry in catalogue.entries]
    names = [f"CHUM-{number:05d}" for number in range(1, cases + 1)]
    run = RunFolder.create(folder, _settings(names, structures, modalities, catalogue, seed))
    ago = time.time() - _SECONDS_AGO
    for number, case in enumerate(names):
        cohort, model = np.random.default_rng(number), np.random.default_rng((seed, number))
        header = {"case": case, "sha256": {role: cohort.bytes(32).hex() for role in (*modalities, "label")}}
        reference = {name: int(cohort.integers(200, 30_000)) for name in structures}
        if number % 5 == 4:
            reference[structures[-1]] = 0
        records = [header, *_rows(cohort, model, case, grid, reference)]
        file = folder / "rows" / f"{case}.jsonl"
        file.write_bytes(b"".join(map(encoded_line, records)))
        os.utime(file, (ago, ago))
        file.with_suffix(".lock").touch()
    return run


@dataclass(frozen=True)
class OpeningSeconds:
    """How long a run folder takes to open, in seconds.

    Attributes
    ----------
    without_table
        Every row file parsed.
    with_table
        Nothing changed since the table was written.
    after_changes
        Some cases changed since.
    table_after_changes
        Writing the table anew, with as many changed cases.
    """

    without_table: float
    with_table: float
    after_changes: float
    table_after_changes: float


def measure_opening(folder: Path, changed: int = 10) -> OpeningSeconds:
    """Time the opening of a run folder and reading all rows; the folder loses the last variant of some cases.

    Parameters
    ----------
    folder
        A run folder of at least twice as many cases as change.
    changed
        Number of cases that change.
    """
    files = sorted((folder / "rows").glob("*.jsonl"))
    (folder / "metrics.parquet").unlink(missing_ok=True)
    without_table = _seconds(lambda: RunFolder(folder).rows())
    RunFolder(folder).write_table()
    with_table = _seconds(lambda: RunFolder(folder).rows())
    _drop_last_variant(files[:changed])
    after_changes = _seconds(lambda: RunFolder(folder).rows())
    RunFolder(folder).write_table()
    _drop_last_variant(files[-changed:])
    return OpeningSeconds(without_table, with_table, after_changes, _seconds(lambda: RunFolder(folder).write_table()))


def _settings(
    cases: Sequence[str], structures: Sequence[str], modalities: Sequence[str], catalogue: Catalogue, seed: int
) -> dict[str, Any]:
    return {
        "seed": 0,
        "step_size": 0.5,
        "label_rule": "0.5",
        "spacing": [1.0, 1.0, 1.0],
        "device": "cuda",
        "torch_threads": 1,
        "model": {"sha256": f"{seed:064x}", "folds": ["0", "1", "2", "3", "4"]},
        "catalogue": {"name": "paper", "sha256": catalogue.sha256, "severities": catalogue.severities},
        "cohort": {
            "name": "Simulated",
            "modalities": list(modalities),
            "structures": list(structures),
            "labels": {name: value for value, name in enumerate(structures, start=1)},
            "cases": list(cases),
            "synthetic": True,
        },
        "versions": {},
        "provenance": {"created": "2025-01-01T00:00:00+00:00"},
    }


def _rows(
    cohort: np.random.Generator,
    model: np.random.Generator,
    case: str,
    grid: Sequence[_Variant],
    reference: Mapping[str, int],
) -> Iterator[dict[str, Any]]:
    """Rows of a case: what is drawn comes from the cohort's generator, figures and times from the model's."""
    clean = {name: float(model.beta(9, 3)) for name in reference}
    for modality, perturbation, severity in grid:
        key = {"modality": modality, "perturbation": perturbation, "severity": severity}
        shared: dict[str, Any] = {"seed": None, "parameters": "null"}
        loss = 0.0
        if modality is not None:
            drawn = cohort.normal(0, 10, _NUMBERS[perturbation][severity - 1]).tolist()
            content = {"transform": perturbation, "arguments": {"values": drawn}, "relative_change": 0.1 * severity}
            shared = {"seed": int(cohort.integers(2**63)), "parameters": json.dumps(content)}
            loss = _HARM[perturbation] * severity
        shared |= {f"seconds_{what}": float(model.random()) for what in ("perturb", "predict", "measure")}
        for name, voxels in reference.items():
            dice = max(0.0, clean[name] - loss * (0.5 + float(model.random())))
            yield {"case": case, **key, "structure": name, **_figures(model, voxels, dice), **shared}


def _figures(rng: np.random.Generator, reference: int, dice: float) -> dict[str, Any]:
    """Figures that fit each other; an absent structure is now and then predicted."""
    predicted = reference if reference else int(rng.integers(50)) * int(rng.random() < 0.1)
    tp = round(dice * reference)
    fp, fn = predicted - tp, reference - tp
    tn = _VOXELS - tp - fp - fn
    both_empty, any_empty = not reference + predicted, not reference or not predicted
    distance = (math.nan if both_empty else math.inf) if any_empty else 40 * (1 - dice) + float(rng.random())
    outcome = ("detected" if tp else "missed") if reference else "false_positive" if predicted else "true_negative"
    return {
        "dice": 2 * tp / (reference + predicted) if reference + predicted else 1.0,
        "hd95_mm": distance,
        "hd_mm": 1.5 * distance,
        "surface_dice_2mm": math.nan if both_empty else 0.0 if any_empty else dice**2,
        "sensitivity": tp / reference if reference else math.nan,
        "specificity": tn / (tn + fp),
        "accuracy": (tp + tn) / _VOXELS,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "reference_mm3": reference * _VOXEL_MM3,
        "predicted_mm3": predicted * _VOXEL_MM3,
        "outcome": outcome,
        "dice_to_baseline_prediction": min(1.0, dice + 0.1),
        "fold_agreement": dice * float(rng.random()),
        "max_probability": 1 - 0.1 * float(rng.random()),
    }


def _drop_last_variant(files: Sequence[Path]) -> None:
    for file in files:
        structures = RunFolder(file.parent.parent).structures
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[: -len(structures)]))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
