"""Convert a cohort into an nnU-Net raw dataset: parallel, resumable, and not stopped by one bad case."""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

from dataset_conversion.case import CaseSettings, Row, convert_case, forget_case, prepare_worker, reusable_row
from dataset_conversion.dataset import (
    open_dataset,
    place_cases,
    write_description,
    write_split,
    write_table,
)
from dataset_conversion.hecktor import SYNTHETIC_MARKER, CaseFiles, ConversionError, centre_of, find_cases
from dataset_conversion.split import AUTHORS_SEED, Split, authors, stratified

OnCase = Callable[[Row, int, int], None]


@dataclass(frozen=True)
class CohortSettings:
    """Everything that decides what is in a converted dataset.

    Attributes
    ----------
    spacing : float
        Edge of a voxel in mm.
    labels : tuple of str
        The structures, in order of their label values 1, 2, ...
    hold_out : int
        Number of cases kept for testing.
    folds : int
        Number of cross-validation folds wanted.
    split : str
        ``stratified`` or ``authors``.
    seed : int
        Of the split; the authors' is 42.

    Raises
    ------
    ConversionError
        Where a setting makes no sense.
    """

    spacing: float = 1.0
    labels: tuple[str, ...] = ("GTVp", "GTVn")
    hold_out: int = 50
    folds: int = 5
    split: str = "stratified"
    seed: int = 0

    def __post_init__(self) -> None:
        reserved = {"background", "ignore"}.intersection(self.labels)
        if reserved or len(set(self.labels)) < len(self.labels):
            raise ConversionError(
                f"--labels: found {' '.join(self.labels)}; expected different names, none of them background or ignore"
            )
        if self.split == "authors" and self.seed != AUTHORS_SEED:
            raise ConversionError(
                f"--seed: found {self.seed}; expected {AUTHORS_SEED} with --split authors; leave --seed out"
            )

    @property
    def case(self) -> CaseSettings:
        """The part that decides about the voxels of a case."""
        return CaseSettings(self.spacing, self.labels)


@dataclass
class Conversion:
    """What came out: where, a row per source case, how many were reused, the split, notes for the user."""

    folder: Path
    rows: list[Row]
    reused: int
    split: Split
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Row]:
        """The rows of the cases that could not be converted."""
        return [row for row in self.rows if row["outcome"] == "failed"]


def convert_cohort(
    source: Path, folder: Path, settings: CohortSettings, *, jobs: int = 1, on_case: OnCase | None = None
) -> Conversion:
    """Convert every case below ``source`` and write the dataset that nnU-Net trains on.

    Parameters
    ----------
    source : Path
        A HECKTOR download.
    folder : Path
        The raw dataset to write or to complete.
    settings : CohortSettings
        Must equal those of an earlier conversion into the same folder.
    jobs : int
        Number of processes.
    on_case : callable, optional
        Called after each case that was not reused with its row, the number of cases done and their total.

    Returns
    -------
    Conversion
        Its rows are also in ``conversion.csv``, failed cases included.

    Raises
    ------
    ConversionError
        Where there is nothing to convert, too few cases to split, or the folder holds something else.
    """
    cases, problems = find_cases(source)
    _check_enough(len(cases), settings, source, list(problems.values()))
    open_dataset(folder, json.loads(json.dumps(asdict(settings))), {case.name for case in cases})
    unpaired = [_unpaired_row(name, problem) for name, problem in problems.items()]
    reused = [row for case in cases if (row := reusable_row(case, settings.case, folder))]
    done = {row["case"] for row in reused}
    todo = [case for case in cases if case.name not in done]
    if todo:
        (folder / "dataset.json").unlink(missing_ok=True)  # a dataset with cases missing must not look complete
    rows = reused.copy()
    for row in chain(unpaired, _convert_all(todo, settings.case, folder, jobs)):
        if row["outcome"] == "failed":
            forget_case(folder, row["case"])
        rows.append(row)
        if on_case:
            on_case(row, len(rows), len(cases) + len(problems))
    rows.sort(key=lambda row: str(row["case"]))
    conversion = _complete(folder, rows, len(reused), settings)
    synthetic = (source / SYNTHETIC_MARKER).is_file()
    write_description(folder, settings.labels, len(conversion.split.development), synthetic=synthetic)
    return conversion


