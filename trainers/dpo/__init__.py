"""Direct preference optimisation: list-wise and pair-wise, in two phases (OneSearch, arXiv 2509.03236, hybrid ranking)."""
