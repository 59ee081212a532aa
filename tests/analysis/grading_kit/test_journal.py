"""Grades on disk: what was stored is there after any kill, and what was not written by the journal does not count."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.grading.journal import MOST_COMMENT, Journal
from analysis.grading.kit import Kit, Rater

KIT = Kit(
    Path("unused"),
    "toy",
    synthetic=True,
    modalities=("CT",),
    structures=("GTVp", "GTVn"),
    scale=("a", "b", "c", "d", "e"),
    items={"AB12": {}, "CD34": {}},
    raters={"rater-1": Rater("", ("AB12", "CD34")), "rater-2": Rater("", ("CD34", "AB12"))},
)


def kit_in(folder) -> Kit:
    return Kit(**{**vars(KIT), "path": folder})


def grade(number, item="AB12", structure="GTVp", value=3, **more):
    return {"id": str(number), "item": item, "structure": structure, "grade": value, **more}


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(kit_in(tmp_path))


def file_of(tmp_path, rater="rater-1"):
    return tmp_path / "grades" / f"{rater}.jsonl"


def test_the_last_grade_counts_and_changes_are_counted(journal):
    for number, value in enumerate((3, 3, 4, 2)):
        journal.append("rater-1", [grade(number, value=value, seconds=1.5 * number)])
    stored = journal.given("rater-1").grades["AB12", "GTVp"]
    assert (stored.grade, stored.revisions, stored.seconds) == (2, 2, 4.5)
    assert journal.given("rater-2").grades == {}


def test_what_is_sent_twice_counts_once(journal):
    journal.append("rater-1", [grade("same", value=2)])
    journal.append("rater-1", [grade("other", value=5)])
    journal.append("rater-1", [grade("same", value=2)])
    assert journal.given("rater-1").grades["AB12", "GTVp"].grade == 5


def test_comments_and_complete_items(journal):
    journal.append("rater-1", [{"id": "1", "item": "AB12", "comment": "größer"}, grade(2), grade(3, structure="GTVn")])
    journal.append("rater-1", [{"id": "4", "item": "AB12", "comment": ""}, grade(5, item="CD34")])
    given = journal.given("rater-1")
    assert given.comments["AB12"].text == ""
    assert given.graded_items(KIT.structures) == {"AB12"}
    assert math.isnan(given.grades["CD34", "GTVp"].seconds)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (grade(1, value=6), "found the grade 6, expected a whole number from 1 to 5"),
        (grade(1, value=0), "found the grade 0"),
        (grade(1, value=3.5), "found the grade 3.5"),
        (grade(1, value=3.0), "found the grade 3.0"),
        (grade(1, value="3"), "found the grade '3'"),
        (grade(1, value=True), "found the grade True"),
        (grade(1, value=None), "found the grade None"),
        (grade(1, item="ZZ99"), "the item 'ZZ99'"),
        (grade(1, item=["AB12"]), "the item"),
        (grade(1, structure="liver"), "the structure 'liver', expected one of GTVp, GTVn"),
        (grade(1, structure=None), "the structure None"),
        (grade(1, seconds=-1), "-1 seconds"),
        (grade(1, seconds=math.nan), "nan seconds"),
        (grade(1, seconds=math.inf), "inf seconds"),
        ({**grade(1), "id": 7}, "the id of a grade is 7"),
        ({"id": "1", "item": "AB12", "comment": "x" * (MOST_COMMENT + 1)}, "shorten it"),
        ({"id": "1", "item": "AB12", "comment": 7}, "no text"),
    ],
)
def test_what_is_none_of_the_kits_grades_is_not_stored(journal, tmp_path, event, words):
    with pytest.raises(AnalysisError, match=words):
        journal.append("rater-1", [grade(0), event])
    assert not file_of(tmp_path).exists()


@given(
    st.lists(
        st.tuples(st.sampled_from(["AB12", "CD34"]), st.sampled_from(["GTVp", "GTVn"]), st.integers(1, 5)), max_size=9
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_given_is_read_back(tmp_path, grades):
    """Property, against a dict."""
    shutil.rmtree(tmp_path / "grades", ignore_errors=True)
    journal, expected = Journal(kit_in(tmp_path)), {}
    for number, (item, structure, value) in enumerate(grades):
        journal.append("rater-1", [grade(number, item, structure, value)])
        expected[item, structure] = value
    given = journal.given("rater-1")
    assert {key: stored.grade for key, stored in given.grades.items()} == expected
    assert given.faults == []


def test_cut_off_anywhere_only_the_last_grade_is_lost(journal, tmp_path):
    """Every length that a kill could leave, and a grade after each."""
    for number in range(2):
        journal.append("rater-1", [grade(number, item=("AB12", "CD34")[number])])
    content = file_of(tmp_path).read_bytes()
    second = content.index(b"\n") + 1
    for length in range(second, len(content) - 1):
        file_of(tmp_path).write_bytes(content[:length])
        given = journal.given("rater-1")
        assert list(given.grades) == [("AB12", "GTVp")]
        assert len(given.faults) == (length > second)
        journal.append("rater-1", [grade(9, structure="GTVn", value=5)])
        given = journal.given("rater-1")
        assert list(given.grades) == [("AB12", "GTVp"), ("AB12", "GTVn")]
        assert file_of(tmp_path).read_bytes().startswith(content[:length])
    file_of(tmp_path).write_bytes(content[:-1])
    assert list(journal.given("rater-1").grades) == [("AB12", "GTVp"), ("CD34", "GTVp")]


def test_a_line_edited_by_hand_is_named_and_the_others_count(journal, tmp_path):
    for number, item in enumerate(("AB12", "CD34")):
        journal.append("rater-1", [grade(number, item=item, value=2)])
    file = file_of(tmp_path)
    file.write_text(file.read_text().replace('"grade": 2', '"grade": 5', 1))
    given = journal.given("rater-1")
    assert {key: stored.grade for key, stored in given.grades.items()} == {("CD34", "GTVp"): 2}
    assert given.faults[0].startswith(f"{file}, line 1 (AB12 GTVp): is cut short or was changed")


@pytest.mark.parametrize("line", ['{"id": "1"}', json.dumps(grade(7)), "null", "[]", "\x00\x01", "{" * 100_000])
def test_a_line_added_by_hand_does_not_count(journal, tmp_path, line):
    journal.append("rater-1", [grade(0)])
    with file_of(tmp_path).open("a") as file:
        file.write(line + "\n")
    given = journal.given("rater-1")
    assert len(given.grades) == 1
    assert len(given.faults) == 1


def test_the_file_of_another_rater_does_not_count(journal, tmp_path):
    journal.append("rater-1", [grade(0)])
    shutil.copy(file_of(tmp_path), file_of(tmp_path, "rater-2"))
    given = journal.given("rater-2")
    assert given.grades == {}
    assert len(given.faults) == 1


def test_a_disk_that_is_full_or_read_only(tmp_path, mount_at):
    mount_at(tmp_path / "disk", "size=64k")
    journal = Journal(kit_in(tmp_path / "disk"))
    journal.append("rater-1", [grade(0)])
    filler = tmp_path / "disk" / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 10**6)
    comments = [{"id": str(number), "item": "AB12", "comment": "x" * MOST_COMMENT} for number in range(5)]
    with pytest.raises(AnalysisError, match=r"cannot be stored .*No space"):
        journal.append("rater-1", comments)
    assert journal.given("rater-1").grades["AB12", "GTVp"].grade == 3
    filler.unlink()
    journal.append("rater-1", [grade(1, value=4)])
    assert journal.given("rater-1").grades["AB12", "GTVp"].grade == 4
    mount_at(tmp_path / "disk", "ro")
    with pytest.raises(AnalysisError, match="cannot be stored"):
        journal.append("rater-1", [grade(2)])


def test_many_at_once(tmp_path):
    """Threads of two journals, as of a server and an import: every grade whole, none lost."""
    journals = [Journal(kit_in(tmp_path)) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: journals[n % 2].append("rater-1", [grade(n, value=n % 5 + 1)]), range(200)))
    lines = file_of(tmp_path).read_text().splitlines()
    assert sorted(int(json.loads(line)["id"]) for line in lines) == list(range(200))
    assert journals[0].given("rater-1").faults == []


def _give_for_ever(folder, told):
    journal = Journal(kit_in(folder))
    for number in range(10**6):
        journal.append("rater-1", [grade(number)])
        os.write(told, b"%d\n" % number)


def test_a_killed_writer_loses_nothing_that_it_confirmed(tmp_path):
    """SIGKILL at a moment of the system's choice, ten times; what was told before is on disk."""
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        read, write = os.pipe()
        writer = context.Process(target=_give_for_ever, args=(folder, write))
        writer.start()
        os.close(write)
        with os.fdopen(read) as told:
            assert told.readline() == "0\n"
            time.sleep(0.007 * attempt)
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            confirmed = [0, *(int(line) for line in told if line.endswith("\n"))]
        stored = [json.loads(line)["id"] for line in file_of(folder).read_text().splitlines() if line.endswith("}")]
        assert set(map(str, confirmed)) <= set(stored)
        assert len(Journal(kit_in(folder)).given("rater-1").faults) <= 1
