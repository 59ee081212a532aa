"""The folder of an nnU-Net raw dataset: opened with care, filled case by case, completed at the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dataset_conversion.case import Row, case_outputs
from dataset_conversion.hecktor import ConversionError
from dataset_conversion.split import Split

_SETTINGS_FILE = "conversion.json"
_LEADING_COLUMNS = ("case", "outcome", "role", "fold", "message", "centre")


def dataset_folder(raw: str | None, dataset_id: int, name: str) -> Path:
    """Return the raw folder of a dataset.

    Parameters
    ----------
    raw : str or None
        Value of the environment variable ``nnUNet_raw``.
    dataset_id : int
        1 to 999.
    name : str
        Name of the dataset.

    Raises
    ------
    ConversionError
        Where ``raw`` is not set, or the number already belongs to another dataset.
    """
    if not raw:
        raise ConversionError(
            "nnUNet_raw is not set; expected the folder of your nnU-Net raw datasets; run: export nnUNet_raw=FOLDER"
        )
    folder = Path(raw) / f"Dataset{dataset_id:03d}_{name}"
    others = sorted(path for path in Path(raw).glob(f"Dataset{dataset_id:03d}_*") if path != folder)
    if others:
        raise ConversionError(
            f"{others[0]} already has the number {dataset_id}, which nnU-Net needs to be unique; "
            f"choose another -d, or go on with that one by --name {others[0].name.partition('_')[2]}"
        )
    return folder


def open_dataset(folder: Path, settings: Mapping[str, Any], names: set[str]) -> None:
    """Create a dataset folder, or check that it holds an earlier conversion of the same kind.

    Parameters
    ----------
    folder : Path
        The raw dataset.
    settings : mapping
        What decides about its content, as JSON types.
    names : set of str
        The cases that are to be in it.

    Raises
    ------
    ConversionError
        Where the folder holds anything that would be mixed with the new content.
    """
    marker = folder / _SETTINGS_FILE
    if marker.is_file():
        _check_settings(marker, settings)
    elif folder.is_dir() and any(folder.iterdir()):
        raise ConversionError(f"{folder} exists and was not made by this command; delete it or choose another -d")
    strangers = sorted({path.name.removesuffix(".nii.gz") for path in folder.glob("labelsT[rs]/*.nii.gz")} - names)
    if strangers:
        raise ConversionError(
            f"{folder} holds {', '.join(strangers[:5])}, which the source does not have (any more); "
            "expected the same cohort; delete the folder to convert anew, or choose another -d"
        )
    for leftover in folder.glob(".partial-*"):
        shutil.rmtree(leftover)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(settings, indent=1))


def place_cases(folder: Path, split: Split) -> None:
    """Move every case to the folders of its role; all but new ones are there unless the cohort changed."""
    roles = dict.fromkeys(split.development, "development") | dict.fromkeys(split.hold_out, "hold-out")
    for case, role in roles.items():
        other = "development" if role == "hold-out" else "hold-out"
        places, elsewhere = case_outputs(folder, case, role), case_outputs(folder, case, other)
        for kind, place in places.items():
            if elsewhere[kind].is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                elsewhere[kind].replace(place)


def write_split(folder: Path, split: Split) -> bool:
    """Write ``splits_final.json`` where nnU-Net looks for it; return whether it replaced another one."""
    path = folder / "splits_final.json"
    text = json.dumps(split.as_nnunet(), indent=1)
    changed = path.is_file() and path.read_text(encoding="utf-8") != text
    write_text(path, text)
    return changed


def write_description(folder: Path, labels: Sequence[str], training: int, *, synthetic: bool) -> None:
    """Write ``dataset.json`` for CT and PET, the structures ``labels`` and a number of training cases.

    A synthetic cohort says so there, in a key that nnU-Net ignores: what is measured on it must name it.
    """
    description: dict[str, Any] = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0} | {name: value for value, name in enumerate(labels, start=1)},
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    if synthetic:
        description["synthetic"] = True
    write_text(folder / "dataset.json", json.dumps(description, indent=1))


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``conversion.csv``: a row per source case, counts as integers, unknown values empty."""
    table = pd.DataFrame(rows)
    table = table.reindex(columns=[*_LEADING_COLUMNS, *(name for name in table if name not in _LEADING_COLUMNS)])
    whole = [name for name in table if name == "fold" or str(name).endswith(("_voxels_before", "_voxels_after"))]
    write_text(folder / "conversion.csv", table.astype(dict.fromkeys(whole, "Int64")).to_csv(index=False))


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears complete or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _check_settings(marker: Path, settings: Mapping[str, Any]) -> None:
    try:
        earlier = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionError(
            f"{marker}: found no JSON ({error}); expected the settings of the conversion; "
            f"delete {marker.parent} to convert anew"
        ) from error
    changed = [
        f"{key} was {earlier.get(key)}, now {value}" for key, value in settings.items() if earlier.get(key) != value
    ]
    if changed:
        raise ConversionError(
            f"{marker.parent} was converted with other settings ({'; '.join(changed)}); "
            "delete it to convert anew, or choose another -d"
        )
