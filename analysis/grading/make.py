"""From a run to a kit and its key: choose, predict again, blind, write."""

from __future__ import annotations

import random
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.case_images import find_case_files
from analysis.errors import AnalysisError
from analysis.formatting import counted
from analysis.grading.blinding import draw_codes, draw_order, new_token, token_hash
from analysis.grading.key import IDENTITY, METRICS, write_key
from analysis.grading.kit import CONTOURS, DEFAULT_SCALE, Kit, Rater, Voxel, refuse_inside_a_kit
from analysis.grading.samples import SAMPLE_WORDS, Sample
from analysis.grading.selection import Chosen, Selection, select
from analysis.pairing import BASELINE
from analysis.progress import Progress, no_progress
from analysis.statistics import LIKERT
from nnunet_plugin.benchmark.results import RunFolder

if TYPE_CHECKING:  # importing it takes seconds, which an error of the options need not wait
    from analysis.pictures.replay import CaseReplay


_SECRET = secrets.SystemRandom()
"""Draws codes and orders: from a seed, anybody who knows it could tell them."""


@dataclass(frozen=True)
class KitOptions:
    """How a kit is made.

    Attributes
    ----------
    baseline, top, per, sample, seed
        See :func:`analysis.grading.selection.select`.
    raters
        How many.
    repeat
        How many items every rater sees twice without being told.
    scale
        Wording of the grades 1 to 5.
    """

    baseline: int = 32
    top: int = 3
    per: int = 3
    sample: Sample = "worst"
    seed: int = 0
    raters: int = 2
    repeat: int = 4
    scale: tuple[str, ...] = DEFAULT_SCALE


@dataclass(frozen=True)
class MadeKit:
    """What was made; ``sentences`` are for whoever made it."""

    kit: Path
    key: Path
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Item:
    chosen: Chosen
    is_repeat: bool


@dataclass(frozen=True)
class _Measured:
    """What items are made from again."""

    run: RunFolder
    model: Path
    images: Path | None
    labels: Path | None


def make_kit(
    run: RunFolder,
    model: Path,
    kit: Path,
    key: Path | None = None,
    options: KitOptions | None = None,
    *,
    images: Path | None = None,
    labels: Path | None = None,
    progress: Progress = no_progress,
) -> MadeKit:
    """Make a kit of a run, and its key.

    Both appear when they are complete: whatever stops it leaves nothing of either.

    Parameters
    ----------
    run
        The run.
    model
        Folder of the measured model: contours and perturbed images are made again. It is code: name only models that
        are trusted.
    kit
        Folder that is not there yet.
    key
        Likewise, outside the kit; ``KIT-key`` by default.
    options
        How.
    images, labels
        Folders, where they are no longer those that ``run.toml`` records.
    progress
        Called as items are made.

    Raises
    ------
    AnalysisError
        Where a folder is there already, there is nothing to choose, images have changed, or a prediction is not the one
        that was measured.
    BenchmarkError
        Where run or model cannot be used.
    """
    options = options or KitOptions()
    key = key or kit.with_name(f"{kit.name}-key")
    _refuse_folders(kit, key)
    _refuse_options(options)
    rows = run.rows()
    if rows.empty:
        raise AnalysisError(f"{run.path}: has no measured rows; measure the run first (nnUNetv2_robustness_run)")
    selection = select(
        rows,
        baseline=options.baseline,
        top=options.top,
        per=options.per,
        sample=options.sample,
        seed=options.seed,
    )
    items, originals = _blinded(selection, options)
    measured = _Measured(run, model, images, labels)
    with _appearing_together(kit, key) as (new_kit, new_key):
        draft, tokens = _draft(new_kit, run, items, originals, options)
        made = replace(draft, items=_write_items(measured, draft, items, progress))
        made.write()
        table = _key_table(rows, items, options, made.synthetic)
        write_key(new_key, table, tokens, _facts(run, selection, options) | {"kit_sha256": made.sha256})
    return MadeKit(kit, key, tuple(_sentences(selection, options, items)))


