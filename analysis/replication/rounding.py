"""Whether a number is what a paper printed, in decimal arithmetic: a printed figure has digits, not bits."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal


def tolerance_of(printed: str) -> float:
    """Half of the last printed digit; 0 for a count.

    Parameters
    ----------
    printed
        The figure as printed: ``0.5`` has a tolerance of 0.05 and ``0.50`` one of 0.005.
    """
    return float(_tolerance(printed))


def is_within(value: float, printed: str) -> bool:
    """Whether a value is within the tolerance of a printed figure, its ends included.

    Parameters
    ----------
    value
        Recomputed, at full precision; never within where it is not finite.
    printed
        The figure as printed.
    """
    return math.isfinite(value) and abs(_exact(value) - Decimal(printed)) <= _tolerance(printed)


def takes_double_rounding(value: float, printed: str) -> bool:
    """Whether a value becomes the printed figure only by way of one more digit: 0.6649, 0.665, 0.67.

    Parameters
    ----------
    value
        Recomputed, at full precision.
    printed
        The figure as printed; a count is never rounded.
    """
    if not math.isfinite(value) or is_within(value, printed) or not _decimals(printed):
        return False
    once = _rounded(_exact(value), _decimals(printed) + 1)
    return _rounded(once, _decimals(printed)) == Decimal(printed)


def rounding_steps(value: float, printed: str) -> str:
    """Write how a value becomes the printed figure by rounding twice: ``0.6645, 0.665, 0.67``."""
    digits = _decimals(printed) + 1
    once = _rounded(_exact(value), digits)
    # As many digits as it takes to see that the first step is one.
    shown = next((n for n in range(digits + 1, digits + 12) if _rounded(_exact(value), n) != once), digits + 1)
    return f"{_rounded(_exact(value), shown)}, {once}, {printed}"


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])


def _tolerance(printed: str) -> Decimal:
    digits = _decimals(printed)
    return Decimal(5).scaleb(-digits - 1) if digits else Decimal(0)


def _exact(value: float) -> Decimal:
    # The shortest decimal that names the same float: 0.665 is meant, not the binary number just beside it.
    return Decimal(repr(float(value)))


def _rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
