"""Names that are no text: ITK would end the process over them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.settings import Options, open_benchmark
from nnunet_plugin.paths import is_utf8, utf8_path

NO_TEXT = os.fsdecode(b"scans-\xff")


def test_only_text_is_taken() -> None:
    assert utf8_path("köpfe/ß") == Path("köpfe/ß")
    assert not is_utf8(NO_TEXT)
    with pytest.raises(argparse.ArgumentTypeError, match=r"found 'scans-\\udcff', expected a name in valid UTF-8"):
        utf8_path(NO_TEXT)


@pytest.mark.parametrize("name", ["model", "images", "labels", "run"])
def test_a_benchmark_says_which_folder(name: str) -> None:
    paths = {"model": Path("m"), "images": Path("i"), "labels": Path("l"), "run": Path("r")} | {name: Path(NO_TEXT)}
    with pytest.raises(BenchmarkError, match=rf"{name}: found 'scans-\\udcff', expected a name in valid UTF-8"):
        open_benchmark(Options(**paths))


@pytest.mark.parametrize(
    "command",
    [
        ["analysis.cli", "run", NO_TEXT],
        ["analysis.cli", "replicate", NO_TEXT, "-o", "out"],
        ["dataset_conversion.cli", "hecktor", NO_TEXT, "-d", "1"],
        ["dataset_conversion.cli", "phantom", "-o", NO_TEXT],
    ],
    ids=lambda command: f"{command[0]}-{command[1]}",
)
def test_commands_end_with_a_message(command: list[str], tmp_path: Path) -> None:
    module, *arguments = command
    code = f"import sys; from {module} import main; sys.exit(main(sys.argv[1:]))"
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 2
    assert b"expected a name in valid UTF-8" in result.stderr
    assert b"Traceback" not in result.stderr
