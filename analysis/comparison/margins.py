"""How much harm a model update may do."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from analysis.comparison.record import Record
from analysis.errors import AnalysisError


@dataclass(frozen=True)
class Margins(Record):
    """Largest harm that is accepted; ``docs/gate.md`` justifies the defaults.

    Attributes
    ----------
    clean, perturbed
        Mean loss of Dice, unperturbed and over all perturbed variants: of the intervals, and of the point estimate of
        a regression.
    cell
        Mean loss of Dice in one variant and structure that makes a significant cell a regression.
    lesions
        Net share of lesions lost that makes a significant loss a regression.
    lesion_limit
        What the upper 95 % limit of the share of cases with a newly missed lesion must stay below.

    Raises
    ------
    AnalysisError
        For a value that is not above 0 and at most 1.
    """

    clean: float = 0.02
    perturbed: float = 0.03
    cell: float = 0.05
    lesions: float = 0.02
    lesion_limit: float = 0.10

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1 or math.isnan(value):
                raise AnalysisError(
                    f"margin {field.name} = {value!r}; expected a fraction above 0 and at most 1 (not per cent), "
                    "such as 0.02; without any margin no number of cases shows that nothing was lost"
                )
