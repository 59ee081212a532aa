"""Style, shades and files of figures.

Figures are built without pyplot's global state and saved without dates, so that equal runs give equal files.
Shades run from light to dark within one hue: their order survives colour blindness and a grey printer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

PNG_DPI = 300

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of structures are text, never formulas.
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "nnunetv2-robustness",
}


@dataclass(frozen=True)
class Drawing:
    """A saved figure.

    Attributes
    ----------
    name
        File name without its ending; unique in the report.
    caption
        What it shows and of how many cases.
    svg
        The ``svg`` element, to be put into a page.
    files
        The SVG and the PNG file.
    """

    name: str
    caption: str
    svg: str
    files: tuple[Path, Path]


def style() -> AbstractContextManager[None]:
    """Apply the style of all figures; they are made and saved within it."""
    context: AbstractContextManager[None] = mpl.rc_context(_STYLE)
    return context


def save(figure: Figure, folder: Path, name: str, caption: str) -> Drawing:
    """Write SVG and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(png, dpi=PNG_DPI)
    return Drawing(name, caption, inline(svg.read_text(encoding="utf-8"), name), (svg, png))


def inline(svg: str, name: str) -> str:
    """Cut out the ``svg`` element, without a fixed size and with ids that are unique in a page of figures."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", element)
    start, end = element.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", start) + ">" + end


def file_name(name: str) -> str:
    """Make part of a file name of a name that a data set chose; different names stay different."""
    safe = re.sub(r"[^A-Za-z0-9-]+", "-", name)
    return safe if name and safe == name else f"{safe.strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def severity_shade(index: int, count: int) -> str:
    """Colour of the ``index``-th of ``count`` severities, light enough for a black line on it."""
    share = index / (count - 1) if count > 1 else 0.5
    return str(to_hex(mpl.colormaps["Blues"](0.12 + 0.55 * share)))


def text_colour(background: str) -> str:
    """Choose black or white, whichever has more contrast (WCAG 2) on a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def counts_in_words(counts: Sequence[int]) -> str:
    """Write one number, or the range of several: ``4``, ``3 to 4``."""
    return str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def short(name: str, most: int = 18) -> str:
    """Cut a name that would push the drawing out of its figure; captions and tables have it in full."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def in_brackets(note: str) -> str:
    """Append a note to a title; nothing where there is none."""
    return f" ({note})" if note else ""


def sentence(note: str) -> str:
    """Make a note the first sentence of a caption; nothing where there is none."""
    return f"{note.capitalize()}. " if note else ""
