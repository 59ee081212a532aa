"""Raw PET/CT cohorts, real or synthetic, into nnU-Net raw datasets."""
