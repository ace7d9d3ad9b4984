"""Soft targets: the generator learns the expectations of a teacher over items along the trie, beside the observed purchases and clicks."""
