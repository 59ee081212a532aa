"""Files of grades: what is read, and what is refused, with file and line; against pandas and hand-written lines."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.grading.grades import WORST_WORDS, Grades, parts
from analysis.grading.grades_file import read_grades

Lines = list[dict[str, Any]]
Write = Callable[..., Path]

PLAIN = "case,structure,rater,grade\nA,GTVp,x,4\nA,GTVp,y,3\nB,GTVp,x,1\nB,GTVp,y,2\n"


def text_file(folder: Path, text: str, encoding: str = "utf-8", name: str = "grades.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def grades_by_key(grades: Grades) -> dict[tuple[str, str, str], int]:
    rows = grades.rows
    return {(r["item"], r["structure"], r["rater"]): r["grade"] for r in rows.to_dict("records")}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_separators_marks_and_line_ends(tmp_path: Path, separator: str, encoding: str, ending: str) -> None:
    path = text_file(tmp_path, PLAIN.replace(",", separator).replace("\n", ending), encoding)
    assert grades_by_key(read_grades([path])) == {
        ("A", "GTVp", "x"): 4,
        ("A", "GTVp", "y"): 3,
        ("B", "GTVp", "x"): 1,
        ("B", "GTVp", "y"): 2,
    }


def test_a_european_spreadsheet(tmp_path: Path) -> None:
    text = (
        "case;structure;rater;grade;comment;dice;hd95_mm\nA;GTVp;x;4,0;gut, klar;0,81;inf\nB;GTVp;x;2;;;3,5\n;;;;;;\n"
    )
    grades = read_grades([text_file(tmp_path, text)])
    assert grades.metrics == ("dice", "hd95_mm")
    assert grades.rows["grade"].tolist() == [4, 2]
    assert grades.rows["dice"].tolist()[0] == 0.81
    assert math.isnan(grades.rows["dice"][1])
    assert grades.rows["hd95_mm"].tolist() == [math.inf, 3.5]


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.inf)), min_size=1, max_size=6),
    european=st.booleans(),
)
def test_numbers_survive_a_spreadsheet(
    tmp_path_factory: pytest.TempPathFactory, values: list[float | None], european: bool
) -> None:
    """What pandas writes, in either convention, is read as the same numbers."""
    frame = pd.DataFrame({"case": [f"c{i}" for i in range(len(values))], "structure": "s", "rater": "r", "grade": 3})
    frame["metric"] = pd.Series(values, dtype=float)
    path = tmp_path_factory.mktemp("numbers") / "grades.csv"
    frame.to_csv(path, index=False, sep=";" if european else ",", decimal="," if european else ".")
    grades = read_grades([path])
    if frame["metric"].isna().all():
        assert grades.metrics == ()
    else:
        np.testing.assert_array_equal(grades.rows["metric"], frame["metric"])


def test_variants_items_and_parts(tmp_path: Path) -> None:
    text = (
        "case,structure,rater,grade,modality,perturbation,severity,sample,synthetic\n"
        "B,GTVn,y,4,,,,,true\nB,GTVn,x,3,,baseline,0,,true\nA,GTVn,x,1,CT,spike,2,worst,true\nA,GTVp,x,2,CT,spike,2,worst,true\n"
    )
    grades = read_grades([text_file(tmp_path, text)])
    assert grades.rows["item"].tolist() == ["B", "B", "A CT-spike-2", "A CT-spike-2"]
    assert (grades.raters, grades.structures) == (("y", "x"), ("GTVn", "GTVp"))
    assert [(p.graded, p.structure, p.raters) for p in parts(grades)] == [
        ("baseline", "GTVn", ("y", "x")),
        ("perturbed", "GTVn", ("x",)),
        ("perturbed", "GTVp", ("x",)),
    ]
    assert grades.synthetic
    assert grades.choice_words == WORST_WORDS


def test_a_grade_that_was_not_given_is_named_and_left_out(tmp_path: Path) -> None:
    text = PLAIN.replace("B,GTVp,x,1", "B,GTVp,x,") + "C,GTVp,y,5\n"
    grades = read_grades([text_file(tmp_path, text)])
    assert len(grades.rows) == 4
    assert grades.not_given.to_numpy().tolist() == [["x", "B", "GTVp"], ["x", "C", "GTVp"]]
    (note,) = grades.notes
    assert note.startswith("x gave no grade for 2 of 3 contours (1 line with an empty grade): B GTVp, C GTVp.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("B,GTVp,x,1", "B,GTVp,x,6"), "line 4: grade is '6'"),
        (("B,GTVp,x,1", "B,GTVp,x,3.5"), "line 4: grade is '3.5'"),
        (("B,GTVp,x,1", "B,GTVp,x,good"), "line 4: grade is 'good'"),
        (("B,GTVp,x,1", "B,GTVp,x,0"), "line 4: grade is '0'"),
        (("B,GTVp,x,1", "B,GTVp,x,-inf"), "line 4: grade is '-inf'"),
        (("B,GTVp,x,1", "B,GTVp,x,1_0"), "line 4: grade is '1_0'"),
        (("B,GTVp,x,1", "A,GTVp,x,1"), r"line 4: x's grade of A GTVp is also at .*line 2"),
        (("B,GTVp,x,1", "B,GTVp,x"), "line 4: found 3 cells, expected 4"),
        (("B,GTVp,x,1", ",GTVp,x,1"), "line 4: case is empty"),
        (("B,GTVp,x,1", "B,GTVp,,1"), "line 4: rater is empty"),
        (("rater,grade", "rater,Grade"), "column 'grade' is missing; did you mean 'Grade'"),
        (("structure", "structur"), "column 'structure' is missing; did you mean 'structur'"),
        (("case,structure,rater,grade", "case,case,rater,grade"), "column 'case' is there more than once"),
    ],
)
def test_what_is_refused_names_file_and_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = text_file(tmp_path, PLAIN.replace(*change))
    with pytest.raises(AnalysisError, match=message) as error:
        read_grades([path])
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("columns", "cells", "message"),
    [
        ("repeat", ("0", "0", "2", "0"), "line 4: repeat is '2'"),
        ("repeat", ("0", "0", "1", "0"), "line 4: is a repeat of B spike GTVp for x, found no first showing"),
        ("sample", ("", "", "wrost", ""), "line 4: sample is 'wrost'; did you mean 'worst'"),
        ("synthetic", ("true", "true", "maybe", "true"), "line 4: synthetic is 'maybe'"),
        ("dice", ("0.5", "0.5", "0.6", "0.7"), "line 5: dice of B spike GTVp is 0.7, found 0.6 at .*line 4"),
        ("dice", ("0.5", "0.5", "0.6", ""), "line 5: dice of B spike GTVp is undefined, found 0.6 at .*line 4"),
        ("dice", ("0.5", "0.5", "0.6", "0.6?"), "line 5: dice is '0.6[?]', found numbers in other lines"),
        ("severity", ("1", "1", "two", "1"), "line 4: severity is 'two'"),
        ("item", ("1", "1", "1", "1"), "line 4: item 1 is of case B, .* found case A"),
    ],
)
def test_further_columns_that_are_refused(tmp_path: Path, columns: str, cells: tuple[str, ...], message: str) -> None:
    header, *lines = PLAIN.splitlines()
    text = "\n".join(
        [f"{header},perturbation,{columns}", *(f"{a},spike,{b}" for a, b in zip(lines, cells, strict=True))]
    )
    with pytest.raises(AnalysisError, match=message):
        read_grades([text_file(tmp_path, text.replace(",spike,", ",baseline,") if columns == "item" else text)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"case,structure,rater,grade\n", "no grade"),
        (b"case,structure,rater,grade\nA,GTVp,x,\n", "found 1 line and no grade"),
        (PLAIN.encode("utf-16"), "no text in UTF-8"),
        (b"PK\x03\x04\x00\x00", "zero byte"),
        (b'case,structure,rater,grade\nA,GTVp,"x,4\n', "no table"),
        ("case;structure;rater;grade\nMüller;s;x;4\n".encode("latin-1"), "CSV UTF-8"),
        (b"case;structure;rater;grade;dice\nA;s;x;4;0,5\nB;s;x;4;0.6\n", "one decimal mark"),
        (b'case,structure,rater,grade,dice\nA,s,x,4,"0,5"\nB,s,x,4,0.6\n', "dice is '0,5'"),
    ],
)
def test_files_that_are_no_grades(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "grades.csv"
    path.write_bytes(content)
    with pytest.raises(AnalysisError, match=message) as error:
        read_grades([path])
    assert str(path) in str(error.value)


def test_a_missing_file_a_folder_and_nothing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(AnalysisError, match="cannot be read"):
            read_grades([path])
    with pytest.raises(AnalysisError, match="at least one"):
        read_grades([])


def test_one_file_per_rater(tmp_path: Path) -> None:
    """The second file has no metrics, and its digits were cut off where it has: the contour's own are taken."""
    first = "case,structure,rater,grade,dice,hd95_mm\nA,s,x,4,0.123456789,2\nB,s,x,2,0.5,\n"
    second = "case;structure;rater;grade;dice\nB;s;y;3;0,5\nA;s;y;5;0,1234568\n"
    files = [text_file(tmp_path, first, name="x.csv"), text_file(tmp_path, second, name="y.csv")]
    grades = read_grades(files)
    (part,) = parts(grades)
    assert part.grades.to_numpy().tolist() == [[4, 5], [2, 3]]
    assert part.items["dice"].tolist() == [0.123456789, 0.5]
    assert grades.rows.groupby("item")["hd95_mm"].nunique(dropna=False).tolist() == [1, 1]
    with pytest.raises(AnalysisError, match=r"y's grade of B s is also at .*y\.csv, line 2"):
        read_grades([*files, files[1]])


