from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console

from dataset_conversion import progress
from dataset_conversion.progress import CaseProgress


def shown(monkeypatch, *, terminal: bool, seconds_a_case: float) -> str:
    clock = iter(range(10_000))
    fake_time = SimpleNamespace(monotonic=lambda: next(clock) * seconds_a_case)
    monkeypatch.setattr(progress, "time", fake_time)
    stream = io.StringIO()
    with CaseProgress("converting", Console(file=stream, force_terminal=terminal, width=60)) as bar:
        for done in range(1, 101):
            if done == 50:
                bar.say("CHUM-001: a [note] longer than a line of the terminal is still one line in a log")
            bar.update(done, 100)
    return stream.getvalue()


def test_a_log_file_gets_a_line_now_and_then_and_the_last(monkeypatch):
    lines = shown(monkeypatch, terminal=False, seconds_a_case=5).splitlines()
    assert "CHUM-001: a [note] longer than a line of the terminal is still one line in a log" in lines
    counts = [line for line in lines if line.startswith("converting: ")]
    assert 5 <= len(counts) <= 20
    assert counts[-1] == "converting: 100 of 100"
    assert "\x1b" not in "".join(lines)


def test_a_quick_loop_leaves_one_line_in_a_log_file(monkeypatch):
    lines = shown(monkeypatch, terminal=False, seconds_a_case=0.001).splitlines()
    assert [line for line in lines if line.startswith("converting: ")] == ["converting: 100 of 100"]


def test_a_terminal_gets_a_bar(monkeypatch):
    text = shown(monkeypatch, terminal=True, seconds_a_case=0.01)
    assert "100/100" in text
    assert "converting: " not in text
