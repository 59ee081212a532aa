"""Find, pair and read the cases of a HECKTOR download, and refuse what a model must not be trained on.

Two layouts are read:

- 2022: ``imagesTr/X__CT.nii.gz``, ``imagesTr/X__PT.nii.gz`` and ``labelsTr/X.nii.gz``;
- 2025 and 2026: ``X/X__CT.nii.gz``, ``X/X__PT.nii.gz`` and ``X/X.nii.gz``, in 2025 inside ``Task 1``.

The challenge's own pages disagree on ``CHUM-001`` and ``CHUM_001``: both name the same case.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

_SUFFIXES = (".nii.gz", ".nii")
_ROLES = {"CT": "ct", "PT": "pet"}
_EXPECTED = {"ct": "X__CT.nii.gz", "pet": "X__PT.nii.gz", "label": "labelsTr/X.nii.gz or X/X.nii.gz"}
_LAYOUT_HINT = (
    "expected imagesTr/X__CT.nii.gz, imagesTr/X__PT.nii.gz and labelsTr/X.nii.gz (2022), "
    "or a folder per patient X with X__CT.nii.gz, X__PT.nii.gz and X.nii.gz (2025, 2026)"
)
# Label maps that went through a float format come back a rounding error away from the integer.
_LABEL_TOLERANCE = 1e-3
_CHUNK = 1 << 22
_HEADER_BYTES = 348
# The codes of the NIfTI standard for 32- and 64-bit floats, as NumPy spells them.
_FLOATS = {16: "f4", 64: "f8"}


class ConversionError(Exception):
    """A problem the user can solve; its text says what was found, what was expected and what to do."""


SYNTHETIC_MARKER = "phantom.json"
"""A file of this name in the cohort's folder says that no patient is in it; it holds how the cohort was made."""


@dataclass(frozen=True)
class CaseFiles:
    """The three files of one case."""

    name: str
    ct: Path
    pet: Path
    label: Path

    def signature(self) -> dict[str, list[int]]:
        """Return size in bytes and modification time in ns of each file, to notice a changed source."""
        stats = {role: getattr(self, role).stat() for role in _EXPECTED}
        return {role: [stat.st_size, stat.st_mtime_ns] for role, stat in stats.items()}


@dataclass(frozen=True)
class CaseImages:
    """The three volumes of one case, each on its own grid: CT in HU, PET in SUV, labels as uint8."""

    ct: sitk.Image
    pet: sitk.Image
    label: sitk.Image


def centre_of(case: str) -> str:
    """Return the hospital a case comes from: its name up to the first ``-`` or ``_``.

    Examples
    --------
    >>> centre_of("CHUM-001"), centre_of("HGJ_12")
    ('CHUM', 'HGJ')
    """
    return case.replace("_", "-").split("-", maxsplit=1)[0]


def find_cases(source: Path) -> tuple[list[CaseFiles], dict[str, str]]:
    """Pair the files below ``source`` into cases.

    Parameters
    ----------
    source : Path
        Folder of a HECKTOR download, or a parent of it. Test images (``imagesTs``) have no label and are left
        out.

    Returns
    -------
    cases : list of CaseFiles
        The complete cases, sorted by name.
    problems : dict
        For every other case, by name, why it cannot be used.

    Raises
    ------
    ConversionError
        Where ``source`` is no folder or holds no CT or PET in a known layout.
    """
    if not source.is_dir():
        raise ConversionError(f"{source}: no such folder; give the folder of the HECKTOR download")
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in _volumes(source):
        stem = _stem(path)
        name, _, kind = stem.partition("__")
        role = _ROLES.get(kind) if kind else "label"
        if role is not None:  # 2025 adds __CTPlanning and __RTDOSE
            found[name.replace("_", "-")][role].append(path)
    if not any("ct" in roles or "pet" in roles for roles in found.values()):
        raise ConversionError(f"{source}: no case found; {_LAYOUT_HINT}")
    cases, problems = [], {}
    for key in sorted(found):
        name, problem = _name(key, found[key]), _naming_problem(found[key]) or _pairing_problem(found[key])
        if problem:
            problems[name] = problem
        else:
            cases.append(CaseFiles(name=name, **{role: paths[0] for role, paths in found[key].items()}))
    return cases, problems


def read_case(files: CaseFiles, structures: int) -> CaseImages:
    """Read and check the volumes of one case.

    Parameters
    ----------
    files : CaseFiles
        Where the volumes are.
    structures : int
        Number of structures: label values must lie in 0 to ``structures``.

    Returns
    -------
    CaseImages
        CT and PET as float32, labels as uint8.

    Raises
    ------
    ConversionError
        Where a file is damaged, no 3-D scalar volume, or holds NaN or a label that has no name.
    """
    label = _read(files.label)
    return CaseImages(
        ct=sitk.Cast(_read(files.ct), sitk.sitkFloat32),
        pet=sitk.Cast(_read(files.pet), sitk.sitkFloat32),
        label=_as_label(label, files.label, structures),
    )


