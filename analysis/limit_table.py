"""Limits of the gate: which figure of which cell must stay below what, from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from analysis.errors import AnalysisError, suggestion

STUDY_LIMITS = Path(__file__).parent / "limits" / "study.toml"

_SELECTORS = ("modality", "perturbation", "severity", "structure")


class CasesAbove(NamedTuple):
    """The share of cases that lose more than ``delta_dice`` must be below ``share``."""

    delta_dice: float
    share: float


@dataclass(frozen=True)
class CellLimits:
    """Limits of one cell; None where there is none. Each figure must be strictly below its limit.

    Attributes
    ----------
    median_delta_dice, mean_delta_dice, worst_delta_dice
        Median, mean and largest ΔDice of the cases.
    newly_missed_share
        Share of erased lesions, of those that are detected without perturbation.
    cases_above
        Share of cases that lose more than some ΔDice.
    """

    median_delta_dice: float | None = None
    mean_delta_dice: float | None = None
    newly_missed_share: float | None = None
    worst_delta_dice: float | None = None
    cases_above: CasesAbove | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, key) is not None for key in _LIMIT_KEYS)


_LIMIT_KEYS = tuple(field.name for field in fields(CellLimits))
_Value = float | CasesAbove


@dataclass(frozen=True)
class _Rule:
    """One ``[[limit]]`` table: allowed values or patterns by selector (absent = any), and what it sets."""

    selectors: Mapping[str, tuple[str | int, ...]]
    values: Mapping[str, _Value]

    def applies_to(self, cell: Mapping[str, str | int]) -> bool:
        return all(
            any(_matches(cell[selector], pattern) for pattern in allowed)
            for selector, allowed in self.selectors.items()
        )


def _matches(value: str | int, pattern: str | int) -> bool:
    # Only * and ? are special; brackets are what names are made of.
    return value == pattern or (isinstance(pattern, str) and fnmatchcase(str(value), pattern.replace("[", "[[]")))


@dataclass(frozen=True)
class Limits:
    """All limits of a file, in file order.

    Attributes
    ----------
    path
        The file they come from.
    """

    path: Path
    _rules: tuple[_Rule, ...]

    @classmethod
    def load(cls, path: Path | str | None = None) -> Limits:
        """Load and validate a limits file.

        Parameters
        ----------
        path
            A TOML file of ``[[limit]]`` tables, explained in the packaged ``limits/study.toml``; None for
            that file.

        Raises
        ------
        AnalysisError
            Where the file cannot be read, is empty, or holds a key or value that is not understood.
        """
        path = STUDY_LIMITS if path is None else Path(path)
        return cls(path, tuple(_rule(path, i, table) for i, table in enumerate(_tables(path), start=1)))

    def of(self, modality: str, perturbation: str, severity: int, structure: str) -> CellLimits:
        """Limits of one cell: of the tables that apply, the last one that sets a key decides it."""
        values = (modality, perturbation, severity, structure)
        cell: dict[str, str | int] = dict(zip(_SELECTORS, values, strict=True))
        merged: dict[str, Any] = {}
        for rule in self._rules:
            if rule.applies_to(cell):
                merged |= rule.values
        return CellLimits(**{key: value for key, value in merged.items() if not _is_lifted(value)})

    def check_names(
        self,
        modalities: Sequence[str],
        perturbations: Sequence[str],
        structures: Sequence[str],
        severities: Sequence[int] | None = None,
    ) -> None:
        """Refuse selectors that name nothing in the benchmark: a limit with a typo would never apply.

        The packaged study limits are exempt: they fit any catalogue, and apply where it has the study's
        perturbations.

        Parameters
        ----------
        modalities, perturbations, structures, severities
            What the benchmark has; severities are not checked where None.

        Raises
        ------
        AnalysisError
            For the first unknown name.
        """
        if self.path == STUDY_LIMITS:
            return
        known: dict[str, Sequence[str | int]] = {
            "modality": modalities,
            "perturbation": perturbations,
            "structure": structures,
        }
        if severities is not None:
            known["severity"] = severities
        for number, rule in enumerate(self._rules, start=1):
            for selector in rule.selectors.keys() & known.keys():
                for value in rule.selectors[selector]:
                    _refuse_unknown_value(self.path, number, selector, value, known[selector])


def _refuse_unknown_value(path: Path, number: int, selector: str, value: str | int, known: Sequence[str | int]) -> None:
    if not any(_matches(name, value) for name in known):
        names = [str(name) for name in known]
        raise AnalysisError(
            f"limits {path}, [[limit]] number {number}: {selector} = {value!r} names nothing in "
            f"this benchmark; {suggestion(str(value), names)}expected one of {', '.join(names)}"
        )


def _tables(path: Path) -> list[Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnalysisError(
            f"limits {path}: cannot be read ({error.strerror}); expected a TOML file of [[limit]] tables; "
            f"name one, or leave the option away for the study's limits"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AnalysisError(
            f"limits {path}: not valid TOML ({error}); expected [[limit]] tables; correct it there"
        ) from error
    for key in content.keys() - {"limit", "margins"}:
        raise AnalysisError(
            f"limits {path}: found {key!r}; {suggestion(key, ['limit', 'margins'])}expected only [[limit]] tables, and "
            "[margins] of a model update"
        )
    tables = content.get("limit", [] if "margins" not in content else None)
    if tables is None:
        return []
    if not isinstance(tables, list) or not tables:
        found = "no [[limit]] table" if tables is None or tables == [] else f"limit = {tables!r}"
        raise AnalysisError(f"limits {path}: found {found}; expected at least one; start from a copy of {STUDY_LIMITS}")
    return tables


def _rule(path: Path, number: int, table: Any) -> _Rule:
    where = f"limits {path}, [[limit]] number {number}"
    if not isinstance(table, dict):
        raise AnalysisError(f"{where}: found {table!r}; expected a table; write it below a line [[limit]]")
    for key in table:
        if key not in (*_SELECTORS, *_LIMIT_KEYS):
            raise AnalysisError(
                f"{where}: unknown key {key!r}; {suggestion(key, (*_SELECTORS, *_LIMIT_KEYS))}"
                f"expected the selectors {', '.join(_SELECTORS)} or the limits {', '.join(_LIMIT_KEYS)}"
            )
    values = {key: _limit(where, key, table[key]) for key in _LIMIT_KEYS if key in table}
    if not values:
        raise AnalysisError(
            f"{where}: sets no limit; expected at least one of {', '.join(_LIMIT_KEYS)}; add one or delete the table"
        )
    return _Rule({key: _selector(where, key, table[key]) for key in _SELECTORS if key in table}, values)


def _selector(where: str, key: str, value: Any) -> tuple[str | int, ...]:
    choices = value if isinstance(value, list) else [value]
    if not choices or not all(_is_choice(key, choice) for choice in choices):
        noun = "whole number" if key == "severity" else "name, which may hold * and ?,"
        raise AnalysisError(
            f"{where}: {key} = {value!r}; expected a {noun} or a list of them; leave {key} away for any"
        )
    return tuple(choices)


def _is_choice(key: str, choice: Any) -> bool:
    if key != "severity":
        return isinstance(choice, str)
    # bool is an int in Python, and no severity.
    return choice == "*" or (isinstance(choice, int) and not isinstance(choice, bool))


def _is_lifted(value: _Value) -> bool:
    return math.isinf(value.share if isinstance(value, CasesAbove) else value)


def _limit(where: str, key: str, value: Any) -> _Value:
    if key != "cases_above":
        return _number(where, key, value)
    if not isinstance(value, dict) or value.keys() != set(CasesAbove._fields):
        raise AnalysisError(
            f"{where}: cases_above = {value!r}; expected {{ delta_dice = 0.3, share = 0.1 }}: fewer than that share of "
            "cases may lose more than that"
        )
    return CasesAbove(
        _number(f"{where}, cases_above", "delta_dice", value["delta_dice"]),
        _number(f"{where}, cases_above", "share", value["share"]),
    )


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise AnalysisError(f"{where}: {key} = {value!r}; expected a number such as 0.05, or inf for no limit")
    lowest = 0 if key in {"newly_missed_share", "share"} else -1
    if value <= lowest or (value > 1 and not math.isinf(value)):
        raise AnalysisError(
            f"{where}: {key} = {value}; expected a fraction above {lowest} and at most 1 (not per cent), or "
            "inf to lift the limit; a figure must be strictly below it, so the lowest could never be met"
        )
    return float(value)
