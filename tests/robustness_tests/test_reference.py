"""``--robustness-reference``, ``--robustness-strict`` and the summary of a CI job, through a throw-away project."""

from __future__ import annotations

import importlib
import json
import shutil

import pytest


@pytest.fixture
def project(configured, pytester):
    """Arguments for two variants, and the run of the model in use in ``reference``."""
    arguments = [*configured, "-k", "CT-spike-1 or PET-blur-2"]
    assert pytester.runpytest_inprocess(*arguments).ret == pytest.ExitCode.OK
    (pytester.path / "run").rename(pytester.path / "reference")
    return [*arguments, "--robustness-reference=reference"]


def test_the_same_model_changes_nothing_and_three_cases_cannot_promise_more(project, pytester):
    result = pytester.runpytest_inprocess(*project)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*update of *reference*", "INCONCLUSIVE: *", "*newly missed lesions*"])
    written = json.loads((pytester.path / "run" / "update" / "update.json").read_text())
    assert written["outcome"] == "inconclusive"
    assert written["clean"]["state"] == written["perturbed"]["state"] == "equivalent"
    assert len(written["cells"]) == 3 * 2  # the baseline and two variants, two structures


def test_strict_makes_inconclusive_an_exit_status_of_its_own(project, pytester):
    assert pytester.runpytest_inprocess(*project, "--robustness-strict").ret == 2


@pytest.mark.parametrize(("outcome", "status"), [("regression", 1), ("pass", 0)])
def test_the_outcome_is_the_exit_status(project, pytester, monkeypatch, outcome, status):
    # By module, not by name: a name is looked up on packages that earlier sessions imported and pytester forgot.
    decision = importlib.import_module("analysis.comparison.decision")
    monkeypatch.setattr(decision, "outcome_of", lambda *_judgement, **_complete: outcome)
    result = pytester.runpytest_inprocess(*project, "--robustness-strict")
    assert result.ret == status
    result.stdout.fnmatch_lines([f"{outcome.upper()}: *"])


def test_a_broken_limit_is_not_hidden_by_a_good_comparison(project, pytester):
    (pytester.path / "limits.toml").write_text("[[limit]]\nmean_delta_dice = -0.9\n")
    assert pytester.runpytest_inprocess(*project, "--robustness-strict").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--robustness-seed=5"], "*seed: 5 here, 0 in the reference*"),
        (["--robustness-catalogue=calibrated"], "*catalogue: *"),
        (["--robustness-reference=nowhere"], "*--robustness-reference: *nowhere is no run folder*"),
    ],
)
def test_a_reference_that_does_not_fit_is_a_usage_error(project, pytester, more, words):
    result = pytester.runpytest_inprocess(*project, *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words])


def test_margins_come_from_the_limits_file(project, pytester):
    limits = pytester.path / "limits.toml"
    limits.write_text(limits.read_text() + "\n[margins]\nclean = 0.5\nlesion_limit = 0.7\n")
    assert pytester.runpytest_inprocess(*project).ret == pytest.ExitCode.OK
    written = json.loads((pytester.path / "run" / "update" / "update.json").read_text())
    assert (written["margins"]["clean"], written["outcome"]) == (0.5, "pass")
    limits.write_text("[margins]\ncleen = 0.5\n")
    result = pytester.runpytest_inprocess(*project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown 'cleen'; did you mean 'clean'?*"])


def test_strict_without_a_reference_is_a_usage_error(configured, pytester):
    result = pytester.runpytest_inprocess(*configured, "--robustness-strict")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--robustness-reference; name one*"])


def test_a_ci_job_gets_the_verdict_first_and_names_cannot_inject(project, pytester, monkeypatch, toy):
    model = shutil.copytree(toy.folder, pytester.path / "model")
    text = (model / "dataset.json").read_text()
    (model / "dataset.json").write_text(text.replace('"GTVn"', '"<b>x"'))
    (pytester.path / "limits.toml").write_text("[[limit]]\nmean_delta_dice = -0.9\n")
    summary = pytester.path / "step.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    options = [argument for argument in project if "reference" not in argument]
    result = pytester.runpytest_inprocess(*options, f"--robustness-model={model}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    written = summary.read_text()
    assert written.startswith("before\n# Robustness gate\n\n**FAIL: 4 cells break a limit")
    assert "- CT-spike-1-\\<b\\>x: median ΔDice" in written
    assert "<b>" not in written


def test_a_ci_job_gets_the_comparison(project, pytester, monkeypatch):
    summary = pytester.path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    pytester.runpytest_inprocess(*project)
    assert "# Model update: inconclusive" in summary.read_text()


def test_a_summary_that_cannot_be_written_fails_with_a_message(project, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path))
    result = pytester.runpytest_inprocess(*project)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT WRITTEN *Is a directory*"])


def test_a_reference_of_other_images_is_noticed_once_they_are_measured(project, pytester, toy):
    images = shutil.copytree(toy.images, pytester.path / toy.images.parent.name / "imagesTs")
    shutil.copy(images / "CHUM-001_0000.nii.gz", images / "CHUP-002_0000.nii.gz")
    dataset = toy.images.parent / "dataset.json"
    shutil.copy(dataset, images.parent / dataset.name)
    result = pytester.runpytest_inprocess(*project, f"--robustness-images={images}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*images or labels of CHUP-002 have other hashes*"])
