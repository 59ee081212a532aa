"""Pictures of the worst cells: what the network saw of the case that lost most, and what it made of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pandas as pd

from analysis.case_images import find_case_files
from analysis.drawing import Drawing, file_name, in_brackets, save, short, style
from analysis.errors import AnalysisError
from analysis.formatting import number
from analysis.pairing import CellKey
from analysis.pictures.case_figure import Panel, draw_figure
from analysis.pictures.slices import View, Window
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder

if TYPE_CHECKING:  # importing these takes seconds, which a report without pictures need not wait
    from analysis.pictures.replay import CaseReplay, Replay
    from nnunet_plugin.benchmark.predictor import Ensemble

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called with the number of cells that are finished, drawn or not, and the number of all."""


@dataclass(frozen=True)
class Pictures:
    """What was drawn.

    Attributes
    ----------
    drawings
        In the order of the cells.
    reasons
        Why the picture of a cell is missing, in words, with the cells.
    """

    drawings: list[Drawing]
    reasons: list[str]


@dataclass(frozen=True)
class _Cell:
    """A worst cell, and the case that lost most in it; None where none lost."""

    key: CellKey
    case: str | None
    n: int
    note: str


def draw_pictures(
    run: RunFolder,
    cells: pd.DataFrame,
    model: Path,
    folder: Path,
    *,
    note: str = "",
    images: Path | None = None,
    labels: Path | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Pictures:
    """Draw the case that lost most in each of the given cells.

    Only what the pictures show is predicted again, and only where the run did not keep it; a prediction whose Dice
    is not that of its row is not drawn. What keeps a picture from being drawn is said and the others are drawn.

    Parameters
    ----------
    run
        The run.
    cells
        Rows of :func:`analysis.tables.worst_cells`.
    model
        Folder of the measured model. It is code: name only models that are trusted.
    folder
        Where the files go.
    note
        Said in title and caption; by itself ``phantom`` for a synthetic cohort.
    images, labels
        Folders, where they are no longer those that ``run.toml`` records.
    progress
        Called as cells are finished.
    """
    note = note or ("phantom" if run.settings["cohort"].get("synthetic") else "")
    wanted = [_cell(record, note) for record in cells.to_dict("records")]
    drawings: dict[_Cell, Drawing] = {}
    reasons: dict[str, list[str]] = {}
    outcomes = _draw_by_case(_Artist(run, model, folder, images, labels), wanted)
    for done, (cell, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, str):
            reasons.setdefault(outcome, []).append(str(cell.key))
        else:
            drawings[cell] = outcome
        progress(done, len(wanted))
    return Pictures(
        [drawings[cell] for cell in wanted if cell in drawings],
        [f"{', '.join(keys)}: {reason}" for reason, keys in reasons.items()],
    )


def _cell(record: Mapping[Any, Any], note: str) -> _Cell:
    key = CellKey(record["modality"], record["perturbation"], int(record["severity"]), record["structure"])
    lost = isinstance(record["worst_case"], str) and record["worst_delta"] > 0
    return _Cell(key, record["worst_case"] if lost else None, int(record["n"]), note)


def _draw_by_case(artist: _Artist, cells: Iterable[_Cell]) -> Iterator[tuple[_Cell, Drawing | str]]:
    """Draw each cell, or say why not; case by case, so that each is prepared once and one is in memory."""
    for name, of_case in groupby(sorted(cells, key=lambda cell: cell.case or ""), key=lambda cell: cell.case):
        case = _or_reason(artist.open_case, name) if name else "no case lost Dice"
        for cell in of_case:
            yield cell, case if isinstance(case, str) else _or_reason(artist.draw, cell, case)


def _or_reason(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | str:
    try:
        return work(*args, **kwargs)
    except (AnalysisError, BenchmarkError) as error:
        return " ".join(str(error).split())
    except Exception as error:
        # A picture is an extra: whatever goes wrong with one must not take the report with it.
        logger.debug("no picture", exc_info=True)
        return " ".join(f"{type(error).__name__}: {error}".split())


@dataclass(frozen=True)
class _Artist:
    """What all pictures of a run share."""

    run: RunFolder
    model: Path
    folder: Path
    images: Path | None
    labels: Path | None

    @cached_property
    def _ensemble(self) -> Ensemble:
        from analysis.pictures.replay import load_measured_model

        return load_measured_model(self.run, self.model)

    def open_case(self, name: str) -> CaseReplay:
        # Files are found in no time, a model takes seconds to load.
        files = find_case_files(self.run, name, self.images, self.labels)
        from analysis.pictures.replay import CaseReplay, measured_threads

        with measured_threads(self.run):
            return CaseReplay(self.run, self._ensemble, name, files)

    def draw(self, cell: _Cell, case: CaseReplay) -> Drawing:
        from analysis.pictures.replay import measured_threads
        from nnunet_plugin.benchmark.perturbations import Variant

        with measured_threads(self.run):
            replay = case.variant(Variant(cell.key.modality, cell.key.perturbation, cell.key.severity))
        return _draw(cell, case, replay, self.folder)


def _draw(cell: _Cell, case: CaseReplay, replay: Replay, folder: Path) -> Drawing:
    maps = {"reference": case.reference, "unperturbed": case.prediction, "perturbed": replay.prediction}
    view = View(case.geometry, {role: case.mask(label_map, cell.key.structure) for role, label_map in maps.items()})
    panels, windows = _panels(cell, case, replay, view)
    what = f"{short(str(cell.case))}: {short(cell.key.variant)}, {short(cell.key.structure)}"
    before, after = _dice(cell, case.rows), _dice(cell, replay.rows)
    title = f"{what}, Dice {before} → {after}{in_brackets(cell.note)}"
    name = "_".join(file_name(part) for part in ("worst", str(cell.key), str(cell.case)))
    with style():
        figure = draw_figure(panels, view.spacing_mm, title)
        return save(figure, folder, name, _caption(cell, case, replay, windows))


def _panels(cell: _Cell, case: CaseReplay, replay: Replay, view: View) -> tuple[list[Panel], str]:
    """Unperturbed images, the one that gets perturbed last, beside its perturbed self; windows in words."""
    perturbed = cell.key.modality
    windows = {modality: Window.of(modality, image) for modality, image in case.images.items()}
    panels = [
        Panel(
            f"{short(modality)}, unperturbed",
            windows[modality].grey(view.of(case.images[modality])),
            view.contours("reference", "unperturbed"),
            view.remark("unperturbed"),
        )
        for modality in sorted(case.images, key=lambda modality: modality == perturbed)
    ]
    line = case.normalisation(perturbed)
    # Nothing to compare with where the normalisation is no line: then the network's own scale.
    window = windows[perturbed].on_scale(line) if line else Window.of("", case.seen(perturbed))
    grey = window.grey(view.of(replay.seen))
    panels.append(
        Panel(
            f"perturbed: {short(cell.key.variant)}",
            grey,
            view.contours("reference", "perturbed"),
            view.remark("perturbed"),
        )
    )
    return panels, "; ".join(window.words for window in windows.values())


def _dice(cell: _Cell, rows: Mapping[str, Mapping[str, Any]]) -> str:
    return number(rows[cell.key.structure]["dice"])


def _caption(cell: _Cell, case: CaseReplay, replay: Replay, windows: str) -> str:
    key = cell.key
    before, after = case.rows[key.structure], replay.rows[key.structure]
    volumes = before["reference_mm3"], before["predicted_mm3"], after["predicted_mm3"]
    reference, unperturbed, perturbed = (f"{number(mm3 / 1000, 1)} ml" for mm3 in volumes)
    sentences = [
        cell.note.capitalize(),
        f"{cell.case}, shown because it loses most Dice of {key.structure} with {key.variant} (n = {cell.n}): "
        f"{_dice(cell, case.rows)} unperturbed, {_dice(cell, replay.rows)} perturbed",
        f"Volume: reference {reference}, predicted {unperturbed} unperturbed and {perturbed} perturbed",
        "Axial slice with the largest reference area; predictions are tinted",
        windows,
        f"Last panel: {key.modality} as the network saw it, on the same grey scale",
    ]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)
