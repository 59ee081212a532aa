"""From what a user asks for to a benchmark that is ready to measure; what ``run.toml`` records."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from nnunet_plugin.benchmark.catalogue import Catalogue, load_catalogue
from nnunet_plugin.benchmark.cohort import Cohort, find_cohort
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.model_folder import model_hashes
from nnunet_plugin.benchmark.predictor import Ensemble, LabelRule
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.run import Benchmark
from nnunet_plugin.paths import is_utf8

_RESULTS_DEPEND_ON = ("nnunetv2-robustness", "nnunetv2", "torch", "torchio", "simpleitk")
_LABEL_RULES = ("0.5", "argmax")


@dataclass(frozen=True)
class Options:
    """What a user can ask for, as plain values that survive pickling.

    Attributes
    ----------
    model, images, labels
        Model folder, folder of images in nnU-Net's naming, folder of reference labels.
    run
        Run folder; None for ``robustness_runs/MODELHASH-COHORT-CATALOGUE``.
    catalogue
        Name or path, see :func:`~nnunet_plugin.benchmark.catalogue.load_catalogue`.
    folds
        None for every trained fold.
    device
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None for CUDA where there is one.
    step_size
        Distance between sliding windows as a share of the window.
    seed
        Seed of the run.
    threshold
        ``0.5`` or ``argmax``.
    threads
        Threads of torch. One, because cases are what runs in parallel and rows depend on it to the last bit.
    save_predictions
        Keep label maps.
    """

    model: Path
    images: Path
    labels: Path
    run: Path | None = None
    catalogue: str = "paper"
    folds: tuple[str, ...] | None = None
    device: str | None = None
    step_size: float = 0.5
    seed: int = 0
    threshold: str = "0.5"
    threads: int = 1
    save_predictions: bool = False


def open_benchmark(options: Options) -> Benchmark:
    """Load the model, find the cohort and make or reopen the run folder.

    Raises
    ------
    BenchmarkError
        Where an option cannot be worked with; nothing has been written then.
    """
    _refuse_unfit_paths(options)
    device = _device(options.device)
    if not 0 < options.step_size <= 1:
        raise BenchmarkError(f"step size: found {options.step_size}, expected a number above 0 and at most 1")
    if options.threshold not in _LABEL_RULES:
        raise BenchmarkError(f"threshold: found {options.threshold!r}, expected {' or '.join(_LABEL_RULES)}")
    if options.threads < 1:
        raise BenchmarkError(f"threads: found {options.threads}, expected at least 1")
    torch.set_num_threads(options.threads)
    catalogue = load_catalogue(options.catalogue)
    ensemble = Ensemble(
        options.model,
        folds=options.folds,
        device=device,
        step_size=options.step_size,
        label_rule=cast(LabelRule, options.threshold),
    )
    cohort = find_cohort(options.images, options.labels, ensemble.modalities, ensemble.file_ending)
    settings = describe(ensemble, cohort, catalogue, options.seed)
    run = RunFolder.create(options.run or _default_run_folder(settings), settings)
    return Benchmark(ensemble, cohort, catalogue, run, options.seed, options.save_predictions)


def describe(ensemble: Ensemble, cohort: Cohort, catalogue: Catalogue, seed: int) -> dict[str, Any]:
    """Everything that ``run.toml`` records: the settings that rows depend on, and their provenance."""
    return {
        "seed": seed,
        "step_size": float(ensemble.step_size),
        "label_rule": ensemble.label_rule,
        "spacing": list(ensemble.spacing_xyz),
        "device": ensemble.device.type,
        "torch_threads": torch.get_num_threads(),
        "model": {"folds": list(ensemble.folds), **model_hashes(ensemble.folder, ensemble.folds)},
        "catalogue": {"name": catalogue.name, "sha256": catalogue.sha256, "severities": catalogue.severities},
        "cohort": {
            "name": cohort.name,
            "modalities": list(ensemble.modalities),
            "structures": list(ensemble.structures),
            "labels": ensemble.structures,
            "cases": [case.name for case in cohort.cases],
            "synthetic": cohort.synthetic,
        },
        "versions": {name: version(name) for name in _RESULTS_DEPEND_ON},
        "provenance": {
            "model_folder": str(ensemble.folder.resolve()),
            "images": str(cohort.images_folder.resolve()),
            "labels": str(cohort.labels_folder.resolve()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": _machine(ensemble.device),
        },
    }


def _refuse_unfit_paths(options: Options) -> None:
    for name in ("model", "images", "labels", "run"):
        path = getattr(options, name)
        if path is not None and not is_utf8(path):
            raise BenchmarkError(f"{name}: found {str(path)!a}, expected a name in valid UTF-8; rename the folder")


def _default_run_folder(settings: dict[str, Any]) -> Path:
    parts = settings["model"]["sha256"][:8], settings["cohort"]["name"], settings["catalogue"]["name"]
    return Path("robustness_runs") / "-".join(parts)


def _device(name: str | None) -> str:
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BenchmarkError(f"device {name!r} is not usable here ({reason}); try cpu") from error
    return name


def _machine(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