@contextmanager
def _appearing_together(kit: Path, key: Path) -> Iterator[tuple[Path, Path]]:
    """Give places to make a kit and its key in, and move both to where they belong when they are complete."""
    try:
        kit.parent.mkdir(parents=True, exist_ok=True)
        key.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kit.parent, prefix=f".{kit.name}-") as folder:
            new_kit, new_key = Path(folder) / "kit", Path(folder) / "key"
            yield new_kit, new_key
            # The key first: a kit without one would be of no use to anybody.
            shutil.move(new_key, key)
            new_kit.rename(kit)
    except OSError as error:
        raise AnalysisError(
            f"{error.filename or kit}: cannot be written ({error.strerror or error}); name another folder, or make it "
            "writable and free space"
        ) from error


def _refuse_folders(kit: Path, key: Path) -> None:
    for folder, option in ((kit, "-o"), (key, "--key")):
        if folder.exists():
            raise AnalysisError(f"{folder}: is there already, and may hold grades; name a new folder ({option})")
        refuse_inside_a_kit(folder, option)
    if key.resolve().is_relative_to(kit.resolve()):
        raise AnalysisError(f"{key}: lies in the kit, where raters could find it; name a folder outside (--key)")


def _refuse_options(options: KitOptions) -> None:
    least = {"baseline": 0, "top": 0, "per": 1, "raters": 1, "repeat": 0}
    for name, low in least.items():
        if getattr(options, name) < low:
            raise AnalysisError(f"--{name}: found {getattr(options, name)}, expected {low} or more")
    if len(options.scale) != len(LIKERT) or not all(options.scale):
        raise AnalysisError(
            f"--scale: found {counted(len(options.scale), 'line')}, expected {len(LIKERT)}: the wording of the grades "
            f"1 to {len(LIKERT)}"
        )


def _blinded(selection: Selection, options: KitOptions) -> tuple[dict[str, _Item], dict[str, str]]:
    """Items by code, sorted by it, and the code of what each repeat repeats."""
    if options.repeat > len(selection.chosen):
        raise AnalysisError(
            f"--repeat: found {options.repeat}, expected no more than are chosen: "
            f"{counted(len(selection.chosen), 'item')}"
        )
    repeated = random.Random(options.seed).sample(range(len(selection.chosen)), options.repeat)  # noqa: S311
    codes = draw_codes(len(selection.chosen) + options.repeat, _SECRET)
    originals = {codes[len(selection.chosen) + n]: codes[index] for n, index in enumerate(repeated)}
    items = dict(zip(codes, (_Item(chosen, False) for chosen in selection.chosen), strict=False))
    items |= {code: _Item(items[original].chosen, True) for code, original in originals.items()}
    return dict(sorted(items.items())), originals


def _draft(
    path: Path, run: RunFolder, items: Mapping[str, _Item], originals: Mapping[str, str], options: KitOptions
) -> tuple[Kit, dict[str, str]]:
    """A kit without volumes, and the token of each rater."""
    tokens = {f"rater-{number}": new_token() for number in range(1, options.raters + 1)}
    raters = {
        name: Rater(token_hash(token), tuple(draw_order(list(items), originals, _SECRET)))
        for name, token in tokens.items()
    }
    cohort = run.settings["cohort"]
    kit = Kit(
        path,
        title=str(cohort.get("name", "grading")),
        synthetic=bool(cohort.get("synthetic")),
        modalities=run.modalities,
        structures=run.structures,
        scale=options.scale,
        items={code: {} for code in items},
        raters=raters,
    )
    return kit, tokens


def _facts(run: RunFolder, selection: Selection, options: KitOptions) -> dict[str, Any]:
    return {
        "run": str(run.path.resolve()),
        "model_sha256": run.settings["model"]["sha256"],
        "catalogue": run.settings["catalogue"],
        "options": asdict(options),
        "sample": SAMPLE_WORDS[options.sample],
        "mean_delta_dice": dict(selection.harm.itertuples(index=False, name=None)),
    }


