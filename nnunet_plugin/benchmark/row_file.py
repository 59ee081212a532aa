"""The rows file of one case: JSON lines, appended a variant at a time, sound after a kill at any moment."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnunet_plugin.benchmark.errors import BenchmarkError

ROW_COLUMNS = (
    "case",
    "modality",
    "perturbation",
    "severity",
    "structure",
    "dice",
    "hd95_mm",
    "hd_mm",
    "surface_dice_2mm",
    "sensitivity",
    "specificity",
    "accuracy",
    "tp",
    "fp",
    "fn",
    "tn",
    "reference_mm3",
    "predicted_mm3",
    "outcome",
    "dice_to_baseline_prediction",
    "fold_agreement",
    "max_probability",
    "seed",
    "parameters",
    "seconds_perturb",
    "seconds_predict",
    "seconds_measure",
)
"""Columns of a row, in order. ``parameters`` is JSON; ``seed`` is None for the baseline."""

VariantKey = tuple[str | None, str, int]
"""(modality, perturbation, severity); the baseline is ``(None, "baseline", 0)``."""


_CHECKSUM = b', "crc32": "'
"""What stands before the checksum of a line: a digit that gets lost or slips in still leaves valid JSON."""

_OUTCOMES = ("detected", "missed", "false_positive", "true_negative")
_COLUMNS = frozenset(ROW_COLUMNS)
_LARGEST_INTEGER = 2**53
_ROUNDING = 1e-3


class RunFolderError(BenchmarkError):
    """The run folder cannot be written: nothing can go on, unlike where one case fails."""


@contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    """Turn what the file system refuses into a :class:`RunFolderError` that names the file and the way on."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot write {what} ({error.strerror or error}); what is there is kept, and a later call with a "
            "writable folder and free space goes on from it"
        ) from error


class CaseRows:
    """The rows file of one case, open for appending by the process that holds the case.

    A file whose end is broken (a process was killed, a disk was full) is cut back to the last complete variant.

    Attributes
    ----------
    done : set of VariantKey
        Variants that are complete.
    repaired : str or None
        What had to be dropped, in words.
    """

    def __init__(self, path: Path, case: str, hashes: Mapping[str, str], structures: Sequence[str]) -> None:
        self._path = path
        self.repaired: str | None = None
        with writing(path, "rows"):
            header, rows, good_bytes = parse_rows(path, structures)
            size = path.stat().st_size if path.exists() else 0
            if size > good_bytes:
                with path.open("r+b") as file:
                    file.truncate(good_bytes)
                self.repaired = (
                    f"{path}: dropped {size - good_bytes} unreadable or incomplete bytes; they are measured again"
                )
        if header is not None:
            _refuse_other_inputs(path, header["sha256"], hashes)
        # Written with the first rows only: a case that fails before can be mended and measured.
        self._header: list[Mapping[str, Any]] = [] if header else [{"case": case, "sha256": dict(hashes)}]
        self.done = {variant_key(row) for row in rows}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append the rows of one variant (one per structure) and flush them to disk.

        Parameters
        ----------
        rows
            One mapping per structure with the keys of ``ROW_COLUMNS``.

        Raises
        ------
        RunFolderError
            Where the file cannot be written.
        BenchmarkError
            Where a value could not be read back as a row's, such as a Dice that is NaN.
        """
        for row in rows:
            if faults := _faults(row):
                raise BenchmarkError(f"{'-'.join(map(str, variant_key(row)))}: no row: {', '.join(faults)}")
        # One write per variant: a process that is killed leaves a variant whole or a broken end, never a gap.
        content = b"".join(encoded_line(record) for record in [*self._header, *rows])
        with writing(self._path, "rows"), self._path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._header = []
        self.done.add(variant_key(rows[0]))


def _refuse_other_inputs(path: Path, stored: Mapping[str, str], found: Mapping[str, str]) -> None:
    changed = sorted(name for name in stored.keys() | found.keys() if stored.get(name) != found.get(name))
    if changed:
        raise BenchmarkError(
            f"{path.stem}: {' and '.join(changed)} changed since its rows were measured ({path}); "
            "start a new run folder, or delete that file to measure the case again"
        )


def variant_key(row: Mapping[str, Any]) -> VariantKey:
    """The variant that a row is about."""
    return row["modality"], row["perturbation"], row["severity"]


def parse_rows(path: Path, structures: Sequence[str]) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """Header, rows of complete variants and the number of bytes they take; stops at the first broken line.

    Tables on disk hold what it accepted: one that accepts less needs another ``_FORMAT`` of tables.
    """
    header: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = []
    pending: list[dict[str, Any]] = []
    seen: set[VariantKey] = set()
    good = position = 0
    if not path.exists():
        return None, [], 0
    case = path.stem
    for line in path.read_bytes().splitlines(keepends=True):
        position += len(line)
        record = _row_line(line)
        if record is None or record.get("case") != case:
            break
        if header is None:
            if not _is_header(record):
                break
            header, good = record, position
            continue
        if _faults(record) or record["structure"] != structures[len(pending)]:
            break
        key = variant_key(record)
        if key in seen or (pending and key != variant_key(pending[0])):
            break
        pending.append(record)
        if len(pending) == len(structures):
            rows += pending
            seen.add(key)
            pending, good = [], position
    return header, rows, good


def read_header(path: Path) -> dict[str, Any] | None:
    """The header alone, as :func:`parse_rows` gives it: ``case`` and ``sha256`` of its images and label, by role."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        # A stray carriage return ends a line for parse_rows too.
        lines = file.readline().splitlines(keepends=True)
    record = _row_line(lines[0]) if lines else None
    return record if record and record.get("case") == path.stem and _is_header(record) else None


