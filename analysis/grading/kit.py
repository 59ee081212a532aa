"""The kit: everything that raters see and nothing that tells them what it is.

::

    KIT/kit.toml            structures, scale, items with blinded codes, raters with their orders
    KIT/items/CODE/*.nii.gz the images and the contours of an item
    KIT/SHA256SUMS          of all of these, as ``sha256sum --check`` reads it
    KIT/grades/             what raters gave, see :mod:`analysis.grading.journal`

The key, which says what each item is, lies elsewhere: see :mod:`analysis.grading.key`.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from analysis.errors import AnalysisError
from analysis.formatting import listed
from analysis.progress import Progress, no_progress
from analysis.statistics import LIKERT

CONTOURS = "contours"
"""Name of the volume with the contours, a label map: 1 for the first structure, and so on."""

DEFAULT_SCALE = (
    "unusable: contour anew",
    "major corrections: little time saved",
    "usable: moderate corrections",
    "good: minor corrections",
    "perfect: no corrections",
)
"""Wording of the grades 1 to 5."""

_FORMAT = 1
_SUMS = "SHA256SUMS"

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Rater:
    """Somebody who grades.

    Attributes
    ----------
    token_sha256
        Of the token that the rater signs in with.
    order
        Codes of all items as the rater sees them.
    """

    token_sha256: str
    order: tuple[str, ...]


@dataclass(frozen=True)
class Kit:
    """A kit as it stands in ``kit.toml``.

    Attributes
    ----------
    path
        The folder.
    title
        Name of the data set.
    synthetic
        Whether it is a phantom.
    modalities, structures
        As the model names them, in order.
    scale
        Wording of the grades 1 to 5.
    items
        By code: for each structure the voxel (i, j, k) to look at first, none where nothing was contoured.
    raters
        By name.
    """

    path: Path
    title: str
    synthetic: bool
    modalities: tuple[str, ...]
    structures: tuple[str, ...]
    scale: tuple[str, ...]
    items: Mapping[str, Mapping[str, Voxel]]
    raters: Mapping[str, Rater]

    @property
    def volumes(self) -> dict[str, str]:
        """File of each volume of an item by name: modalities by their number, since a name can be anything."""
        files = {modality: f"image_{number}.nii.gz" for number, modality in enumerate(self.modalities)}
        return files | {CONTOURS: f"{CONTOURS}.nii.gz"}

    def volume(self, code: str, file: str) -> Path:
        """Path of a file of an item."""
        return self.path / "items" / code / file

    @cached_property
    def sha256(self) -> str:
        """Hash of the checksums of everything in the kit; the key knows it."""
        return hashlib.sha256((self.path / _SUMS).read_bytes()).hexdigest()

    def write(self) -> None:
        """Write ``kit.toml`` and the checksums; all volumes must be there."""
        content = asdict(self)
        del content["path"]
        (self.path / "kit.toml").write_bytes(tomli_w.dumps({"format": _FORMAT, **content}).encode())
        lines = (f"{_sha256(self.path / name)}  {name}\n" for name in self._files())
        (self.path / _SUMS).write_text("".join(lines), encoding="utf-8")

    def _files(self) -> list[str]:
        return ["kit.toml", *(f"items/{code}/{file}" for code in self.items for file in self.volumes.values())]

    def check(self, progress: Progress = no_progress) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        AnalysisError
            Names all files that are missing or were changed.
        """
        expected = _read_sums(self.path / _SUMS)
        files = self._files()
        faults = [] if set(files) == expected.keys() else [f"{_SUMS} does not list the files of kit.toml"]
        for done, name in enumerate(files):
            progress("checking the kit", done, len(files))
            file = self.path / name
            if not file.is_file():
                faults.append(f"{name} is missing")
            elif _sha256(file) != expected.get(name):
                faults.append(f"{name} was changed")
        progress("checking the kit", len(files), len(files))
        if faults:
            raise AnalysisError(
                f"{self.path}: the kit is not as it was made: {listed(faults, most=5)}; restore it, or make a new one: "
                "raters must have graded the same"
            )


def refuse_inside_a_kit(target: Path, option: str) -> None:
    """Refuse to write what raters must not see into a kit.

    Raises
    ------
    AnalysisError
        Where a folder above the target is a kit.
    """
    for folder in target.resolve().parents:
        if (folder / "kit.toml").is_file():
            raise AnalysisError(
                f"{target}: lies in the kit {folder}, where raters could find it; name a place outside ({option})"
            )


def open_kit(path: Path) -> Kit:
    """Read a kit; files are not compared with their checksums, see :meth:`Kit.check`.

    Raises
    ------
    AnalysisError
        Where ``kit.toml`` is missing or is not what :meth:`Kit.write` writes.
    """
    file = path / "kit.toml"
    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    except FileNotFoundError:
        raise AnalysisError(
            f"{path}: is no grading kit (no kit.toml in it); make one with nnUNetv2_robustness_report grading select"
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AnalysisError(f"{file}: cannot be read ({error}); restore it") from error
    if content.pop("format", None) != _FORMAT:
        raise AnalysisError(f"{file}: was made by another version of this software; serve it with that version")
    try:
        kit = _kit(path, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnalysisError(f"{file}: is not as it was made ({type(error).__name__}: {error}); restore it") from error
    _refuse_inconsistent(kit, file)
    return kit


def _kit(path: Path, content: Mapping[str, Any]) -> Kit:
    raters = {
        name: Rater(str(rater["token_sha256"]), tuple(map(str, rater["order"])))
        for name, rater in content["raters"].items()
    }
    items = {
        code: {structure: _voxel(voxel) for structure, voxel in voxels.items()}
        for code, voxels in content["items"].items()
    }
    lists = {name: tuple(map(str, content[name])) for name in ("modalities", "structures", "scale")}
    return Kit(path, str(content["title"]), bool(content["synthetic"]), **lists, items=items, raters=raters)


def _voxel(values: Any) -> Voxel:
    i, j, k = (int(value) for value in values)
    return i, j, k


def _refuse_inconsistent(kit: Kit, file: Path) -> None:
    faults = [
        f"the order of {name} is not that of the items"
        for name, rater in kit.raters.items()
        if sorted(rater.order) != sorted(kit.items)
    ]
    if len(kit.scale) != len(LIKERT):
        faults.append(f"the scale has {len(kit.scale)} grades instead of {len(LIKERT)}")
    if not (kit.raters and kit.structures and kit.modalities and kit.items):
        faults.append("there are no raters, items, structures or modalities")
    if any(code != os.path.basename(code) or code.startswith(".") for code in kit.items):  # noqa: PTH119
        faults.append("a code is no name of a folder")
    if faults:
        raise AnalysisError(f"{file}: is not as it was made: {', '.join(faults)}; restore it")


def _read_sums(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnalysisError(
            f"{file}: cannot be read ({error}); restore it: it tells whether the kit was changed"
        ) from error
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
