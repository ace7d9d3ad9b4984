"""Everything that a run does, in order: recipes, the run itself, and studies over several runs."""
