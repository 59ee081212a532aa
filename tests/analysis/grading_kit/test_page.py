"""The grading page in a real Chromium with software WebGL: signing in, looking, grading by keyboard, coming back."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from skimage.measure import find_contours

from analysis.grading.blinding import token_hash
from analysis.grading.journal import Journal
from analysis.grading.kit import CONTOURS, DEFAULT_SCALE, Kit, Rater
from analysis.grading.volumes import first_looks, in_display_order, write_volume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCREEN = {"width": 1280, "height": 1024}
COMMANDS = Path(sys.executable).parent


class Desk:
    """A rater at a browser: types keys, reads the screen."""

    def __init__(self, browser, server, rater):
        self.page = browser.new_context(viewport=SCREEN).new_page()
        self.complaints, self.hosts = [], set()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(f"http://127.0.0.1:{server.port}/grade/{rater}")

    def sign_in(self, token):
        """With the keyboard alone: the field for the token has the focus."""
        self.page.keyboard.type(token)
        self.page.keyboard.press("Enter")

    def wait_for_images(self, code=None):
        self.page.wait_for_selector(
            "#desk[data-shown]" if code is None else f"#desk[data-shown={code}]", timeout=60_000
        )
        return self.page.get_attribute("#desk", "data-shown")

    def wait_for_text(self, selector, words):
        """Wait; the page lets no test run code of its own in it, which Playwright's wait_for_function would take."""
        self.page.locator(selector).filter(has_text=words).wait_for()

    def wait_until_stored(self):
        """The end of the text: *being stored* is not stored."""
        self.page.locator("#state").filter(has_text=re.compile(r": \d stored$")).wait_for()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def grade(self, first, second):
        """Grade both structures of the item that is shown."""
        self.press(str(first), str(second))
        self.wait_until_stored()

    def pressed(self):
        """Grades that are marked, by structure."""
        return [
            [button.get_attribute("value") for button in fieldset.locator("button[aria-pressed=true]").all()]
            for fieldset in self.page.locator("#structures fieldset").all()
        ]

    def text(self, selector):
        return self.page.inner_text(selector)

    def picture(self):
        """The screen as (rows, columns, RGB), 0 to 1."""
        return matplotlib.image.imread(io.BytesIO(self.page.screenshot()))[..., :3]

    def column(self, number):
        """The part of the screen with one column of images."""
        box = self.page.locator("#views .stage").nth(number).bounding_box()
        left, top, width, height = (int(box[name]) for name in ("x", "y", "width", "height"))
        return self.picture()[top : top + height, left : left + width]

    def shows(self, picture):
        """Whether the first column is as it was, but for the last bit of a colour."""
        np.testing.assert_allclose(self.column(0), picture, atol=1.5 / 255)


def yellow(picture):
    """Where the first structure's contour is drawn."""
    return (picture[..., 0] > 0.8) & (picture[..., 1] > 0.75) & (picture[..., 2] < 0.45)


def green(picture):
    """Where the cross-hair is drawn."""
    return (picture[..., 1] > picture[..., 0] + 0.2) & (picture[..., 1] > picture[..., 2] + 0.2)


def grey(picture):
    """Where a pixel has no colour."""
    return np.ptp(picture, axis=-1) < 0.03


