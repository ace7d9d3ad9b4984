"""Market tables, their checker, importers, and sessions as requests and event logs. Nothing is imported here: import the modules."""
