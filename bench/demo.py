"""The model that the demo trains and its hold-out cases."""

from __future__ import annotations

from pathlib import Path

from bench.results import UnavailableError
from bench.untrained import Study

DEMO = Path(__file__).resolve().parent.parent / "demo"
DATASET_ID = 501
DATASET = f"Dataset{DATASET_ID}_PHANTOM"
TRAINER, PLANS, CONFIGURATION = "nnUNetTrainerDynUNet", "DynUNetPlans", "3d_fullres"
FOLDS = tuple("01234")


def find_demo(folder: Path = DEMO) -> Study:
    """Folders of the demo's model, images and labels.

    Raises
    ------
    UnavailableError
        Where the demo has not been made.
    """
    raw = folder / "nnUNet_raw" / DATASET
    model = folder / "nnUNet_results" / DATASET / f"{TRAINER}__{PLANS}__{CONFIGURATION}"
    study = Study(model, raw / "imagesTs", raw / "labelsTs")
    checkpoints = [model / f"fold_{fold}" / "checkpoint_final.pth" for fold in FOLDS]
    for path in (*checkpoints, study.images, study.labels):
        if not path.exists():
            raise UnavailableError(f"no {path.relative_to(folder.parent)}; make the demo with: tox run -e demo")
    return study


def folds_used(quick: bool) -> tuple[str, ...]:
    """All folds, or only the first two."""
    return FOLDS[:2] if quick else FOLDS


def case_names(study: Study, quick: bool) -> list[str]:
    """The hold-out cases, or only the first of them."""
    names = sorted(file.name.removesuffix(".nii.gz") for file in study.labels.glob("*.nii.gz"))
    return names[:1] if quick else names


def images_of(study: Study, case: str) -> list[Path]:
    """One file per channel, in order."""
    return sorted(study.images.glob(f"{case}_????.nii.gz"))
