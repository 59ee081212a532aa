"""Grades as a table: out of a kit, and into it from paper or a spreadsheet, by the same columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.delimited import TextLine, number_of, read_text_table
from analysis.errors import AnalysisError
from analysis.formatting import counted
from analysis.grading.journal import Given, Journal, all_given
from analysis.grading.key import IDENTITY, METRICS, read_key
from analysis.grading.kit import Kit, refuse_inside_a_kit
from analysis.statistics import LIKERT

GIVEN = ("rater", "grade", "comment", "given_at", "seconds", "revisions")
"""Columns that say what a rater gave."""

_BLINDED = ("item", "structure")
_REQUIRED = ("rater", "item", "structure", "grade")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Exported:
    """What a reader of an export must know.

    Attributes
    ----------
    gaps
        Grades that were not given yet, in words.
    faults
        Stored lines that are not as they were written, and do not count.
    """

    gaps: tuple[str, ...]
    faults: tuple[str, ...]


def export_grades(kit: Kit, target: Path, key: Path | None = None, *, overwrite: bool = False) -> Exported:
    """Write the grades of all raters, one line per rater, item and structure; not graded yet: an empty grade.

    Parameters
    ----------
    kit
        The kit.
    target
        CSV file, outside the kit.
    key
        Key folder: then the table also says what each item is, and its metrics. Without it, it stays blinded: each
        rater's lines come in the order in which that rater sees the items.
    overwrite
        Replace a file that is there; it could be one that somebody filled in.

    Raises
    ------
    AnalysisError
        Where the key is another kit's, or the file is there already or cannot be written.
    """
    refuse_inside_a_kit(target, "-o")
    if target.exists() and not overwrite:
        raise AnalysisError(f"{target}: is there already; name another file (-o), or say --overwrite")
    given = all_given(Journal(kit), kit.raters)
    records = [
        {"rater": rater, "item": item, "structure": structure, **_cells(of_rater, item, structure)}
        for rater, of_rater in given.items()
        for item in kit.raters[rater].order
        for structure in kit.structures
    ]
    table = pd.DataFrame.from_records(records, columns=[*_BLINDED, *GIVEN])
    columns = [*_BLINDED, *GIVEN]
    if key is not None:
        table = table.merge(read_key(key, kit), on=list(_BLINDED), how="left")
        columns = [*IDENTITY, *GIVEN, *METRICS]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        table[columns].to_csv(target, index=False)
    except OSError as error:
        raise AnalysisError(
            f"{target}: cannot be written ({error.strerror or error}); name another file (-o)"
        ) from error
    faults = tuple(fault for of_rater in given.values() for fault in of_rater.faults)
    return Exported(tuple(_gaps(kit, given)), faults)


def _cells(given: Given, item: str, structure: str) -> dict[str, Any]:
    grade = given.grades.get((item, structure))
    comment = given.comments[item].text if item in given.comments else ""
    # A spreadsheet would compute what looks like a formula.
    cells: dict[str, Any] = {"comment": f"'{comment}" if comment.startswith(_FORMULA) else comment}
    if grade is not None:
        seconds = None if math.isnan(grade.seconds) else round(grade.seconds, 1)
        cells |= {
            "grade": str(grade.grade),
            "given_at": grade.given_at,
            "seconds": seconds,
            "revisions": str(grade.revisions),
        }
    return cells


def _gaps(kit: Kit, given: Mapping[str, Given]) -> list[str]:
    expected = len(kit.items) * len(kit.structures)
    return [
        f"{rater} has not given {expected - len(of_rater.grades)} of {expected} grades"
        for rater, of_rater in given.items()
        if len(of_rater.grades) < expected
    ]


def import_grades(kit: Kit, source: Path) -> list[str]:
    """Store grades that were given on paper or in a spreadsheet; all of them, or none where one is wrong.

    Parameters
    ----------
    kit
        The kit.
    source
        CSV file, separated by commas, semicolons or tabs, with the columns ``rater``, ``item``, ``structure``,
        ``grade`` and, if wanted, ``seconds`` and ``comment``; others are passed by. Lines without a grade are too. A
        grade that is there already is replaced by another one, and both are kept on record.

    Returns
    -------
    list of str
        What was stored, in words.

    Raises
    ------
    AnalysisError
        Names every line that is wrong.
    """
    events: dict[str, list[dict[str, Any]]] = {}
    faults: list[str] = []
    first_line: dict[tuple[str, ...], int] = {}
    table = read_text_table(source, (*_REQUIRED, *GIVEN))
    table.require(_REQUIRED)
    for line in table.lines:
        name = line.cells["rater"], line.cells["item"].upper(), line.cells["structure"]
        if line.cells["grade"] and first_line.setdefault(name, line.number) != line.number:
            faults.append(
                f"line {line.number}: {' '.join(name)} is graded in line {first_line[name]}, too; keep one of them"
            )
            continue
        try:
            events.setdefault(line.cells["rater"], []).extend(_events(kit, line, table.separator))
        except AnalysisError as error:
            faults.append(f"line {line.number}: {error}")
    if faults:
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise AnalysisError(f"{source}: nothing was imported:\n  " + "\n  ".join(faults[:10]) + more)
    if not any(events.values()):
        raise AnalysisError(f"{source}: has no line with a grade; fill in the column grade")
    return [_store(kit, rater, of_rater) for rater, of_rater in events.items() if of_rater]


def _store(kit: Kit, rater: str, events: Sequence[Mapping[str, Any]]) -> str:
    journal = Journal(kit)
    before = journal.given(rater)
    new = [event for event in events if not _is_known(before, event)]
    if new:
        journal.append(rater, new)
    read = sum("grade" in event for event in events)
    stored = [event for event in new if "grade" in event]
    changed = sum((event["item"], event["structure"]) in before.grades for event in stored)
    return (
        f"{rater}: {counted(read, 'grade')} read: {len(stored) - changed} new, {changed} changed, "
        f"{read - len(stored)} as before"
    )


def _is_known(before: Given, event: Mapping[str, Any]) -> bool:
    if "comment" in event:
        known_comment = before.comments.get(event["item"])
        return known_comment is not None and known_comment.text == event["comment"]
    known = before.grades.get((event["item"], event["structure"]))
    return known is not None and known.grade == event["grade"]


def _events(kit: Kit, line: TextLine, separator: str) -> list[dict[str, Any]]:
    cells = line.cells
    if not cells["grade"]:
        return []
    if cells["rater"] not in kit.raters:
        raise AnalysisError(f"found the rater {cells['rater']!r}, expected one of {', '.join(kit.raters)}")
    shared = {"item": cells["item"].upper(), "source": f"import, line {line.number}"}
    name = f"import {pd.Timestamp.now(tz='UTC').isoformat()} {line.number}"
    grade: dict[str, Any] = {
        "id": name,
        "structure": cells["structure"],
        "grade": _whole(cells["grade"], separator),
        **shared,
    }
    if seconds := cells.get("seconds"):
        value = number_of(seconds, separator)
        grade["seconds"] = seconds if value is None else value
    events = [grade]
    if comment := cells.get("comment"):
        events.append({"id": f"{name} comment", "comment": comment, **shared})
    journal = Journal(kit)
    for event in events:
        journal.refuse_unfit(event)
    return events


def _whole(text: str, separator: str) -> int | str:
    # A spreadsheet may write 3.0 or 3,0 for 3; what is no grade is kept as it is, for the message.
    value = number_of(text, separator)
    return int(value) if value in LIKERT else text
