"""Self-distillation of OneSearch-V2: a teacher that sees keywords."""
