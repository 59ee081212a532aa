"""The workflow of ``examples/ci``: its commands, run here as they stand, on the toy model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

WORKFLOW = Path(__file__).parents[2] / "examples" / "ci" / "robustness.yml"
CATALOGUE = '[perturbations.noise]\ntransform = "RandomNoise"\nseverities = [{ std = [0.2, 0.2] }]\n'


@pytest.mark.slow
def test_the_commands_gate_an_update_and_write_what_is_published(toy, tmp_path):
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]
    steps = {step["name"]: step for step in job["steps"] if "name" in step}
    (tmp_path / "limits.toml").write_text("[[limit]]\nmedian_delta_dice = 0.99\n[margins]\nlesion_limit = 0.7\n")
    (tmp_path / "one.toml").write_text(CATALOGUE)
    environment = os.environ | {name: str(value) for name, value in job["env"].items()}
    environment |= {"ROBUSTNESS_MODEL": str(toy.folder), "ROBUSTNESS_IMAGES": str(toy.images)}
    environment |= {"ROBUSTNESS_LABELS": str(toy.labels), "ROBUSTNESS_CATALOGUE": "one.toml"}
    environment |= {"ROBUSTNESS_DEVICE": "cpu", "GITHUB_STEP_SUMMARY": str(tmp_path / "step.md")}

    def run(step: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = steps[step]["run"].replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment | more, capture_output=True, text=True, check=False
        )

    first = run("gate", ROBUSTNESS_REFERENCE="", ROBUSTNESS_STRICT="false", ROBUSTNESS_RUN="in-use")
    assert first.returncode == 4, first.stdout  # strict asks for a reference
    environment["ROBUSTNESS_REFERENCE"] = str(tmp_path / "in-use")
    model_in_use = [str(Path(sys.executable).parent / "nnUNetv2_robustness_run"), "-m", str(toy.folder)]
    model_in_use += ["-i", str(toy.images), "-l", str(toy.labels), "-o", "in-use", "--catalogue", "one.toml"]
    subprocess.run([*model_in_use, "--device", "cpu"], cwd=tmp_path, check=True)
    update = run("gate")
    assert update.returncode == 0, update.stdout + update.stderr
    assert "PASS" in (tmp_path / "step.md").read_text().splitlines()[2]
    cases = list(ElementTree.parse(tmp_path / "run" / "report" / "junit.xml").iter("testcase"))
    assert len(cases) == 2 * 2
    names = {entry.get("name") for entry in cases[0].iter("property")}
    assert {"n", "median_delta_dice", "interval", "newly_missed", "worst_case"} <= names
    report = run("report")
    assert report.returncode == 0, report.stderr
    for path in steps["publish"]["with"]["path"].split():
        assert (tmp_path / path).exists(), path
    assert (tmp_path / "run" / "report" / "junit.xml").exists()
