"""The study's training as an nnU-Net trainer."""

import math
import os
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import nn
from torch.optim.swa_utils import update_bn

from nnunet_plugin.training.augmentation import Augmentation
from nnunet_plugin.training.cpu import prepare_for_cpu
from nnunet_plugin.training.plans import TRAINING_KEY, TrainingSettings, is_ct
from nnunet_plugin.training.sampling import ClassRatioDataLoader


class nnUNetTrainerDynUNet(nnUNetTrainer):  # noqa: N801 - nnU-Net finds trainers by name, and names them so
    """Train the DynUNet of ``DynUNetPlans`` with the study's optimiser, loss, patches and augmentation.

    Found by stock ``nnUNetv2_train -tr nnUNetTrainerDynUNet -p DynUNetPlans`` once ``nnUNet_extTrainer``
    names our folder (``nnUNetv2_robustness_env``). On a CPU it keeps to ``OMP_NUM_THREADS`` threads, which
    nnU-Net's command line overrides with all cores.

    Parameters
    ----------
    plans
        Contents of ``DynUNetPlans.json``.
    configuration
        ``3d_fullres``.
    fold
        Index into ``splits_final.json``, or ``"all"``.
    dataset_json
        Contents of ``dataset.json``.
    device
        Where to train.

    Raises
    ------
    RuntimeError
        With plans that ``nnUNetv2_robustness_plan`` did not write, with regions as labels, with several GPUs.
    """

    network: nn.Module
    dataset_class: Any

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's default
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self._refuse_unsupported()
        settings = TrainingSettings(**self.configuration_manager.configuration[TRAINING_KEY])
        self.initial_lr = settings.initial_lr
        self.weight_decay = 3e-5
        self.num_epochs = settings.num_epochs
        self.num_iterations_per_epoch = settings.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = settings.num_val_iterations_per_epoch
        self.batch_norm_passes = settings.batch_norm_passes
        self.enable_deep_supervision = False

    def _refuse_unsupported(self) -> None:
        if self.is_ddp:
            raise RuntimeError(
                "nnUNetTrainerDynUNet trains a fold on one GPU: leave out -num_gpus, and train several "
                "folds at a time, each with its own CUDA_VISIBLE_DEVICES"
            )
        if TRAINING_KEY not in self.configuration_manager.configuration:
            raise RuntimeError(
                f"plans {self.plans_manager.plans_name}, configuration {self.configuration_name}: found no "
                f"{TRAINING_KEY}, expected the plans of nnUNetv2_robustness_plan: train 3d_fullres with "
                "-p DynUNetPlans"
            )
        if self.label_manager.has_regions:
            raise RuntimeError("dataset.json: found regions, expected plain labels: the study's loss is a softmax")

    def initialize(self) -> None:
        """Build network, optimiser and loss; nnU-Net calls this to train, to resume and to validate.

        Raises
        ------
        RuntimeError
            If the data have not been preprocessed since the plans changed.
        """
        if self.device.type == "cpu":
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
        if not Path(self.preprocessed_dataset_folder).is_dir():
            raise RuntimeError(
                f"{self.preprocessed_dataset_folder}: not found, expected the data preprocessed for these plans: "
                f"run nnUNetv2_preprocess -d {convert_dataset_name_to_id(self.plans_manager.dataset_name)} "
                f"-plans_name {self.plans_manager.plans_name} -c {self.configuration_name}"
            )
        if self.num_iterations_per_epoch is None:
            training_cases, _ = self.do_split()
            self.num_iterations_per_epoch = math.ceil(len(training_cases) / self.configuration_manager.batch_size)
        super().initialize()
        if self.device.type == "cpu":
            prepare_for_cpu(self.network)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: nnU-Net would look for a ``decoder``, which DynUNet does not have."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Return AdamW and its decay by epoch: initial rate x (1 - epoch / epochs)^0.9."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs, exponent=0.9)

    def _build_loss(self) -> nn.Module:
        """Return 0.5 soft Dice (softmax, background included) + 0.5 cross entropy.

        The Dice is that of each patch and label, averaged. nnU-Net's Dice loss is the negative Dice, so that
        a perfect prediction has a loss of -0.5, not 0.
        """
        loss: nn.Module = DC_and_CE_loss(
            {"batch_dice": False, "do_bg": True, "smooth": 1e-5, "ddp": False},
            {},
            weight_ce=0.5,
            weight_dice=0.5,
            ignore_label=self.label_manager.ignore_label,
            dice_class=MemoryEfficientSoftDiceLoss,
        )
        return loss

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(  # noqa: N802 - nnU-Net's name
        self,
    ) -> tuple[tuple[float, float], bool, list[int], None]:
        """Switch nnU-Net's own augmentation off, and mirroring at inference with it."""
        self.inference_allowed_mirroring_axes = None
        return (0.0, 0.0), False, list(self.configuration_manager.patch_size), None

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return the infinite iterators over training and online-validation batches."""
        if self.dataset_class is None:
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        training_cases, validation_cases = self.get_tr_and_val_datasets()
        augmentation = Augmentation(
            spacing_mm=self.configuration_manager.spacing, ct_channels=ct_channels(self.dataset_json)
        )
        processes = get_allowed_n_proc_DA()
        return (
            self._feed(self._loader(training_cases, augmentation), processes),
            self._feed(self._loader(validation_cases, self.get_validation_transforms(None)), (processes + 1) // 2),
        )

    def _loader(self, cases: Any, transforms: Augmentation | ComposeTransforms) -> ClassRatioDataLoader:
        patch_size = self.configuration_manager.patch_size
        return ClassRatioDataLoader(
            cases, self.batch_size, patch_size, patch_size, self.label_manager, transforms=transforms
        )

    def _feed(self, loader: ClassRatioDataLoader, processes: int) -> Any:
        """Run a loader in background processes, or in this one where ``nnUNet_n_proc_DA`` is 0."""
        if processes == 0:
            return SingleThreadedAugmenter(loader, None)
        batches = NonDetMultiThreadedAugmenter(
            data_loader=loader,
            transform=None,
            num_processes=processes,
            num_cached=max(6, processes // 2),
            seeds=None,
            pin_memory=self.device.type == "cuda",
            wait_time=0.002,
        )
        next(batches)  # nnU-Net, too, starts the workers before the first epoch is timed
        return batches

    def on_train_start(self) -> None:
        """Prepare as nnU-Net does, and remember where a resumed training starts."""
        super().on_train_start()
        self._first_epoch = self.current_epoch

    def on_train_end(self) -> None:
        """Average the batch-norm statistics anew if the plans ask for it, then save the final checkpoint."""
        if self.batch_norm_passes and self.current_epoch > self._first_epoch:
            self._average_batch_norm()
        super().on_train_end()

    def _average_batch_norm(self) -> None:
        """Replace the running averages, which lag in a short training, by means over training batches."""
        batches = islice(self.dataloader_train, self.batch_norm_passes)
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            update_bn((batch["data"] for batch in batches), self.network, device=self.device)
        self.print_to_log_file(f"Averaged the batch-norm statistics over {self.batch_norm_passes} batches")


def ct_channels(dataset_json: dict[str, Any]) -> list[int]:
    """Return the indices of the channels that ``dataset.json`` names CT."""
    return [int(index) for index, name in dataset_json["channel_names"].items() if is_ct(name)]
