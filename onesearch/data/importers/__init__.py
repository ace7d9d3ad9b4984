"""Importers: one file per source. Each has one function that reads the source's files and returns a `Market`."""
