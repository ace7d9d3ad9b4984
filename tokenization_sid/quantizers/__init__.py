"""Quantizers: vectors to codes and back, with one interface (`fit`, `encode`, `decode`, `save_pretrained`, `from_pretrained`)."""
