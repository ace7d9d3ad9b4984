"""Recipes, runs (every stage of a recipe in one folder) and studies (several runs, compared)."""
