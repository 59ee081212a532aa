"""A delimited table of numbers, read without guessing: every cell is what it should be, or the line is named."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import AnalysisError, suggestion

REMEDY = "take the file anew from the authors' repository"


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    path, number
        Where it stands; the header is line 1.
    cells
        Text of the cells by column.
    """

    path: Path
    number: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        """File and line, to begin a message with."""
        return f"{self.path}, line {self.number}"

    def is_blank(self, columns: Sequence[str]) -> bool:
        """Whether all these cells are empty."""
        return not any(self.cells[column] for column in columns)

    def text(self, column: str, choices: Sequence[str] = ()) -> str:
        """Text of a cell that must not be empty, one of ``choices`` where there are any."""
        found = self.cells[column]
        if not found or (choices and found not in choices):
            expected = " or ".join(choices) if choices else "a name"
            raise AnalysisError(f"{self.place}: {column} is {found!r}; expected {expected}; {REMEDY}")
        return found

    def number_in(self, column: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Number in a cell, within the closed range; infinite ones only where the range is."""
        found = self.cells[column]
        try:
            # Python would read 1_000 as a number too.
            value = math.nan if "_" in found else float(found)
        except ValueError:
            value = math.nan
        if math.isnan(value) or not low <= value <= high:
            raise AnalysisError(f"{self.place}: {column} is {found!r}; expected {_range(low, high)}; {REMEDY}")
        return value

    def whole(self, column: str, low: int = 0, high: float = math.inf) -> float:
        """Whole number in a cell."""
        value = self.number_in(column, low, high)
        if not value.is_integer():
            raise AnalysisError(
                f"{self.place}: {column} is {self.cells[column]!r}; expected a whole number"
                f"{'' if math.isinf(high) else f' from {low} to {high:g}'}; {REMEDY}"
            )
        return value


def read_lines(path: Path, separator: str, columns: Sequence[str]) -> list[Line]:
    """Read the lines of a table.

    Parameters
    ----------
    path
        The file.
    separator
        Between cells.
    columns
        Columns that must be there; others are passed by.

    Raises
    ------
    AnalysisError
        Where the file cannot be read, has another separator, lacks a column, or is cut short.
    """
    header, *body = _records(path, separator)
    _check_header(path, header[1], separator, columns)
    lines = []
    for number, cells in body:
        if len(cells) != len(header[1]):
            raise AnalysisError(
                f"{path}, line {number}: found {len(cells)} cells, expected {len(header[1])} as in the header; "
                f"the file may be cut short; {REMEDY}"
            )
        lines.append(Line(path, number, dict(zip(header[1], cells, strict=True))))
    if not lines:
        raise AnalysisError(f"{path}: found only a header, expected a line per case and structure; {REMEDY}")
    return lines


def _records(path: Path, separator: str) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        records = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be read ({error.strerror}); expected a table; check the file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AnalysisError(f"{path}: is no table of text ({error}); expected cells with {separator!r}") from error
    if not records:
        raise AnalysisError(f"{path}: is empty, expected a header and a line per case and structure; {REMEDY}")
    return records


def _check_header(path: Path, header: Sequence[str], separator: str, columns: Sequence[str]) -> None:
    if len(header) == 1:
        raise AnalysisError(
            f"{path}: found one column ({header[0][:60]!r}), expected columns separated by {separator!r}; "
            "save it with that separator"
        )
    for column in columns:
        if column not in header:
            raise AnalysisError(
                f"{path}: column {column!r} is missing; {suggestion(column, header)}"
                f"found {', '.join(name for name in header if name)}; {REMEDY}"
            )
        if header.count(column) > 1:
            raise AnalysisError(f"{path}: column {column!r} is there more than once; expected it once; {REMEDY}")


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "a number"
    if math.isinf(high):
        return f"a number from {low:g} up"
    return f"a number from {low:g} to {high:g}"
