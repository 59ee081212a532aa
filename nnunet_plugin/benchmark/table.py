"""All rows of a run: parsed from its rows files, or taken from ``metrics.parquet`` where that is still true.

The rows files are the truth. The table remembers the state of each file that it was made from, so that a run of
thousands of cases opens in seconds; whatever is wrong with the table costs time, never a row.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnunet_plugin.benchmark.cohort import is_case_name
from nnunet_plugin.benchmark.row_file import ROW_COLUMNS, VariantKey, parse_rows, variant_key

_TEXTS = ("case", "modality", "perturbation", "structure", "outcome", "parameters")
_INTEGERS = ("severity", "seed")
_COUNTS = ("tp", "fp", "fn", "tn")
_SCHEMA = pa.schema(
    (name, pa.large_string() if name in _TEXTS else pa.int64() if name in _INTEGERS else pa.float64())
    for name in ROW_COLUMNS
)

_KEY = b"robustness_rows"
"""Where the table's schema metadata holds what it was made from."""

_FORMAT = 1
"""Raised whenever :func:`parse_rows` would no longer give the rows that tables on disk hold."""

_QUIET_NS = 2 * 10**9


class Stamp(NamedTuple):
    """State of a rows file: another stamp means that it has changed."""

    size: int
    mtime_ns: int


def stamps_of(run: Path) -> dict[str, Stamp]:
    """State of every rows file of a run folder, by case."""
    stamps = {}
    with suppress(FileNotFoundError), os.scandir(run / "rows") as entries:
        for entry in entries:
            case, _, ending = entry.name.rpartition(".")
            with suppress(FileNotFoundError):  # deleted meanwhile
                if ending == "jsonl" and is_case_name(case) and entry.is_file():
                    status = entry.stat()
                    stamps[case] = Stamp(status.st_size, status.st_mtime_ns)
    return stamps


@dataclass(frozen=True)
class RowTable:
    """All complete rows of a run.

    Attributes
    ----------
    rows
        Columns as in ``ROW_COLUMNS``, in any order of rows.
    structures
        Names of the structures, in order.
    stamps
        States of the files that can tell whether a case has changed since it was read.
    """

    rows: pa.Table
    structures: tuple[str, ...]
    stamps: Mapping[str, Stamp]

    @classmethod
    def read(cls, run: Path, structures: Sequence[str]) -> RowTable:
        """Read the rows of a run folder, parsing the files that have changed since its table was written."""
        # Before any file is parsed: rows that are appended meanwhile make the stamp a wrong one.
        now, found = time.time_ns(), stamps_of(run)
        known = _stored(run / "metrics.parquet", tuple(structures))
        unchanged = [case for case, stamp in found.items() if known.stamps.get(case) == stamp]
        kept = known.rows.filter(pc.is_in(known.rows["case"], pa.array(unchanged, pa.large_string())))
        changed = sorted(found.keys() - set(unchanged))
        # File by file: as dictionaries all rows at once would take gigabytes.
        parsed = [pa.Table.from_pylist(_parse(run, case, structures), _SCHEMA) for case in changed]
        # A file written twice within the resolution of its file system's clock looks the same after both, if the
        # size is the same too: only a file that has been left alone for a while is known by its stamp (Git calls
        # the others racily clean).
        quiet = {case: stamp for case, stamp in found.items() if now - stamp.mtime_ns > _QUIET_NS}
        return cls(pa.concat_tables([kept, *parsed]), tuple(structures), quiet)

    def frame(self) -> pd.DataFrame:
        """Rows sorted by case, variant and structure; types depend on nothing but the values."""
        rows = self.rows.take(self._order())
        frame = rows.drop_columns("seed").to_pandas()
        # A plain integer column with gaps becomes float, which cannot hold a seed.
        seeds = rows["seed"].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        frame.insert(ROW_COLUMNS.index("seed"), "seed", seeds)
        for name in _COUNTS:
            if np.isfinite(frame[name]).all() and (frame[name] % 1 == 0).all():
                frame[name] = frame[name].astype("int64")
        return frame

    def to_parquet(self) -> bytes:
        """Content of ``metrics.parquet``: the frame, and what it was made from."""
        table = pa.Table.from_pandas(self.frame(), preserve_index=False)
        made_from = {"format": _FORMAT, "rows": len(table), "structures": self.structures, "stamps": self.stamps}
        metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(made_from).encode()}
        content = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), content, write_page_checksum=True)
        return content.getvalue()

    def _order(self) -> pa.Array:
        rank = pc.index_in(self.rows["structure"], pa.array(self.structures, pa.large_string()))
        # False before true: rows without a modality come first.
        rows = self.rows.append_column("has_modality", pc.is_valid(self.rows["modality"])).append_column("rank", rank)
        keys = ("case", "has_modality", "modality", "perturbation", "severity", "rank")
        return pc.sort_indices(rows, [(key, "ascending") for key in keys])


class MeasuredVariants:
    """Variants of every case that are complete on disk; a file is read again only once it has changed.

    Parameters
    ----------
    run
        The run folder.
    structures
        Names of the structures, in order.
    """

    def __init__(self, run: Path, structures: Sequence[str]) -> None:
        self._run, self._structures = run, structures
        self._known: dict[str, tuple[Stamp, set[VariantKey]]] | None = None

    def by_case(self) -> dict[str, set[VariantKey]]:
        """Look again; gives the variants of every case that has a rows file."""
        if self._known is None:
            self._known = self._in_table()
        known = self._known
        # Rows are only ever appended while somebody watches: the size alone would tell.
        self._known = {
            case: known[case] if case in known and known[case][0] == stamp else (stamp, self._parsed(case))
            for case, stamp in stamps_of(self._run).items()
        }
        return {case: variants for case, (_, variants) in self._known.items()}

    def _parsed(self, case: str) -> set[VariantKey]:
        return {variant_key(row) for row in _parse(self._run, case, self._structures)}

    def _in_table(self) -> dict[str, tuple[Stamp, set[VariantKey]]]:
        table = _stored(self._run / "metrics.parquet", tuple(self._structures))
        known: dict[str, tuple[Stamp, set[VariantKey]]] = {case: (stamp, set()) for case, stamp in table.stamps.items()}
        columns = (table.rows[name].to_pylist() for name in ("case", "modality", "perturbation", "severity"))
        for case, *variant in zip(*columns, strict=True):
            if case in known:
                known[case][1].add(tuple(variant))
        return known


def _parse(run: Path, case: str, structures: Sequence[str]) -> list[dict[str, Any]]:
    return parse_rows(run / "rows" / f"{case}.jsonl", structures)[1]


def _stored(path: Path, structures: tuple[str, ...]) -> RowTable:
    """The table on disk; an empty one where there is none, or one that is damaged, older, or of something else."""
    nothing = RowTable(_SCHEMA.empty_table(), structures, {})
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            made_from = json.loads((file.schema_arrow.metadata or {})[_KEY])
            expected = (_FORMAT, file.metadata.num_rows, list(structures))
            if (made_from["format"], made_from["rows"], made_from["structures"]) != expected:
                return nothing
            rows = file.read().select(ROW_COLUMNS).replace_schema_metadata().cast(_SCHEMA)
        return RowTable(rows, structures, {case: Stamp(*of) for case, of in made_from["stamps"].items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException):
        return nothing  # it is derived: all that it says is in the rows files
