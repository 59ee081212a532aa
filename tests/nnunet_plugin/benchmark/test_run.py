"""Measuring a cohort: what is computed, once, in any order, by any number of processes, across any interruption."""

from __future__ import annotations

import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torchio

from nnunet_plugin.benchmark.cohort import find_cohort
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.metrics import Reference
from nnunet_plugin.benchmark.perturbations import Perturber, Realised, Variant
from nnunet_plugin.benchmark.predictor import Ensemble
from nnunet_plugin.benchmark.run import measure
from nnunet_plugin.benchmark.settings import Options, open_benchmark

SOME = (Variant("CT", "spike", 2), Variant("PET", "noise", 1), Variant("PET", "motion", 3))


@pytest.fixture
def options(toy, tmp_path) -> Options:
    return Options(toy.folder, toy.images, toy.labels, tmp_path / "run", device="cpu")


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=[column for column in rows if column.startswith("seconds_")])


def test_rows_are_what_the_parts_give(options, toy):
    """One variant worked out by hand: TorchIO on the normalised channel, the ensemble, the metrics."""
    benchmark = open_benchmark(options)
    measure(benchmark, SOME)
    rows = benchmark.run.rows()
    assert len(rows) == 3 * (len(SOME) + 1) * 2
    row = rows[(rows["case"] == "CHUP-002") & (rows["perturbation"] == "noise")].iloc[0]
    ensemble = Ensemble(toy.folder, device="cpu")
    prepared = ensemble.prepare([toy.images / f"CHUP-002_{channel:04d}.nii.gz" for channel in range(2)])
    arguments = Realised.from_json(row["parameters"]).arguments
    image = torchio.ScalarImage(tensor=np.ascontiguousarray(prepared.array[1].transpose(2, 1, 0))[None])
    array = prepared.array.copy()
    array[1] = torchio.Noise(**arguments)(image).data[0].numpy().transpose(2, 1, 0)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(toy.labels / "CHUP-002.nii.gz")))
    measured = Reference(label, ensemble.structures, (4, 4, 4)).measure(ensemble.predict(prepared, array).label_map)
    for name, value in measured[row["structure"]].items():
        assert row[name] == pytest.approx(value, nan_ok=True), name


def test_baseline_and_absent_structure(options):
    benchmark = open_benchmark(options)
    measure(benchmark, ())
    rows = benchmark.run.rows()
    assert set(rows["perturbation"]) == {"baseline"}
    assert rows["dice_to_baseline_prediction"].eq(1).all()
    absent = rows[(rows["case"] == "CHUS-003") & (rows["structure"] == "GTVn")].iloc[0]
    assert absent["outcome"] in {"false_positive", "true_negative"}
    assert absent["reference_mm3"] == 0


def test_order_and_interruption_do_not_matter(options, tmp_path):
    """Bit for bit, all columns but the times."""
    whole, pieces = (open_benchmark(replace(options, run=tmp_path / name)) for name in ("whole", "pieces"))
    measure(whole, SOME)
    measure(pieces, SOME[2:])
    measure(pieces, SOME[::-1])
    pd.testing.assert_frame_equal(without_times(whole.run.rows()), without_times(pieces.run.rows()), check_exact=True)


def test_nothing_is_computed_twice(options, monkeypatch):
    benchmark = open_benchmark(options)
    measure(benchmark, SOME)
    before = {file: file.read_bytes() for file in (options.run / "rows").glob("*.jsonl")}
    monkeypatch.setattr(Ensemble, "forward", lambda *_: pytest.fail("predicted again"))
    seen = []
    measure(benchmark, SOME, lambda case, n: seen.append((case, n)))
    assert {file: file.read_bytes() for file in (options.run / "rows").glob("*.jsonl")} == before
    assert seen == [(case, 4) for case in ("CHUM-001", "CHUP-002", "CHUS-003")]


def test_one_bad_case_does_not_end_the_cohort(options, toy, tmp_path):
    images = Path(shutil.copytree(toy.images, tmp_path / "images"))
    broken = images / "CHUP-002_0001.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-2000])  # ITK alone would read the rest as zeros, without a word
    (images / "CHUS-003_0000.nii.gz").unlink()
    (images / "CHUS-003_0001.nii.gz").rename(images / "CHUS-003_0000.nii.gz")
    benchmark = open_benchmark(replace(options, images=images))
    measure(benchmark, SOME[:1])
    failures = benchmark.run.failures()
    assert set(failures) == {"CHUP-002", "CHUS-003"}
    assert "CHUP-002_0001.nii.gz: broken or cut short" in failures["CHUP-002"]
    assert "PET is missing" in failures["CHUS-003"]
    assert set(benchmark.run.rows()["case"]) == {"CHUM-001"}
    shutil.copy(toy.images / broken.name, broken)
    measure(benchmark, SOME[:1])
    assert set(benchmark.run.failures()) == {"CHUS-003"}


