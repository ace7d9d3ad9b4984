"""Soft targets: what a teacher over items expects is taught along the trie, beside the observed purchases and clicks."""