def _write_items(
    measured: _Measured, kit: Kit, items: Mapping[str, _Item], progress: Progress
) -> dict[str, dict[str, Voxel]]:
    """Write all volumes, case by case so that each is prepared once; gives the voxels to look at first."""
    from analysis.pictures.replay import CaseReplay, load_measured_model, measured_threads

    progress("items", 0, len(items))
    run, looks = measured.run, {}
    ensemble = load_measured_model(run, measured.model)
    codes_of: dict[Chosen, list[str]] = {}
    for code, item in items.items():
        codes_of.setdefault(item.chosen, []).append(code)
    with measured_threads(run):
        for case, of_case in groupby(sorted(codes_of, key=lambda chosen: chosen.case), lambda chosen: chosen.case):
            files = find_case_files(run, case, measured.images, measured.labels)
            replay = CaseReplay(run, ensemble, case, files)
            for chosen in of_case:
                volumes, looks_of_item = _shown(kit, replay, chosen)
                for code in codes_of[chosen]:
                    _write_item(kit, code, volumes)
                    looks[code] = looks_of_item
                    progress("items", len(looks), len(items))
    # Sorted by code: the order in which they were made puts a repeat beside its original.
    return dict(sorted(looks.items()))


def _shown(kit: Kit, replay: CaseReplay, chosen: Chosen) -> tuple[dict[str, Any], dict[str, Voxel]]:
    """The volumes of an item by name, and where to look first."""
    from analysis.grading.volumes import first_looks, in_display_order, label_map, perturbed_image
    from nnunet_plugin.benchmark.perturbations import Variant

    images, prediction = dict(replay.images), replay.prediction
    if chosen.modality is not None:
        name = chosen.modality
        variant = replay.variant(Variant(name, chosen.perturbation, chosen.severity))
        line = replay.normalisation(name)
        if line is None:
            raise AnalysisError(
                f"{name}: its normalisation is no line, so that what was done to the network's input has no value in "
                "the units of the image; perturbed images cannot be shown to raters; choose none (--top 0)"
            )
        images[name] = perturbed_image(images[name], replay.seen(name), variant.seen, slope=line[0])
        prediction = variant.prediction
    labels = label_map([replay.mask(prediction, structure) for structure in kit.structures])
    arrays: dict[str, Any] = {**images, CONTOURS: labels}
    volumes = {name: in_display_order(array, replay.geometry) for name, array in arrays.items()}
    return volumes, first_looks(volumes[CONTOURS], kit.structures)


def _write_item(kit: Kit, code: str, volumes: Mapping[str, Any]) -> None:
    from analysis.grading.volumes import write_volume

    (kit.path / "items" / code).mkdir(parents=True)
    for name, file in kit.volumes.items():
        # The code in the header makes the files of a repeat differ from those of its first showing.
        write_volume(kit.volume(code, file), volumes[name], description=code)


def _key_table(rows: pd.DataFrame, items: Mapping[str, _Item], options: KitOptions, synthetic: bool) -> pd.DataFrame:
    wanted = pd.DataFrame.from_records(
        [
            {
                "item": code,
                "repeat": int(item.is_repeat),
                "sample": "" if item.chosen.modality is None else options.sample,
                "synthetic": synthetic,
                **asdict(item.chosen),
            }
            for code, item in items.items()
        ]
    )
    keys = ["case", "modality", "perturbation", "severity"]
    # None and NaN are both "no modality", but are not equal.
    measured = rows.assign(modality=rows["modality"].fillna(""))
    wanted["modality"] = wanted["modality"].fillna("")
    table = wanted.merge(measured[[*keys, "structure", *METRICS]], on=keys, how="left")
    return table[[*IDENTITY, *METRICS]]


def _sentences(selection: Selection, options: KitOptions, items: Mapping[str, _Item]) -> list[str]:
    unperturbed = sum(item.modality is None for item in selection.chosen)
    perturbed = _by_perturbation(selection.chosen)
    parts = [f"{unperturbed} unperturbed"] if unperturbed else []
    parts += [f"{len(selection.chosen) - unperturbed} perturbed ({perturbed})"] if perturbed else []
    again = f", and {options.repeat} of these again" if options.repeat else ""
    found = [
        f"{counted(len(items), 'item')} for {counted(options.raters, 'rater')}: {', '.join(parts)}{again}",
    ]
    return [*found, *selection.notes, *([SAMPLE_WORDS[options.sample]] if perturbed else [])]


def _by_perturbation(chosen: Sequence[Chosen]) -> str:
    names = [item.perturbation for item in chosen if item.perturbation != BASELINE]
    return ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(names))
