"""Descriptors of every reference structure of a run, from the images that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.case_images import find_case_files, read_volumes
from analysis.descriptors import Definition, Describer, definitions
from analysis.errors import AnalysisError
from analysis.progress import Progress, no_progress
from nnunet_plugin.benchmark.results import RunFolder


@dataclass(frozen=True)
class Lesions:
    """Descriptors of a run.

    Attributes
    ----------
    table
        One row per case and structure that its reference has: ``case``, ``structure`` and the descriptors.
    definitions
        What the descriptors are, in column order.
    empty
        Number of references without a structure, by structure: no row.
    reasons
        Why cases could not be described, by case.
    """

    table: pd.DataFrame
    definitions: tuple[Definition, ...]
    empty: dict[str, int]
    reasons: dict[str, str]


def describe_lesions(
    run: RunFolder,
    cases: Sequence[str],
    images: Path | None = None,
    labels: Path | None = None,
    progress: Progress = no_progress,
) -> Lesions:
    """Describe the reference structures of a run's cases.

    Parameters
    ----------
    run
        The run.
    cases
        Cases to describe.
    images, labels
        Folders of the images and references, if no longer where the run found them.
    progress
        Called as cases are done.
    """
    records: list[dict[str, float | str]] = []
    reasons: dict[str, str] = {}
    empty = dict.fromkeys(run.labels, 0)
    for done, case in enumerate(cases, start=1):
        try:
            volumes = read_volumes(find_case_files(run, case, images, labels))
            describer = Describer(volumes.images, volumes.spacing)
            for structure, value in run.labels.items():
                described = describer.describe(volumes.label == value)
                if described is None:
                    empty[structure] += 1
                else:
                    records.append({"case": case, "structure": structure, **described})
        except AnalysisError as error:
            reasons[case] = str(error)
        progress("lesion descriptors", done, len(cases))
    columns = definitions(run.modalities)
    names = ["case", "structure", *(definition.name for definition in columns)]
    return Lesions(pd.DataFrame.from_records(records, columns=names), columns, empty, reasons)
