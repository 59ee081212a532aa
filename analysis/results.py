"""Everything that is computed from a run, before anything is drawn or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.clinical import clinical_table
from analysis.completeness import Completeness, check_completeness, levels_of, perturbations_of
from analysis.correlations import correlation_table
from analysis.descriptors import STUDY_13, Definition
from analysis.errors import AnalysisError
from analysis.failure_prediction import failure_prediction
from analysis.lesions import Lesions, describe_lesions
from analysis.limit_table import Limits
from analysis.pairing import absent_structures, is_baseline, paired
from analysis.progress import Progress, no_progress
from analysis.safety import break_points, crossings, missed_rates
from analysis.scores import aggregated_dice, degradation_scores, stability_table
from analysis.tables import baseline_table, cell_table
from analysis.verdict import Verdict, judge
from nnunet_plugin.benchmark.results import RunFolder


@dataclass(frozen=True)
class Sources:
    """Where a run's files are, if they are wanted or no longer where it found them.

    Attributes
    ----------
    images, labels
        Folders of the cohort; None for those that the run records.
    clinical
        CSV file with a row per patient; None for no clinical table.
    model
        Model folder, for pictures; None for none. It is never taken from the run: a model folder is code, a run is
        data.
    """

    images: Path | None = None
    labels: Path | None = None
    clinical: Path | None = None
    model: Path | None = None


@dataclass(frozen=True)
class Results:
    """Tables of a run; each is documented where it is made."""

    rows: pd.DataFrame
    pairs: pd.DataFrame
    baseline: pd.DataFrame
    cells: pd.DataFrame
    verdict: Verdict
    completeness: Completeness
    absent: dict[str, str]
    break_points: pd.DataFrame
    missed: pd.DataFrame
    crossings: pd.DataFrame
    aggregated: pd.DataFrame
    stability: pd.DataFrame
    degradation: pd.DataFrame
    failure: pd.DataFrame
    lesions: Lesions
    correlations: pd.DataFrame
    clinical: pd.DataFrame | None

    @property
    def correlated(self) -> tuple[Definition, ...]:
        """Descriptors that were correlated with ΔDice."""
        return _correlated(self.lesions)

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by file name; some are empty where their input is."""
        named = {
            "baseline": self.baseline,
            "delta_dice": self.cells,
            "pairs": self.pairs,
            "break_points": self.break_points.astype({"over": str, "tested": str}),
            "missed_lesions": self.missed,
            "crossings": self.crossings,
            "aggregated_dice": self.aggregated,
            "stability": self.stability,
            "degradation": self.degradation,
            "failure_prediction": self.failure,
            "descriptors": self.lesions.table,
            "descriptor_definitions": pd.DataFrame(self.lesions.definitions),
            "correlations": self.correlations,
        }
        return named if self.clinical is None else named | {"clinical": self.clinical}


def analyse(run: RunFolder, limits: Limits, sources: Sources, progress: Progress = no_progress) -> Results:
    """Compute all tables of a run.

    Parameters
    ----------
    run
        The run.
    limits
        The limits in force.
    sources
        Where images and clinical data are.
    progress
        Called as steps are done.

    Raises
    ------
    AnalysisError
        Where the run has no perturbed rows, a limit names nothing in it, or the clinical file cannot be used.
    """
    rows = _in_run_order(_measured_rows(run), run)
    cases = list(dict.fromkeys(rows["case"]))
    limits.check_names(
        run.modalities, perturbations_of(rows, run.settings), run.structures, levels_of(rows, run.settings)
    )
    clinical = None if sources.clinical is None else clinical_table(sources.clinical, cases)
    seed = int(run.settings.get("seed", 0))
    pairs, cells = paired(rows), cell_table(rows, limits, seed)
    lesions = describe_lesions(run, cases, sources.images, sources.labels, progress)
    progress("statistics", 0, 1)
    names = [definition.name for definition in _correlated(lesions)]
    results = Results(
        rows=rows,
        pairs=pairs,
        baseline=baseline_table(rows),
        cells=cells,
        verdict=judge(rows, limits),
        completeness=check_completeness(rows, run.settings, run.failures()),
        absent=absent_structures(rows),
        break_points=break_points(cells),
        missed=missed_rates(rows),
        crossings=crossings(pairs),
        aggregated=aggregated_dice(rows),
        stability=stability_table(rows),
        degradation=degradation_scores(pairs, seed),
        failure=failure_prediction(rows, seed),
        lesions=lesions,
        correlations=correlation_table(pairs[pairs["reference_present"]], lesions.table, names),
        clinical=clinical,
    )
    progress("statistics", 1, 1)
    return results


def _measured_rows(run: RunFolder) -> pd.DataFrame:
    rows = run.rows()
    if rows.empty or is_baseline(rows).all():
        found = "no measured rows" if rows.empty else "only unperturbed rows"
        failed = "".join(f"\n  {case}: {message}" for case, message in run.failures().items())
        raise AnalysisError(
            f"{run.path}: found {found}, expected perturbed cases in {run.path / 'rows'}; "
            f"measure the run first (nnUNetv2_robustness_run){failed}"
        )
    return rows


def _in_run_order(rows: pd.DataFrame, run: RunFolder) -> pd.DataFrame:
    """Sort rows as the run lists its channels, perturbations and structures: tables follow the order of rows."""
    orders = {
        "modality": run.modalities,
        "perturbation": perturbations_of(rows, run.settings),
        "structure": run.structures,
    }

    def rank(column: pd.Series) -> pd.Series:
        order = {name: place for place, name in enumerate(orders.get(str(column.name), ()))}
        return column.map(order) if order else column

    keys = ["modality", "perturbation", "severity", "structure", "case"]
    return rows.sort_values(keys, key=rank, na_position="first", ignore_index=True)


def _correlated(lesions: Lesions) -> tuple[Definition, ...]:
    """The study's 13 where the modalities are its, otherwise everything of the study's kind."""
    by_name = {definition.name: definition for definition in lesions.definitions}
    if by_name.keys() >= set(STUDY_13):
        return tuple(by_name[name] for name in STUDY_13)
    return tuple(definition for definition in lesions.definitions if definition.source.startswith("study"))
