"""Texts of items and queries to vectors, aligned with what users did."""