def refuse_violations(page):
    """axe-core, the accessibility checker of Deque: nothing serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    found = axe.Axe().run(page).response["violations"]
    assert [
        (v["id"], v["impact"], [n["html"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")
    ] == []


def test_an_afternoon_at_the_desk(browser, serve_here, folders, tmp_path):
    """Sign in, look, grade 12 cases by keyboard, close in the middle, resume, export, analyse."""
    kit = folders.open()
    order = kit.raters["rater-1"].order
    server = serve_here(folders.kit)
    desk = Desk(browser, server, "rater-1")
    refuse_violations(desk.page)

    desk.sign_in("ABCD-EFGH-JKMN-PQRS")
    desk.wait_for_text("#refused", "not known")
    assert len(desk.complaints) == 1  # Chromium itself reports the answer 401
    desk.page.fill("#token", "")
    desk.sign_in(folders.tokens["rater-2"])
    desk.wait_for_text("#refused", "another rater")
    desk.complaints.clear()
    desk.page.fill("#token", "")
    desk.sign_in(folders.tokens["rater-1"])
    assert desk.wait_for_images() == order[0]
    refuse_violations(desk.page)

    ct, pet, fusion = (desk.column(number) for number in range(3))
    assert len(np.unique(ct[grey(ct)])) > 50
    assert pet[grey(pet)].mean() > 1.5 * ct[grey(ct)].mean()  # dark is high: most of a PET is light
    assert (~grey(fusion)).mean() > (~grey(ct)).mean() + 0.2
    assert "GTVp" in kit.items[order[0]] or "GTVn" in kit.items[order[0]]
    for words in kit.scale:
        assert words in desk.text("#wording")

    expected = {}
    for number, code in enumerate(order[:5]):
        assert desk.wait_for_images(code) == code
        grades = number % 5 + 1, (number + 2) % 5 + 1
        desk.grade(*grades)
        expected[code] = grades
        desk.press("Enter")
    desk.wait_for_images(order[5])
    desk.press("m")
    desk.page.keyboard.type("n1: ragged")  # n and 1 are no commands here
    desk.press("Escape", "4")
    desk.wait_until_stored()
    desk.page.context.close()
    assert desk.complaints == []
    assert desk.hosts == {f"127.0.0.1:{server.port}"}

    desk = Desk(browser, server, "rater-1")
    desk.sign_in(folders.tokens["rater-1"].lower().replace("-", ""))
    assert desk.wait_for_images() == order[5]
    assert desk.page.input_value("#comment") == "n1: ragged"
    assert desk.pressed() == [["4"], []]
    assert "5 of 12 cases graded" in desk.text("#progress")
    desk.press("2")  # the other structure is framed
    expected[order[5]] = 4, 2
    desk.press("p")
    desk.wait_for_images(order[4])
    assert desk.pressed() == [[str(grade)] for grade in expected[order[4]]]
    desk.press("s", "1")  # the second structure anew
    expected[order[4]] = expected[order[4]][0], 1
    desk.press("Enter")
    for number, code in enumerate(order[6:]):
        assert desk.wait_for_images(code) == code
        expected[code] = 5 - number % 3, 3
        desk.grade(*expected[code])
        desk.press("Enter")
    desk.wait_for_text("#state", "all cases are graded")
    assert "All 12 cases are graded" in desk.text("#progress")
    assert desk.complaints == []
    desk.page.context.close()

    stored = Journal(kit).given("rater-1")
    found = {code: tuple(stored.grades[code, name].grade for name in kit.structures) for code in order}
    assert found == expected
    assert stored.comments[order[5]].text == "n1: ragged"
    assert stored.grades[order[4], "GTVn"].revisions == (1 if (4 + 2) % 5 + 1 != 1 else 0)
    assert all(0 < grade.seconds < 120 for grade in stored.grades.values())
    analyse(folders, tmp_path, found)


def analyse(folders, tmp_path, found):
    """Export and analyse as a user; the second rater's grades come from paper."""
    lines = [
        f"rater-2,{code},{name},{max(1, grades[place] - 1)}"
        for code, grades in found.items()
        for place, name in enumerate(("GTVp", "GTVn"))
    ]
    (tmp_path / "paper.csv").write_text("\n".join(["rater,item,structure,grade", *lines]))
    for arguments in (
        ["import", folders.kit, tmp_path / "paper.csv"],
        ["export", folders.kit, "--key", folders.key, "-o", tmp_path / "grades.csv"],
        ["analyse", tmp_path / "grades.csv", "-o", tmp_path / "out"],
    ):
        done = subprocess.run(
            [COMMANDS / "nnUNetv2_robustness_report", "grading", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Traceback") == 0
    assert "Perturbed cases were chosen because they lose most" in done.stdout
    usability = pd.read_csv(tmp_path / "out" / "tables" / "usability.csv")
    table = folders.table[folders.table["repeat"] == 0]
    unperturbed = table[(table["perturbation"] == "baseline") & (table["structure"] == "GTVp")]["item"]
    of_rater = usability[
        (usability["graded"] == "baseline") & (usability["structure"] == "GTVp") & (usability["rater"] == "rater-1")
    ]
    assert of_rater["usable"].item() == sum(found[code][0] >= 3 for code in unperturbed)
    assert of_rater["n"].item() == 3
    figures = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"grade_flow_baseline.svg", "grade_flow_perturbed.svg", "metric_correlations.svg"} <= figures
    assert "phantom" in (tmp_path / "out" / "grading.html").read_text()


def test_keys_change_what_is_seen(browser, serve_here, folders):
    """Each view key against the pixels that it must change."""
    server = serve_here(folders.kit)
    desk = Desk(browser, server, "rater-2")
    desk.sign_in(folders.tokens["rater-2"])
    code = desk.wait_for_images()
    while "GTVp" not in folders.open().items[code]:
        desk.press("n")
        order = folders.open().raters["rater-2"].order
        code = desk.wait_for_images(order[order.index(code) + 1])
    assert [yellow(desk.column(number)).sum() > 30 for number in range(3)] == [True] * 3
    desk.press("c")
    assert [yellow(desk.column(number)).sum() for number in range(2)] == [0, 0]
    desk.press("c")
    soft = desk.column(0)
    assert yellow(soft).sum() > 30
    desk.press("b")
    assert desk.column(0)[grey(desk.column(0))].std() < soft[grey(soft)].std()
    assert "bone" in desk.text("#views figcaption >> nth=0")
    desk.press("w")
    desk.shows(soft)
    for there, back in (("ArrowUp", "ArrowDown"), ("ArrowLeft", "ArrowRight"), ("PageUp", "PageDown"), ("+", "0")):
        desk.press(there)
        assert (desk.column(0) != soft).any(), there
        desk.press(back)
        desk.shows(soft)
    desk.press("ArrowUp", "ArrowUp", "l")
    desk.shows(soft)
    desk.press("x")
    assert green(desk.column(0)).sum() == 0 < green(soft).sum()
    desk.press("x")
    desk.shows(soft)
    desk.press("f")
    widths = [figure.is_visible() for figure in desk.page.locator("#views figure").all()]
    assert widths == [True, False, False]
    desk.press("f", "f", "f")
    desk.shows(soft)
    assert desk.complaints == []


def test_everything_fits_the_screen_and_can_be_reached_by_tab(browser, serve_here, folders):
    server = serve_here(folders.kit)
    desk = Desk(browser, server, "rater-1")
    desk.sign_in(folders.tokens["rater-1"])
    desk.wait_for_images()
    for selector in ("#wording", "#structures", "#comment", "#next", "#progress", "#views"):
        box = desk.page.locator(selector).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= SCREEN["height"]
        assert box["x"] + box["width"] <= SCREEN["width"]
    assert desk.page.evaluate("document.documentElement.scrollHeight") <= SCREEN["height"]
    reached = set()
    for _ in range(25):
        desk.press("Tab")
        reached.add(
            desk.page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.id || document.activeElement.tagName"
            )
        )
    assert {"items", "comment", "next", "open", "SUMMARY"} <= reached
    assert {f"GTVn: {grade}, {words}" for grade, words in enumerate(DEFAULT_SCALE, 1)} <= reached
    desk.press("?")
    assert "contours on or off" in desk.text("#keys")
    refuse_violations(desk.page)