def encoded_line(record: Mapping[str, Any]) -> bytes:
    """One line of a rows file, a header or a row, with its checksum."""
    body = json.dumps(record).encode().removesuffix(b"}")
    return body + _CHECKSUM + b'%08x"}\n' % zlib.crc32(body)


def decoded_line(line: bytes, *, may_lack_checksum: bool = False) -> dict[str, Any] | None:
    """What a line of :func:`encoded_line` holds, or None where it is not as it was written."""
    if not line.endswith(b"\n"):
        return None
    body, found, checksum = line.rpartition(_CHECKSUM)
    if (found or not may_lack_checksum) and checksum != b'%08x"}\n' % zlib.crc32(body):
        return None
    try:
        record = json.loads(body + b"}" if found else line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _row_line(line: bytes) -> dict[str, Any] | None:
    # Rows of earlier versions have no checksum.
    return decoded_line(line, may_lack_checksum=True)


def _is_header(record: Mapping[str, Any]) -> bool:
    hashes = record.get("sha256")
    are_hashes = isinstance(hashes, dict) and all(isinstance(value, str) for value in hashes.values())
    return are_hashes and record.keys() == {"case", "sha256"}


def _faults(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row that hold what no measurement gives, each with what it holds."""
    if row.keys() != _COLUMNS:
        return [f"columns {sorted(row.keys() ^ _COLUMNS)} missing or unknown"]
    faults = [f"{column} is {row[column]!r}" for column, is_sound in _SOUND.items() if not is_sound(row[column])]
    is_baseline = row["modality"] is None, row["perturbation"] == "baseline", row["severity"] == 0
    return faults + (["half a baseline"] if any(is_baseline) != all(is_baseline) else [])


def _is_integer(value: Any, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _number(highest: float, may_be_undefined: bool = True) -> Callable[[Any], bool]:
    def is_sound(value: Any) -> bool:
        if isinstance(value, float):
            return 0 <= value <= highest or (may_be_undefined and math.isnan(value))
        if value is None:
            return may_be_undefined
        return _is_integer(value, _LARGEST_INTEGER) and value <= highest

    return is_sound


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_json(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and _can_be_read(value)


@lru_cache(maxsize=1)  # the structures of a variant stand one after the other and share a draw
def _can_be_read(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_SOUND: dict[str, Callable[[Any], bool]] = {
    "case": _is_name,
    "modality": lambda value: value is None or _is_name(value),
    "perturbation": _is_name,
    "severity": lambda value: _is_integer(value, 2**31),
    "structure": _is_name,
    **dict.fromkeys(("dice", "dice_to_baseline_prediction"), _number(1.0, may_be_undefined=False)),
    **dict.fromkeys(("surface_dice_2mm", "sensitivity", "specificity", "accuracy"), _number(1.0 + _ROUNDING)),
    **dict.fromkeys(("fold_agreement", "max_probability"), _number(1.0 + _ROUNDING)),
    **dict.fromkeys(("hd95_mm", "hd_mm", "tp", "fp", "fn", "tn", "reference_mm3", "predicted_mm3"), _number(math.inf)),
    **dict.fromkeys(("seconds_perturb", "seconds_predict", "seconds_measure"), _number(math.inf)),
    "outcome": lambda value: isinstance(value, str) and value in _OUTCOMES,
    "seed": lambda value: value is None or _is_integer(value, 2**63),
    "parameters": _is_json,
}
"""What can stand in each column. Undefined is NaN, or null for what nobody measured; Dice is always defined."""
