"""From a raw data set to ``DynUNetPlans.json``: runs nnU-Net's fingerprint and planner where needed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from nnunet_plugin.training.environment import FOLDER_VARIABLES, PREPROCESSED_VARIABLE, RAW_VARIABLE
from nnunet_plugin.training.plans import PLANS_NAME, PlanSettings, dynunet_plans

STOCK_PLANS_NAME = "nnUNetPlans"
WORKERS_VARIABLE = "nnUNet_n_proc_DA"
DEFAULT_PROCESSES = 8


class PlanningError(Exception):
    """A data set or an environment that cannot be planned for; the message says what to do."""


def make_plans(dataset_id: int, settings: PlanSettings, processes: int = DEFAULT_PROCESSES) -> Path:
    """Write ``DynUNetPlans.json`` for a data set of ``nnUNet_raw``.

    The fingerprint and the stock plans are made if they are missing or older than the data set. Repeating the
    call with the same settings writes the same plans.

    Parameters
    ----------
    dataset_id
        The number in ``DatasetNNN_Name``.
    settings
        Sizes, learning rate and length of the training.
    processes
        Processes that read images for the fingerprint.

    Returns
    -------
    Path
        The plans file, in the data set's folder of ``nnUNet_preprocessed``.

    Raises
    ------
    PlanningError
        If nnU-Net's environment variables, the data set, its ``dataset.json`` or its folds are not as needed.
    """
    raw = find_raw_dataset(dataset_id)
    dataset_json = _read_dataset_json(raw)
    preprocessed = Path(os.environ[PREPROCESSED_VARIABLE]) / raw.name
    preprocessed.mkdir(parents=True, exist_ok=True)
    copy_splits(raw, preprocessed)
    if _is_outdated(raw, preprocessed):
        _run_planner(raw.name, processes)
    stock_plans = _read_json(preprocessed / f"{STOCK_PLANS_NAME}.json")
    fingerprint = _read_json(preprocessed / "dataset_fingerprint.json")
    try:
        plans = dynunet_plans(stock_plans, dataset_json, fingerprint, settings)
    except ValueError as error:
        raise PlanningError(f"{raw.name}: {error}") from error
    target = preprocessed / f"{PLANS_NAME}.json"
    _write_json(plans, target)
    return target


def find_raw_dataset(dataset_id: int) -> Path:
    """Return the folder ``DatasetNNN_*`` of ``nnUNet_raw``.

    Raises
    ------
    PlanningError
        If a variable of nnU-Net is not set, or there is not exactly one such folder.
    """
    missing = [name for name in FOLDER_VARIABLES if not os.environ.get(name)]
    if missing:
        raise PlanningError(
            f"{', '.join(missing)}: not set, expected nnU-Net's folders: run "
            'eval "$(nnUNetv2_robustness_env --base FOLDER)" first'
        )
    raw = Path(os.environ[RAW_VARIABLE])
    prefix = f"Dataset{dataset_id:03d}_"
    # nnU-Net looks a number up in all three folders and refuses one that stands for several names.
    names = {
        path.name
        for variable in FOLDER_VARIABLES
        for path in Path(os.environ[variable]).glob(f"{prefix}*")
        if path.is_dir()
    }
    if not any((raw / name).is_dir() for name in names):
        raise PlanningError(f"{raw}: no folder {prefix}* for -d {dataset_id}: convert the data set first")
    if len(names) > 1:
        raise PlanningError(
            f"-d {dataset_id}: found {', '.join(sorted(names))} in nnU-Net's folders, expected one name: "
            "rename or remove the others"
        )
    return raw / names.pop()


def copy_splits(raw: Path, preprocessed: Path) -> None:
    """Bring the data set's ``splits_final.json`` to where nnU-Net's trainer reads it.

    nnU-Net's planner does so too, but stops with a bare assertion where an older, different file is there.

    Raises
    ------
    PlanningError
        If the preprocessed folder holds other folds.
    """
    source, target = raw / "splits_final.json", preprocessed / "splits_final.json"
    if not source.is_file():
        return
    if not target.is_file():
        shutil.copy(source, target)
        return
    wanted, found = _read_json(source), _read_json(target)
    if [_as_sets(fold) for fold in wanted] != [_as_sets(fold) for fold in found[: len(wanted)]]:
        raise PlanningError(
            f"{target}: its folds differ from those of {source}: delete the former to train on the new "
            "folds (models trained so far have seen other cases), or convert into a new data set number to "
            "keep both"
        )


def _as_sets(fold: dict[str, list[str]]) -> dict[str, set[str]]:
    return {part: set(cases) for part, cases in fold.items()}


def _is_outdated(raw: Path, preprocessed: Path) -> bool:
    """Tell whether the stock plans or the fingerprint are missing or older than the data set."""
    outputs = [preprocessed / name for name in ("dataset_fingerprint.json", f"{STOCK_PLANS_NAME}.json", "dataset.json")]
    if not all(path.is_file() for path in outputs):
        return True
    if _read_json(preprocessed / "dataset.json") != _read_json(raw / "dataset.json"):
        return True
    labels = [path for path in (raw / "labelsTr").iterdir() if path.is_file()]
    images = [path for path in (raw / "imagesTr").iterdir() if path.is_file()]
    if len(_read_json(outputs[0])["spacings"]) != len(labels):
        return True
    newest = max((path.stat().st_mtime for path in (*labels, *images)), default=0.0)
    return newest > outputs[0].stat().st_mtime


def _run_planner(dataset_name: str, processes: int) -> None:
    # Imported late: torch takes seconds, and a wrong option should not cost them.
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
    )
    from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id

    dataset_id = convert_dataset_name_to_id(dataset_name)
    extract_fingerprint_dataset(dataset_id, num_processes=processes, clean=True)
    # The planner prints the plans of networks that nobody is going to train here.
    with _at_least_one_worker(), redirect_stdout(StringIO()):
        plan_experiment_dataset(dataset_id)


@contextmanager
def _at_least_one_worker() -> Iterator[None]:
    """Hide ``nnUNet_n_proc_DA=0``, right for training on few cores, from the planner, which crashes on it."""
    before = os.environ.get(WORKERS_VARIABLE)
    if before == "0":
        os.environ[WORKERS_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is not None:
            os.environ[WORKERS_VARIABLE] = before


def _read_dataset_json(raw: Path) -> dict[str, Any]:
    path = raw / "dataset.json"
    if not path.is_file():
        raise PlanningError(f"{path}: not found, expected nnU-Net's description of the data set")
    content = _read_json(path)
    missing = [key for key in ("channel_names", "labels", "numTraining", "file_ending") if key not in content]
    if missing:
        raise PlanningError(f"{path}: found no {', '.join(missing)}, expected nnU-Net v2's format")
    for folder in ("imagesTr", "labelsTr"):
        if not any((raw / folder).glob(f"*{content['file_ending']}")):
            raise PlanningError(f"{raw / folder}: found no *{content['file_ending']}, expected the training cases")
    return dict(content)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PlanningError(f"{path}: not readable as JSON ({error}): remove it or make it anew") from error


def _write_json(content: Any, path: Path) -> None:
    """Write atomically: a killed call leaves the old file or the new one."""
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(content, indent=4), encoding="utf-8")
    partial.replace(path)
