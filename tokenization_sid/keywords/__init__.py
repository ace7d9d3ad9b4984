"""Core keywords: which attribute values a text names, and their fusion into its embedding."""
