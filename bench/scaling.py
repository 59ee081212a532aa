"""How the cost of a run grows with volume, cases, severities and folds, on a network of the demo's size."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.results import Row, Settings
from bench.timing import limited_threads, timed
from bench.untrained import CASE, Study, write_study
from nnunet_plugin.benchmark.run import measure as measure_cohort
from nnunet_plugin.benchmark.settings import Options, open_benchmark

_FEATURES, _PATCH = (8, 16, 32, 64), (32, 32, 32)
_SEVERITIES = """
[perturbations.bias]
transform = "RandomBiasField"
severities = [{bias}]
[perturbations.spike]
transform = "RandomSpike"
severities = [{spike}]
[perturbations.noise]
transform = "RandomNoise"
severities = [{noise}]
"""


@dataclass(frozen=True)
class _Load:
    """One run: edge of the cubic volumes in voxels, number of cases, of severities and of folds."""

    edge: int = 64
    cases: int = 1
    severities: int = 1
    folds: int = 1

    @property
    def volumes(self) -> int:
        """Two modalities with three perturbations, and the baseline."""
        return self.cases * (6 * self.severities + 1)


def measure(settings: Settings) -> list[Row]:
    """A row for each dimension, of which the others are held; each run once."""
    base = _Load(edge=32) if settings.quick else _Load()
    edges, counts = ((24, 32), (1, 2)) if settings.quick else ((48, 64, 96), (1, 2, 4))
    grown: dict[str, dict[int, _Load]] = {
        "volume": {edge**3: replace(base, edge=edge) for edge in edges},
        "cases": {count: replace(base, cases=count) for count in counts},
        "severities": {count: replace(base, severities=count) for count in counts},
        "folds": {count: replace(base, folds=count) for count in counts},
    }
    with limited_threads(1), TemporaryDirectory() as temporary:
        _seconds(_Load(edge=24), Path(temporary) / "warm_up")
        return [
            _row(dimension, loads, Path(temporary) / dimension, settings.show) for dimension, loads in grown.items()
        ]


def _row(dimension: str, loads: dict[int, _Load], folder: Path, show: Callable[[str], None]) -> Row:
    per_variant = {}
    for size, load in loads.items():
        show(f"{dimension} {size}")
        per_variant[str(size)] = round(_seconds(load, folder / str(size)) / load.volumes, 4)
    extra = {"seconds_per_variant": per_variant, "unit": "voxels" if dimension == "volume" else dimension}
    return Row(f"scaling_{dimension}", "nothing: our own cost per variant", list(per_variant.values())[-1], extra=extra)


def _seconds(load: _Load, folder: Path) -> float:
    study = write_study(folder, (load.edge,) * 3, _PATCH, _FEATURES, load.folds)
    _multiply(study, load.cases)
    catalogue = folder / "catalogue.toml"
    catalogue.write_text(_catalogue(load.severities))
    options = Options(study.model, study.images, study.labels, folder / "run", str(catalogue), device="cpu")
    benchmark = open_benchmark(options)
    seconds, _ = timed(lambda: measure_cohort(benchmark, benchmark.variants))
    if failures := benchmark.run.failures():
        raise RuntimeError(f"could not be measured: {failures}")
    return seconds


def _multiply(study: Study, cases: int) -> None:
    for folder in (study.images, study.labels):
        for file in sorted(folder.iterdir()):
            for number in range(2, cases + 1):
                shutil.copy(file, folder / file.name.replace(CASE, f"SYNTHETIC-{number:03d}"))


def _catalogue(severities: int) -> str:
    levels = range(1, severities + 1)
    return _SEVERITIES.format(
        bias=", ".join(f"{{ coefficients = {0.1 * level:.1f}, order = 3 }}" for level in levels),
        spike=", ".join(f"{{ num_spikes = [1, 1], intensity = [1.0, {1 + level}.0] }}" for level in levels),
        noise=", ".join(f"{{ mean = 0, std = [0.0, {0.1 * level:.1f}] }}" for level in levels),
    )
