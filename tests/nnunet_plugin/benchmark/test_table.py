"""The table spares parsing and never changes a row. Oracle: every line parsed, and sorted by pandas."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_plugin.benchmark import table
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import ROW_COLUMNS, encoded_line, parse_rows
from nnunet_plugin.benchmark.table import MeasuredVariants

STRUCTURES = ("GTVp", "GTVn")  # not in the order of the alphabet
CASES = ("B-2", "a-1", "É-3", "C-4")
VARIANTS = ((None, "baseline", 0), *((m, "spike", s) for m in ("PET", "CT") for s in (2, 1)))
HOUR = 3600 * 10**9

Variant = tuple[str | None, str, int]


def run_settings(structures: tuple[str, ...] = STRUCTURES) -> dict[str, object]:
    labels = {name: value for value, name in enumerate(STRUCTURES, start=1)}
    cohort = {"modalities": ["PET", "CT"], "structures": list(structures), "labels": labels, "cases": list(CASES)}
    return {"seed": 0, "cohort": cohort}


def lines_of(case: str, variant: Variant, dice: float = 0.1) -> bytes:
    modality, perturbation, severity = variant
    row: dict[str, object] = dict.fromkeys(ROW_COLUMNS, dice) | dict.fromkeys(("tp", "fp", "fn", "tn"), 7 * severity)
    row |= {"case": case, "modality": modality, "perturbation": perturbation, "severity": severity}
    row |= {"outcome": "detected", "parameters": json.dumps({"std": severity}), "hd95_mm": math.inf}
    row |= {"seed": 2**63 - 1 - severity if modality else None, "fold_agreement": None, "sensitivity": math.nan}
    return b"".join(encoded_line(row | {"structure": name}) for name in STRUCTURES)


def write_case(file: Path, variants: tuple[Variant, ...] = VARIANTS, dice: float = 0.1, hours: int = 1) -> None:
    """Write the rows of a case as of some hours ago."""
    header = encoded_line({"case": file.stem, "sha256": {"CT": "1"}})
    file.write_bytes(header + b"".join(lines_of(file.stem, variant, dice) for variant in variants))
    change_time(file, hours)


def change_time(file: Path, hours: int) -> None:
    at = file.stat().st_mtime_ns - hours * HOUR
    os.utime(file, ns=(at, at))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A run that was measured an hour ago, with its table."""
    run = RunFolder.create(tmp_path_factory.mktemp("written") / "run", run_settings())
    for case in CASES:
        write_case(run.path / "rows" / f"{case}.jsonl")
    run.write_table()
    return run.path


@pytest.fixture
def run(written, tmp_path) -> RunFolder:
    shutil.copytree(written, tmp_path / "run")  # with the times of the files
    return RunFolder(tmp_path / "run")


@pytest.fixture
def parsed(monkeypatch) -> Iterator[list[str]]:
    """Cases that are parsed from now on."""
    cases: list[str] = []

    def parse(path: Path, structures: tuple[str, ...]) -> object:
        cases.append(path.stem)
        return parse_rows(path, structures)

    monkeypatch.setattr(table, "parse_rows", parse)
    return cases


def by_pandas(run: RunFolder) -> pd.DataFrame:
    rows = [row for file in (run.path / "rows").glob("*.jsonl") for row in parse_rows(file, run.structures)[1]]
    frame = pd.DataFrame.from_records(rows, columns=list(ROW_COLUMNS)).astype({"fold_agreement": float})
    frame["seed"] = pd.array([row["seed"] for row in rows], dtype="Int64")
    return frame.sort_values(
        ["case", "modality", "perturbation", "severity", "structure"],
        key=lambda column: column.map(list(run.structures).index) if column.name == "structure" else column,
        na_position="first",
        ignore_index=True,
    )


def assert_true_rows(run: RunFolder) -> None:
    found = run.rows()
    pd.testing.assert_frame_equal(found, by_pandas(run), check_exact=True)
    (run.path / "metrics.parquet").unlink(missing_ok=True)
    pd.testing.assert_frame_equal(found, run.rows(), check_exact=True)


