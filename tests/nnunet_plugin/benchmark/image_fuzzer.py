"""Damages the headers of a case's images and reads it as the benchmark does; run in a process that may crash."""

from __future__ import annotations

import gzip
import shutil
import struct
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.image_files import refuse_unfit_files
from nnunet_plugin.benchmark.predictor import Ensemble

HEADER = 352
DIMENSIONS, DATA_TYPE, SPACING, OFFSET, SCALE, AFFINE = 40, 70, 76, 108, 112, 252

numbers = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, -1.0, 1e-30, 1e10, 1e30, 400.0, 4000.0, float("nan"), float("inf")]),
).map(lambda value: struct.pack("<f", value))
integers = st.integers(-(2**15), 2**15 - 1).map(lambda value: struct.pack("<h", value))
changes = st.one_of(
    st.tuples(st.integers(0, HEADER - 1), st.binary(min_size=1, max_size=8)),
    st.tuples(st.integers(0, 7).map(lambda axis: DIMENSIONS + 2 * axis), integers),
    st.tuples(st.sampled_from([DATA_TYPE, DATA_TYPE + 2, AFFINE, AFFINE + 2]), integers),
    st.tuples(st.integers(0, 7).map(lambda axis: SPACING + 4 * axis), numbers),
    st.tuples(st.sampled_from([OFFSET, SCALE, SCALE + 4]), numbers),
    st.tuples(st.integers(0, 17).map(lambda place: AFFINE + 4 + 4 * place), numbers),
)


def main(images: str, labels: str, model: str, work: str, examples: int) -> None:
    """End well where every case was read or refused by name; any other end is an exception or a signal."""
    case, folder = "CHUM-001", Path(work)
    sound = {role: Path(images) / f"{case}_{n:04d}.nii.gz" for n, role in enumerate(("CT", "PET"))}
    sound["label"] = Path(labels) / f"{case}.nii.gz"
    contents = {role: gzip.decompress(file.read_bytes()) for role, file in sound.items()}
    ensemble, outcomes = Ensemble(model), Counter[str]()

    def read(files: dict[str, Path]) -> None:
        refuse_unfit_files(files)
        ensemble.prepare([files["CT"], files["PET"]])
        ensemble.read_label(files["label"])

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(changes, min_size=1, max_size=3), st.booleans(), st.booleans())
    def damage(changed: list[tuple[int, bytes]], is_packed: bool, in_all: bool) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files = {role: folder / f"{role}.nii{'.gz' * is_packed}" for role in contents}
        for role, content in contents.items():
            damaged = bytearray(content)
            for place, value in changed if in_all or role == "PET" else []:
                damaged[place : place + len(value)] = value
            files[role].write_bytes(gzip.compress(bytes(damaged), 1) if is_packed else bytes(damaged))
        try:
            read(files)
        except BenchmarkError as error:
            message = str(error)
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            return
        assert any(str(file) in message for file in files.values()), message

    damage()
    assert min(outcomes["read"], outcomes["refused"]) > examples // 20, f"too one-sided: {outcomes}"