def test_a_repeat_has_a_code_of_its_own(tmp_path: Path) -> None:
    """As in a blinded study: it is found by case, variant, structure and rater."""
    text = (
        "item,case,structure,rater,grade,perturbation,severity,repeat,dice\n"
        "K7,A,s,x,4,,0,0,0.5\nB2,A,s,x,3,,0,1,0.5\nC9,A,s,x,2,spike,2,0,0.1\nF3,A,s,x,1,spike,2,1,0.1\n"
    )
    path = text_file(tmp_path, text)
    rows = read_grades([path]).rows
    assert rows[["item", "repeat", "grade"]].to_numpy().tolist() == [
        ["K7", 0, 4],
        ["K7", 1, 3],
        ["C9", 0, 2],
        ["C9", 1, 1],
    ]
    path.write_text(text + "Z1,A,s,x,2,spike,2,0,0.1\n")
    with pytest.raises(AnalysisError, match="line 5: is a repeat of F3 s for x, found the first showings C9, Z1"):
        read_grades([path])
    path.write_text(text + "Z1,A,s,x,2,,0,1,0.5\n")
    with pytest.raises(AnalysisError, match=r"line 6: x's grade of K7 s is also at .*line 3"):
        read_grades([path])
    path.write_text(text.replace("B2,A,s,x,3,,0,1,0.5", "B2,A,s,x,3,,0,1,0.6"))
    with pytest.raises(AnalysisError, match=r"line 3: dice of K7 s is 0\.6, found 0\.5"):
        read_grades([path])


