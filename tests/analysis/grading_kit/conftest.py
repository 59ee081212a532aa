"""A kit of the toy cohort, made by the real commands' functions; tests that change it get a copy."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from analysis.grading import serve as serving
from analysis.grading.kit import Kit, open_kit
from analysis.grading.make import KitOptions, MadeKit, make_kit
from nnunet_plugin.benchmark.results import RunFolder

OPTIONS = KitOptions(baseline=3, top=2, per=2, raters=2, repeat=1, seed=3)
"""3 unperturbed cases, 2 perturbations x 2 modalities x 2 cases, 1 repeat: 12 items."""


REPORT = Path(sys.executable).parent / "nnUNetv2_robustness_report"


@dataclass(frozen=True)
class KitFolders:
    """A kit, its key, and what it was made of."""

    kit: Path
    key: Path
    sentences: tuple[str, ...]

    def open(self) -> Kit:
        return open_kit(self.kit)

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.key / "key.csv", keep_default_na=False, na_values=[""])

    @property
    def tokens(self) -> dict[str, str]:
        return dict(pd.read_csv(self.key / "tokens.csv").itertuples(index=False, name=None))


@pytest.fixture(scope="session")
def made(run_with_images: Path, toy: Any, tmp_path_factory: pytest.TempPathFactory) -> KitFolders:
    folder = tmp_path_factory.mktemp("kit")
    kit: MadeKit = make_kit(RunFolder(run_with_images), toy.folder, folder / "kit", options=OPTIONS)
    return KitFolders(kit.kit, kit.key, kit.sentences)


@pytest.fixture
def folders(made: KitFolders, tmp_path: Path) -> KitFolders:
    """A copy that a test may spoil."""
    kit, key = (shutil.copytree(folder, tmp_path / folder.name) for folder in (made.kit, made.key))
    return KitFolders(kit, key, made.sentences)


class Server:
    """A serve command that runs."""

    def __init__(self, kit: Path, port: int) -> None:
        command = [REPORT, "grading", "serve", kit, "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = [self.process.stdout.readline().strip()]
        while not self.lines[-1].startswith("Raters sign in"):
            assert self.process.poll() is None
            self.lines.append(self.process.stdout.readline().strip())
        self.port = int(re.search(r":(\d+)/", self.lines[0])[1])

    def post(self, rater, token, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{rater}/{path}",
            json.dumps({"session": "s", **body}).encode(),
            {"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        _, self.errors = self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start servers, whose end is seen to."""
    pytest.importorskip("uvicorn", reason="the extra 'grading' is not installed")
    servers: list[Server] = []

    def begin(kit: Path, port: int = 0) -> Server:
        servers.append(Server(kit, port))
        return servers[-1]

    if not serving.VIEWER.is_file():
        pytest.skip("the package was built without the viewer (no npm)")
    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


@pytest.fixture
def serve_here() -> Iterator[Callable[[Path], Any]]:
    """Serve kits from a thread of this process, which starts faster than the command; gives an object with a port."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra 'grading' is not installed")
    if not serving.VIEWER.is_file():
        pytest.skip("the package was built without the viewer (no npm)")
    from analysis.grading.server import grading_app

    running: list[tuple[Any, threading.Thread]] = []

    def begin(kit: Path) -> Any:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(grading_app(open_kit(kit), ["127.0.0.1"]), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        return SimpleNamespace(port=listener.getsockname()[1])

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(timeout=20)