def test_a_server_that_is_killed_while_a_rater_grades(browser, start, folders):
    """What was not stored is kept in the browser, said, and sent when the server is back; nothing is graded unseen."""
    kit = folders.open()
    server = start(folders.kit)
    desk = Desk(browser, server, "rater-1")
    desk.sign_in(folders.tokens["rater-1"])
    code = desk.wait_for_images()
    server.end(signal.SIGKILL)
    desk.press("2", "5")
    desk.page.wait_for_selector("#alarm:not([hidden])")
    desk.wait_for_text("#alarm", "The server does not answer. Not stored yet: 2")
    assert Journal(kit).given("rater-1").grades == {}
    start(folders.kit, server.port)
    desk.page.wait_for_selector("#alarm", state="hidden", timeout=20_000)
    assert desk.text("#state") == f"{code}, GTVn: 5 stored"
    grades = Journal(kit).given("rater-1").grades
    assert [grades[code, name].grade for name in kit.structures] == [2, 5]


def test_after_an_outage_the_case_is_shown_and_not_the_one_before(browser, start, folders):
    """Nobody must take the case before for the one that could not be loaded."""
    order = folders.open().raters["rater-1"].order
    server = start(folders.kit)
    desk = Desk(browser, server, "rater-1")
    desk.sign_in(folders.tokens["rater-1"])
    desk.wait_for_images(order[0])
    before = desk.column(0)
    assert before.max() > 0.5
    server.end(signal.SIGKILL)
    desk.press("n", "n")
    desk.wait_for_text("#alarm", f"{order[2]} is shown when it does")
    assert desk.column(0).max() < 0.1
    desk.press("4")
    assert "not graded" in desk.text("#state")
    start(folders.kit, server.port)
    desk.wait_for_images(order[2])
    desk.page.wait_for_selector("#alarm", state="hidden")
    assert desk.column(0).max() > 0.5
    assert Journal(folders.open()).given("rater-1").grades == {}


