"""What the checkpoints are made of."""
