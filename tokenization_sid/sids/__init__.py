"""Vectors to Semantic IDs: building, measuring, inspecting and appending them."""
