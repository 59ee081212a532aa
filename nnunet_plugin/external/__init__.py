"""The folder for ``nnUNet_extTrainer``; see ``nnunet_plugin.training.environment``."""
