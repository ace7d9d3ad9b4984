"""Preference lists: from the reward model's order of the policy's own beams, and from real interactions."""
