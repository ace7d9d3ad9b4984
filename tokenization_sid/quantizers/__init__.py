"""Vectors to codes and back: quantizers with one interface (`fit`, `encode`, `decode`, `save_pretrained`, `from_pretrained`)."""
