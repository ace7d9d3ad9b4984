"""Core keywords of items and queries."""
