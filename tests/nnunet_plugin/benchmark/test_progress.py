"""What a user sees while variants are measured."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nnunet_plugin.benchmark import progress
from nnunet_plugin.benchmark.progress import time_left, variant_progress


@pytest.mark.parametrize(
    ("gained", "missing", "seconds", "words"),
    [
        (0, 100, 50.0, ""),
        (10, 20, 60.0, ", about 2 min left"),
        (10, 5, 60.0, ", less than a minute left"),
        (1, 600, 6.0, ", about 60 min left"),
    ],
)
def test_time_left(gained, missing, seconds, words):
    assert time_left(gained, missing, seconds) == words


def test_lines_where_there_is_no_terminal(monkeypatch):
    """What an earlier call measured (20 at once) does not count for the speed of this one."""
    clock = iter([0.0, 10.0, 20.0, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    with variant_progress(40, Console(file=out)) as advance:
        advance("A", 20)
        advance("A", 1)
        advance("A", 1)
    assert out.getvalue().splitlines() == [
        "21 of 40 variants measured, about 6 min left",
        "22 of 40 variants measured, about 15 min left",
    ]


def test_bar_on_a_terminal_shows_the_case():
    out = io.StringIO()
    with variant_progress(2, Console(file=out, force_terminal=True, width=100)) as advance:
        advance("CHUM-001", 1)
        advance("CHUM-001", 1)
    assert "CHUM-001" in out.getvalue()
    assert "2/2" in out.getvalue()
