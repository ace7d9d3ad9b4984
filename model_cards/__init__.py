"""Model cards of checkpoints, with measured results."""
