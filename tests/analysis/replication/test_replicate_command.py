"""The command as a user types it, and every way in which the tables can be wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.cli import main

BASELINE = "Baseline/results_pymia.csv"
ADDED = "Baseline/results_add.csv"
GRADED = "Baseline/Metrics_x_Clinical.csv"
VARIANT = "CT/Blur2/results_Blur2_pymia.csv"


@pytest.fixture(scope="module")
def study(make_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("wrong") / "study", modalities=("CT",), perturbations=("blur",))


def edit(file: str, *replacements: tuple[str, str]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / file).read_text()
        for old, new in replacements:
            changed = re.sub(old, new, text, count=1, flags=re.MULTILINE)
            assert changed != text, old
            text = changed
        (folder / file).write_text(text)

    return apply


def separate(file: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text((folder / file).read_text().replace(old, new)) and None


def write(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(content) and None


def cut(file: str, characters: int) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text((folder / file).read_text()[:-characters]) and None


def repeat_last_line(file: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        lines = (folder / file).read_text().splitlines()
        (folder / file).write_text("\n".join([*lines, lines[-1]]) + "\n")

    return apply


def swap_first_lines(file: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        header, *body = (folder / file).read_text().splitlines()
        # The fifth case has a primary tumour only.
        body[8], body[9] = body[9], body[8]
        (folder / file).write_text("\n".join([header, *body]) + "\n")

    return apply


WRONG: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no baseline": (
        lambda folder: (folder / BASELINE).unlink(),
        ["found no Baseline/results_pymia.csv", "name the folder"],
    ),
    "empty": (write(BASELINE, b""), [BASELINE, "is empty"]),
    "only a header": (edit(BASELINE, (r"\n(.|\n)*", "\n")), [BASELINE, "found only a header"]),
    "not text": (write(BASELINE, b"\xff\xfe\x00\x01"), [BASELINE, "is no text in UTF-8"]),
    "comma for semicolon": (separate(BASELINE, ";", ","), [BASELINE, "separated by semicolons"]),
    "semicolon for comma": (separate(ADDED, ",", ";"), [ADDED, "separated by commas"]),
    "no DICE": (edit(BASELINE, ("DICE", "DICES")), ["column 'DICE' is missing", "did you mean 'DICES'?"]),
    "no Entropy": (edit(ADDED, ("Entropy", "Chaos")), [ADDED, "column 'Entropy' is missing"]),
    "no grades": (edit(GRADED, ("Likert 2", "Comment")), [GRADED, "column 'Likert 2' is missing"]),
    "DICE twice": (
        edit(BASELINE, ("TN;", "DICE;"), ("TP", "TN;TP")),
        ["'DICE' is there more than once"],
    ),
    "word for a number": (
        edit(VARIANT, (r"^C-2;Nodal;0.99;[^;]*", "C-2;Nodal;0.99;high")),
        [f"{VARIANT}, line 4", "DICE is 'high'"],
    ),
    "empty cell": (edit(VARIANT, (r"^C-2;Nodal;0.99;[^;]*", "C-2;Nodal;0.99;")), ["line 4: DICE is ''"]),
    "not a number": (edit(VARIANT, (r"^C-2;Nodal;0.99;[^;]*", "C-2;Nodal;0.99;nan")), ["line 4: DICE is 'nan'"]),
    "decimal comma": (edit(VARIANT, (r"^C-2;Nodal;0.99", "C-2;Nodal;0,99")), ["line 4: ACURCY is '0,99'"]),
    "Dice above 1": (
        edit(VARIANT, (r"^C-2;Nodal;0.99;[^;]*", "C-2;Nodal;0.99;1.2")),
        ["expected a number from 0 to 1"],
    ),
    "half a voxel": (edit(VARIANT, (r"\d+$", "10.5")), ["TP is '10.5'", "whole number"]),
    "unknown structure": (edit(BASELINE, ("Nodal", "Node")), ["LABEL is 'Node'", "expected Nodal or Primary"]),
    "no case name": (edit(BASELINE, (r"^C-1", "")), ["line 2: SUBJECT is ''"]),
    "row twice": (repeat_last_line(VARIANT), [VARIANT, "C-6 Primary is also in line 13"]),
    "cut in a line": (cut(VARIANT, 12), [f"{VARIANT}, line 13", "cut short"]),
    "cut in a number": (cut(BASELINE, 60), [BASELINE, "line 12"]),
    "cut after a line": (edit(VARIANT, (r"^C-6;Primary.*\n", "")), ["case C-6 has no Primary line"]),
    "case missing": (
        edit(VARIANT, (r"^C-6;.*\n", ""), (r"^C-6;.*\n", "")),
        [VARIANT, "lacks C-6", "expected the cases of"],
    ),
    "other case": (edit(VARIANT, ("C-1;N", "X;N"), ("C-1;P", "X;P")), [VARIANT, "lacks C-1 and has X;"]),
    "other reference": (
        edit(VARIANT, (r"^(C-1;Nodal;.*);100.0;(.*);\d+$", r"\1;101.0;\2;80")),
        ["REFVOL is 101", "expected the same"],
    ),
    "grade of 6": (edit(GRADED, (r";5;5$", ";5;6")), [GRADED, "Likert 2 is '6'", "from 1 to 5"]),
    "grade of 3.5": (edit(GRADED, (r";5;5$", ";5;3.5")), ["Likert 2 is '3.5'", "whole number from 1 to 5"]),
    "descriptors of another structure": (
        swap_first_lines(ADDED),
        [ADDED, "Volume is '500.0', expected 0", "order Nodal, Primary"],
    ),
    "no descriptors where there is a reference": (
        edit(ADDED, (r"^C-1,.*$", "C-1" + "," * 19)),
        ["Volume is ''", "expected 100"],
    ),
    "infinite descriptor": (edit(ADDED, (r"^(C-1,[^,]*),[^,]*", r"\1,inf")), ["Surface Area is inf", "finite"]),
    "descriptor case missing": (edit(ADDED, (r"^C-1,.*\n", "")), [ADDED, "case C-1 has 1 lines, expected 2"]),
    "descriptors of a stranger": (edit(ADDED, (r"\Z", "C-9" + "," * 19 + "\n")), ["case C-9 has 1 lines, expected 0"]),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_wrong_tables_end_with_one_message_and_status_2(
    what: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, words = WRONG[what]
    folder = shutil.copytree(study, tmp_path / "study")
    spoil(folder)
    assert_refused([str(folder), "-o", str(tmp_path / "out")], words, capsys)
    assert not (tmp_path / "out").exists()


def assert_refused(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["replicate", *arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused([str(tmp_path / "nowhere"), "-o", str(tmp_path)], ["nowhere: is no folder", "expected"], capsys)


def test_folder_that_cannot_be_written(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        assert_refused([str(study), "-o", str(tmp_path / out)], ["cannot write the replication", "-o"], capsys)


def test_the_output_folder_is_required(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["replicate", str(study)])
    assert end.value.code == 2
    assert "-o/--output" in capsys.readouterr().err


def test_prints_where_the_page_is_and_what_holds(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["replicate", str(study), "-o", str(tmp_path / "deep" / "out")])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == f"replication: {tmp_path / 'deep' / 'out' / 'replication.html'}"
    assert re.fullmatch(
        r"36 published statements: \d+ reproduced, \d+ by an alternative, \d+ not reproduced, \d+ data missing",
        lines[1],
    )
    assert lines[2].startswith("missing tables: CT/Bias1/results_Bias1_pymia.csv")
    assert sorted(file.name for file in (tmp_path / "deep" / "out" / "tables").iterdir()) == [
        "agreement.csv",
        "correlations.csv",
        "delta_dice.csv",
        "delta_dice_with_reference.csv",
        "grades.csv",
        "metric_correlations.csv",
        "prediction.csv",
        "ranking.csv",
        "usability.csv",
    ]


def test_help_names_what_it_writes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["replicate", "-h"])
    words = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for word in ("FOLDER", "--output OUT", "claims.json", "replication.html", "Exit status"):
        assert word in words