def test_a_key_that_is_held_grades_once_and_a_slip_can_be_mended(browser, serve_here, folders):
    kit = folders.open()
    desk = Desk(browser, serve_here(folders.kit), "rater-1")
    desk.sign_in(folders.tokens["rater-1"])
    code = desk.wait_for_images()
    for _ in range(3):  # the second and third are what a browser sends while a key is held
        desk.page.keyboard.down("5")
    desk.page.keyboard.up("5")
    desk.wait_until_stored()
    assert desk.pressed() == [["5"], []]
    desk.press("Backspace", "4")
    desk.wait_for_text("#state", f"{code}, GTVp: 4 stored")
    desk.press("2")
    desk.wait_for_text("#state", f"{code}, GTVn: 2 stored")
    grades = Journal(kit).given("rater-1").grades
    assert [grades[code, name].grade for name in kit.structures] == [4, 2]


def test_a_browser_that_is_closed_while_the_server_is_away(browser, start, folders):
    """The grade waits in the browser's own storage until its rater comes back."""
    kit = folders.open()
    server = start(folders.kit)
    desk = Desk(browser, server, "rater-1")
    desk.sign_in(folders.tokens["rater-1"])
    code = desk.wait_for_images()
    server.end(signal.SIGKILL)
    desk.press("3")
    desk.page.wait_for_selector("#alarm:not([hidden])")
    context = desk.page.context
    desk.page.close(run_before_unload=False)
    start(folders.kit, server.port)
    desk.page = context.new_page()
    desk.page.goto(f"http://127.0.0.1:{server.port}/")
    desk.sign_in(folders.tokens["rater-1"])
    desk.wait_for_images(code)
    assert desk.pressed()[0] == ["3"]
    deadline = time.monotonic() + 60
    while not (grades := Journal(kit).given("rater-1").grades) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {key: grade.grade for key, grade in grades.items()} == {(code, "GTVp"): 3}


def test_one_token_in_two_browsers(browser, serve_here, folders):
    kit = folders.open()
    server = serve_here(folders.kit)
    first, second = (Desk(browser, server, "rater-1") for _ in range(2))
    for desk in (first, second):
        desk.sign_in(folders.tokens["rater-1"])
        code = desk.wait_for_images()
    first.press("2")
    first.page.wait_for_selector("#alarm:not([hidden])")
    assert "You signed in elsewhere" in first.text("#alarm")
    assert "“Continue here” stores it, unless you graded the same there later." in first.text("#alarm")
    second.grade(4, 4)
    with first.page.expect_navigation():
        first.page.get_by_role("button", name="Continue here").press("Enter")
    first.wait_for_images()
    second.press("1")
    second.page.wait_for_selector("#alarm:not([hidden])")
    grades = Journal(kit).given("rater-1").grades
    # What the first could not store is older than what the second stored: it does not come after it.
    assert [grades[code, name].grade for name in kit.structures] == [4, 4]


def hand_made_kit(folder):
    """One item: a body whose bright part is exactly the contour, on a grid with three different spacings."""
    mask = np.zeros((30, 40, 50), np.uint8)
    mask[10:22, 12:20, 14:36] = 1
    mask[14:18, 20:32, 14:22] = 1
    geometry = sitk.GetImageFromArray(mask)
    geometry.SetSpacing((1.5, 2.0, 3.0))
    geometry.SetOrigin((-30.0, 10.0, -50.0))
    image = np.where(mask, 240.0, -160.0).astype(np.float32)
    labels = in_display_order(mask, geometry)
    token = "AAAA-BBBB-CCCC-DDDD"
    kit = Kit(
        folder,
        "hand-made",
        synthetic=True,
        modalities=("CT",),
        structures=("GTVp",),
        scale=DEFAULT_SCALE,
        items={"AB23": first_looks(labels, ["GTVp"])},
        raters={"rater-1": Rater(token_hash(token), ("AB23",))},
    )
    (folder / "items" / "AB23").mkdir(parents=True)
    write_volume(kit.volume("AB23", kit.volumes["CT"]), in_display_order(image, geometry), "AB23")
    write_volume(kit.volume("AB23", kit.volumes[CONTOURS]), labels, "AB23")
    kit.write()
    return token


