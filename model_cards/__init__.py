"""Model cards with measured results, and publishing."""
