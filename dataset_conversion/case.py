"""Convert one case: read, crop, clip, write, and describe what was done in one row."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from dataset_conversion.geometry import (
    AIR_HU,
    Grid,
    Head,
    Mask,
    bounds_mm,
    box_around,
    coverage,
    find_head,
    head_crop,
    inside,
    isotropic_grid,
    label_voxels,
    resample,
)
from dataset_conversion.hecktor import CaseFiles, CaseImages, ConversionError, centre_of, read_case

Row = dict[str, Any]

# Raised whenever the same source and options would give other voxels: earlier conversions are then not
# reused.
VERSION = 1
_CLIP_SD = 3.0
# Uptake of a whole crop does not reach this in SUV; activity in Bq/ml is a thousand times larger.
_SUSPICIOUS_SUV = 100.0
_DIRECTION_TOLERANCE = 1e-3
# A few slices less of PET than of CT are usual and not worth a word.
_FULL_COVERAGE = 0.95


@dataclass(frozen=True)
class CaseSettings:
    """What decides about the voxels of a converted case: the voxel edge in mm and the structures' names."""

    spacing: float
    labels: tuple[str, ...]


def case_outputs(folder: Path, case: str, role: str) -> dict[str, Path]:
    """Return where CT, PET and label of a case belong, given its role (``development`` or ``hold-out``)."""
    suffix = "Ts" if role == "hold-out" else "Tr"
    return {
        "ct": folder / f"images{suffix}" / f"{case}_0000.nii.gz",
        "pet": folder / f"images{suffix}" / f"{case}_0001.nii.gz",
        "label": folder / f"labels{suffix}" / f"{case}.nii.gz",
    }


def record_path(folder: Path, case: str) -> Path:
    """Return where the row of a converted case is kept, to recognise it in a later call."""
    return folder / "conversion" / f"{case}.json"


