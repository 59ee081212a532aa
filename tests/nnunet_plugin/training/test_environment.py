"""How nnU-Net finds the trainer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_plugin import cli
from nnunet_plugin.training.environment import (
    TRAINER_VARIABLE,
    export_lines,
    extended_trainer_path,
    external_trainer_path,
    register_external_trainers,
)

OURS = str(external_trainer_path())


def test_folder_holds_one_re_export_and_nothing_else() -> None:
    modules = [path.name for path in external_trainer_path().glob("*.py") if path.name != "__init__.py"]
    assert modules == ["nnunet_trainer_dynunet_external.py"]


def test_nnunet_finds_the_very_class_that_the_package_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from nnunet_plugin.training.trainer import nnUNetTrainerDynUNet

    monkeypatch.setenv("nnUNet_extTrainer", OURS)
    assert recursive_find_trainer_class_by_name("nnUNetTrainerDynUNet") is nnUNetTrainerDynUNet


def test_registering_keeps_other_trainers_and_adds_ours_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", "/other")
    register_external_trainers()
    register_external_trainers()
    assert os.environ[TRAINER_VARIABLE] == f"/other{os.pathsep}{OURS}"


def test_registering_without_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    register_external_trainers()
    assert os.environ[TRAINER_VARIABLE] == OURS


def test_empty_parts_are_dropped() -> None:
    assert extended_trainer_path({"nnUNet_extTrainer": f"{os.pathsep} {os.pathsep}"}) == OURS


def test_a_shell_reads_the_exports_back(tmp_path: Path) -> None:
    base = tmp_path / "it's a base"
    environment = {"nnUNet_extTrainer": "/with space"}
    script = "\n".join([*export_lines(environment, base), 'printf "%s\\n" "$nnUNet_results" "$nnUNet_extTrainer"'])
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [str(base / "nnUNet_results"), f"/with space{os.pathsep}{OURS}"]


def test_command_prints_only_the_trainer_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    assert cli.env([]) == 0
    assert capsys.readouterr().out.startswith("export nnUNet_extTrainer=")
    assert cli.env(["--base", "folder"]) == 0
    assert capsys.readouterr().out.count("export ") == 4


def test_command_imports_nothing_heavy() -> None:
    code = "import sys, nnunet_plugin.cli as c; c.env([]); print({'torch', 'numpy', 'nnunetv2'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "set()"
