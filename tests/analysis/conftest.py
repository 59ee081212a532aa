"""Simulated runs, written and read through the real run folder, and the oracle values of others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from analysis.statistics.case_bootstrap import case_draws
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import ROW_COLUMNS

HARM = {"bias": 0.10, "blur": 0.004, "ghosting": 0.003, "motion": 0.012, "noise": 0.08, "spike": 0.3}
SEVERITIES = (1, 2, 3)
VOXEL_MM3 = 64.0

Variant = tuple[str | None, str, int]


def row(
    case: str,
    variant: Variant,
    structure: str,
    dice: float,
    reference_voxels: int = 100,
    predicted_voxels: int | None = None,
) -> dict[str, Any]:
    """One row with counts that fit its Dice."""
    modality, perturbation, severity = variant
    predicted = reference_voxels if predicted_voxels is None else predicted_voxels
    tp = round(dice * (reference_voxels + predicted) / 2)
    if reference_voxels:
        outcome = "detected" if dice > 0 else "missed"
        hd95 = 4.0 * (1 + 5 * (1 - dice)) if dice > 0 else math.inf
    else:
        outcome = "false_positive" if predicted else "true_negative"
        hd95 = math.inf if predicted else math.nan
    values = dict.fromkeys(ROW_COLUMNS)
    values |= {"case": case, "modality": modality, "perturbation": perturbation, "severity": severity}
    values |= {"structure": structure, "dice": dice, "hd95_mm": hd95, "hd_mm": hd95, "outcome": outcome}
    values |= {"tp": tp, "fn": reference_voxels - tp, "fp": predicted - tp, "tn": 10_000}
    values |= {"sensitivity": tp / reference_voxels if reference_voxels else math.nan}
    values |= {"specificity": 10_000 / (10_000 + predicted - tp), "accuracy": 0.99}
    values |= {"reference_mm3": reference_voxels * VOXEL_MM3, "predicted_mm3": predicted * VOXEL_MM3}
    values |= {"dice_to_baseline_prediction": 1.0 if modality is None else dice}
    values |= {"fold_agreement": 0.2 + 0.7 * dice, "max_probability": 0.3 + 0.6 * dice}
    drawn = {"transform": "Noise", "arguments": {"std": 0.1}, "relative_change": 0.1 * severity}
    return values | {"parameters": json.dumps(drawn if modality else None), "seed": 7 if modality else None}


def settings_of(
    cases: Sequence[str], structures: Sequence[str] = ("GTVp", "GTVn"), synthetic: bool = True
) -> dict[str, Any]:
    """What ``run.toml`` holds."""
    return {
        "seed": 0,
        "step_size": 1.0,
        "label_rule": "0.5",
        "spacing": [4.0, 4.0, 4.0],
        "device": "cpu",
        "torch_threads": 1,
        "model": {"sha256": "ab" * 32, "folds": ["0", "1"]},
        "catalogue": {"name": "paper", "sha256": "cd" * 32},
        "cohort": {
            "name": "Dataset501_HECKTOR",
            "modalities": ["CT", "PET"],
            "structures": list(structures),
            "labels": {name: value for value, name in enumerate(structures, start=1)},
            "cases": list(cases),
            "synthetic": synthetic,
        },
        "versions": {"nnunetv2": "2.8.1"},
        "provenance": {"model_folder": "/models/a", "created": "2025-01-01T00:00:00+00:00"},
    }


def simulated_rows(
    cases: int, seed: int = 0, perturbations: Sequence[str] = tuple(HARM)
) -> dict[str, dict[Variant, list[dict[str, Any]]]]:
    """Rows of every case and variant: two structures, one of them absent in every fifth case."""
    rng = np.random.default_rng(seed)
    grid: list[Variant] = [(None, "baseline", 0)]
    grid += [(m, p, s) for m in ("CT", "PET") for p in perturbations for s in SEVERITIES]
    run: dict[str, dict[Variant, list[dict[str, Any]]]] = {}
    for index in range(cases):
        case = f"{('CHUM', 'CHUP', 'CHUS', 'MDA')[index % 4]}-{index + 1:03d}"
        clean = {"GTVp": rng.beta(9, 3), "GTVn": rng.beta(7, 4) if index % 7 else 0.0}
        run[case] = {variant: _simulated(rng, case, variant, clean, index) for variant in grid}
    return run


def _simulated(
    rng: np.random.Generator, case: str, variant: Variant, clean: Mapping[str, float], index: int
) -> list[dict[str, Any]]:
    modality, perturbation, severity = variant
    rows = []
    for structure, dice in clean.items():
        if structure == "GTVn" and index % 5 == 3:
            rows.append(
                row(case, variant, structure, 0.0, 0, 20)
                if rng.random() < 0.2
                else row(case, variant, structure, 1.0, 0, 0)
            )
            continue
        loss = 0.0
        if modality is not None:
            strength = HARM[perturbation] * severity * (1.0 if modality == "CT" else 0.6)
            loss = 0.0 if rng.random() < 0.1 else rng.normal(strength, strength / 2 + 0.005)
        perturbed = min(0.98, dice - loss)
        rows.append(row(case, variant, structure, float(perturbed) if perturbed > 0.05 else 0.0))
    return rows


def write_run(
    folder: Path,
    variants: Mapping[str, Mapping[Variant, Sequence[Mapping[str, Any]]]],
    settings: Mapping[str, Any],
) -> Path:
    """Write rows through the run folder's own writer."""
    run = RunFolder.create(folder, settings)
    for case, of_case in variants.items():
        with run.claim(case, lambda: {"CT": "1", "PET": "2", "label": "3"}) as writer:
            assert writer is not None
            for rows in of_case.values():
                writer.append(rows)
    return folder