@pytest.mark.parametrize("keys", [[], ["+", "+"], ["ArrowUp", "ArrowLeft", "PageUp"]])
def test_contours_lie_where_the_viewer_draws_the_image(browser, serve_here, tmp_path, keys):
    """Against NiiVue's own pixels: the contour encloses what is brighter than half, to two pixels, in each plane."""
    token = hand_made_kit(tmp_path / "kit")
    desk = Desk(browser, serve_here(tmp_path / "kit"), "rater-1")
    desk.sign_in(token)
    desk.wait_for_images()
    assert desk.text("#views figcaption") == "CT (soft tissue): 240 HU"
    desk.press(*keys)
    with_line = yellow(desk.column(0))
    desk.press("c")
    picture = desk.column(0)
    bright = grey(picture) & (picture[..., 0] > 0.5)
    for rows in np.array_split(np.arange(len(picture)), 3):
        assert with_line[rows].sum() > 40
    for axis in (0, 1):
        line, part = (np.flatnonzero(found.any(axis=axis)) for found in (with_line, bright))
        assert abs(line.min() - part.min()) <= 2
        assert abs(line.max() - part.max()) <= 2
    inside = bright[with_line].mean()
    assert 0.3 < inside < 0.7  # the line is half in, half out


def test_outlines_are_those_of_scikit_image(browser, serve_here, folders):
    """Marching squares of random masks, against ``skimage.measure.find_contours``: the same closed polygons."""
    desk = Desk(browser, serve_here(folders.kit), "rater-1")
    rng = np.random.default_rng(0)
    for density in (0.1, 0.5, 0.9):
        mask = rng.random((12, 9)) < density
        found = desk.page.evaluate(
            """async (rows) => {
              const { outlines } = await import("/static/contours.js");
              const is = (x, y) => y >= 0 && y < rows.length && x >= 0 && x < rows[0].length && rows[y][x];
              return outlines(is, rows[0].length, rows.length);
            }""",
            mask.tolist(),
        )
        expected = find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected="low")
        expected_sets = {frozenset(map(tuple, np.round(polygon[:-1, ::-1] - 1, 1).tolist())) for polygon in expected}
        assert {frozenset(map(tuple, polygon)) for polygon in found} == expected_sets
        assert len(found) == len(expected)


def test_what_the_server_refuses_is_said_and_does_not_hold_up_the_rest(browser, serve_here, folders):
    """A page that is out of step with its kit: its grade is named and the next one is stored."""
    kit = folders.open()
    desk = Desk(browser, serve_here(folders.kit), "rater-1")
    desk.page.route("**/api/rater-1/desk", lambda route: answer_with_a_stranger(route))
    desk.sign_in(folders.tokens["rater-1"])
    desk.wait_for_images()
    desk.press("3")
    desk.wait_for_text("#alarm", "found the structure 'liver'")
    assert desk.text("#state") == "not stored"
    assert desk.pressed() == [[], []]
    desk.press("4")
    desk.wait_until_stored()
    grades = Journal(kit).given("rater-1").grades
    assert [(structure, grade.grade) for (_, structure), grade in grades.items()] == [("GTVn", 4)]


def answer_with_a_stranger(route):
    state = route.fetch().json()
    route.fulfill(json={**state, "structures": ["liver", "GTVn"]})


def test_a_browser_that_stores_nothing(browser, serve_here, folders):
    """Storage that is switched off or full costs nothing but the safety net."""
    kit = folders.open()
    desk = Desk(browser, serve_here(folders.kit), "rater-1")
    desk.page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    desk.sign_in(folders.tokens["rater-1"])
    desk.wait_for_images()
    desk.grade(2, 3)
    assert sorted(grade.grade for grade in Journal(kit).given("rater-1").grades.values()) == [2, 3]
