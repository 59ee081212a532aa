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
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.forms import LARGEST_EXPONENT
from nnunet_plugin.benchmark.perturbations import Perturber, Realised, Variant, draw, grid, seed_of

SPACING = (4.0, 2.5, 1.0)
PAPER = load_catalogue("paper")
SHIPPED = (*PAPER.entries, *load_catalogue("calibrated").entries)
OTHERS = (
    # what the catalogues do not reach: spikes that lower the spectrum's maximum, or meet in one place
    Entry("spike", 1, "RandomSpike", {"num_spikes": [0, 5], "intensity": [-2.0, 0.4]}),
    Entry("ghosting", 1, "RandomGhosting", {"num_ghosts": [0, 3], "intensity": [0, 2]}),
    Entry("ghosting", 2, "RandomGhosting", {"num_ghosts": [1, 4], "intensity": [0.2, 1], "restore": [0.0, 1.0]}),
    Entry("bias", 1, "RandomBiasField", {"coefficients": 0.3, "order": 0}),
    Entry("bias", 2, "RandomBiasField", {"coefficients": [0.9, 1.1], "order": 4}),
    Entry("motion", 1, "RandomMotion", {"num_transforms": 6, "image_interpolation": "nearest"}),
)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
]


def stock(entry: Entry, volume: np.ndarray, seed: int, spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    image = torchio.ScalarImage(tensor=torch.from_numpy(volume)[None], affine=np.diag([*spacing, 1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry.build()(torchio.Subject(image=image))["image"].data[0].numpy()


def ours(entry: Entry, volume: np.ndarray, seed: int) -> np.ndarray:
    return Perturber(volume, SPACING).apply(draw(entry, seed, volume.shape))


def assert_equal(found: np.ndarray, expected: np.ndarray, volume: np.ndarray) -> None:
    assert found.dtype == np.float32
    # Of a small volume a perturbation can leave next to nothing, which rounds like what it was taken from.
    largest = max(np.abs(expected).max(), np.abs(volume).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("signed", [False, True], ids=["CT", "PET"])
def test_a_case_s_variants_equal_torchio(signed, device, head):
    """Every severity, from one perturber: what is shared between variants must not depend on their order."""
    volume = (head - 0.3) * 4 if signed else head  # z-scored PET has negative values, min-max CT has none
    perturber = Perturber(volume, SPACING, device)
    before = volume.copy()
    draws = [(entry, seed) for entry in (*SHIPPED, *OTHERS) for seed in (0, 7)]
    for entry, seed in random.Random(2).sample(draws, len(draws)):
        assert_equal(perturber.apply(draw(entry, seed, volume.shape)), stock(entry, volume, seed), volume)
    np.testing.assert_array_equal(volume, before)


@settings(max_examples=250, deadline=None)
@given(
    entry=st.sampled_from([*SHIPPED, *OTHERS]),
    shape=st.tuples(*[st.integers(1, 11)] * 3),
    signed=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_size_and_seed_equals_torchio(entry, shape, signed, seed):
    volume = np.random.default_rng(seed).random(shape, dtype=np.float32) - signed * np.float32(0.5)
    assert_equal(ours(entry, volume, seed), stock(entry, volume, seed), volume)


@pytest.mark.parametrize("severity", [1, 2, 3])
@pytest.mark.parametrize("perturbation", ["noise", "blur"])
def test_what_needs_no_other_form_is_bit_identical(perturbation, severity, head):
    entry = PAPER.entry(perturbation, severity)
    np.testing.assert_array_equal(ours(entry, head, 3), stock(entry, head, 3))


@pytest.mark.parametrize(
    "entry",
    [
        Entry("swap", 1, "RandomSwap", {"patch_size": 5, "num_iterations": 10}),  # draws positions in the volume
        Entry("gamma", 1, "RandomGamma", {"log_gamma": [0.2, 0.4]}),
    ],
    ids=lambda entry: entry.perturbation,
)
def test_transform_without_a_faster_form_goes_through_torchio(entry, head):
    np.testing.assert_array_equal(ours(entry, head, 3), stock(entry, head, 3))


def test_bias_field_too_steep_for_float32_goes_through_torchio(head):
    entry = Entry("bias", 1, "RandomBiasField", {"coefficients": [3, 3.2], "order": 3})
    assert np.abs(draw(entry, 1, head.shape).arguments["coefficients"]).sum() > LARGEST_EXPONENT
    np.testing.assert_array_equal(ours(entry, head, 1), stock(entry, head, 1))


def test_result_that_is_not_finite_is_refused(head):
    with pytest.raises(BenchmarkError, match="Noise made values that are not finite"):
        Perturber(head, SPACING).apply(Realised("Noise", {"mean": 0.0, "std": math.inf, "seed": 1}))


@pytest.mark.parametrize("entry", PAPER.entries, ids=lambda entry: f"{entry.perturbation}-{entry.severity}")
def test_stored_parameters_replay_to_the_last_bit(entry, head):
    realised = draw(entry, 11, head.shape)
    replayed = Realised.from_json(realised.to_json(0.5))
    perturber = Perturber(head, SPACING)
    np.testing.assert_array_equal(perturber.apply(replayed), Perturber(head, SPACING).apply(realised))


def test_volume_and_global_random_state_are_left_alone(head):
    before = head.copy()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the legacy state is what a library might touch
    random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    for entry in PAPER.entries:
        ours(entry, head, 5)
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


def relative_change(volume: np.ndarray, perturbed: np.ndarray) -> float:
    return Perturber(volume, SPACING).relative_change(perturbed)


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
