"""One published statement beside what the tables give, and the rule that decides between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

from analysis.formatting import counted
from analysis.replication.rounding import is_within, rounding_steps, takes_double_rounding, tolerance_of

Verdict = Literal["reproduced", "reproduced_by_alternative", "not_reproduced", "data_missing"]
Value = float | int | str | None

FIELDS = (
    *("id", "source", "statement", "reported", "recomputed", "p", "n", "method"),
    *("tolerance", "verdict", "alternative", "alternatives_tried", "note"),
)
"""Keys of a claim's record, in order."""


@dataclass(frozen=True)
class Published:
    """What the paper says.

    Attributes
    ----------
    id
        Stable name of the statement.
    source, statement
        Where it is said, and what.
    printed
        A figure with its digits as printed, else words; None where it is not known here.
    """

    id: str
    source: str
    statement: str
    printed: str | None

    @property
    def is_figure(self) -> bool:
        """Whether a number was printed."""
        return self.printed is not None and self.printed.replace(".", "", 1).isdigit()

    @property
    def reported(self) -> Value:
        """The printed figure as a number, or the words."""
        if self.printed is None or not self.is_figure:
            return self.printed
        return float(self.printed) if "." in self.printed else int(self.printed)


@dataclass(frozen=True)
class Alternative:
    """Another reading of a statement, tried because the stated one does not give what was printed.

    Attributes
    ----------
    name
        In words.
    value
        What it gives.
    within_tolerance
        Whether that is what was printed.
    by_double_rounding
        Whether it becomes so by rounding twice, and only so.
    steps
        The two roundings in words, where it does.
    """

    name: str
    value: Value
    within_tolerance: bool
    by_double_rounding: bool = False
    steps: str = ""

    @property
    def matches(self) -> bool:
        """Whether the figure can have come from this reading."""
        return self.within_tolerance or self.by_double_rounding


