"""What nnU-Net imports by file name from the folder that ``nnUNet_extTrainer`` points at."""

from nnunet_plugin.training.trainer import nnUNetTrainerDynUNet as nnUNetTrainerDynUNet
