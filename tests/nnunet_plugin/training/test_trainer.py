"""The trainer holds every setting of the study."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceCELoss
from torch import nn
from torch.optim.swa_utils import update_bn

from nnunet_plugin.training.cpu import has_native_bfloat16, prepare_for_cpu

MakeTrainer = Callable[..., Any]
SHORT = {"num_epochs": 2, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Ignore what nnU-Net itself warns about on noise: an empty online-validation Dice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_optimiser(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.initialize()
    assert type(trainer.optimizer) is torch.optim.AdamW
    (group,) = trainer.optimizer.param_groups
    assert group["lr"] == 1e-4
    assert group["weight_decay"] == 3e-5
    assert group["betas"] == (0.9, 0.999)
    assert len(group["params"]) == len(list(trainer.network.parameters()))


@pytest.mark.parametrize("epoch", [0, 50, 99])
def test_learning_rate(make_trainer: MakeTrainer, epoch: int) -> None:
    trainer = make_trainer()
    trainer.initialize()
    trainer.current_epoch = epoch
    trainer.on_train_epoch_start()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 * (1 - epoch / 100) ** 0.9, rel=1e-9)


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 1), (0,)])
def test_loss_is_monais_up_to_its_constant(make_trainer: MakeTrainer, labels: tuple[int, ...]) -> None:
    loss = make_trainer()._build_loss()
    reference = DiceCELoss(
        include_background=True, to_onehot_y=True, softmax=True, lambda_dice=0.5, lambda_ce=0.5, batch=False
    )
    torch.manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        logits = torch.randn(2, 3, 9, 8, 7) * scale
        target = torch.tensor(labels)[torch.randint(len(labels), (2, 1, 9, 8, 7))]
        assert float(loss(logits, target)) == pytest.approx(float(reference(logits, target)) - 0.5, abs=1e-5)


def test_gradient_of_the_loss_is_monais(make_trainer: MakeTrainer) -> None:
    loss = make_trainer()._build_loss()
    reference = DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.5, lambda_ce=0.5)
    logits = torch.randn(2, 3, 6, 6, 6, requires_grad=True)
    target = torch.randint(3, (2, 1, 6, 6, 6))
    (ours,) = torch.autograd.grad(loss(logits, target), logits)
    (theirs,) = torch.autograd.grad(reference(logits, target), logits)
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_epoch_is_one_pass_over_the_training_cases(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.initialize()
    assert trainer.num_iterations_per_epoch == 2  # 3 training cases in batches of 2
    assert trainer.num_epochs == 100


def test_settings_come_from_the_plans(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=7, num_iterations_per_epoch=3, num_val_iterations_per_epoch=4, initial_lr=0.5)
    assert trainer.num_epochs == 7
    assert trainer.num_iterations_per_epoch == 3
    assert trainer.num_val_iterations_per_epoch == 4
    assert trainer.initial_lr == 0.5


def test_batches(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**SHORT)
    trainer.on_train_start()
    for batches in (trainer.dataloader_train, trainer.dataloader_val):
        batch = next(batches)
        assert batch["data"].shape == (2, 2, 16, 16, 16)
        assert batch["target"].shape == (2, 1, 16, 16, 16)
        assert set(batch["target"].unique().tolist()) <= {0, 1, 2}


def test_batches_from_worker_processes(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(**SHORT)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    trainer.on_train_start()
    try:
        assert next(trainer.dataloader_train)["data"].shape == (2, 2, 16, 16, 16)
    finally:
        trainer.dataloader_train._finish()
        trainer.dataloader_val._finish()


def run(trainer: Any) -> dict[str, Any]:
    trainer.run_training()
    checkpoint: dict[str, Any] = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    return checkpoint


def test_checkpoint_knows_that_there_is_no_mirroring_and_how_it_was_trained(make_trainer: MakeTrainer) -> None:
    checkpoint = run(make_trainer(**SHORT))
    assert checkpoint["inference_allowed_mirroring_axes"] is None
    assert checkpoint["trainer_name"] == "nnUNetTrainerDynUNet"
    configuration = checkpoint["init_args"]["plans"]["configurations"]["3d_fullres"]
    assert configuration["dynunet_training"]["num_epochs"] == 2
    assert checkpoint["current_epoch"] == 2


def test_training_resumes_where_it_stopped(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**SHORT)
    trainer.num_epochs = 1
    run(trainer)

    resumed = make_trainer(resume=True, **SHORT)
    resumed.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    assert resumed.current_epoch == 1
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name])
    assert run(resumed)["current_epoch"] == 2
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 * 0.5**0.9)


def batch_norms(network: nn.Module) -> list[nn.BatchNorm3d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]


def test_batch_norm_statistics_become_means_over_training_batches(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(batch_norm_passes=3, **SHORT)
    run(trainer)
    batches = [next(trainer.dataloader_train) for _ in range(3)]
    trainer.dataloader_train = iter(batches)
    trainer._average_batch_norm()
    ours = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in batch_norms(trainer.network)]
    assert all(int(norm.num_batches_tracked) == 3 for norm in batch_norms(trainer.network))

    update_bn([batch["data"] for batch in batches], trainer.network)
    first = batch_norms(trainer.network)[0]
    inputs = torch.stack([trainer.network.input_block.conv1(batch["data"]).detach().float() for batch in batches])
    assert torch.allclose(first.running_mean, inputs.mean((0, 1, 3, 4, 5)), atol=5e-3)
    for (mean, variance), norm in zip(ours, batch_norms(trainer.network), strict=True):
        assert torch.allclose(mean, norm.running_mean)
        assert torch.allclose(variance, norm.running_var)


@pytest.mark.parametrize(("passes", "tracked"), [(0, 4), (3, 3)])
def test_batch_norm_averaging_is_off_unless_asked_for(make_trainer: MakeTrainer, passes: int, tracked: int) -> None:
    trainer = make_trainer(batch_norm_passes=passes, **SHORT)
    checkpoint = run(trainer)
    counts = {int(value) for name, value in checkpoint["network_weights"].items() if "num_batches" in name}
    assert counts == {tracked}


def test_a_finished_training_is_not_averaged_again(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(batch_norm_passes=3, **SHORT)
    finished = run(trainer)["network_weights"]
    again = make_trainer(resume=True, batch_norm_passes=3, **SHORT)
    again.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    for name, tensor in run(again)["network_weights"].items():
        assert torch.equal(tensor, finished[name])


def test_threads_follow_the_environment(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    torch.set_num_threads(2)
    trainer.initialize()
    assert torch.get_num_threads() == 1

    monkeypatch.delenv("OMP_NUM_THREADS")
    trainer = make_trainer()
    torch.set_num_threads(2)
    trainer.initialize()
    assert torch.get_num_threads() == 2


def test_several_gpus_are_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        with pytest.raises(RuntimeError, match="on one GPU: leave out -num_gpus"):
            make_trainer()
    finally:
        torch.distributed.destroy_process_group()


def test_other_plans_are_refused(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    plans = trainer.plans_manager.plans
    del plans["configurations"]["3d_fullres"]["dynunet_training"]
    plans["continue_training"] = False
    with pytest.raises(RuntimeError, match="with -p DynUNetPlans"):
        type(trainer)(plans, "3d_fullres", 0, trainer.dataset_json, torch.device("cpu"))


def test_data_that_are_not_preprocessed_for_these_plans_are_missed_by_name(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.preprocessed_dataset_folder += "_other"
    with pytest.raises(RuntimeError, match="run nnUNetv2_preprocess -d 501 -plans_name DynUNetPlans"):
        trainer.initialize()


def test_regions_are_refused(make_trainer: MakeTrainer, dataset_json: dict[str, Any]) -> None:
    trainer = make_trainer()
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    plans = trainer.plans_manager.plans | {"continue_training": False}
    with pytest.raises(RuntimeError, match="expected plain labels"):
        type(trainer)(plans, "3d_fullres", 0, dataset_json | regions, torch.device("cpu"))


def test_cpu_mode_changes_the_result_by_no_more_than_bfloat16_rounds(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    network = trainer.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 2, 3, enable_deep_supervision=False
    ).eval()
    image = torch.randn(1, 2, 16, 16, 16)
    with torch.inference_mode():
        exact = network(image)
        prepare_for_cpu(network)
        fast = network(image)
    assert fast.dtype == torch.float32
    assert float((fast - exact).abs().max()) <= (0.05 * float(exact.abs().max()) if has_native_bfloat16() else 1e-4)
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_debug_file_of_nnunet_can_be_written(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**SHORT)
    run(trainer)
    assert (Path(trainer.output_folder) / "debug.json").is_file()
    assert np.isfinite(trainer.logger.get_value("train_losses", step=None)).all()
