"""nnU-Net v2 plugin: train the study's DynUNet, and measure any trained model under perturbations."""
