"""Numbers as a reader expects them: the same in pages, figures and terminals."""

from __future__ import annotations

import math
from collections.abc import Iterable

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def number(value: float, digits: int = 2) -> str:
    """Write fixed decimals with a real minus and no negative zero; a dash for what has no value."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.removeprefix("-")


def number_beside(value: float, bound: float, digits: int = 2, most: int = 10) -> str:
    """Write as many decimals as it takes to tell a value from its bound."""
    for decimals in range(digits, most):
        if round(value, decimals) != bound:
            return number(value, decimals)
    return number(value, digits)


def p_value(value: float) -> str:
    """Write three decimals, with a floor that says so."""
    return "< 0.001" if value < 0.001 else number(value, 3)


def between(low: float, high: float, digits: int = 2) -> str:
    """Write an interval or a pair of quartiles: ``0.10 to 0.32``."""
    if math.isnan(low) or math.isnan(high):
        return NOTHING
    return f"{number(low, digits)} to {number(high, digits)}"


def estimate(value: float, low: float, high: float, digits: int = 2) -> str:
    """Write a value with its interval: ``0.20 (0.10 to 0.32)``; without one where there is none."""
    interval = between(low, high, digits)
    return number(value, digits) if interval == NOTHING else f"{number(value, digits)} ({interval})"


def share(count: int, total: int) -> str:
    """Write a count with its denominator: ``3 of 4``; a dash where there is nothing to count among."""
    return f"{count} of {total}" if total else NOTHING


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 case``, ``2 cases``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Write names with commas, and the number of those beyond ``most``."""
    given = list(names)
    rest = len(given) - most
    return ", ".join(given[:most]) + (f" and {rest} more" if rest > 0 else "")
