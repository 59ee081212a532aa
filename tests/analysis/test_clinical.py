"""The cohort's clinical table, from the columns and codes that HECKTOR 2022 documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.clinical import clinical_table
from analysis.errors import AnalysisError

HEADER = (
    "PatientID,Task 1,Task 2,CenterID,Gender,Age,Weight,Tobacco,Alcohol,Performance status,"
    '"HPV status (0=-, 1=+)",Surgery,Chemotherapy'
)
ROWS = """
CHUM-001,1,1,1,M,63,70,NaN,NaN,1,1,NaN,1
CHUP-002,1,0,2,F,58,,1,0,NaN,0,0,1
MDA-003,1,1,5,M,71,81.5,NaN,1,0,NaN,NaN,0
MDA-004,1,1,5,M,49,64,0,1,0,1,1,0
"""
CASES = ["CHUM-001", "CHUP-002", "MDA-003", "CHUV-009"]


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "clinical.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_by_hand(tmp_path: Path) -> None:
    table = clinical_table(write(tmp_path, HEADER + ROWS), CASES)
    found = {
        name: [(row["value"], row["count"], row["known"], row["missing"]) for row in of.to_dict("records")]
        for name, of in table.groupby("characteristic", sort=False)
    }
    assert found["patients"] == [("", "3", "4", 1)]
    assert found["CenterID"] == [("CHUM", "1", "3", 1), ("CHUP", "1", "3", 1), ("MDA", "1", "3", 1)]
    assert found["Gender"] == [("female", "1", "3", 1), ("male", "2", "3", 1)]
    assert found["Age"] == [("median 63.0 (quartiles 60.5 to 67.0, range 58.0 to 71.0)", "", "3", 1)]
    assert found["Weight"] == [("median 75.8 (quartiles 72.9 to 78.6, range 70.0 to 81.5)", "", "2", 2)]
    assert found["HPV status (0=-, 1=+)"] == [("negative", "1", "2", 2), ("positive", "1", "2", 2)]
    assert found["Tobacco"] == [("yes", "1", "1", 3)]
    assert found["Performance status"] == [("0", "1", "2", 2), ("1", "1", "2", 2)]


def test_every_documented_column_is_described(oracles: Path, tmp_path: Path) -> None:
    layout = json.loads((oracles / "hecktor_layout.json").read_text())["hecktor2022"]
    table = clinical_table(write(tmp_path, HEADER + ROWS), CASES)
    assert set(table["characteristic"]) == {"patients", *layout["clinical_columns"]} - {"PatientID"}


def test_a_column_without_any_value_is_missing_everywhere(tmp_path: Path) -> None:
    table = clinical_table(write(tmp_path, "PatientID,Stage\nA,\nB,NaN\n"), ["A", "B"])
    assert table.iloc[-1].to_dict() == {"characteristic": "Stage", "value": "", "count": "", "known": "0", "missing": 2}


def test_a_byte_order_mark_and_blanks_around_names_do_no_harm(tmp_path: Path) -> None:
    table = clinical_table(write(tmp_path, "PatientID , Stage\nA ,T1\n", "utf-8-sig"), ["A"])
    assert table.iloc[-1]["value"] == "T1"


def test_a_column_of_names_is_not_listed_one_by_one(tmp_path: Path) -> None:
    names = [f"case{i}" for i in range(20)]
    lines = "".join(f"{name},note {name}\n" for name in names)
    table = clinical_table(write(tmp_path, f"PatientID,Comment\n{lines}"), names)
    assert table.iloc[-1]["value"] == "20 different values"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PatientId,Age\nA,1\n", "did you mean 'PatientId'? expected one named PatientID"),
        ("PatientID;Age\nA;1\n", "separated by commas"),
        ("PatientID,Age\nA,1\nA,2\n", "patient A is there more than once"),
        ("PatientID,Age\nX,1\n", "has none of the run's 1 cases (first: A); found patients such as X"),
        ("", "no CSV table"),
        ('PatientID,Age\n"A,1\n', "no CSV table"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AnalysisError) as error:
        clinical_table(write(tmp_path, text), ["A"])
    assert words in str(error.value)
    assert "clinical.csv" in str(error.value)


def test_a_missing_file_and_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="cannot be read"):
        clinical_table(tmp_path / "nowhere.csv", ["A"])
    (tmp_path / "clinical.csv").write_bytes(b"PatientID,Age\nM\xfcller,1\n\xff\xfe")
    with pytest.raises(AnalysisError, match="no CSV table"):
        clinical_table(tmp_path / "clinical.csv", ["A"])


@given(st.binary(max_size=300))
def test_any_bytes_give_a_table_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "clinical.csv"
    path.write_bytes(b"PatientID," + content)
    message = ""
    try:
        found = len(clinical_table(path, ["A"]))
    except AnalysisError as error:
        found, message = 0, str(error)
    assert found or str(path) in message
