"""Figures: the numbers that are drawn, files, captions."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import figures
from analysis.drawing import file_name, inline, severity_shade, text_colour
from analysis.figures import draw_box_plots, draw_heat_map
from analysis.tables import cell_table, paired
from analysis.verdict import Limits

MakeRow = Callable[..., dict[str, Any]]
BASE = (None, "baseline", 0)


def words_in(svg: str) -> list[str]:
    """Text that matplotlib turned into outlines stands beside them as a comment."""
    return re.findall(r"<!-- (.*?) -->", svg)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.fixture(scope="module")
def two_cases(make_row: MakeRow) -> pd.DataFrame:
    rows = []
    for case, losses in {"a": (0.1, 0.5), "b": (0.3, 0.7)}.items():
        rows.append(make_row(case, BASE, "GTVp", 0.8))
        rows += [make_row(case, ("CT", "blur", s + 1), "GTVp", 0.8 - loss) for s, loss in enumerate(losses)]
    return pd.DataFrame(rows)


def test_the_heat_map_shows_the_medians_and_frames_broken_limits(two_cases: pd.DataFrame, tmp_path: Path) -> None:
    drawing = draw_heat_map(cell_table(two_cases, Limits.load()), tmp_path, "phantom")
    words = words_in(drawing.svg)
    assert [word for word in words if word in {"0.20", "0.60"}] == ["0.20", "0.60", "0.20"]  # the last: the scale
    assert any("phantom" in word for word in words)
    assert drawing.caption.startswith("Phantom.")
    assert "GTVp n = 2" in drawing.caption


def test_box_plots_say_n_and_draw_every_case_where_they_are_few(
    two_cases: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = draw_box_plots(paired(two_cases), Limits.load(), "CT", "GTVp", tmp_path / "few", "phantom")
    monkeypatch.setattr(figures, "POINTS_UP_TO", 1)
    monkeypatch.setattr(figures, "_FEWEST_FOR_A_BOX", 2)
    many = draw_box_plots(paired(two_cases), Limits.load(), "CT", "GTVp", tmp_path / "many")
    assert few is not None
    assert many is not None
    assert few.svg.count("PathCollection") == 2  # a set of points for each of the two boxes
    assert many.svg.count("PathCollection") == 0
    assert few.caption.startswith("Phantom. ΔDice of GTVp with CT perturbed (n = 2")
    assert "Bars: median. Points: every case. Dashes" in few.caption
    assert "Boxes: median and quartiles" in many.caption
    assert "Points" not in many.caption
    assert "phantom" not in many.caption.lower()


def test_nothing_to_draw_gives_no_figure(two_cases: pd.DataFrame, tmp_path: Path) -> None:
    assert draw_box_plots(paired(two_cases), Limits.load(), "CT", "GTVn", tmp_path) is None


def test_equal_runs_give_equal_files(two_cases: pd.DataFrame, tmp_path: Path) -> None:
    table = cell_table(two_cases, Limits.load())
    first, second = (draw_heat_map(table, tmp_path / name) for name in ("one", "two"))
    for one, two in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert not re.search(r"<dc:date>", first.svg)


def test_the_png_has_300_dots_per_inch(two_cases: pd.DataFrame, tmp_path: Path) -> None:
    drawing = draw_heat_map(cell_table(two_cases, Limits.load()), tmp_path)
    assert Image.open(drawing.files[1]).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_nothing_global_is_changed(two_cases: pd.DataFrame, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw_heat_map(cell_table(two_cases, Limits.load()), tmp_path)
    assert dict(mpl.rcParams) == before


def test_ids_of_inlined_figures_differ_and_still_resolve(two_cases: pd.DataFrame, tmp_path: Path) -> None:
    drawing = draw_box_plots(paired(two_cases), Limits.load(), "CT", "GTVp", tmp_path)
    assert drawing is not None
    other = inline(drawing.files[0].read_text(), "other")
    ids, others = (set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (drawing.svg, other))
    assert not ids & others
    used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', drawing.svg))
    assert {a or b for a, b in used} <= ids
    ET.fromstring(drawing.svg)


def test_names_of_a_data_set_are_text_only(make_row: MakeRow, tmp_path: Path) -> None:
    evil = "$x^2$--><script>alert(1)</script>/../.."
    rows = [make_row(c, v, evil, d) for c in "ab" for v, d in ((BASE, 0.9), (("CT", "blur", 1), 0.5))]
    drawing = draw_box_plots(paired(pd.DataFrame(rows)), Limits.load(), "CT", evil, tmp_path)
    assert drawing is not None
    assert "<script" not in drawing.svg
    assert all(file.resolve().parent == tmp_path.resolve() for file in drawing.files)


def test_file_names_of_different_names_differ() -> None:
    names = ["GTVp", "GTV p", "GTV-p", "GTV/p", "../GTV", "é", "ü", ""]
    assert len({file_name(name) for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", file_name(name)) for name in names)
    assert file_name("GTVp") == "GTVp"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_severities_darken_step_by_step_in_grey(count: int) -> None:
    greys = [luminance(severity_shade(i, count)) for i in range(count)]
    assert np.all(np.diff(greys) < -0.1 + 0.01 * count)


def test_text_has_contrast_on_every_shade_of_harm() -> None:
    for share in np.linspace(0, 1, 50):
        shade = mpl.colors.to_hex(mpl.colormaps["Oranges"](share))
        lighter, darker = sorted([luminance(shade), luminance(text_colour(shade))], reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 4.5, shade
