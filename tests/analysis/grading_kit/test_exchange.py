"""Grades out of a kit and into it: columns, blinding, spreadsheets, and everything that is wrong named by its line."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.grading.exchange import Exported, export_grades, import_grades
from analysis.grading.journal import Journal


@pytest.fixture
def kit(folders):
    return folders.open()


def text_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def give(kit, rater="rater-1", value=4, comment=None, count=None):
    events = [
        {"id": f"{code} {structure}", "item": code, "structure": structure, "grade": value, "seconds": 12.34}
        for code in kit.items
        for structure in kit.structures
    ][:count]
    if comment is not None:
        events.append({"id": "c", "item": next(iter(kit.items)), "comment": comment})
    Journal(kit).append(rater, events)


def test_without_the_key_an_export_stays_blinded(kit, tmp_path):
    give(kit, comment="too small")
    exported = export_grades(kit, tmp_path / "out" / "grades.csv")
    table = text_of(tmp_path / "out" / "grades.csv")
    assert list(table) == ["item", "structure", "rater", "grade", "comment", "given_at", "seconds", "revisions"]
    assert len(table) == 2 * 12 * 2
    given = table[table["rater"] == "rater-1"]
    assert set(given["grade"]) == {"4"}
    assert set(given["seconds"]) == {"12.3"}
    first = given[given["item"] == next(iter(kit.items))]
    assert set(first["comment"]) == {"too small"}
    assert set(table.loc[table["rater"] == "rater-2", "grade"]) == {""}
    assert exported == Exported(gaps=("rater-2 has not given 24 of 24 grades",), faults=())


def test_with_the_key_it_says_what_was_graded(kit, folders, tmp_path):
    give(kit)
    export_grades(kit, tmp_path / "grades.csv", folders.key)
    table = pd.read_csv(tmp_path / "grades.csv", keep_default_na=False, na_values=[""])
    required = [
        "case",
        "structure",
        "rater",
        "grade",
        "perturbation",
        "repeat",
        "sample",
        "synthetic",
        "dice",
        "hd95_mm",
    ]
    assert set(required) <= set(table)
    merged = table.merge(folders.table, on=["item", "structure"], suffixes=("", "_key"))
    assert len(merged) == len(table)
    for name in ("case", "perturbation", "severity", "repeat", "dice"):
        assert (merged[name] == merged[f"{name}_key"]).all()


@pytest.mark.parametrize("comment", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_computes_no_comment(kit, tmp_path, comment):
    give(kit, comment=comment)
    export_grades(kit, tmp_path / "grades.csv")
    comments = text_of(tmp_path / "grades.csv")["comment"]
    assert f"'{comment}" in set(comments)


def test_what_was_changed_by_hand_is_noted(kit, tmp_path):
    give(kit, count=24)
    file = kit.path / "grades" / "rater-1.jsonl"
    file.write_text(file.read_text().replace('"grade": 4', '"grade": 1', 1))
    exported = export_grades(kit, tmp_path / "grades.csv")
    assert "rater-1 has not given 1 of 24 grades" in exported.gaps
    (fault,) = exported.faults
    assert f"line 1 ({next(iter(kit.items))} GTVp): is cut short or was changed" in fault


def test_a_file_that_cannot_be_written(kit, tmp_path):
    (tmp_path / "grades.csv").mkdir()
    with pytest.raises(AnalysisError, match=r"grades.csv: cannot be written"):
        export_grades(kit, tmp_path / "grades.csv", overwrite=True)


def test_a_sheet_that_was_filled_in_is_kept(kit, tmp_path):
    export_grades(kit, tmp_path / "grades.csv")
    (tmp_path / "grades.csv").write_text("an afternoon of grades")
    with pytest.raises(AnalysisError, match=r"grades.csv: is there already.*--overwrite"):
        export_grades(kit, tmp_path / "grades.csv")
    assert (tmp_path / "grades.csv").read_text() == "an afternoon of grades"
    export_grades(kit, tmp_path / "grades.csv", overwrite=True)
    assert len(text_of(tmp_path / "grades.csv")) == 48


def test_nothing_is_written_into_a_kit(kit, folders):
    """Unblinded, it would tell raters what they see."""
    with pytest.raises(AnalysisError, match=r"lies in the kit .*where raters could find it"):
        export_grades(kit, kit.path / "out" / "grades.csv", folders.key)


def test_a_sheet_for_paper_has_each_raters_own_order(kit, folders, tmp_path):
    export_grades(kit, tmp_path / "grades.csv")
    table = text_of(tmp_path / "grades.csv")
    for rater, of_rater in kit.raters.items():
        assert tuple(table[table["rater"] == rater]["item"].drop_duplicates()) == of_rater.order
    export_grades(kit, tmp_path / "unblinded.csv", folders.key)
    assert tuple(text_of(tmp_path / "unblinded.csv")["item"].drop_duplicates()) == kit.raters["rater-1"].order


def test_what_is_exported_can_be_imported(kit, tmp_path):
    give(kit, value=2, comment="why")
    export_grades(kit, tmp_path / "grades.csv")
    table = text_of(tmp_path / "grades.csv")
    table.loc[table["rater"] == "rater-2", "grade"] = "5"
    table.to_csv(tmp_path / "filled.csv", index=False)
    assert import_grades(kit, tmp_path / "filled.csv") == [
        "rater-1: 24 grades read: 0 new, 0 changed, 24 as before",
        "rater-2: 24 grades read: 24 new, 0 changed, 0 as before",
    ]
    assert {grade.grade for grade in Journal(kit).given("rater-2").grades.values()} == {5}
    assert {grade.grade for grade in Journal(kit).given("rater-1").grades.values()} == {2}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_spreadsheets_file(kit, tmp_path, separator, encoding):
    """As Excel writes it in Germany, too: a mark at the start, semicolons, a decimal comma, columns of its own."""
    code = next(iter(kit.items))
    cells = [["structure", "who", "item", "grade", "rater", "seconds", "comment"]]
    seconds = "1.5" if separator == "," else "1,5"
    cells.append(["GTVp", "Dr. X", code, "3", "rater-1", seconds, "schön"])
    cells.append(["GTVn", "Dr. X", code.lower(), "3.0", "rater-1", "", ""])
    (tmp_path / "g.csv").write_text("\r\n".join(separator.join(line) for line in cells) + "\r\n", encoding=encoding)
    assert import_grades(kit, tmp_path / "g.csv") == ["rater-1: 2 grades read: 2 new, 0 changed, 0 as before"]
    given = Journal(kit).given("rater-1")
    assert given.grades[code, "GTVp"].grade == 3
    assert given.grades[code, "GTVp"].seconds == 1.5
    assert given.comments[code].text == "schön"


def test_a_corrected_grade_replaces_and_is_kept_on_record(kit, tmp_path):
    code = next(iter(kit.items))
    for value in (2, 5):
        (tmp_path / "g.csv").write_text(f"rater,item,structure,grade\nrater-1,{code},GTVp,{value}\n")
        said = import_grades(kit, tmp_path / "g.csv")
    assert said == ["rater-1: 1 grade read: 0 new, 1 changed, 0 as before"]
    assert Journal(kit).given("rater-1").grades[code, "GTVp"].revisions == 1
    assert len((kit.path / "grades" / "rater-1.jsonl").read_text().splitlines()) == 2


HEADER = "rater,item,structure,grade\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "rater-1,{code},GTVp,6\n", "line 2: item .*found the grade '6', expected a whole number from 1 to 5"),
        (HEADER + "rater-1,{code},GTVp,good\n", "found the grade 'good'"),
        (HEADER + "rater-1,{code},GTVp,2.5\n", "found the grade '2.5'"),
        (HEADER + "rater-9,{code},GTVp,3\n", "found the rater 'rater-9', expected one of rater-1, rater-2"),
        (HEADER + ",{code},GTVp,3\n", "found the rater ''"),
        (HEADER + "rater-1,ZZ99,GTVp,3\n", "the item 'ZZ99'"),
        (HEADER + "rater-1,{code},GTV,3\n", "the structure 'GTV'"),
        (HEADER + "rater-1,{code},GTVp,3\nrater-1,{code},GTVp,4\n", "line 3: .* is graded in line 2, too"),
        (HEADER + "rater-1,{code},GTVp\n", "line 2: found 3 cells, expected 4"),
        (HEADER + "rater-1,{code},GTVp,\n", "no line with a grade"),
        (HEADER, "no line with a grade"),
        ("", "is empty"),
        ("rater,item,structure,grades\n", "did you mean 'grades'"),
        ("rater,item,structure,grade,grade\n", "is there more than once"),
        ("rater,item,structure,grade,seconds\nrater-1,{code},GTVp,3,soon\n", "'soon' seconds"),
        (HEADER + '"rater-1,{code}\n', "is no table"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_imported(kit, tmp_path, text, words):
    """A good line at the end, where there are lines, is not imported either."""
    good = f"rater-1,{list(kit.items)[-1]},GTVn,3\n" if text.startswith(HEADER) and "no line" not in words else ""
    (tmp_path / "g.csv").write_text(text.format(code=next(iter(kit.items))) + good)
    with pytest.raises(AnalysisError, match=words):
        import_grades(kit, tmp_path / "g.csv")
    assert Journal(kit).given("rater-1").grades == {}


def test_files_that_are_none(kit, tmp_path):
    with pytest.raises(AnalysisError, match="cannot be read"):
        import_grades(kit, tmp_path / "missing.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"rater-1,\xe4\n")
    with pytest.raises(AnalysisError, match="UTF-8"):
        import_grades(kit, tmp_path / "latin.csv")


def test_every_wrong_line_is_named_up_to_ten(kit, tmp_path):
    lines = "".join(f"rater-1,X{number},GTVp,3\n" for number in range(12))
    (tmp_path / "g.csv").write_text(HEADER + lines)
    with pytest.raises(AnalysisError) as error:
        import_grades(kit, tmp_path / "g.csv")
    assert str(error.value).count("\n  line") == 10
    assert "and 2 more" in str(error.value)
