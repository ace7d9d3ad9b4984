"""What the trainers of preferences share: log-probabilities of candidate Semantic IDs, and the reference model."""
