"""Which benchmarks there are, and what is asked of each; a module is imported when its benchmark runs."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.results import Row, Settings, UnavailableError


class UnknownNameError(Exception):
    """A name that no benchmark and no row has."""


@dataclass(frozen=True)
class Benchmark:
    """A module of this package whose function ``measure`` takes :class:`Settings` and gives rows.

    Attributes
    ----------
    name
        Name of the module.
    about
        What it compares, in a few words.
    targets
        The rows that it gives, each with the ratio asked of it, None where nothing is asked.
    """

    name: str
    about: str
    targets: Mapping[str, float | None]

    def run(self, settings: Settings) -> list[Row]:
        """Measure; every row of :attr:`targets`, as skipped ones with the reason where the benchmark cannot run."""
        try:
            rows = self._measured(settings)
        except UnavailableError as reason:
            rows = [Row(name, skipped=str(reason)) for name in self.targets]
        for row in rows:
            row.target = self.targets[row.name]
        return rows

    def _measured(self, settings: Settings) -> list[Row]:
        module = f"{__package__}.{self.name}"
        try:
            measure = importlib.import_module(module).measure
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise UnavailableError(f"there is no bench/{self.name}.py") from error
        return list(measure(settings))


_TRANSFORMS = ("bias", "ghosting", "spike", "motion", "noise", "blur")

BENCHMARKS = (
    Benchmark(
        "perturbations",
        "the paper's 18 perturbations of a CT and a PET volume, against TorchIO",
        {"perturbations": 6, "perturbations_without_motion": 12}
        | {f"perturbations_{transform}": None for transform in _TRANSFORMS},
    ),
    Benchmark("metrics", "all figures of a prediction, against MONAI on the full volume", {"metrics": 20}),
    Benchmark("descriptors", "the study's lesion descriptors, against its formulas", {"descriptors": 30}),
    Benchmark(
        "sliding_window",
        "the demo's ensemble on its hold-out cases, against nnU-Net's predictor",
        {"sliding_window": 4, "sliding_window_one_thread": None, "sliding_window_step_1": None},
    ),
    Benchmark(
        "today",
        "a whole robustness run, against TorchIO files, nnUNetv2_predict and MONAI",
        {"today_wall": 4, "today_disk": 20},
    ),
    Benchmark("rows", "opening a run of 5,000 cases, against parsing every line", {"rows_5000": None}),
    Benchmark(
        "intervals",
        "intervals of a large run's rank correlation and area, against drawing its rows",
        {"intervals": None},
    ),
    Benchmark(
        "pipeline",
        "a case with a stub network: share of the wall time in the network, and what overlapping gains",
        {"pipeline": 0.87, "pipeline_overlap": None},
    ),
    Benchmark(
        "gpu",
        "on a GPU: share of forward passes for a full-size case, and other ways to run the network",
        {"gpu_share": 0.85, "gpu_bare": None}
        | {f"gpu_{way}": None for way in ("two_windows", "channels_last", "compiled")},
    ),
    Benchmark(
        "scaling",
        "seconds per variant by volume, cases, severities and folds",
        {f"scaling_{what}": None for what in ("volume", "cases", "severities", "folds")},
    ),
)


def selected(names: Sequence[str], benchmarks: Sequence[Benchmark] = BENCHMARKS) -> list[Benchmark]:
    """The benchmarks of these names, or that give rows of these names; all of them without a name.

    Raises
    ------
    UnknownNameError
        Where a name is neither.
    """
    known = dict.fromkeys(name for benchmark in benchmarks for name in (benchmark.name, *benchmark.targets))
    for name in names:
        if name not in known:
            raise UnknownNameError(f"--only: found {name!r}{_nearest(name, known)}; known: {', '.join(known)}")
    return [one for one in benchmarks if not names or not {one.name, *one.targets}.isdisjoint(names)]


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
