"""The one exception that front ends turn into a message instead of a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnalysisError(Exception):
    """Input that cannot be worked with; the text names file or option, finding, expectation and remedy."""


def suggestion(found: str, known: Iterable[str]) -> str:
    """``did you mean X? `` where a known name is close to what was found, else an empty text."""
    close = difflib.get_close_matches(found, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
