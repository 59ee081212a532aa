"""From templates and results to pages: escaping, numbers, and figures in the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from analysis import formatting
from analysis.drawing import Drawing

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill a template of ``analysis/templates``; what it is given is escaped in HTML.

    Parameters
    ----------
    template
        File name.
    context
        Names that the template uses; a missing one is an error, not an empty text.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": formatting.number,
        "p_value": formatting.p_value,
        "md": markdown_text,
        "svg": _trusted_svg,
    }
    for words in (formatting.between, formatting.counted, formatting.estimate, formatting.share):
        environment.globals[words.__name__] = words
    page: str = environment.get_template(template).render(context)
    return page


def _trusted_svg(drawing: Drawing) -> Markup:
    # Drawn here by matplotlib, which escapes the names in it and turns text into outlines.
    return Markup(drawing.svg)  # noqa: S704


def markdown_text(text: object) -> str:
    """Escape what Markdown or HTML in it would act upon, and keep a table row in its line."""
    escaped = " ".join(str(text).split())
    for character in "\\`*_[]<>|#":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
