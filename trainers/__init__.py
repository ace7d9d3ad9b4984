"""Examples, collators and trainers on TRL and Accelerate."""
