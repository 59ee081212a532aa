"""The rows file of one case: JSON lines, appended a variant at a time, sound after a kill at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
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


class RunFolderError(BenchmarkError):
    """Rows cannot be written: nothing can go on, unlike where one case fails."""


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
        header, rows, good_bytes = parse_rows(path, structures)
        self.repaired: str | None = None
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
        """
        # One write per variant: a process that is killed leaves a variant whole or a broken end, never a gap.
        text = "".join(json.dumps(record) + "\n" for record in [*self._header, *rows])
        try:
            with self._path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFolderError(
                f"{self._path}: cannot write rows ({error.strerror}); what is there is kept, and a later call with a "
                "writable folder and free space goes on from it"
            ) from error
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
    """Header, rows of complete variants and the number of bytes they take; stops at the first broken line."""
    header: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = []
    pending: list[dict[str, Any]] = []
    good = position = 0
    if not path.exists():
        return None, [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        position += len(line)
        record = _record(line)
        if record is None:
            break
        if header is None:
            if not isinstance(record.get("sha256"), dict):
                break
            header, good = record, position
            continue
        if not record.keys() >= set(ROW_COLUMNS) or (pending and variant_key(record) != variant_key(pending[0])):
            break
        pending.append(record)
        if [row["structure"] for row in pending] == list(structures):
            rows += pending
            pending, good = [], position
    return header, rows, good


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) else None