@dataclass(frozen=True)
class Finding:
    """What the tables give for a statement.

    Attributes
    ----------
    value
        At full precision; None where it cannot be computed.
    method
        How it was computed, and from which tables.
    n, p
        Sample and p-value, where they belong to the statement.
    holds
        Whether the statement holds; None for a printed figure, which is compared with the value.
    alternatives
        Other readings; they count only where the stated one does not hold.
    missing
        Missing tables in words; empty where the statement can be judged in full.
    refuted
        Whether what is there refutes it already, whatever the missing tables hold.
    so_far
        What holds in the tables that are there.
    note
        Anything else that a reader should know.
    """

    value: Value
    method: str
    n: int | None = None
    p: float | None = None
    holds: bool | None = None
    alternatives: Sequence[Alternative] = ()
    missing: str = ""
    refuted: bool = False
    so_far: str = ""
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """A published statement, judged; the attributes up to ``note`` are the columns of ``claims.csv``.

    Attributes
    ----------
    gist
        The reason for the verdict in a few words; empty where it was reproduced as stated.
    """

    id: str
    source: str
    statement: str
    reported: Value
    recomputed: Value
    p: float | None
    n: int | None
    method: str
    tolerance: float | None
    verdict: Verdict
    alternative: str | None
    alternatives_tried: tuple[Alternative, ...]
    note: str
    gist: str = ""

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not finite becomes None."""
        record = {name: _plain(getattr(self, name)) for name in FIELDS}
        record["alternatives_tried"] = [
            {"name": tried.name, "value": _plain(tried.value), "within_tolerance": tried.within_tolerance}
            for tried in self.alternatives_tried
        ]
        return record


def alternatives_for(printed: str, values: Mapping[str, float]) -> tuple[Alternative, ...]:
    """Compare other readings with a printed figure.

    Parameters
    ----------
    printed
        The figure as printed.
    values
        What each reading gives, by its name.
    """
    return tuple(
        Alternative(name, value, True)
        if is_within(value, printed)
        else Alternative(name, value, False, True, rounding_steps(value, printed))
        if takes_double_rounding(value, printed)
        else Alternative(name, value, False)
        for name, value in values.items()
    )


def shared_matches(of_structures: Iterable[Sequence[Alternative]]) -> frozenset[str]:
    """Names of the readings that give the printed figure in every structure: the likelier explanation of a pair."""
    matching = [{tried.name for tried in tries if tried.matches} for tries in of_structures]
    return frozenset(set.intersection(*matching)) if matching else frozenset()


def judge(published: Published, finding: Finding, *, shared: AbstractSet[str] = frozenset()) -> Claim:
    """Decide what becomes of a statement.

    The stated reading decides. Only where it does not hold are the alternatives looked at: first those that also
    explain the same figure of the other structure, then those within the tolerance, then the order they are in.

    Parameters
    ----------
    published, finding
        The statement, and what the tables give.
    shared
        Names of :func:`shared_matches`.
    """
    holds, stated_twice = _compare(published, finding)
    tried = () if holds else (*stated_twice, *finding.alternatives)
    chosen = _choose(tried, shared)
    verdict = _verdict(finding, holds, chosen)
    known = None if isinstance(finding.value, float) and not math.isfinite(finding.value) else finding.value
    return Claim(
        id=published.id,
        source=published.source,
        statement=published.statement,
        reported=published.reported,
        recomputed=known,
        p=finding.p,
        n=finding.n,
        method=finding.method,
        tolerance=tolerance_of(str(published.printed)) if published.is_figure and finding.holds is None else None,
        verdict=verdict,
        alternative=chosen.name if chosen and verdict == "reproduced_by_alternative" else None,
        alternatives_tried=tried,
        note=" ".join(part for part in (_explain(published, finding, verdict, tried, chosen), finding.note) if part),
        gist=_gist(published, finding, verdict, chosen),
    )


def _compare(published: Published, finding: Finding) -> tuple[bool, tuple[Alternative, ...]]:
    if finding.holds is not None or finding.value is None or isinstance(finding.value, str):
        return bool(finding.holds), ()
    printed, value = str(published.printed), float(finding.value)
    if not takes_double_rounding(value, printed):
        return is_within(value, printed), ()
    return False, alternatives_for(printed, {"as stated, rounded twice": value})


def _choose(tried: Sequence[Alternative], shared: AbstractSet[str]) -> Alternative | None:
    matching = [one for one in tried if one.matches]
    return min(matching, key=lambda one: (one.name not in shared, not one.within_tolerance), default=None)


def _verdict(finding: Finding, holds: bool, chosen: Alternative | None) -> Verdict:
    if finding.missing:
        return "not_reproduced" if finding.refuted else "data_missing"
    if holds:
        return "reproduced"
    return "reproduced_by_alternative" if chosen else "not_reproduced"


def _explain(
    published: Published, finding: Finding, verdict: Verdict, tried: Sequence[Alternative], chosen: Alternative | None
) -> str:
    parts = []
    if finding.missing:
        parts.append(f"Missing: {finding.missing}.")
        parts.append(f"Over what is there: {finding.so_far}." if finding.so_far else "")
    elif verdict == "not_reproduced":
        parts.append(_distance(published, finding) or (f"Found: {finding.so_far}." if finding.so_far else ""))
        parts.append(f"None of {counted(len(tried), 'alternative')} tried gives it either." if tried else "")
    if chosen:
        others = [one.name for one in tried if one.matches and one is not chosen]
        parts.append(
            f"{'So far consistent' if finding.missing else 'Consistent'} with: {chosen.name} "
            f"({_short(chosen.value)}{_by_rounding(chosen)}); {counted(len(tried), 'alternative')} tried; "
            "after-the-fact matching is no evidence of error."
        )
        parts.append(f"Also matching: {'; '.join(others)}." if others else "")
    return " ".join(part for part in parts if part)


def _gist(published: Published, finding: Finding, verdict: Verdict, chosen: Alternative | None) -> str:
    consistent = f"consistent with: {chosen.name}" if chosen else ""
    if verdict == "reproduced_by_alternative":
        twice = ", by rounding twice" if chosen and chosen.by_double_rounding else ""
        return f"{consistent} ({_short(chosen.value) if chosen else ''}{twice})"
    if finding.missing:
        so_far = [finding.so_far, f"{consistent} ({_short(chosen.value)})" if chosen else ""]
        return "; ".join(part for part in so_far if part)
    if verdict == "not_reproduced":
        return finding.so_far or _distance(published, finding).rstrip(".")
    return ""


def _distance(published: Published, finding: Finding) -> str:
    if finding.holds is not None or not isinstance(finding.value, float | int) or not math.isfinite(finding.value):
        return ""
    printed = str(published.printed)
    off = abs(float(finding.value) - float(printed))
    return f"Off by {off:.3g}, with a tolerance of {tolerance_of(printed):g}."


def _by_rounding(chosen: Alternative) -> str:
    return f", which takes double rounding: {chosen.steps}" if chosen.by_double_rounding else ""


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