def _unpaired_row(name: str, problem: str) -> Row:
    return {"case": name, "centre": centre_of(name), "outcome": "failed", "message": problem}


def _check_enough(usable: int, settings: CohortSettings, place: Path, problems: Sequence[str]) -> None:
    if usable - settings.hold_out < 2:
        reasons = f" ({len(problems)} cannot be used, such as: {problems[0]})" if problems else ""
        raise ConversionError(
            f"{place}: found {usable} usable case(s){reasons} with --hold-out {settings.hold_out}; "
            "expected at least two to be left for training; lower --hold-out or repair the cases"
        )


def _convert_all(todo: Sequence[CaseFiles], settings: CaseSettings, folder: Path, jobs: int) -> Iterator[Row]:
    """Yield the row of every case as it is done."""
    if jobs == 1 or len(todo) < 2:
        for files in todo:
            yield convert_case(files, settings, folder)
        return
    # Processes are spawned: a fork would copy the threads of the progress display.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(todo)), mp_context=context, initializer=prepare_worker)
    waiting = iter(todo)
    running: set[Future[Row]] = set()
    try:
        # No case is handed out before a process is free for it, so that an interrupt waits for one
        # case each at most.
        while True:
            with _no_interrupt():
                running.update(
                    pool.submit(convert_case, files, settings, folder) for files in islice(waiting, jobs - len(running))
                )
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise ConversionError(
            f"a process of --jobs {jobs} was killed, probably for lack of memory; finished cases are kept; "
            "run the same command with fewer --jobs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start processes that ignore Ctrl-C from their first moment: they inherit what is ignored, while they import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _complete(folder: Path, rows: list[Row], reused: int, settings: CohortSettings) -> Conversion:
    """Split the cohort, put every case where it belongs, and write the tables."""
    converted = {row["case"]: row for row in rows if row["outcome"] == "converted"}
    try:
        reasons = [row["message"] for row in rows if row["outcome"] == "failed"]
        _check_enough(len(converted), settings, folder, reasons)
    except ConversionError:
        write_table(folder, rows)
        raise
    conversion = Conversion(folder, rows, reused, _split(rows, settings))
    if len(conversion.split.folds) < settings.folds:
        conversion.notes.append(
            f"{len(conversion.split.folds)} folds instead of {settings.folds}: there are only "
            f"{len(conversion.split.development)} development cases"
        )
    for row in converted.values():
        row["role"] = "hold-out" if row["case"] in conversion.split.hold_out else "development"
    for number, fold in enumerate(conversion.split.folds):
        for name in fold:
            converted[name]["fold"] = number
    place_cases(folder, conversion.split)
    write_table(folder, rows)
    if write_split(folder, conversion.split):
        conversion.notes.append(
            "the cohort changed and with it hold-out or folds: train again, and delete an older "
            "splits_final.json in nnUNet_preprocessed"
        )
    return conversion


def _split(rows: Sequence[Row], settings: CohortSettings) -> Split:
    """Split the converted cases; the authors' draw is over all, so that a failed one moves no other."""
    converted = {str(row["case"]): row for row in rows if row["outcome"] == "converted"}
    if settings.split == "authors":
        everyone = [str(row["case"]) for row in rows]
        folds = min(settings.folds, len(everyone) - settings.hold_out)
        return authors(everyone, settings.hold_out, folds).restricted_to(list(converted))
    strata = {}
    for name, row in converted.items():
        present = " ".join(label for label in settings.labels if row[f"{label}_voxels_after"])
        strata[name] = (present, str(row["centre"]))
    folds = min(settings.folds, len(converted) - settings.hold_out)
    return stratified(strata, settings.hold_out, folds, settings.seed)
