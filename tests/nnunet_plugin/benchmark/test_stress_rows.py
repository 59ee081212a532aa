"""What a rows file, ``run.toml`` and the folder around them can hold after a fault, an editor or an attacker."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder, write_atomically
from nnunet_plugin.benchmark.row_file import ROW_COLUMNS, CaseRows, RunFolderError, parse_rows, read_header

STRUCTURES = ("GTVp", "GTVn")
SETTINGS = {
    "seed": 0,
    "model": {"sha256": "a"},
    "cohort": {
        "modalities": ["CT"],
        "structures": list(STRUCTURES),
        "labels": {"GTVp": 1, "GTVn": 2},
        "cases": ["A", "B"],
    },
    "provenance": {"created": "today"},
}
HASHES = {"CT": "1", "label": "2"}
VARIANTS = ((None, "baseline", 0), *(("CT", "spike", severity) for severity in (1, 2, 3)))


def rows_of(variant: tuple[str | None, str, int], structures: tuple[str, ...] = STRUCTURES) -> list[dict[str, Any]]:
    modality, perturbation, severity = variant
    base = dict.fromkeys(ROW_COLUMNS, 0.125 * severity) | {"case": "A", "outcome": "detected", "parameters": "null"}
    base |= {"modality": modality, "perturbation": perturbation, "severity": severity, "hd95_mm": math.inf}
    base |= {"seed": 2**62 + severity if modality else None, "fold_agreement": math.nan}
    return [base | {"structure": name} for name in structures]


def fill(file: Path, structures: tuple[str, ...] = STRUCTURES) -> CaseRows:
    """Measure what is missing."""
    rows = CaseRows(file, "A", HASHES, structures)
    for variant in VARIANTS:
        if variant not in rows.done:
            rows.append(rows_of(variant, structures))
    return rows


@pytest.fixture(params=[STRUCTURES, STRUCTURES[:1]], ids=["two structures", "one structure"])
def structures(request) -> tuple[str, ...]:
    return request.param


@pytest.fixture
def file(tmp_path, structures) -> Path:
    fill(tmp_path / "A.jsonl", structures)
    return tmp_path / "A.jsonl"


def lines_of(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def assert_mended(file: Path, whole: bytes, structures: tuple[str, ...] = STRUCTURES, reported: bool = True) -> None:
    """No wrong row is read, none is there twice, and measuring what is missing gives the rows of before."""
    sound = [json.dumps(row) for variant in VARIANTS for row in rows_of(variant, structures)]
    found = [json.dumps({key: row[key] for key in ROW_COLUMNS}) for row in parse_rows(file, structures)[1]]
    assert set(found) <= set(sound)
    assert len(found) == len(set(found))
    assert (fill(file, structures).repaired is not None) == reported
    assert sorted(lines_of(file.read_bytes())) == sorted(lines_of(whole))


@settings(max_examples=100, deadline=None)
@given(
    place=st.integers(0, 6000),
    garbage=st.one_of(
        st.binary(min_size=1, max_size=20),
        st.sampled_from(
            [b"0", b"1", b"9", b"\0", b" ", b"\n", b"\r", b"}", b"]", b",", b"-", b"e", b"\xff", b"\n{}\n"]
        ),
    ),
)
def test_bytes_that_slip_in(tmp_path_factory, place, garbage):
    """Also those that leave valid JSON: a digit more in a distance."""
    file = tmp_path_factory.mktemp("rows") / "A.jsonl"
    fill(file)
    whole = file.read_bytes()
    place = min(place, len(whole))
    file.write_bytes(whole[:place] + garbage + whole[place:])
    assert_mended(file, whole)


@settings(max_examples=60, deadline=None)
@example(place=52, length=1, value=32)  # the name of the header's checksum
@given(place=st.integers(0, 6000), length=st.integers(1, 40), value=st.integers(0, 255))
def test_bytes_that_are_overwritten(tmp_path_factory, place, length, value):
    file = tmp_path_factory.mktemp("rows") / "A.jsonl"
    fill(file)
    whole = file.read_bytes()
    place = min(place, len(whole) - length)
    changed = whole[:place] + bytes([value]) * length + whole[place + length :]
    file.write_bytes(changed)
    assert_mended(file, whole, reported=changed != whole)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.sampled_from([1, 2]))
def test_lines_deleted_doubled_and_swapped(tmp_path_factory, data, count):
    chosen = STRUCTURES[:count]
    file = tmp_path_factory.mktemp("rows") / "A.jsonl"
    fill(file, chosen)
    whole = file.read_bytes()
    lines = lines_of(whole)
    one, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    what = data.draw(st.sampled_from(["delete", "double", "swap"]))
    if what == "delete":
        del lines[one]
    elif what == "double":
        lines.insert(other, lines[one])
    else:
        lines[one], lines[other] = lines[other], lines[one]
    file.write_bytes(b"".join(lines))
    read = parse_rows(file, chosen)
    # A variant that is gone, or stands elsewhere, leaves nothing to report.
    assert_mended(file, whole, chosen, reported=read[2] < len(b"".join(lines)))


def unsealed(line: bytes, **changes: object) -> bytes:
    """A line as an editor would leave it: other values, no checksum."""
    record = json.loads(line) | changes
    del record["crc32"]
    return json.dumps(record).encode() + b"\n"


WRONG = [
    ("dice", "0.5"),
    ("dice", None),
    ("dice", math.nan),
    ("dice", math.inf),
    ("dice", 1.5),
    ("dice", -0.1),
    ("dice", True),
    ("dice_to_baseline_prediction", math.nan),
    ("severity", [1]),
    ("severity", 1.0),
    ("severity", True),
    ("severity", -1),
    ("severity", 0),
    ("severity", 10**30),
    ("modality", {"CT": 1}),
    ("modality", None),
    ("modality", 3),
    ("perturbation", ["spike"]),
    ("perturbation", "baseline"),
    ("perturbation", "a\nb"),
    ("perturbation", "\ud800"),
    ("structure", "GTVx"),
    ("structure", None),
    ("structure", ["GTVp"]),
    ("case", "B"),
    ("case", "../A"),
    ("case", None),
    ("outcome", "perfect"),
    ("outcome", None),
    ("outcome", []),
    ("hd95_mm", -1),
    ("hd_mm", "far"),
    ("sensitivity", 2),
    ("max_probability", math.inf),
    ("tp", -1),
    ("tp", [1]),
    ("tp", 10**400),
    ("seed", "1"),
    ("seed", 0.5),
    ("seed", 2**63),
    ("seed", -1),
    ("parameters", {"transform": "Spike"}),
    ("parameters", "{"),
    ("parameters", "[" * 100_000),
    ("parameters", '"\ud800"'),
    ("seconds_predict", "long"),
    ("unheard_of", 1),
]


@pytest.mark.parametrize(("column", "value"), WRONG, ids=[f"{c}-{i}" for i, (c, _) in enumerate(WRONG)])
def test_value_that_no_measurement_gives(file, structures, column, value):
    """Valid JSON without a checksum, which earlier versions did not write."""
    whole = file.read_bytes()
    lines = lines_of(whole)
    sound = [unsealed(line) for line in lines]
    file.write_bytes(b"".join(sound))
    assert fill(file, structures).repaired is None
    place = 1 + 2 * len(structures)
    file.write_bytes(b"".join([*lines[:place], unsealed(lines[place], **{column: value}), *lines[place + 1 :]]))
    assert_mended(file, whole, structures)


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b"9" * 5000, b"null", b'"text"', b"[]", b"NaN", b"{}", b'{"case": "A"}', b'{"sha256": {}}'],
    ids=lambda line: line[:20].decode(),
)
@pytest.mark.parametrize("place", [0, 3])
def test_line_that_is_something_else(file, structures, line, place):
    whole = file.read_bytes()
    lines = lines_of(whole)
    file.write_bytes(b"".join([*lines[:place], line + b"\n", *lines[place:]]))
    assert_mended(file, whole, structures)


@pytest.mark.parametrize("header", [{"case": "B", "sha256": HASHES}, {"case": "A", "sha256": {"CT": 1}}, {"case": "A"}])
def test_header_of_another_case_or_none(file, structures, header):
    whole = file.read_bytes()
    file.write_bytes(json.dumps(header).encode() + b"\n" + b"".join(lines_of(whole)[1:]))
    assert_mended(file, whole, structures)


@settings(max_examples=200, deadline=None)
@example(place=10, length=0, garbage=b"\r")  # white space in JSON, the end of a line for splitlines
@example(place=0, length=6000, garbage=b"")
@given(place=st.integers(0, 200), length=st.integers(0, 20), garbage=st.binary(max_size=5))
@pytest.mark.parametrize("is_sealed", [True, False])
def test_header_alone_is_that_of_the_whole_file(tmp_path_factory, is_sealed, place, length, garbage):
    """Oracle: the parser of all rows."""
    file = tmp_path_factory.mktemp("rows") / "A.jsonl"
    assert read_header(file) is None
    fill(file)
    header, *rows = lines_of(file.read_bytes())
    whole = b"".join([header if is_sealed else unsealed(header), *rows])
    file.write_bytes(whole)
    assert read_header(file) == parse_rows(file, STRUCTURES)[0] == {"case": "A", "sha256": HASHES}
    file.write_bytes(whole[:place] + garbage + whole[place + length :])
    assert read_header(file) == parse_rows(file, STRUCTURES)[0]


def test_copy_beside_the_rows_counts_for_nothing(tmp_path):
    """A backup that somebody left there must not double the rows."""
    run = RunFolder.create(tmp_path / "run", SETTINGS)
    fill(run.path / "rows" / "A.jsonl")
    (run.path / "rows" / "A (copy).jsonl").write_bytes((run.path / "rows" / "A.jsonl").read_bytes())
    assert len(run.rows()) == len(VARIANTS) * 2


def test_row_that_could_not_be_read_back_is_not_written(tmp_path):
    rows = CaseRows(tmp_path / "A.jsonl", "A", HASHES, STRUCTURES)
    nan = [row | {"dice": math.nan} for row in rows_of(VARIANTS[1])]
    with pytest.raises(BenchmarkError, match="CT-spike-1: no row: dice is nan"):
        rows.append(nan)
    assert not (tmp_path / "A.jsonl").exists()
    assert rows.done == set()


def without_provenance(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "provenance"}


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 400), cut=st.integers(0, 30), garbage=st.binary(max_size=20))
def test_run_toml_that_was_changed(tmp_path_factory, place, cut, garbage):
    """Refused, unless it says the same or differs in its provenance only."""
    path = tmp_path_factory.mktemp("run")
    RunFolder.create(path, SETTINGS)
    whole = (path / "run.toml").read_bytes()
    changed = whole[:place] + garbage + whole[place + cut :]
    (path / "run.toml").write_bytes(changed)
    try:
        found = RunFolder.create(path, SETTINGS).settings
    except BenchmarkError as refusal:
        message = str(refusal)
    else:
        message = str(path)
        assert without_provenance(found) == without_provenance(SETTINGS)
    assert str(path) in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cohort = 3",
        "a = " + "[" * 100_000,
        "a = " + "9" * 5000,
        "[cohort]",
        *(
            f"[cohort]\nmodalities = {modalities}\nstructures = {structures}\nlabels = {labels}\ncases = {cases}"
            for modalities, structures, labels, cases in (
                ("3", '["a"]', "{a = 1}", '["A"]'),
                ('["CT"]', '"GTVp"', "{a = 1}", '["A"]'),
                ('["CT"]', "[]", "{a = 1}", '["A"]'),
                ('["CT"]', '["a"]', '{a = "1"}', '["A"]'),
                ('["CT"]', '["a"]', "[1]", '["A"]'),
                ('["CT"]', '["a"]', "{a = 1}", "[1]"),
                ('["CT"]', '["a"]', "{a = 1}", '["../x"]'),
                ('["CT"]', '["a"]', "{a = 1}", '["/etc/passwd"]'),
                ('["CT"]', '["a"]', "{a = 1}", '["a\\nb"]'),
                ('["CT"]', '["a"]', "{a = 1}", '[".."]'),
            )
        ),
    ],
    ids=range(15),
)
def test_run_toml_that_is_none(tmp_path, text):
    """Read by the report, and by a call that would go on."""
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(BenchmarkError, match=r"run\.toml is damaged \(.*\); start a new run folder"):
        RunFolder(tmp_path)
    with pytest.raises(BenchmarkError, match="damaged"):
        RunFolder.create(tmp_path, SETTINGS)


LINKS = ["run.toml", "run.lock", "metrics.parquet", "rows/A.jsonl", "rows/A.lock", "failures/A.txt"]


@pytest.mark.parametrize("name", [*LINKS, "rows", "failures", "predictions", "predictions/A/baseline.nii.gz"])
@pytest.mark.parametrize("is_dangling", [False, True])
def test_link_out_of_the_run_folder_is_refused(tmp_path, name, is_dangling):
    path, outside = tmp_path / "run", tmp_path / "outside"
    RunFolder.create(path, SETTINGS)
    link = path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        link.rmdir()
    link.unlink(missing_ok=True)
    if not is_dangling:
        outside.write_bytes(b"precious") if "." in name else outside.mkdir()
    link.symlink_to(outside)
    for use in (lambda: RunFolder.create(path, SETTINGS), lambda: RunFolder(path)):
        with pytest.raises(BenchmarkError, match="found a link or a device, expected plain files") as error:
            use()
        assert str(link) in str(error.value)
    assert outside.exists() != is_dangling
    assert is_dangling or outside.is_dir() or outside.read_bytes() == b"precious"


def test_pipe_in_the_run_folder_is_refused(tmp_path):
    """Reading it would wait for ever."""
    RunFolder.create(tmp_path, SETTINGS)
    os.mkfifo(tmp_path / "rows" / "A.jsonl")
    with pytest.raises(BenchmarkError, match=r"A\.jsonl: found a link or a device"):
        RunFolder(tmp_path)


def test_the_run_folder_itself_can_be_a_link(tmp_path):
    (tmp_path / "big_disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "big_disk")
    assert RunFolder.create(tmp_path / "run", SETTINGS).rows().empty


def test_temporary_file_of_a_killed_process_and_a_link_in_its_place(tmp_path):
    temporary = tmp_path / f".table.{os.getpid()}.tmp"
    temporary.write_text("left behind")
    write_atomically(tmp_path / "table", b"1")
    (tmp_path / "victim").write_bytes(b"precious")
    temporary.symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "table", b"2")
    assert (tmp_path / "table").read_bytes() == b"2"
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table", "victim"]


def test_link_that_appears_in_the_last_moment_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / f".table.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "table", b"1")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_failures_of_unknown_encoding(tmp_path):
    run = RunFolder.create(tmp_path, SETTINGS)
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "A.txt").write_bytes(b"\xff broken")
    (tmp_path / "failures" / "B.txt").mkdir()
    assert run.failures() == {"A": "\ufffd broken"}


def read_only(*_: object, **__: object) -> None:
    raise OSError(30, "Read-only file system")


def claim(run: RunFolder) -> None:
    with run.claim("A", lambda: HASHES) as rows:
        assert rows is not None


@pytest.mark.parametrize(
    ("refused", "use"),
    [
        ((FileLock, "acquire"), claim),
        ((Path, "open"), lambda run: run.record_failure("A", "broken image")),
        ((Path, "unlink"), lambda run: run.clear_failure("A")),
        ((Path, "open"), lambda run: run.write_table()),
        ((Path, "read_bytes"), claim),
    ],
    ids=["lock", "failure", "success", "table", "rows"],
)
def test_folder_that_can_no_longer_be_written(tmp_path, monkeypatch, refused: tuple[type, str], use: Callable):
    """A disk that was mounted read-only after a fault: not a failure of the case, and never a traceback."""
    run = RunFolder.create(tmp_path, SETTINGS)
    fill(tmp_path / "rows" / "A.jsonl")
    monkeypatch.setattr(*refused, read_only)
    with pytest.raises(RunFolderError, match=r"cannot write .*Read-only file system.*what is there is kept"):
        use(run)
