"""The serve command as its user calls it: what it says, what it refuses, and what is left when it is killed."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from analysis.errors import AnalysisError
from analysis.grading import serve as serving
from analysis.grading.journal import Journal

pytest.importorskip("uvicorn", reason="the extra 'grading' is not installed")

pytestmark = pytest.mark.timeout(180)


def test_it_says_where_each_raters_page_is_and_ends_when_asked(start, folders):
    kit = folders.open()
    code = next(iter(kit.items))
    events = [{"id": name, "item": code, "structure": name, "grade": 4} for name in kit.structures]
    Journal(kit).append("rater-2", events)
    with (kit.path / "grades" / "rater-2.jsonl").open("a") as file:
        file.write('{"half')
    server = start(folders.kit)
    assert server.lines[0] == f"rater-1: http://127.0.0.1:{server.port}/grade/rater-1 (0 of 12 items graded)"
    assert server.lines[1] == f"rater-2: http://127.0.0.1:{server.port}/grade/rater-2 (1 of 12 items graded)"
    assert server.lines[2].startswith("warning: ")
    assert "line 3: is cut short" in server.lines[2]
    assert not any(token in line for token in folders.tokens.values() for line in server.lines)
    assert server.end(signal.SIGINT) == 0
    assert server.errors == ""


def test_killed_while_grades_come_in_nothing_confirmed_is_lost(start, folders):
    """Twenty a second of two raters at once, SIGKILL in the middle, and again; then everything is there."""
    kit = folders.open()
    targets = [(code, structure) for code in kit.items for structure in kit.structures]
    confirmed: dict[str, dict[tuple[str, str], int]] = {rater: {} for rater in kit.raters}

    def give(server, rater, attempt):
        token = folders.tokens[rater]
        for number, (code, structure) in enumerate(targets * 20):
            value = (number + attempt) % 5 + 1
            body = {"id": f"{attempt}-{number}", "item": code, "structure": structure, "grade": value, "seconds": 1}
            try:
                server.post(rater, token, "grades", body)
            except (OSError, HTTPException, ValueError):  # no answer, half of one, or half of its JSON
                return
            confirmed[rater][code, structure] = value
            time.sleep(0.05)

    for attempt in range(2):
        server = start(folders.kit)
        givers = [threading.Thread(target=give, args=(server, rater, attempt)) for rater in kit.raters]
        for giver in givers:
            giver.start()
        time.sleep(1.5)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        for giver in givers:
            giver.join()
        for rater, grades in confirmed.items():
            stored = Journal(kit).given(rater).grades
            assert len(grades) > 3
            # The very last may have been stored and its answer lost: it is the only one that can differ.
            differing = [key for key, value in grades.items() if stored[key].grade != value]
            assert len(differing) <= 1
    state = start(folders.kit).post("rater-1", folders.tokens["rater-1"], "desk", {})
    stored = Journal(kit).given("rater-1").grades
    found = {(code, name): grade["grade"] for code, of in state["grades"].items() for name, grade in of.items()}
    assert found == {key: grade.grade for key, grade in stored.items()}


def test_two_servers_of_one_kit(start, folders):
    start(folders.kit)
    with pytest.raises(AnalysisError, match="is being served already"):
        serving.serve(folders.kit, "127.0.0.1", 0)


@pytest.fixture
def with_viewer(monkeypatch, tmp_path):
    """Whether or not this installation has it."""
    (tmp_path / "niivue.js").write_text("")
    monkeypatch.setattr(serving, "VIEWER", tmp_path / "niivue.js")


def test_a_port_that_is_taken(folders, with_viewer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AnalysisError, match=f"--port {port}: cannot listen there"):
            serving.serve(folders.kit, "127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99_999), ("no.such.host.invalid", 0), ("203.0.113.7", 0)])
def test_a_place_where_nobody_can_listen(folders, with_viewer, host, port):
    with pytest.raises(AnalysisError, match="cannot listen there"):
        serving.serve(folders.kit, host, port)


def test_a_kit_that_was_changed_is_not_served(folders, with_viewer):
    next(folders.kit.glob("items/*/image_1.nii.gz")).write_bytes(b"")
    with pytest.raises(AnalysisError, match=r"image_1.nii.gz was changed"):
        serving.serve(folders.kit, "127.0.0.1", 0)


def test_a_kit_that_cannot_be_written_is_not_served(folders, with_viewer, mount_at):
    (folders.kit / "grades").mkdir()
    mount_at(folders.kit / "grades", "ro")
    with pytest.raises(AnalysisError, match=r"grades cannot be written .*make it writable"):
        serving.serve(folders.kit, "127.0.0.1", 0)


def test_ctrl_c_before_the_server_runs_ends_it_as_well(folders, with_viewer):
    """And leaves everything as it was: the kit can be served again, and Ctrl-C is what it is elsewhere."""
    for _ in range(2):
        serving.serve(folders.kit, "127.0.0.1", 0, say=lambda _line: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_at_any_moment_after_the_address_is_said_ends_it_quietly(folders, with_viewer):
    """The moments are those of a timer, from before asyncio starts to after the server runs."""
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from analysis.grading.serve import serve\n"
        "import analysis.grading.serve as serving\n"
        "serving.VIEWER = Path(sys.executable)\n"
        "signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))\n"
        "def say(line):\n"
        "    if line.startswith('Raters sign in'):\n"
        "        signal.setitimer(signal.ITIMER_REAL, moment / 1000)\n"
        "for moment in range(1, 40, 2):\n"
        "    serve(Path(sys.argv[1]), '127.0.0.1', 0, say=say)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folders.kit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_viewer_it_says_how_to_get_it(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(serving, "VIEWER", tmp_path / "missing.js")
    with pytest.raises(AnalysisError, match=r"NiiVue is not there.*npm.*NIIVUE_TARBALL.*pip install"):
        serving.serve(folders.kit, "127.0.0.1", 0)


def test_without_the_extra_it_says_how_to_get_it(folders):
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from analysis.cli import main\n"
        f"main(['grading', 'serve', {str(folders.kit)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs uvicorn, which is not installed; run: pip install 'nnunetv2-robustness[grading]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True)]
)
def test_other_machines_are_warned_of_and_browsers_get_in(folders, with_viewer, monkeypatch, host, warned):
    """The page at the very address that the command prints, with the header that browsers send; and no other name."""
    import uvicorn
    from starlette.testclient import TestClient

    served, said = [], []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, **_sockets: served.append(server.config.app))
    serving.serve(folders.kit, host, 0, say=said.append)
    address = re.search(r"http://(.*)/grade/", said[0])[1]
    client = TestClient(served[0])
    assert client.get("/", headers={"host": address}).status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == (200 if warned else 400)
    assert any("other machines can reach this page" in line for line in said) == warned


def test_no_kit(tmp_path, with_viewer):
    with pytest.raises(AnalysisError, match="is no grading kit"):
        serving.serve(tmp_path, "127.0.0.1", 0)


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm")
def test_the_viewer_is_the_one_that_is_pinned():
    """The build refuses a tarball that is not the one whose checksum npm records."""
    setup = Path(__file__).parents[3] / "setup.py"
    code = (
        "import sys, runpy, setuptools; setuptools.setup = lambda **_: None\n"
        f"build = runpy.run_path({str(setup)!r})\n"
        "try: build['unpack'](__import__('pathlib').Path(sys.argv[1]))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(setup)], capture_output=True, text=True, check=False)
    assert "is not the tarball of @niivue/niivue" in done.stdout
