"""Builds the package with the image viewer of the grading page, NiiVue, unpacked from its npm tarball.

Everything else stands in pyproject.toml. The viewer is an extra: without npm the package is built without it, and
``nnUNetv2_robustness_report grading serve`` says so.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

VERSION = "0.69.0"
INTEGRITY = "YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
"""SHA-512 of the tarball, as npm records it."""

MEMBERS = {"package/dist/index.js": "niivue.js", "package/package.json": "niivue.package.json"}
"""The viewer, and who holds its rights."""

VENDOR = Path(__file__).parent / "analysis" / "grading" / "static" / "vendor"


class BuildWithViewer(build_py):
    """``build_py`` that first puts the viewer where package data is taken from."""

    def run(self) -> None:
        """Unpack the viewer if this version is not there, and build."""
        stamp = VENDOR / "VERSION"
        if not stamp.is_file() or stamp.read_text() != VERSION:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    unpack(Path(os.environ.get("NIIVUE_TARBALL") or download(folder)))
                stamp.write_text(VERSION)
            except (OSError, subprocess.CalledProcessError, tarfile.TarError, ValueError) as error:
                self.warn(f"the grading page will have no image viewer: {error}")
        super().run()


def download(folder: str) -> str:
    """Let npm fetch the tarball."""
    command = ["npm", "pack", f"@niivue/niivue@{VERSION}", "--silent", "--pack-destination", folder]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]  # noqa: S603
    return f"{folder}/{name}"


def unpack(tarball: Path) -> None:
    """Take the viewer out of the tarball, if it is the one that is meant."""
    content = tarball.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        raise ValueError(f"{tarball} is not the tarball of @niivue/niivue {VERSION}")
    VENDOR.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tarball) as archive:
        for member, name in MEMBERS.items():
            file = archive.extractfile(member)
            if file is None:
                raise ValueError(f"{tarball} has no {member}")
            (VENDOR / name).write_bytes(file.read())


setup(cmdclass={"build_py": BuildWithViewer})
