"""Lines of the authors' tables, whose every cell is what it should be, or the line is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from analysis.delimited import TextLine, number_of, read_text_table
from analysis.errors import AnalysisError

REMEDY = "take the file anew from the authors' repository"


class Line(TextLine):
    """One line of a table that nobody should have edited."""

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
        value = number_of(found, ",")
        if value is None or not low <= value <= high:
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
    table = read_text_table(path, columns, separator)
    table.require(columns)
    if not table.lines:
        raise AnalysisError(f"{path}: found only a header, expected a line per case and structure; {REMEDY}")
    return [Line(line.path, line.number, line.cells) for line in table.lines]


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "a number"
    if math.isinf(high):
        return f"a number from {low:g} up"
    return f"a number from {low:g} to {high:g}"
