"""Market tables, importers, checker and simulator."""