def test_the_authors_tables(authors_csv: Path, tmp_path: Path) -> None:
    """A layout test: 18 unperturbed cases stand in for the perturbed ones."""
    perturbed = tmp_path / "Metrics_x_Clinical_perturbed.csv"
    perturbed.write_text("\n".join(authors_csv.read_text().splitlines()[:37]) + "\n")
    grades = read_grades([authors_csv, perturbed])
    raw = pd.read_csv(authors_csv, sep=";")
    assert [(p.graded, p.structure, len(p.items)) for p in parts(grades)] == [
        ("baseline", "GTVp", 32),
        ("baseline", "GTVn", 32),
        ("perturbed", "GTVp", 18),
        ("perturbed", "GTVn", 18),
    ]
    assert [(p.graded, len(p.items)) for p in parts(grades, together=True)][-2:] == [("all", 50), ("all", 50)]
    nodal = next(p for p in parts(grades) if p.structure == "GTVn")
    expected = raw[raw["LABEL"] == "Nodal"]
    assert nodal.grades.to_numpy().tolist() == expected[["Likert 1", "Likert 2"]].to_numpy().tolist()
    assert nodal.items["dice"].tolist() == expected["DICE"].tolist()
    assert set(grades.rows.groupby("graded")["sample"].first()) == {"", "worst"}


def test_the_distance_of_a_right_empty_contour_is_not_the_worst(authors_csv: Path) -> None:
    """No voxel in the reference, none in the prediction: 1000 in the authors' table, undefined here, and said."""
    raw = pd.read_csv(authors_csv, sep=";")
    empty = raw[(raw["REFVOL"] == 0) & (raw["TP"] + raw["FP"] == 0)]
    assert empty[["SUBJECT", "LABEL", "HDRFDST"]].to_numpy().tolist() == [["HGJ-067", "Nodal", 1000]]
    grades = read_grades([authors_csv])
    undefined = grades.rows[grades.rows["hd_mm"].isna()]
    assert undefined[["case", "structure", "dice"]].to_numpy().tolist() == [["HGJ-067", "GTVn", 1.0]] * 2
    assert np.isinf(grades.rows["hd_mm"]).sum() == 2 * ((raw["HDRFDST"] == 1000).sum() - 1)
    assert any(note.endswith("hd_mm is undefined, not infinite: HGJ-067 GTVn.") for note in grades.notes)


