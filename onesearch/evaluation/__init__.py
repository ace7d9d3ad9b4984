"""Metrics, baselines, the evaluator and its reports. Nothing is imported here: take names from the modules."""
