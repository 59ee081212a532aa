"""Perturbation catalogues: which TorchIO transform, at which severities, as TOML data."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torchio

from nnunet_plugin.benchmark.errors import BenchmarkError

BASELINE = "baseline"


@dataclass(frozen=True)
class Entry:
    """One perturbation at one severity.

    Attributes
    ----------
    perturbation
        Its name in the catalogue, e.g. ``spike``.
    severity
        Its level, counted from 1.
    transform
        Name of a TorchIO intensity transform, e.g. ``RandomSpike``.
    parameters
        Keyword arguments of that transform.
    """

    perturbation: str
    severity: int
    transform: str
    parameters: Mapping[str, Any]

    def build(self) -> torchio.IntensityTransform:
        """Construct the TorchIO transform."""
        transform: torchio.IntensityTransform = getattr(torchio, self.transform)(**self.parameters)
        return transform

    def canonical(self) -> str:
        """Text that is equal for equal entries: the seed of a draw depends on it."""
        return json.dumps([self.perturbation, self.severity, self.transform, self.parameters], sort_keys=True)


@dataclass(frozen=True)
class Catalogue:
    """All perturbations of a benchmark, in file order.

    Attributes
    ----------
    name
        File name without its ending.
    entries
        Every perturbation at every severity.
    """

    name: str
    entries: tuple[Entry, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of the content; comments and layout of the file do not count."""
        return hashlib.sha256("\n".join(entry.canonical() for entry in self.entries).encode()).hexdigest()

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Names of the perturbations, in file order."""
        return tuple(dict.fromkeys(entry.perturbation for entry in self.entries))

    @property
    def severities(self) -> dict[str, int]:
        """Number of severities of each perturbation, in file order."""
        return dict(Counter(entry.perturbation for entry in self.entries))

    def entry(self, perturbation: str, severity: int) -> Entry:
        """Look up one perturbation at one severity; KeyError where there is none."""
        for entry in self.entries:
            if (entry.perturbation, entry.severity) == (perturbation, severity):
                return entry
        raise KeyError((perturbation, severity))


def shipped() -> tuple[str, ...]:
    """Names of the catalogues that come with the package."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.toml")))


def load_catalogue(name: str) -> Catalogue:
    """Load and validate a catalogue.

    Parameters
    ----------
    name
        ``paper``, ``calibrated`` or the path of a TOML file: a table ``[perturbations.NAME]`` for each perturbation,
        holding ``transform`` (a TorchIO intensity transform) and ``severities`` (a list of its keyword arguments).

    Raises
    ------
    BenchmarkError
        Where the file is missing or malformed, or names a transform or argument that TorchIO does not accept.
    """
    path = Path(__file__).parent / f"{name}.toml" if name in shipped() else Path(name)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        known = ", ".join(shipped())
        raise BenchmarkError(
            f"catalogue {name!r}: cannot read {path} ({error.strerror}); expected {known} or the path of a TOML file"
        ) from error
    except (ValueError, RecursionError) as error:  # beside TOML's own errors: numbers without end, nesting without end
        raise BenchmarkError(f"catalogue {path} is not valid TOML: {error}") from error
    perturbations = content.get("perturbations")
    if content.keys() - {"perturbations"} or not isinstance(perturbations, dict) or not perturbations:
        raise BenchmarkError(
            f"catalogue {path}: found the tables {sorted(content)}; "
            "expected only [perturbations.NAME] tables, at least one"
        )
    entries = [e for key, table in perturbations.items() for e in _entries(path, key, table)]
    return Catalogue(path.stem, tuple(entries))


def _entries(path: Path, name: str, table: Any) -> list[Entry]:
    where = f"catalogue {path}, perturbation {name!r}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name == BASELINE:
        raise BenchmarkError(
            f"{where}: a name is letters, digits and _ (it becomes part of test ids), not {BASELINE!r}"
        )
    if not isinstance(table, dict) or table.keys() != {"transform", "severities"}:
        found = sorted(table) if isinstance(table, dict) else table
        raise BenchmarkError(f"{where}: found {found}; expected exactly the keys transform and severities")
    severities = table["severities"]
    if not isinstance(severities, list) or not severities or not all(isinstance(s, dict) for s in severities):
        raise BenchmarkError(f"{where}: severities must be a list of tables, mildest first; found {severities!r}")
    transform = _transform_class(where, table["transform"])
    entries = [Entry(name, level, transform.__name__, s) for level, s in enumerate(severities, start=1)]
    for entry in entries:
        _check(f"{where}, severity {entry.severity}", transform, entry)
    return entries


def _transform_class(where: str, name: Any) -> type[torchio.IntensityTransform]:
    candidate = getattr(torchio, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(candidate) and issubclass(candidate, torchio.Transform)):
        known = [
            n for n, c in vars(torchio).items() if inspect.isclass(c) and issubclass(c, torchio.IntensityTransform)
        ]
        raise BenchmarkError(f"{where}: TorchIO has no transform {name!r}{suggestion(name, known)}")
    if not issubclass(candidate, torchio.IntensityTransform):
        raise BenchmarkError(
            f"{where}: {name} is no intensity transform; one that moves voxels would invalidate the reference contours"
        )
    return candidate


def _check(where: str, transform: type[torchio.IntensityTransform], entry: Entry) -> None:
    known = [p for p in inspect.signature(transform.__init__).parameters if p not in {"self", "kwargs"}]
    for parameter in entry.parameters:
        if parameter not in known:
            raise BenchmarkError(
                f"{where}: {transform.__name__} has no parameter {parameter!r}{suggestion(parameter, known)}"
            )
    # The trial on a small volume finds what a constructor lets through: transforms that need a label map or change
    # the shape, and values that overflow.
    trial = torchio.Subject(image=torchio.ScalarImage(tensor=torch.linspace(0, 1, 8**3).reshape(1, 8, 8, 8)))
    try:
        with torch.random.fork_rng(devices=[]):
            result: torch.Tensor = entry.build()(trial).get_first_image().data
    except Exception as error:
        raise BenchmarkError(f"{where}: {transform.__name__} refuses {dict(entry.parameters)}: {error}") from error
    if result.shape != (1, 8, 8, 8) or not bool(torch.isfinite(result.float()).all()):
        raise BenchmarkError(
            f"{where}: {transform.__name__} turned a volume of shape (1, 8, 8, 8) into shape {tuple(result.shape)} "
            "or into values that are not finite; a perturbation keeps the shape and stays finite"
        )


def suggestion(name: Any, known: list[str] | tuple[str, ...]) -> str:
    """Second half of a message about an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
