"""Grades as they are given: a file per rater that is only ever appended to, and sound after a kill at any moment."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from analysis.errors import AnalysisError
from analysis.grading.kit import Kit
from analysis.statistics import LIKERT
from nnunet_plugin.benchmark.row_file import decoded_line, encoded_line

MOST_COMMENT = 4000
"""Characters of a comment."""

_FAULT = (
    "is cut short or was changed, and does not count; a grade that was cut short by a kill was never confirmed to its "
    "rater; if somebody edited the file, restore it"
)


@dataclass(frozen=True)
class Grade:
    """The last grade that a rater gave a structure of an item.

    Attributes
    ----------
    grade
        From 1 to 5.
    given_at
        ISO 8601, UTC.
    seconds
        Time the item was in view before it; NaN where nobody measured it.
    revisions
        How often it was changed.
    """

    grade: int
    given_at: str
    seconds: float
    revisions: int


@dataclass(frozen=True)
class Comment:
    """The last comment of a rater on an item; ``given_at`` as in :class:`Grade`."""

    text: str
    given_at: str


@dataclass(frozen=True)
class Given:
    """Everything that a rater gave.

    Attributes
    ----------
    grades
        By item and structure.
    comments
        By item.
    faults
        Lines that are not as they were written, in words.
    """

    grades: dict[tuple[str, str], Grade] = field(default_factory=dict)
    comments: dict[str, Comment] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def graded_items(self, structures: Sequence[str]) -> set[str]:
        """Items with a grade of every structure."""
        items = {item for item, _ in self.grades}
        return {item for item in items if all((item, structure) in self.grades for structure in structures)}


class Journal:
    """The grades of a kit.

    Parameters
    ----------
    kit
        The kit; ``KIT/grades`` is made with the first grade.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._folder = kit.path / "grades"
        # FileLock lets in every thread of the process that holds it.
        self._threads = threading.Lock()

    def append(self, rater: str, events: Sequence[Mapping[str, Any]]) -> str:
        """Store events of a rater; they are on disk when this returns.

        Parameters
        ----------
        rater
            Name.
        events
            ``id`` (any text that no other event has: one that is sent twice counts once), ``item``, and either
            ``structure`` and ``grade`` (with ``seconds``, if measured) or ``comment``.

        Returns
        -------
        str
            When they were stored, ISO 8601, UTC.

        Raises
        ------
        AnalysisError
            Where an event is none of this kit (nothing is stored then), or the disk refuses.
        """
        for event in events:
            self.refuse_unfit(event)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = b"".join(encoded_line({**event, "rater": rater, "given_at": now}) for event in events)
        path = self._path(rater)
        try:
            self._folder.mkdir(exist_ok=True)
            with self._threads, FileLock(self._folder / "grades.lock"), path.open("a+b") as file:
                # A kill can leave half a line, which must not swallow the next one.
                if file.seek(0, os.SEEK_END) and not _ends_a_line(path):
                    lines = b"\n" + lines
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AnalysisError(
                f"{path}: the grade cannot be stored ({error.strerror or error}); free space or make it writable, then "
                "give it again"
            ) from error
        return now

    def given(self, rater: str) -> Given:
        """Read what a rater gave: of each structure and item the last grade.

        Raises
        ------
        AnalysisError
            Where the file is there and cannot be read.
        """
        path = self._path(rater)
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []
        except OSError as error:
            raise AnalysisError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
        given, seen = Given(), set()
        for number, line in enumerate(lines, start=1):
            event = decoded_line(line + b"\n")
            if event is None or event.get("rater") != rater or not self._is_sound(event):
                if line.strip():
                    given.faults.append(f"{path}, line {number}{_meant(line)}: {_FAULT}")
            elif event["id"] not in seen:
                seen.add(event["id"])
                _take(given, event)
        return given

    def _path(self, rater: str) -> Path:
        return self._folder / f"{rater}.jsonl"

    def _is_sound(self, event: Mapping[str, Any]) -> bool:
        try:
            self.refuse_unfit(event)
        except AnalysisError:
            return False
        return True

    def refuse_unfit(self, event: Mapping[str, Any]) -> None:
        """Refuse an event that is none of this kit.

        Raises
        ------
        AnalysisError
            Says what was found and what was expected.
        """
        item, structure, grade, comment = (event.get(name) for name in ("item", "structure", "grade", "comment"))
        if not isinstance(event.get("id"), str):
            raise AnalysisError(f"the id of a grade is {event.get('id')!r}; expected a text that no other grade has")
        if not isinstance(item, str) or item not in self._kit.items:
            raise AnalysisError(f"found the item {item!r}, which the kit does not have")
        if comment is not None:
            if not isinstance(comment, str) or len(comment) > MOST_COMMENT:
                raise AnalysisError(f"a comment on {item} is no text of at most {MOST_COMMENT} characters; shorten it")
            return
        if structure not in self._kit.structures:
            expected = ", ".join(self._kit.structures)
            raise AnalysisError(f"item {item}: found the structure {structure!r}, expected one of {expected}")
        if isinstance(grade, bool) or not isinstance(grade, int) or grade not in LIKERT:
            raise AnalysisError(
                f"item {item}, {structure}: found the grade {grade!r}, expected a whole number from {LIKERT[0]} to "
                f"{LIKERT[-1]}"
            )
        seconds = event.get("seconds")
        if seconds is not None and not (isinstance(seconds, int | float) and 0 <= seconds < float("inf")):
            raise AnalysisError(f"item {item}, {structure}: found {seconds!r} seconds, expected a number from 0 up")


def all_given(journal: Journal, raters: Iterable[str]) -> dict[str, Given]:
    """Read what each of some raters gave."""
    return {rater: journal.given(rater) for rater in raters}


def _meant(line: bytes) -> str:
    """What a faulty line seems to be about, as far as it can be read."""
    try:
        event = json.loads(line)
        return f" ({event['item']} {event.get('structure') or 'comment'})"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""


def _take(given: Given, event: Mapping[str, Any]) -> None:
    if event.get("comment") is not None:
        given.comments[event["item"]] = Comment(event["comment"], str(event["given_at"]))
        return
    key = event["item"], event["structure"]
    before = given.grades.get(key)
    changed = before is not None and before.grade != event["grade"]
    revisions = (before.revisions if before else 0) + changed
    seconds = event.get("seconds")
    given.grades[key] = Grade(
        event["grade"], str(event["given_at"]), float("nan") if seconds is None else float(seconds), revisions
    )


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
