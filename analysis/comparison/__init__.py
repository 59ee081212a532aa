"""May a candidate replace the model in use? Statistics of the decision; ``docs/gate.md`` explains them."""

from analysis.comparison.cases import CaseTable, Cell, case_table
from analysis.comparison.cell_findings import CellFinding
from analysis.comparison.changes import ChangedLesion, FalsePositives
from analysis.comparison.decision import Decision, decide
from analysis.comparison.differences import Gap, compare_rows, gaps
from analysis.comparison.judgement import Outcome
from analysis.comparison.lesions import LesionBound, cases_needed, lesion_bound, upper_limit
from analysis.comparison.margins import Margins
from analysis.comparison.noise import NoiseFloor, noise_floor
from analysis.comparison.permutation import (
    MaxTest,
    SignFlipTest,
    hodges_lehmann,
    sign_flip_max_test,
    sign_flip_test,
)
from analysis.comparison.quantities import Quantity, State
from analysis.comparison.settings import Settings

__all__ = [
    "CaseTable",
    "Cell",
    "CellFinding",
    "ChangedLesion",
    "Decision",
    "FalsePositives",
    "Gap",
    "LesionBound",
    "Margins",
    "MaxTest",
    "NoiseFloor",
    "Outcome",
    "Quantity",
    "Settings",
    "SignFlipTest",
    "State",
    "case_table",
    "cases_needed",
    "compare_rows",
    "decide",
    "gaps",
    "hodges_lehmann",
    "lesion_bound",
    "noise_floor",
    "sign_flip_max_test",
    "sign_flip_test",
    "upper_limit",
]