def reusable_row(files: CaseFiles, settings: CaseSettings, folder: Path) -> Row | None:
    """Return the row of an earlier conversion of the same files with the same settings, or None."""
    try:
        record = json.loads(record_path(folder, files.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("made_from") != _made_from(files, settings):
        return None
    places = [case_outputs(folder, files.name, role) for role in ("development", "hold-out")]
    complete = all(any(place[kind].is_file() for place in places) for kind in places[0])
    return record["row"] if complete else None


def convert_case(files: CaseFiles, settings: CaseSettings, folder: Path) -> Row:
    """Convert one case into the development part of an nnU-Net raw dataset.

    Parameters
    ----------
    files : CaseFiles
        The source volumes.
    settings : CaseSettings
        Voxel size and structures.
    folder : Path
        The raw dataset; files appear there complete or not at all.

    Returns
    -------
    dict
        The case's row of ``conversion.csv``, without its role. Its outcome is ``converted``, or ``failed``
        with the reason as message.
    """
    row: Row = {"case": files.name, "centre": centre_of(files.name), "outcome": "failed"}
    try:
        images = read_case(files, len(settings.labels))
        row |= _describe_source(images)
        outputs, details = _process(files, images, settings)
        row |= details
        _write(files, settings, folder, outputs, row | {"outcome": "converted"})
    except ConversionError as error:
        return row | {"message": str(error)}
    except Exception as error:  # whatever one case holds, the cohort goes on
        reason = " ".join(str(error).split())
        return row | {"message": f"{files.ct}: unexpected {type(error).__name__}: {reason}"}
    return row | {"outcome": "converted"}


def _process(files: CaseFiles, images: CaseImages, settings: CaseSettings) -> tuple[dict[str, sitk.Image], Row]:
    _check_overlap(files, images)
    centres, values = label_voxels(images.label)
    seen = inside(centres, images.ct)
    keep = box_around(centres[seen], images.label) if seen.any() else None
    head = find_head(images.ct, images.pet)
    crop, moved = head_crop(isotropic_grid(images.ct, settings.spacing), head.centre, keep)
    seen_by_ct = coverage(images.ct, crop)
    pet_coverage = float(coverage(images.pet, crop)[seen_by_ct].mean())
    if pet_coverage == 0:
        raise ConversionError(_no_overlap(files, crop.bounds, bounds_mm(images.pet)))

    ct, limits = _clipped_ct(images.ct, crop, seen_by_ct)
    pet = resample(images.pet, crop, outside=0)
    label = resample(images.label, crop, outside=0, nearest=True)
    counts, lost = _structure_counts(images.label, values, label, settings)
    notes = [
        f"no brain uptake found: crop centred on the {head.finder}" if head.finder != "brain" else "",
        "crop moved to keep a structure" if moved else "",
        f"{np.count_nonzero(~seen)} labelled voxel(s) outside the CT left out" if not seen.all() else "",
        f"PET covers {pet_coverage:.0%} of the CT in the crop" if pet_coverage < _FULL_COVERAGE else "",
        _suspicious_uptake(pet),
        *lost,
    ]
    row = _describe_crop(head, crop, moved) | {
        "ct_clip_low_hu": round(limits[0], 2),
        "ct_clip_high_hu": round(limits[1], 2),
        "pet_coverage": round(pet_coverage, 4),
        **counts,
        "message": "; ".join(note for note in notes if note),
    }
    return {"ct": ct, "pet": pet, "label": label}, row


def _describe_crop(head: Head, crop: Grid, moved: bool) -> Row:
    return {
        "head_finder": head.finder,
        "head_x_mm": round(head.centre[0], 2),
        "head_y_mm": round(head.centre[1], 2),
        "crop_size": _times(crop.size, 0),
        "crop_low_mm": _times(crop.bounds[0], 2, " "),
        "crop_high_mm": _times(crop.bounds[1], 2, " "),
        "crop_moved": moved,
    }


def _check_overlap(files: CaseFiles, images: CaseImages) -> None:
    ct, pet = bounds_mm(images.ct), bounds_mm(images.pet)
    if np.any(np.minimum(ct[1], pet[1]) <= np.maximum(ct[0], pet[0])):
        raise ConversionError(_no_overlap(files, ct, pet))


def _no_overlap(files: CaseFiles, ct: npt.ArrayLike, pet: npt.ArrayLike) -> str:
    def span(bounds: npt.ArrayLike) -> str:
        return " ".join(
            f"{axis} {low:.0f}..{high:.0f}" for axis, low, high in zip("xyz", *np.array(bounds), strict=True)
        )

    return (
        f"{files.pet}: PET and CT do not overlap: PET spans {span(pet)} mm, CT {span(ct)} mm; "
        "expected the same patient space; check origin and direction in the headers, and that both are "
        "of one patient"
    )


def _clipped_ct(ct: sitk.Image, crop: Grid, seen: Mask) -> tuple[sitk.Image, tuple[float, float]]:
    """Crop the CT and clip it to mean ± 3 SD of the cropped field of view.

    Padding is air and not part of the mean: what a tissue looks like must not depend on how much was padded.
    Values below air, which scanners write outside their circle, count as air.
    """
    highest = float(np.finfo(np.float32).max)
    cropped = sitk.Clamp(resample(ct, crop, outside=AIR_HU), lowerBound=AIR_HU, upperBound=highest)
    measured = sitk.GetArrayViewFromImage(cropped)[seen].astype(np.float64)
    mean, deviation = float(measured.mean()), float(measured.std())
    limits = (mean - _CLIP_SD * deviation, mean + _CLIP_SD * deviation)
    return sitk.Clamp(cropped, lowerBound=limits[0], upperBound=limits[1]), limits


def _suspicious_uptake(pet: sitk.Image) -> str:
    high = float(np.percentile(sitk.GetArrayViewFromImage(pet), 99))
    return f"PET reaches {high:.4g} (99th percentile): is this SUV?" if high > _SUSPICIOUS_SUV else ""


def _structure_counts(
    source: sitk.Image, values: npt.NDArray[np.uint8], result: sitk.Image, settings: CaseSettings
) -> tuple[Row, list[str]]:
    """Return voxels and mm3 of each structure before and after, and notes on what is absent or vanished."""
    count = len(settings.labels) + 1
    before = np.bincount(values, minlength=count)
    after = np.bincount(sitk.GetArrayViewFromImage(result).ravel(), minlength=count)
    source_mm3, result_mm3 = float(np.prod(source.GetSpacing())), settings.spacing**3
    row: Row = {}
    notes = []
    for value, name in enumerate(settings.labels, start=1):
        row[f"{name}_voxels_before"] = int(before[value])
        row[f"{name}_mm3_before"] = round(before[value] * source_mm3, 1)
        row[f"{name}_voxels_after"] = int(after[value])
        row[f"{name}_mm3_after"] = round(after[value] * result_mm3, 1)
        if before[value] == 0:
            notes.append(f"{name} absent")
        elif after[value] == 0:
            notes.append(f"{name} vanished: its {before[value]} voxel(s) fall between the new ones")
    return row, notes


def _describe_source(images: CaseImages) -> Row:
    row: Row = {}
    for kind in ("ct", "pet", "label"):
        image: sitk.Image = getattr(images, kind)
        row[f"{kind}_size"] = _times(image.GetSize(), 0)
        row[f"{kind}_spacing_mm"] = _times(image.GetSpacing(), 3)
        row[f"{kind}_origin_mm"] = _times(image.GetOrigin(), 2, " ")
        row[f"{kind}_orientation"] = _orientation(image)
    return row


def _orientation(image: sitk.Image) -> str:
    """Name the directions the axes point to, such as LPS, and whether they are turned away from them."""
    code = str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()))
    cosines = np.abs(np.array(image.GetDirection()))
    oblique = np.any((cosines > _DIRECTION_TOLERANCE) & (cosines < 1 - _DIRECTION_TOLERANCE))
    return f"{code} oblique" if oblique else code


def _times(values: npt.ArrayLike, digits: int, joint: str = "x") -> str:
    return joint.join(f"{value:.{digits}f}" for value in np.asarray(values, dtype=float))


def _made_from(files: CaseFiles, settings: CaseSettings) -> dict[str, Any]:
    made_from = {"version": VERSION, "settings": asdict(settings), "source": files.signature()}
    return dict(json.loads(json.dumps(made_from)))


def _write(files: CaseFiles, settings: CaseSettings, folder: Path, images: Mapping[str, sitk.Image], row: Row) -> None:
    """Write volumes, then the record that vouches for them, each under a temporary name first."""
    places = case_outputs(folder, files.name, "development")
    record = {"made_from": _made_from(files, settings), "row": row}
    forget_case(folder, files.name)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as scratch:
        for kind, image in images.items():
            partial = Path(scratch) / places[kind].name
            sitk.WriteImage(image, str(partial), useCompression=True)
            _publish(partial, places[kind])
        partial = Path(scratch) / "record.json"
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        _publish(partial, record_path(folder, files.name))


def forget_case(folder: Path, case: str) -> None:
    """Remove what an earlier conversion of a case left, its record first."""
    record_path(folder, case).unlink(missing_ok=True)
    for role in ("development", "hold-out"):
        for path in case_outputs(folder, case, role).values():
            path.unlink(missing_ok=True)


def _publish(partial: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(place)


def prepare_worker() -> None:
    """Set up a process that converts cases beside others."""
    # Ctrl-C reaches the whole group: the parent stops handing out cases, and these finish theirs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
