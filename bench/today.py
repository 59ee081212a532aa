"""What users do today, a robustness run by hand, against ``nnUNetv2_robustness_run`` on the same cases and model.

By hand means: TorchIO perturbs the image files and writes new ones, ``nnUNetv2_predict`` predicts them all with its own
settings, MONAI measures what it wrote. Both sides run once: they take minutes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.by_hand import ByHand, Dice, Work
from bench.commands import bytes_below, run_command
from bench.demo import case_names, find_demo, folds_used, images_of
from bench.machine import cores
from bench.results import Agreement, Row, Settings
from bench.timing import Times, timed
from bench.untrained import Study
from bench.volumes import STRUCTURES
from nnunet_plugin.benchmark.results import RunFolder

_LIMIT = 0.01
_STEP_SIZE = {False: 0.5, True: 1.0}
"""By whether it is to be quick; 0.5 is the default of both commands."""
_QUICK_CATALOGUE = """
[perturbations.bias]
transform = "RandomBiasField"
severities = [{ coefficients = 0.5, order = 3 }]
[perturbations.spike]
transform = "RandomSpike"
severities = [{ num_spikes = [1, 1], intensity = [1.0, 3.0] }]
[perturbations.noise]
transform = "RandomNoise"
severities = [{ mean = 0, std = [0.0, 0.25] }]
"""
_NOTE = (
    "once each; by hand the image files are perturbed, in the run the network's normalised input; "
    "by hand logits are averaged over the folds, in the run softmax; both take the most probable label"
)


def measure(settings: Settings) -> list[Row]:
    """Wall time and bytes written, from the images to the figures of every variant and the baseline."""
    with TemporaryDirectory() as temporary:
        work = _work(find_demo(), Path(temporary), settings.quick)
        by_hand_folder, run = Path(temporary) / "by_hand", Path(temporary) / "run"
        by_hand = ByHand(work, by_hand_folder, settings.show)
        theirs_s, theirs = timed(by_hand.run)
        ours_s, _ = timed(lambda: _robustness_run(work, run, settings.show))
        agreement = _agreement(_baseline_dice(run), theirs)
        extra = {"cases": len(work.cases), "volumes": work.volumes, "folds": len(work.folds), "note": _NOTE}
        extra["step_size"] = work.step_size
        of_wall = extra | {"ours_threads": cores(), "theirs_s_by_step": by_hand.seconds}
        of_wall["theirs_processes"] = work.processes or "nnU-Net's own choice"
        compared = "TorchIO files, nnUNetv2_predict, MONAI"
        return [
            Times([ours_s], [theirs_s]).row("today_wall", compared, agreement, **of_wall),
            _of_disk(bytes_below(run), bytes_below(by_hand_folder), agreement, extra),
        ]


def _work(demo: Study, folder: Path, quick: bool) -> Work:
    """The demo's model with copies of the images and labels of the wanted cases."""
    study = Study(demo.model, folder / "images", folder / "labels")
    study.images.mkdir()
    study.labels.mkdir()
    cases = case_names(demo, quick)
    for case in cases:
        for image in images_of(demo, case):
            shutil.copy(image, study.images)
        shutil.copy(demo.labels / f"{case}.nii.gz", study.labels)
    catalogue = folder / "quick.toml"
    catalogue.write_text(_QUICK_CATALOGUE)
    work = Work(study, tuple(cases), str(catalogue) if quick else "paper", folds_used(quick), _STEP_SIZE[quick])
    # Starting nnU-Net's own number of processes would be most of a quick measurement.
    return replace(work, processes=1) if quick else work


def _robustness_run(work: Work, run: Path, show: Callable[[str], None]) -> None:
    command = [str(Path(sys.executable).parent / "nnUNetv2_robustness_run"), "-m", str(work.study.model)]
    command += ["-i", str(work.study.images), "-l", str(work.study.labels), "-o", str(run)]
    command += ["--catalogue", work.catalogue, "-f", *work.folds, "--step-size", str(work.step_size)]
    command += ["--threshold", "argmax", "--device", "cpu", "--threads", str(cores())]

    def look() -> None:
        # A line for each structure of each volume, below a header.
        lines = sum(len(file.read_bytes().splitlines()) - 1 for file in (run / "rows").glob("*.jsonl"))
        show(f"nnUNetv2_robustness_run: {lines // len(STRUCTURES)} of {work.volumes} volumes")

    run_command(command, {}, look)


def _baseline_dice(run: Path) -> Dice:
    rows = RunFolder(run).rows()
    baseline = rows[rows["perturbation"] == "baseline"]
    return {(row.case, row.structure): float(row.dice) for row in baseline.itertuples()}


def _agreement(ours: Dice, theirs: Dice) -> Agreement:
    if ours.keys() != theirs.keys():
        return Agreement("the baselines of both sides are not of the same cases and structures", False)
    largest = max(abs(ours[key] - dice) for key, dice in theirs.items())
    return Agreement.within(largest, _LIMIT, "between the Dice of a baseline")


def _of_disk(ours: int, theirs: int, agreement: Agreement, extra: dict[str, object]) -> Row:
    extra = {"ours_bytes": ours, "theirs_bytes": theirs} | extra
    compared = "perturbed images and predictions on disk"
    return Row("today_disk", compared, ratio=theirs / ours, agreement=agreement, extra=extra)