def test_nothing_is_parsed_where_nothing_has_changed(run, parsed):
    rows = run.rows()
    run.write_table()
    assert parsed == []
    assert len(rows) == len(CASES) * len(VARIANTS) * 2
    pd.testing.assert_frame_equal(pd.read_parquet(run.path / "metrics.parquet"), rows, check_exact=True)
    assert_true_rows(run)
    assert sorted(parsed) == sorted(CASES)  # the second reading, without a table


def test_only_what_has_changed_is_parsed(run, parsed):
    write_case(run.path / "rows" / "a-1.jsonl", VARIANTS[:3], dice=0.2, hours=2)
    (run.path / "rows" / "C-4.jsonl").unlink()
    write_case(run.path / "rows" / "D-5.jsonl", hours=2)
    run.write_table()
    assert sorted(parsed) == ["D-5", "a-1"]
    run.write_table()
    assert sorted(parsed) == ["D-5", "a-1"]
    assert_true_rows(run)


def append_to(file: Path) -> None:
    with file.open("ab") as rows:
        rows.write(lines_of(file.stem, ("CT", "blur", 1)))


def break_tail(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def measure_again(file: Path) -> None:
    """The same size, another time."""
    write_case(file, dice=0.3, hours=5)


CHANGES: list[Callable[[Path], None]] = [
    append_to,
    break_tail,
    measure_again,
    Path.unlink,
    Path.touch,
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(b"garbage\n" + file.read_bytes()),
    lambda file: write_case(file.with_stem("copy of " + file.stem)),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.tuples(st.sampled_from(CASES), st.sampled_from(CHANGES))), min_size=1, max_size=6)
)
def test_any_changes_and_tables_in_any_order(written, tmp_path_factory, steps):
    """None stands for the end of a session, which writes the table."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(written, folder, dirs_exist_ok=True)
    run = RunFolder(folder)
    for step in steps:
        if step is None:
            run.write_table()
        elif (file := folder / "rows" / f"{step[0]}.jsonl").exists():
            step[1](file)
    assert_true_rows(run)


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1), length=st.integers(0, 300), garbage=st.binary(max_size=300))
def test_table_that_is_damaged_anywhere(written, tmp_path_factory, place, length, garbage):
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(written, folder, dirs_exist_ok=True)
    whole = (folder / "metrics.parquet").read_bytes()
    start = int(place * len(whole))
    (folder / "metrics.parquet").write_bytes(whole[:start] + garbage + whole[start + length :])
    assert_true_rows(RunFolder(folder))


def test_bit_that_flips_in_a_value(run):
    """Where pandas, which asks for no checksums, reads other rows and does not notice."""
    path, rows = run.path / "metrics.parquet", run.rows()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(OSError, ValueError):
            if not pd.read_parquet(path).equals(rows):
                break
    else:
        pytest.fail("no bit counts")
    assert_true_rows(run)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **made_from: object) -> None:
    stored = change(pq.read_table(path))
    metadata = stored.schema.metadata
    says = json.loads(metadata[b"robustness_rows"]) | made_from
    pq.write_table(stored.replace_schema_metadata(metadata | {b"robustness_rows": json.dumps(says).encode()}), path)


def wrong_dice(stored: pa.Table) -> pa.Table:
    return stored.set_column(stored.schema.get_field_index("dice"), "dice", pc.multiply(stored["dice"], 2.0))


def as_text(stored: pa.Table) -> pa.Table:
    return stored.set_column(5, "dice", pa.array(["high"] * len(stored)))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("case,dice\nA,1\n"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "another program's": lambda path: pd.read_parquet(path).assign(dice=1.0).to_parquet(path),
    "another format": lambda path: rewrite(path, wrong_dice, format=0),
    "other structures": lambda path: rewrite(path, wrong_dice, structures=["GTVn", "GTVp"]),
    "rows deleted": lambda path: rewrite(path, lambda stored: stored.slice(3)),
    "column missing": lambda path: rewrite(path, lambda stored: stored.drop_columns("seed")),
    "column of another type": lambda path: rewrite(path, as_text),
    "stamps that are none": lambda path: rewrite(path, wrong_dice, stamps=[1]),
    "stamps of other files": lambda path: rewrite(path, wrong_dice, stamps={case: [1, 2] for case in CASES}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_table_of_something_else(run, parsed, kind):
    FOREIGN[kind](run.path / "metrics.parquet")
    rows = run.rows()
    assert sorted(parsed) == sorted(CASES)
    pd.testing.assert_frame_equal(rows, by_pandas(run), check_exact=True)


def test_file_written_twice_within_the_resolution_of_the_clock(run):
    """Same size and same time, other rows: the table, written in between, must not be believed."""
    file = run.path / "rows" / "a-1.jsonl"
    write_case(file, dice=0.2, hours=0)
    status = file.stat()
    run.write_table()
    write_case(file, dice=0.3, hours=0)
    assert file.stat().st_size == status.st_size
    os.utime(file, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert set(run.rows().query("case == 'a-1'")["dice"]) == {0.3}
    assert_true_rows(run)


def test_rows_appended_while_the_table_is_made(run, monkeypatch):
    (run.path / "metrics.parquet").unlink()

    def parse_and_append(path: Path, structures: tuple[str, ...]) -> object:
        found = parse_rows(path, structures)
        append_to(path)
        change_time(path, 1)
        return found

    monkeypatch.setattr(table, "parse_rows", parse_and_append)
    run.write_table()
    monkeypatch.undo()
    assert "blur" not in set(pd.read_parquet(run.path / "metrics.parquet")["perturbation"])
    assert (run.rows()["perturbation"] == "blur").sum() == len(CASES) * 2
    assert_true_rows(run)


def test_run_without_rows(tmp_path):
    run = RunFolder.create(tmp_path, run_settings())
    run.write_table()
    assert run.rows().empty
    assert tuple(run.rows().columns) == ROW_COLUMNS
    shutil.rmtree(tmp_path / "rows")
    assert run.rows().empty


def test_file_whose_name_is_no_text(run):
    try:
        stray = Path(os.fsdecode(os.fsencode(run.path / "rows") + b"/\xff.jsonl"))
        stray.write_bytes(lines_of("B-2", VARIANTS[0]))
    except OSError:
        pytest.skip("this file system has text names only")
    change_time(stray, 1)
    run.write_table()
    assert_true_rows(run)


def test_types_depend_on_the_values_only(run):
    """A count that one case lacks makes the column of all a float, and no longer once that case is gone."""
    file = run.path / "rows" / "a-1.jsonl"
    rows = [json.loads(line) for line in lines_of("a-1", VARIANTS[0]).splitlines()]
    for row in rows:
        del row["crc32"]
        row["tp"] = None
    file.write_bytes(b"".join(map(encoded_line, [{"case": "a-1", "sha256": {}}, *rows])))
    change_time(file, 1)
    run.write_table()
    assert run.rows()["tp"].dtype == "float64"
    file.unlink()
    assert run.rows()["tp"].dtype == "int64"
    assert_true_rows(run)


def test_rows_file_that_cannot_be_read(run, monkeypatch):
    file = run.path / "rows" / "a-1.jsonl"
    append_to(file)

    def broken_disk(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", broken_disk)
    with pytest.raises(BenchmarkError, match=r"a-1\.jsonl: cannot be read \(Input/output error\)"):
        run.rows()


def test_measured_variants_are_read_again_only_where_a_file_has_changed(run, parsed):
    measured = MeasuredVariants(run.path, run.structures)
    assert measured.by_case() == {case: set(VARIANTS) for case in CASES}
    assert parsed == []
    append_to(run.path / "rows" / "a-1.jsonl")
    break_tail(run.path / "rows" / "B-2.jsonl")
    (run.path / "rows" / "C-4.jsonl").unlink()
    expected = {"a-1": {*VARIANTS, ("CT", "blur", 1)}, "B-2": set(VARIANTS[:-1]), "É-3": set(VARIANTS)}
    assert measured.by_case() == expected
    assert sorted(parsed) == ["B-2", "a-1"]
    assert measured.by_case() == expected
    assert len(parsed) == 2
    (run.path / "metrics.parquet").unlink()
    assert MeasuredVariants(run.path, run.structures).by_case() == expected
