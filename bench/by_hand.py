"""A robustness run as users do it today, with what TorchIO, nnU-Net and MONAI offer."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import SimpleITK as sitk
import torch
import torchio

from bench.commands import run_command
from bench.demo import CONFIGURATION, DATASET_ID, PLANS, TRAINER, images_of
from bench.metrics import one_hot, with_monai
from bench.timing import timed
from bench.untrained import MODALITIES, Study
from nnunet_plugin.benchmark.catalogue import BASELINE, Entry, load_catalogue
from nnunet_plugin.training.environment import FOLDER_VARIABLES, TRAINER_VARIABLE, external_trainer_path

Dice = dict[tuple[str, str], float]
"""By case and structure."""


@dataclass(frozen=True)
class Work:
    """What is to be done, by hand or in a run.

    Attributes
    ----------
    study
        Model, images and labels of these cases only.
    cases
        Names of the cases.
    catalogue
        Name or file of the perturbations.
    folds, step_size
        Options of both commands.
    processes
        That nnU-Net starts to read and to write; None for its own choice.
    """

    study: Study
    cases: tuple[str, ...]
    catalogue: str
    folds: tuple[str, ...]
    step_size: float
    processes: int | None = None

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The perturbations."""
        return load_catalogue(self.catalogue).entries

    @property
    def volumes(self) -> int:
        """How many volumes there are to predict: every variant and the baseline of every case."""
        return len(self.cases) * (len(MODALITIES) * len(self.entries) + 1)


class ByHand:
    """All variants and the baseline, in three steps.

    Parameters
    ----------
    work
        What is to be done.
    folder
        Where images and predictions are written.
    show
        Called with what is being done.

    Attributes
    ----------
    seconds
        What each step took.
    """

    def __init__(self, work: Work, folder: Path, show: Callable[[str], None]) -> None:
        self._work, self._show = work, show
        self._perturbed, self._predicted = folder / "images", folder / "predictions"
        self.seconds: dict[str, float] = {}

    def run(self) -> Dice:
        """Perturb, predict, measure; returns the Dice of the baseline."""
        self._perturbed.mkdir(parents=True)
        for step in (self._perturb, self._predict):
            self.seconds[step.__name__.strip("_")], _ = timed(step)
        baseline: Dice
        self.seconds["measure"], baseline = timed(self._measure)
        return baseline

    def _perturb(self) -> None:
        for case in self._work.cases:
            self._show(f"TorchIO: images of {case}")
            images = images_of(self._work.study, case)
            self._write(case, BASELINE, images, {})
            for channel, modality in enumerate(MODALITIES):
                subject = torchio.Subject(image=torchio.ScalarImage(images[channel]))
                for entry in self._work.entries:
                    torch.manual_seed(0)
                    perturbed = entry.build()(subject).image
                    variant = f"{modality}-{entry.perturbation}-{entry.severity}"
                    self._write(case, variant, images, {channel: perturbed})

    def _write(self, case: str, variant: str, images: Sequence[Path], perturbed: dict[int, torchio.Image]) -> None:
        for channel, image in enumerate(images):
            file = self._perturbed / f"{case}__{variant}_{channel:04d}.nii.gz"
            if channel in perturbed:
                perturbed[channel].save(file)
            else:
                file.symlink_to(image)

    def _predict(self) -> None:
        command = [str(Path(sys.executable).parent / "nnUNetv2_predict"), "-i", str(self._perturbed)]
        command += ["-o", str(self._predicted), "-d", str(DATASET_ID), "-tr", TRAINER, "-p", PLANS]
        command += ["-c", CONFIGURATION, "-device", "cpu"]
        command += ["-f", *self._work.folds, "-step_size", str(self._work.step_size)]
        if self._work.processes is not None:
            command += ["-npp", str(self._work.processes), "-nps", str(self._work.processes)]
        results = self._work.study.model.parents[1]
        environment = {name: str(results.with_name(name)) for name in FOLDER_VARIABLES}
        environment[TRAINER_VARIABLE] = str(external_trainer_path())

        def look() -> None:
            done = len(list(self._predicted.glob("*.nii.gz")))
            self._show(f"nnUNetv2_predict: {done} of {self._work.volumes} volumes")

        run_command(command, environment, look)

    def _measure(self) -> Dice:
        baseline: Dice = {}
        for case in self._work.cases:
            self._show(f"MONAI: predictions of {case}")
            label = sitk.ReadImage(str(self._work.study.labels / f"{case}.nii.gz"))
            reference = one_hot(sitk.GetArrayFromImage(label))
            for file in sorted(self._predicted.glob(f"{case}__*.nii.gz")):
                prediction = one_hot(sitk.GetArrayFromImage(sitk.ReadImage(str(file))))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # MONAI warns of empty masks
                    figures = with_monai(reference, prediction, label.GetSpacing()[::-1])
                if file.name == f"{case}__{BASELINE}.nii.gz":
                    baseline |= {(case, structure): values["dice"] for structure, values in figures.items()}
        return baseline
