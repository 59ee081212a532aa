"""The environment variables by which nnU-Net finds its folders and our trainer. Imports nothing heavy."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

RAW_VARIABLE = "nnUNet_raw"
PREPROCESSED_VARIABLE = "nnUNet_preprocessed"
RESULTS_VARIABLE = "nnUNet_results"
TRAINER_VARIABLE = "nnUNet_extTrainer"
FOLDER_VARIABLES = (RAW_VARIABLE, PREPROCESSED_VARIABLE, RESULTS_VARIABLE)


def external_trainer_path() -> Path:
    """Return the folder that ``nnUNet_extTrainer`` must name for nnU-Net to find ``nnUNetTrainerDynUNet``.

    nnU-Net imports every file of that folder by its bare name, so it holds nothing but a re-export of the
    trainer: pointed at the package itself, nnU-Net would import the trainer twice, under two names.
    """
    return Path(__file__).resolve().parent.parent / "external"


def register_external_trainers() -> None:
    """Add our trainer's folder to ``nnUNet_extTrainer`` of this process and of those that it starts."""
    os.environ[TRAINER_VARIABLE] = extended_trainer_path(os.environ)


def extended_trainer_path(environ: Mapping[str, str]) -> str:
    """Return the value of ``nnUNet_extTrainer`` with our folder at its end, once.

    Parameters
    ----------
    environ
        The environment to start from; left as it is.
    """
    paths = [path for path in environ.get(TRAINER_VARIABLE, "").split(os.pathsep) if path.strip()]
    ours = str(external_trainer_path())
    if ours not in paths:
        paths.append(ours)
    return os.pathsep.join(paths)


def export_lines(environ: Mapping[str, str], base: Path | None = None) -> list[str]:
    """Write the shell commands that prepare an environment for nnU-Net.

    Parameters
    ----------
    environ
        The environment to start from; left as it is.
    base
        Folder that holds, or will hold, nnU-Net's three folders. None leaves their variables alone.

    Returns
    -------
    list of str
        One POSIX ``export NAME=VALUE`` each, quoted where the shell needs it.
    """
    values = {} if base is None else {name: str(base.absolute() / name) for name in FOLDER_VARIABLES}
    values[TRAINER_VARIABLE] = extended_trainer_path(environ)
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