def test_one_bad_variant_does_not_end_its_case(options, monkeypatch):
    """Spikes that turn the network's input, and with it its output, into NaN."""

    apply = Perturber.apply

    def with_nan_for_spikes(perturber, realised):
        return apply(perturber, realised) * np.float32("nan" if realised.transform == "Spike" else 1)

    monkeypatch.setattr(Perturber, "apply", with_nan_for_spikes)
    benchmark = open_benchmark(options)
    measure(benchmark, SOME)
    failures = benchmark.run.failures()
    assert set(failures) == {"CHUM-001", "CHUP-002", "CHUS-003"}
    assert failures["CHUM-001"].startswith("CT-spike-2: the network's output holds NaN")
    assert set(benchmark.run.rows()["perturbation"]) == {"baseline", "noise", "motion"}


def test_a_case_is_prepared_once(options, monkeypatch):
    """Preprocessing, reference trees and spectra serve all variants; images with negative values alone need spectra."""
    calls: Counter[str] = Counter()

    def counted(target: str) -> None:
        stock = pkgutil.resolve_name(target)

        def counting(*args: object, **options: object) -> object:
            calls[target] += 1
            return stock(*args, **options)

        monkeypatch.setattr(target.replace(":", "."), counting)

    preprocessing = "nnunetv2.preprocessing.preprocessors.default_preprocessor:DefaultPreprocessor.run_case"
    counted(preprocessing)
    counted("nnunet_plugin.benchmark.measurement:Reference")
    counted("scipy.fft:rfftn")
    benchmark = open_benchmark(options)
    measure(benchmark, [v for v in benchmark.variants if v.perturbation in {"spike", "noise"}])
    assert len(benchmark.run.rows()) == 3 * 13 * 2
    assert calls == {preprocessing: 3, "nnunet_plugin.benchmark.measurement:Reference": 3, "scipy.fft:rfftn": 3}


def test_next_case_is_prepared_while_the_network_works(options, monkeypatch):
    """The network's last prediction of a case waits for it: one after the other, this would time out."""
    second_is_prepared = threading.Event()
    prepare, forward, predictions = Ensemble.prepare, Ensemble.forward, []

    def preparing(ensemble: Ensemble, images: tuple[Path, ...]) -> object:
        if predictions:
            second_is_prepared.set()
        return prepare(ensemble, images)

    def predicting(ensemble: Ensemble, array: object) -> object:
        predictions.append(array)
        if len(predictions) == 1 + len(SOME):
            assert second_is_prepared.wait(30)
        return forward(ensemble, array)

    monkeypatch.setattr(Ensemble, "prepare", preparing)
    monkeypatch.setattr(Ensemble, "forward", predicting)
    benchmark = open_benchmark(options)
    measure(benchmark, SOME)
    assert len(benchmark.run.rows()) == 3 * (1 + len(SOME)) * 2


