"""The gate's options: command line over ini file over environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from analysis.limit_update import Which
    from nnunet_plugin.benchmark.settings import Options

HOW_TO_CONFIGURE = (
    "the robustness gate needs a model and labelled images: pytest robustness_tests --robustness-model FOLDER "
    "--robustness-images FOLDER --robustness-labels FOLDER\n"
    "or, once and for all, robustness_model, robustness_images and robustness_labels in the pytest section of an ini "
    "file, or ROBUSTNESS_MODEL, ROBUSTNESS_IMAGES and ROBUSTNESS_LABELS in the environment"
)


@dataclass(frozen=True)
class _Option:
    name: str
    help: str
    is_path: bool = False
    is_flag: bool = False

    @property
    def flag(self) -> str:
        return f"--robustness-{self.name}"

    @property
    def ini(self) -> str:
        return f"robustness_{self.name.replace('-', '_')}"

    @property
    def variable(self) -> str:
        return self.ini.upper()


_OPTIONS = (
    _Option("model", "trained model: nnUNet_results/DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION", is_path=True),
    _Option("images", "folder of images in nnU-Net's naming (CASE_0000.nii.gz)", is_path=True),
    _Option("labels", "folder of reference labels (CASE.nii.gz)", is_path=True),
    _Option("run", "run folder (default: robustness_runs/MODEL-COHORT-CATALOGUE)", is_path=True),
    _Option("catalogue", "paper (default), calibrated, or a TOML file"),
    _Option("limits", "limits as a TOML file (default: the study's)", is_path=True),
    _Option("reference", "run folder of the model in use: judge this model as an update of it", is_path=True),
    _Option("strict", "exit with 2 where the comparison with the reference is inconclusive", is_flag=True),
    _Option("update-limits", "failed, new or all: write new limits of these cells into the limits file"),
    _Option("folds", "folds to use, e.g. 0,1,2 (default: every trained one)"),
    _Option("device", "cpu, cuda, cuda:1 or mps (default: cuda where there is one)"),
    _Option("step-size", "distance between sliding windows as a share of the window (default: 0.5)"),
    _Option("seed", "seed of the perturbations (default: 0)"),
    _Option("threshold", "0.5 (default, the study's) or argmax"),
    _Option("threads", "threads of torch per process (default: 1)"),
    _Option("save-predictions", "keep every predicted label map in the run folder", is_flag=True),
)


_OF_THE_GATE = {"limits", "update-limits", "reference", "strict"}
"""Options that the benchmark knows nothing of."""


def add_options(parser: pytest.Parser) -> None:
    """Register every option on the command line and in ini files."""
    group = parser.getgroup("robustness", "robustness gate of an nnU-Net model")
    for option in _OPTIONS:
        text = f"{option.help}; ini: {option.ini}, environment: {option.variable}"
        if option.is_flag:
            group.addoption(option.flag, action="store_const", const="true", default=None, help=text)
        else:
            group.addoption(option.flag, default=None, help=text)
        parser.addini(option.ini, option.help, default=None)


def is_configured(config: pytest.Config) -> bool:
    """Whether model, images and labels are all named."""
    return all(_value(config, name) for name in ("model", "images", "labels"))


def limits_file(config: pytest.Config) -> Path | None:
    """The limits file that was asked for, if any."""
    value = _value(config, "limits")
    return Path(value) if value else None


def reference_folder(config: pytest.Config) -> Path | None:
    """The run of the model in use, if this one is judged as an update of it."""
    value = _value(config, "reference")
    return Path(value) if value else None


def is_strict(config: pytest.Config) -> bool:
    """Whether an inconclusive comparison fails the session.

    Raises
    ------
    pytest.UsageError
        Where the value is neither true nor false, or there is no reference to compare with.
    """
    value = _value(config, "strict")
    strict = bool(value is not None and _parse(next(o for o in _OPTIONS if o.name == "strict"), value))
    if strict and reference_folder(config) is None:
        raise pytest.UsageError("--robustness-strict is about the comparison with --robustness-reference; name one")
    return strict


def limits_to_update(config: pytest.Config) -> Which | None:
    """Which limits to write anew, if any.

    Raises
    ------
    pytest.UsageError
        Where the value is unknown, or no limits file of the user's own is named.
    """
    value = _value(config, "update-limits")
    if value is None:
        return None
    from analysis.errors import suggestion
    from analysis.limit_update import WHICH

    if value not in WHICH:
        raise pytest.UsageError(
            f"--robustness-update-limits: found {value!r}; {suggestion(value, WHICH)}expected {', '.join(WHICH)}"
        )
    if limits_file(config) is None:
        raise pytest.UsageError(
            "--robustness-update-limits needs a limits file of your own, the packaged one is never written: "
            "name one with --robustness-limits; it is made if it is not there"
        )
    return next(which for which in WHICH if which == value)


def benchmark_options(config: pytest.Config) -> Options:
    """Collect the options that the benchmark takes.

    Raises
    ------
    pytest.UsageError
        Where a value is not of its kind.
    """
    from nnunet_plugin.benchmark.settings import Options

    given: dict[str, Any] = {}
    for option in _OPTIONS:
        value = _value(config, option.name)
        if value is not None and option.name not in _OF_THE_GATE:
            given[option.name.replace("-", "_")] = _parse(option, value)
    return Options(**given)


def _value(config: pytest.Config, name: str) -> str | None:
    """Command line over ini over environment; relative paths belong to where they were written."""
    option = next(o for o in _OPTIONS if o.name == name)
    anchor = config.invocation_params.dir
    value: str | None = config.getoption(option.flag)
    if value is None and config.getini(option.ini):
        value = str(config.getini(option.ini))
        anchor = config.inipath.parent if config.inipath else anchor
    if value is None:
        value = os.environ.get(option.variable) or None
    if value is not None and option.is_path:
        value = str(anchor / value)
    return value


def _parse(option: _Option, value: str) -> Any:
    name = option.name
    try:
        if option.is_flag:
            return _boolean(value)
        if option.is_path:
            return Path(value)
        if name in {"seed", "threads"}:
            return int(value)
        if name == "step-size":
            return float(value)
    except ValueError as error:
        raise pytest.UsageError(f"{option.flag} ({option.ini}, {option.variable}): found {value!r}: {error}") from error
    return tuple(value.replace(",", " ").split()) if name == "folds" else value


def _boolean(value: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in known:
        raise ValueError("expected true or false")
    return known[value.lower()]
