"""Runs the grading page: checks that everything is there, opens the port, serves until it is interrupted."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from analysis.errors import AnalysisError
from analysis.grading.journal import Journal
from analysis.grading.kit import Kit, open_kit
from analysis.progress import Progress, no_progress

if TYPE_CHECKING:
    import uvicorn

STATIC = Path(__file__).parent / "static"
VIEWER = STATIC / "vendor" / "niivue.js"


def serve(
    path: Path, host: str, port: int, *, say: Callable[[str], None] = print, progress: Progress = no_progress
) -> None:
    """Serve a kit until interrupted.

    Parameters
    ----------
    path
        The kit.
    host, port
        Where to listen; port 0 takes any that is free.
    say
        Told where each rater's page is, and what is wrong with stored grades.
    progress
        Called as the kit is checked.

    Raises
    ------
    AnalysisError
        Where the server or the viewer is not installed, the kit was changed or is being served already, its folder
        cannot be written, or the port cannot be had.
    """
    _refuse_missing_parts()
    kit = open_kit(path)
    kit.check(progress)
    import uvicorn

    from analysis.grading.server import grading_app

    # Browsers put an IPv6 address in brackets.
    hosts = [_in_url(host), "localhost", "127.0.0.1"] if _is_loopback(host) else ["*"]
    server = uvicorn.Server(uvicorn.Config(grading_app(kit, hosts), log_level="warning", server_header=False))
    with _only_server(kit), _listening(host, port) as listener, _ended_by_interrupt(server):
        url = f"http://{_in_url(host)}:{listener.getsockname()[1]}"
        for line in _welcome(kit, url, host):
            say(line)
        server.run(sockets=[listener])


def _refuse_missing_parts() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise AnalysisError(
            f"the grading page needs {error.name}, which is not installed; run: "
            "pip install 'nnunetv2-robustness[grading]'"
        ) from error
    if not VIEWER.is_file():
        raise AnalysisError(
            f"{VIEWER}: the image viewer NiiVue is not there: it is unpacked when this package is built, which takes "
            "Node.js's npm, or its tarball named by NIIVUE_TARBALL; install npm and install the package again: "
            "pip install --force-reinstall --no-deps '.[grading]'"
        )


@contextmanager
def _only_server(kit: Kit) -> Iterator[None]:
    folder = kit.path / "grades"
    lock = FileLock(folder / "server.lock", timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        lock.acquire()
    except Timeout:
        raise AnalysisError(
            f"{kit.path}: is being served already; use the page that is open, or end that server"
        ) from None
    except OSError as error:
        raise AnalysisError(
            f"{folder}: grades cannot be written ({error.strerror or error}); make it writable: nothing that raters "
            "give may be lost"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _ended_by_interrupt(server: uvicorn.Server) -> Iterator[None]:
    """Let Ctrl-C end the server even before it runs: an exception would cut off asyncio as it starts or stops."""
    before = signal.signal(signal.SIGINT, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _listening(host: str, port: int) -> socket.socket:
    address = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AnalysisError(
            f"--host {host} --port {port}: cannot listen there ({reason}); name another port, or 0 for any that is free"
        ) from error


def _welcome(kit: Kit, url: str, host: str) -> list[str]:
    lines = []
    journal = Journal(kit)
    for name in kit.raters:
        given = journal.given(name)
        done = len(given.graded_items(kit.structures))
        lines.append(f"{name}: {url}/grade/{name} ({done} of {len(kit.items)} items graded)")
        lines += [f"warning: {fault}" for fault in given.faults]
    if not _is_loopback(host):
        lines.append(
            "warning: other machines can reach this page, and what it sends is not encrypted; on a network that you do "
            "not trust, put a server with TLS in front"
        )
    return [
        *lines,
        "Raters sign in with their tokens, from tokens.csv in the key folder. Ctrl-C ends it; nothing is lost.",
    ]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    address = host.strip("[]")
    return f"[{address}]" if ":" in address else address
