"""The dense term of a checkpoint: a projection of the generator's states among the vectors of the items, and its weight."""
