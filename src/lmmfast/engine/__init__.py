"""The compiled model of a design: evaluation, fits, costs, starts, what cannot be identified."""
