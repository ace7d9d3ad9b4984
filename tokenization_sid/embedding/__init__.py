"""Texts of items and queries to vectors, by an encoder that may be aligned with behaviour."""
