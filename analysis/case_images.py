"""The images and the reference label that a case of a run was measured on, found again and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from analysis.errors import AnalysisError
from nnunet_plugin.benchmark.cohort import Case
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.image_files import refuse_unfit_files
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import read_header


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case.

    Attributes
    ----------
    modalities
        Names of the input channels, in order.
    images
        One file per modality, in the same order.
    label
        The reference label map.
    """

    modalities: tuple[str, ...]
    images: tuple[Path, ...]
    label: Path


class Images(NamedTuple):
    """Images of one case on one grid, with their geometry.

    Attributes
    ----------
    images
        By modality.
    label
        The reference label map.
    """

    images: dict[str, sitk.Image]
    label: sitk.Image


class Volumes(NamedTuple):
    """Arrays of one case on one grid.

    Attributes
    ----------
    images
        By modality: (x, y, z), float32, as stored (CT in HU, PET in SUV after the project's conversion).
    label
        (x, y, z), label values as stored.
    spacing
        Voxel size in mm, (x, y, z).
    """

    images: dict[str, npt.NDArray[np.float32]]
    label: npt.NDArray[Any]
    spacing: tuple[float, float, float]


def find_case_files(run: RunFolder, case: str, images: Path | None = None, labels: Path | None = None) -> CaseFiles:
    """Find the files of a case and check by hash that they are those that were measured.

    Parameters
    ----------
    run
        The run.
    case
        Case name.
    images, labels
        Folders, where they are no longer those that ``run.toml`` records.

    Raises
    ------
    AnalysisError
        Where the case has no rows, or its files have moved, are missing or have changed.
    """
    expected = _recorded_hashes(run, case)
    images = _folder(run, "images", images)
    labels = _folder(run, "labels", labels)
    candidates = [_case(case, ending, images, labels, run.modalities) for ending in _endings(images, case)]
    if not candidates:
        raise AnalysisError(
            f"{images}: found no image of case {case}, expected {case}_0000.*; name the folder it is in"
        )
    problems = [_difference(candidate, expected, run.modalities) for candidate in candidates]
    for candidate, problem in zip(candidates, problems, strict=True):
        if problem is None:
            return CaseFiles(run.modalities, candidate.images, candidate.label)
    raise AnalysisError(problems[0])


def read_images(files: CaseFiles) -> Images:
    """Read the images and the label of a case.

    Raises
    ------
    AnalysisError
        Where a file cannot be read, holds no 3-D image of finite values, or lies on another grid than the first.
    """
    named = dict(zip(files.modalities, files.images, strict=True))
    try:
        refuse_unfit_files({**named, "label": files.label})
        images = {modality: sitk.ReadImage(str(file), sitk.sitkFloat32) for modality, file in named.items()}
        return Images(images, sitk.ReadImage(str(files.label)))
    except BenchmarkError as error:
        raise AnalysisError(str(error)) from error
    except RuntimeError as error:  # what SimpleITK raises, over many lines
        reason = str(error).strip().splitlines()[-1]
        raise AnalysisError(f"{', '.join(map(str, named.values()))}: cannot be read ({reason}); copy anew") from error


def read_volumes(files: CaseFiles) -> Volumes:
    """Read the images and the label of a case as arrays, (x, y, z).

    Raises
    ------
    AnalysisError
        As :func:`read_images`.
    """
    images, label = read_images(files)
    arrays = {modality: sitk.GetArrayFromImage(image).transpose(2, 1, 0) for modality, image in images.items()}
    x, y, z = label.GetSpacing()
    return Volumes(arrays, sitk.GetArrayFromImage(label).transpose(2, 1, 0), (x, y, z))


def _recorded_hashes(run: RunFolder, case: str) -> Mapping[str, str]:
    file = run.path / "rows" / f"{case}.jsonl"
    header = read_header(file)
    if header is None:
        raise AnalysisError(f"{file}: found no measured case; expected rows with the hashes of its images")
    hashes: Mapping[str, str] = header["sha256"]
    return hashes


def _folder(run: RunFolder, role: str, given: Path | None) -> Path:
    recorded = run.settings.get("provenance", {}).get(role)
    if given is None and not isinstance(recorded, str):
        raise AnalysisError(f"{run.path / 'run.toml'}: records no folder of {role}; name it (--{role})")
    folder = Path(recorded) if given is None else given
    if not folder.is_dir():
        origin = "named" if given else f"recorded in {run.path / 'run.toml'}"
        raise AnalysisError(
            f"{folder}: no such folder of {role} ({origin}); was it moved? Name where it is now (--{role})"
        )
    return folder


def _endings(images: Path, case: str) -> list[str]:
    pattern = re.compile(re.escape(case) + r"_0000(\..+)")
    return sorted(match[1] for file in images.iterdir() if (match := pattern.fullmatch(file.name)))


def _case(name: str, ending: str, images: Path, labels: Path, modalities: tuple[str, ...]) -> Case:
    files = tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(len(modalities)))
    return Case(name, files, labels / f"{name}{ending}")


def _difference(case: Case, expected: Mapping[str, str], modalities: tuple[str, ...]) -> str | None:
    """How the files differ from those that were measured; None where they are the same."""
    try:
        found = case.hashes(modalities)
    except (BenchmarkError, OSError) as error:
        return str(error)
    files = case.files(modalities)
    changed = [str(files[role]) for role, sha256 in found.items() if expected.get(role) != sha256]
    if not changed:
        return None
    return f"case {case.name}: {' and '.join(changed)} changed since it was measured; restore what was measured"
