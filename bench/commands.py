"""Commands as a user runs them, and what they leave on disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from bench.results import UnavailableError

_SECONDS_BETWEEN_LOOKS = 0.25
_LONGEST_TAIL = 300


def run_command(command: Sequence[str], environment: Mapping[str, str], look: Callable[[], None]) -> None:
    """Run a command to its end.

    Parameters
    ----------
    command
        The command.
    environment
        Added to that of this process.
    look
        Called now and then meanwhile.

    Raises
    ------
    UnavailableError
        Where it fails; the end of its output is in the message.
    """
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                look()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            _end_all(process)
        output.seek(0)
        tail = " / ".join(output.read().decode(errors="replace").splitlines())[-_LONGEST_TAIL:]
    if process.returncode:
        raise UnavailableError(f"{Path(command[0]).name} ended with status {process.returncode}: {tail}")


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End a command and the processes that it started, which nnU-Net's outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder; links count nothing."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
