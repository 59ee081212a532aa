"""Paths that the libraries below can work with."""

from __future__ import annotations

import argparse
from pathlib import Path


def utf8_path(text: str) -> Path:
    """Read a path from the command line (an ``argparse`` type).

    Raises
    ------
    ArgumentTypeError
        Where the name is not valid UTF-8: ITK ends the process over such a name, and no table can hold it.
    """
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"found {text!a}, expected a name in valid UTF-8; rename the folder")
    return Path(text)


def is_utf8(path: Path | str) -> bool:
    """Whether a name that the file system gave is text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
