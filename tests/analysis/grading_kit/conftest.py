"""A kit of the toy cohort, made by the real commands' functions; tests that change it get a copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.grading.kit import Kit, open_kit
from analysis.grading.make import KitOptions, MadeKit, make_kit
from nnunet_plugin.benchmark.results import RunFolder

OPTIONS = KitOptions(baseline=3, top=2, per=2, raters=2, repeat=1, seed=3)
"""3 unperturbed cases, 2 perturbations x 2 modalities x 2 cases, 1 repeat: 12 items."""


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
