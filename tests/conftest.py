"""A toy cohort and a toy model, shared by the rooms' tests: real formats, random weights, no training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
import SimpleITK as sitk

from bench.untrained import plans

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A deadline would be a timed test: on a busy machine it fails for nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SPACING = 4.0
SHAPE = (28, 26, 30)  # z, y, x: no axis like another, none a multiple of the patch
PATCH = [16, 16, 16]
LABELS = {"background": 0, "GTVp": 1, "GTVn": 2}
CASES = ("CHUM-001", "CHUP-002", "CHUS-003")


@dataclass(frozen=True)
class ToyModel:
    """Folders of a trained-looking model and of a labelled cohort."""

    folder: Path
    images: Path
    labels: Path
    cases: tuple[str, ...] = CASES


def shared_folder(name: str) -> Path:
    """A folder of data that is not part of this project; skips the test where this machine does not have it."""
    folder = Path(os.environ.get("ROBUSTNESS_SHARED", Path(__file__).parents[2] / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set ROBUSTNESS_SHARED to the folder that holds {name}")
    return folder


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Values that others published."""
    return shared_folder("oracles")


@pytest.fixture(scope="session")
def real_petct() -> Path:
    """Five real PET/CT studies with a tumour contour, in the HECKTOR 2022 layout."""
    return shared_folder("real_petct")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyModel:
    """Three cases and two folds of a tiny DynUNet; its predictions are arbitrary but depend on the image."""
    root = tmp_path_factory.mktemp("toy")
    raw = root / "nnUNet_raw" / "Dataset501_TOY"
    write_cohort(raw / "imagesTs", raw / "labelsTs")
    dataset = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": LABELS,
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
        "synthetic": True,
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    folder = root / "nnUNet_results" / "Dataset501_TOY" / "nnUNetTrainerDynUNet__DynUNetPlans__3d_fullres"
    write_model(folder, dataset, folds=2)
    return ToyModel(folder, raw / "imagesTs", raw / "labelsTs")


def write_cohort(images: Path, labels: Path) -> None:
    """One hot ball per structure in noise; the last case has no GTVn."""
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    zyx = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"))
    for index, case in enumerate(CASES):
        rng = np.random.default_rng(index)
        label = np.zeros(SHAPE, np.uint8)
        for value, centre in ((1, (13, 12, 10)), (2, (16, 14, 20))):
            distance = np.linalg.norm(zyx - np.reshape(centre, (3, 1, 1, 1)) - index % 2, axis=0)
            label[distance < 3.5] = value
        if index == len(CASES) - 1:
            label[label == 2] = 0
        inside = np.pad(np.ones([n - 4 for n in SHAPE], bool), 2)
        ct = np.where(inside, rng.normal(40, 12, SHAPE) + 20 * (label > 0), -1000)
        pet = np.where(inside, rng.gamma(4, 0.3, SHAPE) + 5 * (label > 0), 0)
        _write(ct.astype(np.float32), images / f"{case}_0000.nii.gz")
        _write(pet.astype(np.float32), images / f"{case}_0001.nii.gz")
        _write(label, labels / f"{case}.nii.gz")


def write_model(folder: Path, dataset: dict[str, object], folds: int) -> None:
    """The files that nnU-Net's training leaves behind, with random weights."""
    import torch

    from nnunet_plugin.training.network import build_dynunet

    architecture = {
        "filters": [4, 8, 8],
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
    }
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    network = {
        "network_class_name": "nnunet_plugin.training.network.build_dynunet",
        "arch_kwargs": architecture,
        "_kw_requires_import": [],
    }
    (folder / "plans.json").write_text(json.dumps(plans(network, PATCH, SHAPE, SPACING)))
    for fold in range(folds):
        torch.manual_seed(18 + fold)  # weights that predict every label somewhere
        network = build_dynunet(2, len(LABELS), False, **architecture)
        # Air is clearly background. nnU-Net sums in float16, which rounds the logits of a volume's corners to whole
        # numbers (its Gaussian weight is smallest there): an undecided corner would be an unfair comparison.
        network.output_block.conv.conv.bias.data += torch.tensor([1.5, 0.0, 0.0])
        (folder / f"fold_{fold}").mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": "nnUNetTrainerDynUNet",
                "init_args": {"configuration": "3d_fullres"},
                "inference_allowed_mirroring_axes": None,
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )


def _write(array: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((SPACING,) * 3)
    image.SetOrigin((-40.0, 12.0, 7.0))
    sitk.WriteImage(image, str(path))


BROWSER_ARGUMENTS = [
    "--no-sandbox",
    # WebGL in software, as where there is no GPU
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=executable, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def looks_right(browser: Browser) -> Callable[[Path, int], None]:
    """Open a report on a desk and on a phone: nothing to complain of, no request, every figure there with a size."""

    def check(html: Path, count: int) -> None:
        for width in (1280, 390):
            _check_page(browser, html, width, count)

    return check


def _check_page(browser: Browser, html: Path, width: int, count: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844})
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message, to=complaints: to.append(message.text))
    page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
    page.on("request", lambda request, to=requests: to.append(request.url))
    page.goto(html.as_uri())
    page.wait_for_load_state("networkidle")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [html.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    figures = page.locator("figure svg")
    assert figures.count() == count
    for index in range(figures.count()):
        box = figures.nth(index).bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 100
        assert box["x"] >= 0
    fits = page.locator("figure:not(.wide-figure)").evaluate_all(
        "all => all.every(f => f.getBoundingClientRect().right <= window.innerWidth)"
    )
    assert fits
    broken = page.locator("svg image").evaluate_all(
        "all => Promise.all(all.map(i => { const image = new Image(); image.src = i.href.baseVal; "
        "return image.decode().then(() => 0, () => 1); })).then(found => found.reduce((a, b) => a + b, 0))"
    )
    assert broken == 0
    page.close()


@pytest.fixture
def mount_at() -> Iterator[Callable[[Path, str], None]]:
    """Mount a small file system at a folder with the options of ``mount``, or mount it again with others."""
    mounted: set[Path] = set()

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(exist_ok=True)
        again = "remount," if os.path.ismount(folder) else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "none", str(folder)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if result.returncode:
            pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")
        mounted.add(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