def test_sizes_and_how_far_a_contour_moved_are_no_metrics(tmp_path: Path) -> None:
    text = "case,structure,rater,grade,dice,tp,fp,fn,dice_to_baseline_prediction\nA,s,x,4,0.5,3,2,1,0.9\n"
    grades = read_grades([text_file(tmp_path, text)])
    assert grades.metrics == ("dice",)
    assert "tp, fp, fn, dice_to_baseline_prediction" in grades.notes[0]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (["worst"] * 3, WORST_WORDS),
        (
            ["worst", "random", "random"],
            "of the most harmful perturbations only: 1 chosen because they lose most, 2 chosen at random. ",
        ),
        (["stratified"] * 3, "only: 3 chosen one from each part, from the least loss to the largest. "),
        (["worst", "", ""], "only: 1 chosen because they lose most, 2 chosen in a way that is not said. "),
        ([""] * 3, ""),
    ],
)
def test_how_perturbed_items_were_chosen(tmp_path: Path, samples: list[str], words: str) -> None:
    lines = [f"C{i},s,x,4,noise,{sample}" for i, sample in enumerate(samples)]
    grades = read_grades([text_file(tmp_path, "\n".join(["case,structure,rater,grade,perturbation,sample", *lines]))])
    assert words in grades.choice_words
    assert bool(words) == bool(grades.choice_words)


def test_a_cut_authors_table_names_its_line(authors_csv: Path, tmp_path: Path) -> None:
    path = shutil.copy(authors_csv, tmp_path / "cut.csv")
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(AnalysisError, match=r"cut\.csv, line \d+: found"):
        read_grades([path])


@pytest.fixture
def joined(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    text = "case,structure,rater,grade,modality,perturbation,severity,dice\n"
    text += "A,s,x,4,,baseline,0,0.5\nA,s,x,2,CT,spike,2,0.25\nB,s,x,3,,,,0.75\n"
    rows = pd.DataFrame({"case": ["A", "A", "C"], "modality": [None, "CT", None]})
    rows = rows.assign(perturbation=["baseline", "spike", "baseline"], severity=[0, 2, 0], structure="s")
    rows = rows.assign(dice=[0.5, 0.25, 1.0], hd95_mm=[1.0, math.inf, 2.0], seed=[1, 2, 3], outcome="detected", tp=5)
    return text_file(tmp_path, text), rows


@pytest.mark.parametrize("kind", ["run", "parquet", "csv"])
def test_metrics_of_a_run_are_joined(joined: tuple[Path, pd.DataFrame], tmp_path: Path, kind: str) -> None:
    path, rows = joined
    folder = tmp_path / "run"
    folder.mkdir()
    rows.to_parquet(folder / "metrics.parquet")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    source = {"run": folder, "parquet": folder / "metrics.parquet", "csv": tmp_path / "rows.csv"}[kind]
    grades = read_grades([path], source)
    assert grades.metrics == ("dice", "hd95_mm")
    assert grades.rows["hd95_mm"].tolist()[:2] == [1.0, math.inf]
    assert math.isnan(grades.rows["hd95_mm"][2])
    assert grades.rows["dice"].tolist() == [0.5, 0.25, 0.75]
    assert any("has no metrics of B s" in note for note in grades.notes)


def test_metrics_that_cannot_be_joined(joined: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    path, rows = joined
    found = {
        "differs": (rows.assign(dice=[0.5, 0.3, 1.0]), "dice of A CT-spike-2 s is 0.3, found 0.25"),
        "other": (rows.assign(case="Z", severity=[0, 2, 1], perturbation="blur"), "none of the 3 graded contours"),
        "twice": (pd.concat([rows, rows]), "more than one row of A s"),
        "numbers": (
            rows[["case", "modality", "perturbation", "severity", "structure", "outcome"]],
            "no column of numbers",
        ),
        "key": (rows.drop(columns="structure"), "column 'structure' is missing"),
        "none": (rows.iloc[:0], "none|no column|no row"),
    }
    for name, (table, message) in found.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
        with pytest.raises(AnalysisError, match=message) as error:
            read_grades([path], tmp_path / f"{name}.parquet")
        assert name in str(error.value)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(AnalysisError, match="no parquet file"):
        read_grades([path], tmp_path / "torn.parquet")
    with pytest.raises(AnalysisError, match=r"metrics\.parquet: is not there"):
        read_grades([path], tmp_path)
