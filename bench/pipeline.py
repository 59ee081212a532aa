"""A whole case of full size with a network that only sleeps, as long as a GPU would be at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pandas as pd
import torch

from bench.results import Agreement, Row, Settings
from bench.untrained import CASE, Study, write_study
from bench.volumes import FULL, QUICK, Shape, predictions
from nnunet_plugin.benchmark.measurement import CaseMeasurement
from nnunet_plugin.benchmark.perturbations import BASELINE_KEY
from nnunet_plugin.benchmark.predictor import Ensemble, Scores
from nnunet_plugin.benchmark.run import Benchmark
from nnunet_plugin.benchmark.run import measure as measure_cohort
from nnunet_plugin.benchmark.settings import Options, open_benchmark

_FOLDS = 5
_SECONDS = {False: 2.0, True: 0.1}
"""Of a prediction, by whether the volume is small."""


class SleepingNetwork:
    """Gives the same scores for every volume, after a while; remembers how long it was at work.

    Parameters
    ----------
    shape
        (x, y, z) of the case.
    seconds
        What a prediction takes.
    """

    def __init__(self, shape: Shape, seconds: float) -> None:
        self._seconds = seconds
        self.busy = 0.0
        label_map = torch.from_numpy(np.ascontiguousarray(predictions(shape)["islands"].transpose()))
        logits = torch.stack([(label_map == label).float() * 6 for label in range(3)])
        self._scores = Scores(torch.log_softmax(logits, dim=0), (label_map,) * _FOLDS)

    def forward(self, _ensemble: Ensemble, _array: object) -> Scores:
        """Stand in for :meth:`Ensemble.forward`."""
        start = time.perf_counter()
        time.sleep(self._seconds)
        self.busy += time.perf_counter() - start
        return self._scores


def measure(settings: Settings) -> list[Row]:
    """The network's share of the wall time, and what overlapping gains."""
    shape, seconds = (QUICK if settings.quick else FULL), _SECONDS[settings.quick]
    with TemporaryDirectory() as folder:
        study = write_study(Path(folder), shape, patch=(32, 32, 32), features=(4, 8, 8), folds=_FOLDS)
        settings.show("overlapping")
        ours_s, busy, ours = _timed(study, "overlapping", SleepingNetwork(shape, seconds), _overlapping)
        settings.show("one after the other")
        theirs_s, _, theirs = _timed(study, "sequential", SleepingNetwork(shape, seconds), _one_after_the_other)
    columns = [column for column in ours if not column.startswith("seconds_")]
    differ = int((ours[columns].fillna(-1) != theirs[columns].fillna(-1)).any(axis=1).sum())
    agreement = Agreement(f"{differ} of {len(ours)} rows differ", differ == 0 and len(ours) == len(theirs))
    note = f"stub network, {seconds:g} s a variant; overhead {100 * (ours_s / busy - 1):.1f} %"
    extra = {"shape": list(shape), "note": note}
    return [
        Row("pipeline", "the network alone", ours_s, busy, busy / ours_s, extra=extra),
        Row(
            "pipeline_overlap",
            "one stage after the other",
            ours_s,
            theirs_s,
            theirs_s / ours_s,
            None,
            agreement,
            "",
            extra,
        ),
    ]


def _timed(
    study: Study, name: str, network: SleepingNetwork, work: Callable[[Benchmark], None]
) -> tuple[float, float, pd.DataFrame]:
    """Seconds in all and in the network, and the rows."""
    options = Options(study.model, study.images, study.labels, study.model.parent / name, device="cpu")
    benchmark = open_benchmark(options)
    with mock.patch.object(Ensemble, "forward", lambda *arguments: network.forward(*arguments)):
        start = time.perf_counter()
        work(benchmark)
        seconds = time.perf_counter() - start
    return seconds, network.busy, benchmark.run.rows()


def _overlapping(benchmark: Benchmark) -> None:
    measure_cohort(benchmark, benchmark.variants)


def _one_after_the_other(benchmark: Benchmark) -> None:
    case = benchmark.cohort.cases[0]
    with benchmark.run.claim(CASE, lambda: case.hashes(benchmark.ensemble.modalities)) as rows:
        assert rows is not None
        measurement = CaseMeasurement(benchmark, case, rows)
        volume = measurement.unperturbed()
        measurement.store(BASELINE_KEY, volume, *measurement.predict(volume))
        for variant in benchmark.variants:
            volume = measurement.perturb(variant)
            measurement.store(variant.key, volume, *measurement.predict(volume))
