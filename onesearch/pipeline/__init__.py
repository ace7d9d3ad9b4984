"""Recipes, runs (every step of a recipe in one folder) and studies (several runs, compared)."""
