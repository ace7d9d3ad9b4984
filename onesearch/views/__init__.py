"""Prompt fields of sessions (for training) and of requests (for serving), made by one implementation."""
