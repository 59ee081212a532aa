"""``--robustness-update-limits``, through a throw-away project."""

from __future__ import annotations

import pytest

from analysis.limit_update import MARKER
from analysis.verdict import Limits

TIGHT = '# ours\n[[limit]]\nperturbation = "blur"\nmean_delta_dice = -0.9\n'


@pytest.fixture
def project(configured, pytester):
    """Arguments for three cells of the toy, of which two break a limit."""
    (pytester.path / "limits.toml").write_text(TIGHT)
    return [*configured, "-k", "CT-blur-1 or CT-noise-1-GTVp"]


def test_failed_limits_are_raised_listed_and_kept_next_time(project, pytester):
    result = pytester.runpytest_inprocess(*project, "--robustness-update-limits=failed")
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # judged by the limits as they were
    result.stdout.fnmatch_lines(["*2 limits written to *limits.toml*", "CT-blur-1-GTVp: mean_delta_dice -0.9 -> *"])
    text = (pytester.path / "limits.toml").read_text()
    assert text.startswith(TIGHT)
    assert MARKER in text
    again = pytester.runpytest_inprocess(*project)
    assert again.ret == pytest.ExitCode.OK
    again.assert_outcomes(passed=3, deselected=69)


def test_new_leaves_limited_cells_alone(project, pytester):
    result = pytester.runpytest_inprocess(*project, "--robustness-update-limits=new")
    result.stdout.fnmatch_lines(["*3 limits written*", "CT-noise-1-GTVp: median_delta_dice no limit -> *"])
    limits = Limits.load(pytester.path / "limits.toml")
    assert limits.of("CT", "blur", 1, "GTVp").mean_delta_dice == -0.9
    assert limits.of("CT", "noise", 1, "GTVp")
    assert not limits.of("CT", "noise", 1, "GTVn")


def test_a_missing_file_is_written_and_fails(project, pytester):
    (pytester.path / "limits.toml").unlink()
    result = pytester.runpytest_inprocess(*project, "--robustness-update-limits=all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert Limits.load(pytester.path / "limits.toml").of("CT", "blur", 1, "GTVn")
    assert pytester.runpytest_inprocess(*project).ret == pytest.ExitCode.OK


@pytest.mark.slow
def test_with_workers_the_controller_alone_writes(project, pytester):
    result = pytester.runpytest_subprocess(*project, "-n", "2", "--robustness-update-limits=all")
    assert result.stdout.str().count("limits written to") == 1
    assert (pytester.path / "limits.toml").read_text().count(MARKER) == 1


def test_an_unknown_choice_is_a_usage_error(project, pytester):
    result = pytester.runpytest_inprocess(*project, "--robustness-update-limits=faild")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*found 'faild'; did you mean 'failed'? expected failed, all, new*"])


def test_the_packaged_limits_are_never_written(project, pytester):
    without_file = [argument for argument in project if not argument.startswith("--robustness-limits")]
    result = pytester.runpytest_inprocess(*without_file, "--robustness-update-limits=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs a limits file of your own*"])
