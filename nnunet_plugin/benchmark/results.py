"""The run folder: everything about one model measured on one cohort, safe against being killed at any moment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import tomli_w
from filelock import FileLock, Timeout

from nnunet_plugin.benchmark.cohort import is_case_name
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.row_file import CaseRows, writing
from nnunet_plugin.benchmark.table import RowTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

_NOT_COMPARED = "provenance"
"""The table of ``run.toml`` that says where and when, not what: two runs that differ only there are the same run."""

_WRITTEN = ("run.toml", "run.lock", "metrics.parquet", "repairs.log", "rows", "failures", "predictions")
"""What measuring writes into a run folder."""


class RunFolder:
    """One run on disk: ``run.toml``, ``rows/CASE.jsonl``, ``failures/CASE.txt`` and the derived ``metrics.parquet``.

    Parameters
    ----------
    path
        An existing run folder. Use :meth:`create` to make one.

    Raises
    ------
    BenchmarkError
        Where ``run.toml`` is missing or unreadable, or the folder holds a link.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        _refuse_links(self.path)
        self.settings = _read_settings(self.path / "run.toml")

    @classmethod
    def create(cls, path: Path | str, settings: Mapping[str, Any]) -> Self:
        """Make the run folder, or open it where it already holds a run with the same settings.

        Parameters
        ----------
        path
            The run folder.
        settings
            What ``run.toml`` is to hold: nested mappings of TOML values. The table ``provenance`` is not compared.

        Raises
        ------
        BenchmarkError
            Where the folder holds a run with other settings (the message lists each difference) or cannot be written.
        """
        path = Path(path)
        _refuse_links(path)
        try:
            (path / "rows").mkdir(parents=True, exist_ok=True)
            with FileLock(path / "run.lock"):
                if (path / "run.toml").exists():
                    _refuse_if_different(path, settings)
                else:
                    write_atomically(path / "run.toml", tomli_w.dumps(dict(settings)).encode())
        except OSError as error:
            raise BenchmarkError(
                f"cannot write to the run folder {path}: {error.strerror or error}; name a writable folder"
            ) from error
        return cls(path)

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures that are measured, in the order of their labels."""
        return tuple(self.settings["cohort"]["structures"])

    @property
    def labels(self) -> dict[str, int]:
        """Label value of each structure."""
        return dict(self.settings["cohort"]["labels"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""
        return tuple(self.settings["cohort"]["modalities"])

    @contextmanager
    def claim(self, case: str, hashes: Callable[[], Mapping[str, str]]) -> Iterator[CaseRows | None]:
        """Hold a case while working on it; gives None where another process holds it.

        Parameters
        ----------
        case
            Case name.
        hashes
            Gives the SHA-256 of every image and of the label, by modality name and ``label``. Stored with the rows and
            compared with what is there. Called once the case is held.

        Raises
        ------
        BenchmarkError
            Where the rows on disk were measured on other images or another label.
        RunFolderError
            Where the folder cannot be written.
        """
        lock = FileLock(self.path / "rows" / f"{case}.lock", thread_local=False)
        with writing(Path(lock.lock_file), "the lock"):
            is_held = _acquired(lock)
        if not is_held:
            yield None
            return
        try:
            yield CaseRows(self.path / "rows" / f"{case}.jsonl", case, hashes(), self.structures)
        finally:
            lock.release()

    def record_failure(self, case: str, message: str) -> None:
        """Remember that a case could not be measured, for the summary and the report."""
        file = self.path / "failures" / f"{case}.txt"
        with writing(file, f"that the case failed: {message}"):
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, message.encode())

    def record_repair(self, message: str) -> None:
        """Remember that something in the folder was found broken and is measured again."""
        file = self.path / "repairs.log"
        # One write at the end of the file: several processes may do so at once.
        with writing(file, "what was repaired"), file.open("ab") as log:
            log.write(f"{' '.join(message.split())}\n".encode())

    def repairs(self) -> list[str]:
        """What was found broken and measured again, oldest first."""
        file = self.path / "repairs.log"
        return file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []

    def clear_failure(self, case: str) -> None:
        """Forget an earlier failure of a case."""
        file = self.path / "failures" / f"{case}.txt"
        with writing(file, "that the case is measured"):
            file.unlink(missing_ok=True)

    def failed_since(self, case: str, timestamp: float) -> bool:
        """Whether a case has failed since a time (seconds since the epoch), in whichever process."""
        file = self.path / "failures" / f"{case}.txt"
        return file.exists() and file.stat().st_mtime >= timestamp

    def failures(self) -> dict[str, str]:
        """Messages of the cases that could not be measured, by case name."""
        files = sorted((self.path / "failures").glob("*.txt"))
        return {file.stem: file.read_text("utf-8", errors="replace") for file in files if file.is_file()}

    def rows(self) -> pd.DataFrame:
        """All complete rows, sorted by case, variant and structure; columns as in ``ROW_COLUMNS``.

        Raises
        ------
        BenchmarkError
            Where a rows file cannot be read.
        """
        try:
            return RowTable.read(self.path, self.structures).frame()
        except OSError as error:
            raise BenchmarkError(
                f"{error.filename or self.path}: cannot be read ({error.strerror or error}); make it readable"
            ) from error

    def write_table(self) -> Path:
        """Rewrite ``metrics.parquet`` from the rows, atomically; returns its path."""
        target = self.path / "metrics.parquet"
        with writing(target, "the table"):
            write_atomically(target, RowTable.read(self.path, self.structures).to_parquet())
        return target


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        # Exclusively: a link of that name, put there since, is not followed.
        with temporary.open("xb") as file:
            file.write(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _refuse_links(path: Path) -> None:
    """Refuse links among what is written: rows appended through one would end up in another file."""
    folders = [str(path)]
    # Not rglob, which asks the file system about every one of what can be a hundred thousand predictions.
    for folder in folders:
        for entry in _entries(folder):
            if folder == str(path) and entry.name not in _WRITTEN:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                raise BenchmarkError(
                    f"{entry.path}: found a link or a device, expected plain files and folders in a run folder; "
                    "put the file itself there, or name another run folder"
                )


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []  # not there, or closed to us: whoever wants to use it will be told


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BenchmarkError(
            f"{path.parent} is no run folder: cannot read {path.name} ({error.strerror}); "
            "expected a folder made by nnUNetv2_robustness_run or pytest robustness_tests"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path} is damaged ({error!r}); start a new run folder") from error
    cohort = settings.get("cohort")
    if not isinstance(cohort, dict):
        raise BenchmarkError(f"{path} is damaged (it has no table cohort); start a new run folder")
    for key, is_sound in _COHORT.items():
        if not is_sound(cohort.get(key)):
            raise BenchmarkError(f"{path} is damaged (cohort.{key} is {cohort.get(key)!r}); start a new run folder")
    return settings


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


def _are_labels(value: Any) -> bool:
    return isinstance(value, dict) and all(type(label) is int for label in value.values())


def _are_cases(value: Any) -> bool:
    return value is None or (_are_names(value) and all(map(is_case_name, value)))


_COHORT: dict[str, Callable[[Any], bool]] = {
    "structures": _are_names,
    "modalities": _are_names,
    "labels": _are_labels,
    "cases": _are_cases,
}
"""What the rows of a run cannot be read without, and the names that become file names."""


def _refuse_if_different(path: Path, settings: Mapping[str, Any]) -> None:
    ours, theirs = _flat(settings), _flat(_read_settings(path / "run.toml"))
    differences = [
        f"  {key}: the folder has {theirs.get(key, 'nothing')!r}, this call {ours.get(key, 'nothing')!r}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    if differences:
        raise BenchmarkError(
            f"{path} holds a run with other settings; name another run folder or repeat the settings:\n"
            + "\n".join(differences)
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if prefix == "" and key == _NOT_COMPARED:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
