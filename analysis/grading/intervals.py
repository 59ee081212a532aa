"""How an interval was made, in words, and when there is none."""

import math

FEWEST_OF_KIND = 5
"""With fewer patients of either kind, usable or not, an interval of an area or a cut-off says next to nothing."""

BY_CASES = "bootstrap over cases"
NO_INTERVAL = "none"


def interval_name(low: float, name: str = BY_CASES) -> str:
    """How an interval was made, or that there is none."""
    return NO_INTERVAL if math.isnan(low) else name