@pytest.fixture(scope="session")
def make_row() -> Callable[..., dict[str, Any]]:
    return row


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., dict[str, Any]]:
    return settings_of


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture(scope="session")
def make_simulation() -> Callable[..., dict[str, dict[Variant, list[dict[str, Any]]]]]:
    return simulated_rows


@pytest.fixture(scope="session")
def drawn_items() -> Callable[..., list[npt.NDArray[np.intp]]]:
    """Give the items of each resample, those drawn twice twice: what statistics of weights are checked against."""

    def items(cases: Sequence[str], resamples: int) -> list[npt.NDArray[np.intp]]:
        return [
            np.repeat(np.arange(len(cases)), weights.astype(int)) for weights in case_draws(cases, resamples=resamples)
        ]

    return items


@pytest.fixture(scope="session")
def run_of_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of four simulated phantom cases; tests that change it must copy it."""
    simulation = simulated_rows(4)
    return write_run(tmp_path_factory.mktemp("four") / "run", simulation, settings_of(list(simulation)))


@pytest.fixture(scope="session")
def run_with_images(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy model with its images at hand, two variants per modality; tests that change it must copy it."""
    from nnunet_plugin.benchmark.run import measure
    from nnunet_plugin.benchmark.settings import Options, open_benchmark

    folder = tmp_path_factory.mktemp("with_images") / "run"
    benchmark = open_benchmark(Options(toy.folder, toy.images, toy.labels, folder, device="cpu"))
    wanted = {("spike", 2), ("noise", 3)}
    measure(benchmark, [v for v in benchmark.variants if (v.perturbation, v.severity) in wanted])
    return folder


@pytest.fixture(scope="session")
def rows_of_40(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Rows of forty simulated cases, as the run folder reads them."""
    simulation = simulated_rows(40)
    folder = write_run(tmp_path_factory.mktemp("forty") / "run", simulation, settings_of(list(simulation)))
    return RunFolder(folder).rows()


@pytest.fixture
def limits_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a limits file."""

    def write(text: str) -> Path:
        path = tmp_path / "limits.toml"
        path.write_text(text)
        return path

    return write
