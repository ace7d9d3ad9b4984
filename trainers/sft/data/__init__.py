"""Rows of a market to training examples and batches."""