def _volumes(source: Path) -> Iterable[Path]:
    # Tasks 2 and 3 of 2025 repeat the patients of task 1, which is the one with contours.
    roots = [root for root in (source / "Task 1", source / "imagesTr") if root.is_dir()][:1] or [source]
    if roots[0].name == "imagesTr":
        roots.append(source / "labelsTr")
    for root in roots:
        for path in sorted(root.rglob("*.nii*")):
            usable = path.is_file() and path.name.endswith(_SUFFIXES) and not path.name.startswith(".")
            if usable and path.parent.name != "imagesTs":
                yield path


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _name(key: str, roles: dict[str, list[Path]]) -> str:
    """Spell a case as its images do: that is how the cohort's tables name it."""
    paths = roles.get("ct") or roles.get("pet")
    name = _stem(paths[0]).partition("__")[0] if paths else key
    return name if is_utf8(name) else ascii(name).strip("'")


def is_utf8(name: str) -> bool:
    """Whether a name that the file system gave is text: ITK ends the process over one that is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _naming_problem(roles: dict[str, list[Path]]) -> str:
    unfit = [ascii(path.name) for paths in roles.values() for path in paths if not is_utf8(str(path))]
    return f"found the names {', '.join(unfit)}; expected valid UTF-8; rename the files" if unfit else ""


def _pairing_problem(roles: dict[str, list[Path]]) -> str:
    duplicates = [path for paths in roles.values() if len(paths) > 1 for path in paths]
    if duplicates:
        listing = ", ".join(map(str, duplicates))
        return (
            f"duplicate case name: found {listing}; expected one file each, '-' and '_' being the same; "
            "remove or rename one"
        )
    missing = [role for role in _EXPECTED if role not in roles]
    if missing:
        have = ", ".join(str(path) for paths in roles.values() for path in paths)
        expected = " and ".join(_EXPECTED[role] for role in missing)
        return (
            f"no {' and no '.join(missing)} found beside {have}; expected {expected}; add the file or remove the case"
        )
    return ""


def _read(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_content(path, reader)
        image: sitk.Image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR: ")
        raise ConversionError(
            f"{path}: cannot be read ({reason}); expected a NIfTI volume with orthogonal axes; copy it again"
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ConversionError(
            f"{path}: found size {image.GetSize()} with {image.GetNumberOfComponentsPerPixel()} value(s) a "
            "voxel; expected one 3-D volume; export it again"
        )
    return image


def _check_content(path: Path, reader: sitk.ImageFileReader) -> None:
    """Look at the stored bytes: ITK silently reads missing voxels as 0, and NaN too."""
    try:
        held, bad = _scan(path)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ConversionError(
            f"{path}: the file is damaged or cut off ({error}); expected a complete NIfTI file; "
            "download or copy it again"
        ) from error
    needed = int(np.prod(reader.GetSize())) * int(reader.GetMetaData("bitpix")) // 8
    if held < needed:
        raise ConversionError(
            f"{path}: found {held} bytes of voxels; expected {needed} for size {reader.GetSize()}; "
            "the file is cut off: download or copy it again"
        )
    if bad:
        raise ConversionError(
            f"{path}: found {bad} NaN or infinite voxel(s); expected finite values; repair or leave out the case"
        )


def _scan(path: Path) -> tuple[int, int]:
    """Return how many bytes follow the header of a NIfTI file, and how many of its values are not finite."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    held = bad = 0
    with gzip.open(path) if packed else path.open("rb") as stream:
        order, code, start = _header(stream.read(_HEADER_BYTES))
        stream.read(start - _HEADER_BYTES)
        while chunk := stream.read(_CHUNK):
            held += len(chunk)
            if code in _FLOATS:
                values = np.frombuffer(chunk[: len(chunk) // 8 * 8], dtype=f"{order}{_FLOATS[code]}")
                bad += int(np.count_nonzero(~np.isfinite(values)))
    return held, bad


def _header(header: bytes) -> tuple[str, int, int]:
    """Return byte order, code of the data type and start of the voxels, from the header of a NIfTI file."""
    order = "<" if struct.unpack("<i", header[:4])[0] == _HEADER_BYTES else ">"
    (code,) = struct.unpack(f"{order}h", header[70:72])
    (start,) = struct.unpack(f"{order}f", header[108:112])
    return order, int(code), int(start)


def _as_label(image: sitk.Image, path: Path, structures: int) -> sitk.Image:
    values = _unique(sitk.GetArrayViewFromImage(image))
    nearest = np.rint(values)
    unknown = [
        float(value)
        for value, integer in zip(values, nearest, strict=True)
        if abs(value - integer) > _LABEL_TOLERANCE or not 0 <= integer <= structures
    ]
    if unknown:
        shown = ", ".join(f"{value:g}" for value in unknown[:5])
        raise ConversionError(
            f"{path}: found label value(s) {shown}; expected 0 to {structures}, 0 being background; "
            "name every structure with --labels or correct the file"
        )
    rounded: sitk.Image = sitk.Cast(sitk.Round(sitk.Cast(image, sitk.sitkFloat32)), sitk.sitkUInt8)
    return rounded


def _unique(array: npt.NDArray[np.generic]) -> Sequence[float]:
    """Return the distinct values; slice by slice, because sorting a whole-body volume takes seconds."""
    return sorted({float(value) for plane in array for value in np.unique(plane)})
