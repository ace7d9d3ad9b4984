"""The reward model: interaction levels, adaptive rewards, and the training of the three towers."""
