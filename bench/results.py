"""What a benchmark gives, and ``results.json``, where it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"

Machine = dict[str, Any]

_SAME_MACHINE = ("cpu", "cores", "memory_gib", "gpu", "os")


class UnavailableError(Exception):
    """A benchmark cannot run here; the text is the reason."""


class ResultsError(Exception):
    """``results.json`` cannot be read or written."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    quick
        Whether small volumes and few repeats are wanted: does it run, rather than how fast is it.
    show
        Called with a few words when something that may take a while begins.
    """

    quick: bool = False
    show: Callable[[str], None] = lambda _text: None

    @property
    def repeats(self) -> int:
        """How often both sides of a comparison run."""
        return 1 if self.quick else 3


@dataclass(frozen=True)
class Agreement:
    """How equal the results of both sides were.

    Attributes
    ----------
    text
        The figure, its unit and its limit.
    holds
        Whether it is within the limit.
    """

    text: str
    holds: bool

    @classmethod
    def within(cls, difference: float, limit: float, unit: str) -> Agreement:
        """A difference and the largest one that is allowed; NaN is never within it."""
        return cls(f"{difference:.2g} {unit} (limit {limit:g})", bool(difference <= limit))


@dataclass
class Row:
    """One ratio.

    Attributes
    ----------
    name
        Name of the row, which is unique.
    theirs
        What is compared with.
    ours_s, theirs_s
        Median seconds of both sides.
    ratio
        How many times less ours takes.
    target
        The ratio asked for, None where there is none.
    agreement
        None where there is nothing to compare.
    skipped
        Why nothing was measured; empty where it was.
    extra
        Further columns.
    """

    name: str
    theirs: str = ""
    ours_s: float | None = None
    theirs_s: float | None = None
    ratio: float | None = None
    target: float | None = None
    agreement: Agreement | None = None
    skipped: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is no target or no ratio."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target

    def as_json(self, machine: Machine, *, quick: bool) -> dict[str, Any]:
        """The row as it stands in ``results.json``."""
        row: dict[str, Any] = {key: getattr(self, key) for key in ("name", "theirs", "ours_s", "theirs_s", "ratio")}
        row |= {"target": self.target, "met": self.met, "agreement": self.agreement and self.agreement.text}
        row |= {"agrees": self.agreement and self.agreement.holds}
        return (
            row
            | ({"skipped": self.skipped} if self.skipped else {})
            | self.extra
            | {"quick": quick, "machine": machine}
        )


def store(rows: Sequence[Row], machine: Machine, known: Collection[str], file: Path, *, quick: bool) -> list[str]:
    """Put rows into a file of results, in place of those of the same names.

    Rows measured elsewhere are dropped: figures of two machines must not be read side by side.

    Parameters
    ----------
    rows
        What was measured.
    machine
        On which machine.
    known
        The names of all rows that there are, in order; others are dropped from the file.
    file
        ``results.json``; need not exist.
    quick
        Whether the rows come from small volumes.

    Returns
    -------
    list of str
        Names of rows that another machine had measured, and that were dropped.

    Raises
    ------
    ResultsError
        Where the file holds something else, or cannot be written.
    """
    kept = {row["name"]: row for row in _read(file) if row["name"] in known}
    dropped = [name for name, row in kept.items() if not _same(row["machine"], machine)]
    kept = {name: row for name, row in kept.items() if name not in dropped}
    kept |= {row.name: row.as_json(machine, quick=quick) for row in rows}
    temporary = file.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps([kept[name] for name in known if name in kept], indent=1) + "\n", "utf-8")
        temporary.replace(file)
    except OSError as error:
        raise ResultsError(f"cannot write {file}: {error.strerror}") from error
    return [name for name in dropped if name not in {row.name for row in rows}]


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read {file} ({error}); expected a list of results; delete it") from error
    if not isinstance(rows, list) or not all(isinstance(r, dict) and {"name", "machine"} <= r.keys() for r in rows):
        raise ResultsError(f"{file}: expected a list of results, each with name and machine; delete the file")
    return rows


def _same(one: Machine, other: Machine) -> bool:
    return all(one.get(key) == other.get(key) for key in _SAME_MACHINE)
