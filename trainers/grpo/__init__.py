"""Group-relative policy optimisation: the policy samples Semantic IDs, rewards grade them, and better ones become likelier."""
