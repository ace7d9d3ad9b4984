"""Searching with a finished checkpoint."""
