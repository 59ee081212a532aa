"""A delimited text file as spreadsheets write it: read without guessing, every cell with its line."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import AnalysisError, suggestion

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""Separators that are recognised, in words."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?|[+-]?inf(inity)?|nan", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class TextLine:
    """One line of a text table.

    Attributes
    ----------
    path, number
        Where it stands; the header is line 1.
    cells
        Text of the cells by column, without blanks around it.
    """

    path: Path
    number: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        """File and line, to begin a message with."""
        return f"{self.path}, line {self.number}"

    def name(self, column: str) -> str:
        """Text of a cell that must not be empty."""
        if not self.cells[column]:
            raise AnalysisError(f"{self.place}: {column} is empty; expected a name; fill it in")
        return self.cells[column]


@dataclass(frozen=True)
class TextTable:
    """A text file as a table.

    Attributes
    ----------
    path
        The file.
    separator
        What stands between its cells.
    columns
        Names of its columns.
    lines
        Its lines without the header and without empty ones.
    """

    path: Path
    separator: str
    columns: tuple[str, ...]
    lines: tuple[TextLine, ...]

    def require(self, columns: Iterable[str]) -> None:
        """Check that these columns are there."""
        for column in columns:
            if column not in self.columns and len(self.columns) == 1:
                raise AnalysisError(
                    f"{self.path}: found one column ({self.columns[0][:60]!r}); expected {column!r} and others, "
                    f"separated by {SEPARATORS[self.separator]}; save it so"
                )
            if column not in self.columns:
                raise AnalysisError(
                    f"{self.path}: column {column!r} is missing; {suggestion(column, self.columns)}found "
                    f"{', '.join(name for name in self.columns if name)}, separated by {SEPARATORS[self.separator]}; "
                    f"expected {column!r} among them; add or rename it in the first line"
                )

    def numbers(self, column: str) -> list[float] | None:
        """Numbers of a column, NaN for empty cells; None for a column of text, or one without any value.

        A comma is a decimal mark where it does not separate cells.

        Raises
        ------
        AnalysisError
            For numbers and text in one column, or decimal commas and points in one column: which is meant is
            not to be guessed.
        """
        texts = [line.cells[column] for line in self.lines]
        values = [number_of(text, self.separator) for text in texts]
        filled = [value for text, value in zip(texts, values, strict=True) if text]
        if all(value is None for value in filled):
            return None
        for line, value in zip(self.lines, values, strict=True):
            if line.cells[column] and value is None:
                raise AnalysisError(
                    f"{line.place}: {column} is {line.cells[column]!r}, found numbers in other lines; expected a "
                    "number, inf, or an empty cell for undefined; correct it, or take the column out"
                )
        self._check_decimal_mark(column)
        return [math.nan if value is None else value for value in values]

    def _check_decimal_mark(self, column: str) -> None:
        marked = [next((line for line in self.lines if mark in line.cells[column]), None) for mark in ",."]
        comma, point = marked
        if comma and point:
            raise AnalysisError(
                f"{comma.place}: {column} is {comma.cells[column]!r}, found {point.cells[column]!r} in line "
                f"{point.number}; expected one decimal mark in a column; write all with a point"
            )


def read_text_table(path: Path, known: Sequence[str], separator: str | None = None) -> TextTable:
    """Read a text file whose cells are separated by commas, semicolons or tabs.

    Parameters
    ----------
    path
        UTF-8, with or without a byte order mark.
    known
        Columns that are looked for.
    separator
        What stands between cells, one of ``SEPARATORS``; by default, the one that gives most of the known columns in
        the first line.

    Raises
    ------
    AnalysisError
        Where the file cannot be read, is no text, is empty, or has a line with too few or too many cells.
    """
    text = _text_of(path)
    separator = separator or _separator_of(text, known)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        records = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise AnalysisError(
            f"{path}: is no table ({error}); expected text with cells separated by {SEPARATORS[separator]}; check its "
            "quotation marks"
        ) from error
    records = [(number, cells) for number, cells in records if any(cells)]
    if not records:
        raise AnalysisError(f"{path}: is empty, expected a header and lines below it; name another file")
    header = tuple(records[0][1])
    for column in header:
        if column and header.count(column) > 1:
            raise AnalysisError(f"{path}: column {column!r} is there more than once; expected it once; delete one")
    return TextTable(path, separator, header, tuple(_lines(path, header, records[1:])))


def number_of(text: str, separator: str) -> float | None:
    """Read a cell as a number, with a decimal comma where commas do not separate cells; None where it is none."""
    if not _NUMBER.fullmatch(text) or ("," in text and separator == ","):
        return None
    return float(text.replace(",", "."))


def _lines(path: Path, header: Sequence[str], records: Iterable[tuple[int, list[str]]]) -> Iterable[TextLine]:
    for number, cells in records:
        if len(cells) != len(header):
            raise AnalysisError(
                f"{path}, line {number}: found {len(cells)} cells, expected {len(header)} as in the header; the file "
                "may be cut short, or a text with a separator in it is not quoted; save it anew"
            )
        yield TextLine(path, number, dict(zip(header, cells, strict=True)))


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be read ({error.strerror}); name a CSV file") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnalysisError(
            f"{path}: is no text in UTF-8 (byte {error.start + 1}); expected a CSV file; in a spreadsheet, save it as "
            "'CSV UTF-8'"
        ) from error
    if "\0" in text:
        raise AnalysisError(f"{path}: is no text (found a zero byte); expected a CSV file in UTF-8; name another file")
    return text


def _separator_of(text: str, known: Sequence[str]) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(SEPARATORS, key=lambda mark: (len(set(_split(first, mark)) & set(known)), first.count(mark)))


def _split(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration):
        return []
