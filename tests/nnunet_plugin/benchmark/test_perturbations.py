"""Perturbations against TorchIO itself: its random transform, run on the whole volume with the same seed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import torchio
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_plugin.benchmark.catalogue import Entry, load_catalogue
from nnunet_plugin.benchmark.perturbations import Realised, Variant, apply, draw, grid, relative_change, seed_of

SPACING = (4.0, 2.5, 1.0)
PAPER = load_catalogue("paper")


def stock(entry: Entry, volume: np.ndarray, seed: int) -> np.ndarray:
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=torch.from_numpy(volume)[None], affine=np.diag([*SPACING, 1]))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry.build()(subject)["image"].data[0].numpy()


@pytest.mark.parametrize("entry", PAPER.entries, ids=lambda entry: f"{entry.perturbation}-{entry.severity}")
@pytest.mark.parametrize("signed", [False, True], ids=["CT", "PET"])
def test_bit_identical_to_torchio(entry, signed, head):
    volume = (head - 0.3) * 4 if signed else head  # z-scored PET has negative values, min-max CT has none
    for seed in (0, 7):
        realised = draw(entry, seed, volume.shape)
        np.testing.assert_array_equal(apply(realised, volume, SPACING), stock(entry, volume, seed))


@settings(max_examples=25, deadline=None)
@given(
    entry=st.sampled_from(PAPER.entries),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    seed=st.integers(0, 2**63 - 1),
)
def test_bit_identical_for_any_size_and_seed(entry, shape, seed):
    volume = np.random.default_rng(seed).random(shape, dtype=np.float32)
    np.testing.assert_array_equal(apply(draw(entry, seed, shape), volume, SPACING), stock(entry, volume, seed))


def test_transform_that_draws_positions_is_drawn_at_full_size(head):
    entry = Entry("swap", 1, "RandomSwap", {"patch_size": 5, "num_iterations": 10})
    np.testing.assert_array_equal(apply(draw(entry, 3, head.shape), head, SPACING), stock(entry, head, 3))


@pytest.mark.parametrize("entry", PAPER.entries, ids=lambda entry: f"{entry.perturbation}-{entry.severity}")
def test_stored_parameters_replay_to_the_last_bit(entry, head):
    realised = draw(entry, 11, head.shape)
    replayed = Realised.from_json(realised.to_json(0.5))
    np.testing.assert_array_equal(apply(replayed, head, SPACING), apply(realised, head, SPACING))


def test_volume_and_global_random_state_are_left_alone(head):
    before = head.copy()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the legacy state is what a library might touch
    random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    for entry in PAPER.entries:
        apply(draw(entry, 5, head.shape), head, SPACING)
    np.testing.assert_array_equal(head, before)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


def test_no_spike_or_ghost_draw_of_the_paper_does_nothing(head):
    """TorchIO's reading of scalars would draw zero spikes in up to half of the cases."""
    for entry in PAPER.entries:
        if entry.perturbation in {"spike", "ghosting"}:
            for seed in range(40):
                arguments = draw(entry, seed, head.shape).arguments
                if entry.perturbation == "spike":
                    assert arguments["spikes_positions"].shape == (entry.severity, 3)
                else:
                    assert arguments["restore"] == pytest.approx(0.02 * entry.severity)


def test_seed_depends_on_everything_it_should():
    entry, other = PAPER.entry("spike", 1), PAPER.entry("spike", 2)
    base = (0, entry, "CHUM-001", "CT")
    seeds = [
        seed_of(*base),
        seed_of(1, entry, "CHUM-001", "CT"),
        seed_of(0, other, "CHUM-001", "CT"),
        seed_of(0, entry, "CHUM-002", "CT"),
        seed_of(0, entry, "CHUM-001", "PET"),
        seed_of(0, Entry("spike", 1, "RandomSpike", {"num_spikes": [1, 1], "intensity": [1, 2]}), "CHUM-001", "CT"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert seed_of(*base) == seeds[0]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_grid_of_the_study_has_36_variants():
    variants = grid(PAPER, ("CT", "PET"))
    assert len(set(variants)) == 36
    assert str(Variant("CT", "spike", 2)) in {str(variant) for variant in variants}
    assert str(Variant("CT", "spike", 2)) == "CT-spike-2"


def test_how_much_a_perturbation_did_by_hand() -> None:
    volume = np.array([[[0, 2, 0, 2]]], dtype=np.float32)  # SD 1
    assert relative_change(volume, volume) == 0
    assert relative_change(volume, volume + 0.5) == 0.5
    constant = np.ones((2, 2, 2), np.float32)
    assert relative_change(constant, constant) == 0
    assert relative_change(constant, constant + 1) == math.inf


@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_how_much_a_perturbation_did_does_not_depend_on_the_scale_of_the_image(scale: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    volume, noise = rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    before, after = (np.float32(scale) * v + np.float32(offset) for v in (volume, volume + noise))
    assert relative_change(before, after) == pytest.approx(relative_change(volume, volume + noise), rel=1e-3)
