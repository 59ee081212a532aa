"""The cases of an nnU-Net image folder and their reference labels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.model_folder import file_sha256


@dataclass(frozen=True)
class Case:
    """One case on disk.

    Attributes
    ----------
    name
        File name without channel number and ending.
    images
        One file per channel, in order.
    label
        The reference label map.
    """

    name: str
    images: tuple[Path, ...]
    label: Path

    def files(self, modalities: Sequence[str]) -> dict[str, Path]:
        """Every file, by modality name and ``label``."""
        return dict(zip(modalities, self.images, strict=True)) | {"label": self.label}

    def hashes(self, modalities: Sequence[str]) -> dict[str, str]:
        """SHA-256 of every file, by modality name and ``label``.

        Raises
        ------
        BenchmarkError
            Where a file is missing.
        """
        files = self.files(modalities)
        for role, file in files.items():
            if not file.is_file():
                raise BenchmarkError(f"case {self.name}: {role} is missing; expected {file}")
        return {role: file_sha256(file) for role, file in files.items()}


@dataclass(frozen=True)
class Cohort:
    """Labelled cases that a model is measured on.

    Attributes
    ----------
    name
        Name of the data set, or of the image folder.
    images_folder, labels_folder
        Where the cases are.
    cases
        Sorted by name.
    synthetic
        Whether the data set calls itself synthetic (``"synthetic": true`` in its ``dataset.json``).
    """

    name: str
    images_folder: Path
    labels_folder: Path
    cases: tuple[Case, ...]
    synthetic: bool


def find_cohort(images: Path, labels: Path, modalities: Sequence[str], file_ending: str) -> Cohort:
    """Pair images and labels in nnU-Net's naming: ``CASE_0000.nii.gz`` per channel, ``CASE.nii.gz`` for the label.

    A case whose files are incomplete is listed all the same: it fails alone when its turn comes.

    Raises
    ------
    BenchmarkError
        Where a folder is missing or holds no case.
    """
    for folder, kind in ((images, "images"), (labels, "labels")):
        if not folder.is_dir():
            raise BenchmarkError(f"{kind}: no folder {folder}; expected a folder of *{file_ending} files")
    pattern = re.compile(r"(?P<case>.+)_\d{4}" + re.escape(file_ending))
    matches = (pattern.fullmatch(file.name) for file in images.iterdir())
    names = sorted({match["case"] for match in matches if match})
    if not names:
        raise BenchmarkError(
            f"images: found no CASE_0000{file_ending} in {images}; expected one file per channel and case"
        )
    _refuse_names(images, names)
    cases = tuple(
        Case(
            name,
            tuple(images / f"{name}_{channel:04d}{file_ending}" for channel in range(len(modalities))),
            labels / f"{name}{file_ending}",
        )
        for name in names
    )
    in_dataset = (images.parent / "dataset.json").is_file()
    name = images.resolve().parent.name if in_dataset else images.resolve().name
    return Cohort(name, images, labels, cases, in_dataset and _is_synthetic(images.parent / "dataset.json"))


def is_case_name(name: str) -> bool:
    """Whether a name can be a file name in the run folder, inside it, and a string in its tables."""
    return name not in {"", ".", ".."} and "/" not in name and name.isprintable()


def _refuse_names(images: Path, names: Sequence[str]) -> None:
    unfit = [name for name in names if not is_case_name(name)]
    if unfit:
        raise BenchmarkError(
            f"images: {images} holds cases whose names cannot be stored: {', '.join(map(ascii, unfit))}; "
            "expected printable UTF-8; rename their files"
        )


def _is_synthetic(dataset_json: Path) -> bool:
    try:
        content = json.loads(dataset_json.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("synthetic") is True
