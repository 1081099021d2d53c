"""Training: clips, their augmentation, and one loop for every model."""