def test_interrupt_keeps_what_was_predicted_and_lets_go_of_the_cases(options, monkeypatch):
    forward, predicted = Ensemble.forward, []

    def interrupted(ensemble: Ensemble, array: object) -> object:
        if len(predicted) == 6:
            raise KeyboardInterrupt
        predicted.append(array)
        return forward(ensemble, array)

    benchmark = open_benchmark(options)
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(Ensemble, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure(benchmark, SOME)
    assert set(threading.enumerate()) == before
    assert len(benchmark.run.rows()) == 6 * 2
    assert not benchmark.run.failures()
    measure(benchmark, SOME)  # would wait for ever for a case that is still held
    assert len(benchmark.run.rows()) == 3 * (1 + len(SOME)) * 2


def test_case_without_a_baseline_is_lost(options, monkeypatch):
    """One that the network turns into NaN is no base to compare with."""
    forward, predicted = Ensemble.forward, []

    def failing(ensemble: Ensemble, array: object) -> object:
        predicted.append(array)
        if len(predicted) == 1:
            raise BenchmarkError("the network's output holds NaN")
        return forward(ensemble, array)

    monkeypatch.setattr(Ensemble, "forward", failing)
    benchmark = open_benchmark(options)
    measure(benchmark, SOME)
    assert benchmark.run.failures() == {"CHUM-001": "the network's output holds NaN"}
    assert len(predicted) == 1 + 2 * (1 + len(SOME))
    assert set(benchmark.run.rows()["case"]) == {"CHUP-002", "CHUS-003"}


def test_predictions_asked_for_later_are_made_then(options):
    measure(open_benchmark(options), SOME[:1])
    before = (options.run / "rows" / "CHUM-001.jsonl").read_bytes()
    measure(open_benchmark(replace(options, save_predictions=True)), SOME[:1])
    kept = {file.name for file in (options.run / "predictions" / "CHUM-001").iterdir()}
    assert kept == {"CT-spike-2.nii.gz", "baseline.nii.gz"}
    assert (options.run / "rows" / "CHUM-001.jsonl").read_bytes() == before


_WORKER = """
import sys
from pathlib import Path
from nnunet_plugin.benchmark.run import measure
from nnunet_plugin.benchmark.settings import Options, open_benchmark
model, images, labels, run = map(Path, sys.argv[1:])
benchmark = open_benchmark(Options(model, images, labels, run, device="cpu"))
print("ready", flush=True)
measure(benchmark, benchmark.variants)
"""


@pytest.fixture
def start(options, toy):
    def start_worker() -> subprocess.Popen[str]:
        arguments = [str(path) for path in (toy.folder, toy.images, toy.labels, options.run)]
        return subprocess.Popen([sys.executable, "-c", _WORKER, *arguments], stdout=subprocess.PIPE, text=True)

    return start_worker


@pytest.mark.slow
def test_two_processes_share_a_run_and_survive_a_kill(options, start, tmp_path):
    """One of two processes is killed at work; the other finishes, and the rows are those of an undisturbed run."""
    workers = [start(), start()]
    assert all(worker.stdout.readline() == "ready\n" for worker in workers)
    rows = options.run / "rows"
    deadline = time.monotonic() + 180
    while not any(file.stat().st_size > 20_000 for file in rows.glob("*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    assert workers[1].wait(300) == 0
    undisturbed = open_benchmark(replace(options, run=tmp_path / "undisturbed"))
    measure(undisturbed, undisturbed.variants)
    expected = undisturbed.run.rows()
    assert len(expected) == 3 * 37 * 2
    found = open_benchmark(options).run.rows()
    pd.testing.assert_frame_equal(without_times(found), without_times(expected), check_exact=True)


def test_changed_checkpoint_is_refused(options, toy, tmp_path):
    model = Path(shutil.copytree(toy.folder, tmp_path / "model"))
    open_benchmark(replace(options, model=model))
    with (model / "fold_1" / "checkpoint_final.pth").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BenchmarkError, match=r"model\.checkpoints_sha256\.1"):
        open_benchmark(replace(options, model=model))


def test_predictions_are_kept_on_request_in_the_images_geometry(options, toy):
    benchmark = open_benchmark(replace(options, save_predictions=True))
    measure(benchmark, SOME[:1])
    folder = options.run / "predictions" / "CHUM-001"
    assert sorted(file.name for file in folder.iterdir()) == ["CT-spike-2.nii.gz", "baseline.nii.gz"]
    image = sitk.ReadImage(str(toy.images / "CHUM-001_0000.nii.gz"))
    kept = sitk.ReadImage(str(folder / "CT-spike-2.nii.gz"))
    assert kept.GetOrigin() == pytest.approx(image.GetOrigin())
    rows = benchmark.run.rows()
    row = rows[(rows["case"] == "CHUM-001") & (rows["perturbation"] == "spike")].iloc[0]
    assert (sitk.GetArrayFromImage(kept) == 1).sum() == row["tp"] + row["fp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0.0}, "step size"),
        ({"threshold": "0.7"}, "threshold: found '0.7', expected 0.5 or argmax"),
        ({"threads": 0}, "threads"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not usable"),
        ({"device": "gpu"}, "device 'gpu' is not usable"),
        ({"catalogue": "nosuch"}, "nosuch"),
        ({"images": Path("/nosuch")}, "images: no folder /nosuch"),
        ({"labels": Path("/nosuch")}, "labels: no folder /nosuch"),
        ({"model": Path("/nosuch")}, "/nosuch"),
    ],
)
def test_wrong_options_are_named_before_anything_is_written(options, change, message):
    with pytest.raises(BenchmarkError, match=message):
        open_benchmark(replace(options, **change))
    assert not options.run.exists()


def test_empty_image_folder(tmp_path):
    with pytest.raises(BenchmarkError, match="found no CASE_0000"):
        find_cohort(tmp_path, tmp_path, ("CT",), ".nii.gz")


def test_cohort_is_named_after_its_data_set(toy, tmp_path):
    cohort = find_cohort(toy.images, toy.labels, ("CT", "PET"), ".nii.gz")
    assert (cohort.name, cohort.synthetic) == ("Dataset501_TOY", True)
    assert [case.name for case in cohort.cases] == list(toy.cases)
    plain = Path(shutil.copytree(toy.images, tmp_path / "hospital"))
    assert find_cohort(plain, toy.labels, ("CT", "PET"), ".nii.gz").name == "hospital"


def test_run_toml_says_what_was_measured(options, toy):
    settings = open_benchmark(options).run.settings
    assert settings["cohort"]["structures"] == ["GTVp", "GTVn"]
    assert settings["model"]["folds"] == ["0", "1"]
    assert settings["spacing"] == [4.0, 4.0, 4.0]
    assert settings["label_rule"] == "0.5"
    assert settings["catalogue"]["severities"] == dict.fromkeys(
        ("motion", "ghosting", "spike", "bias", "noise", "blur"), 3
    )
    assert set(settings["model"]["checkpoints_sha256"]) == {"0", "1"}
    assert json.dumps(settings)
