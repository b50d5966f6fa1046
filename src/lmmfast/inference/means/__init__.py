"""Estimated marginal means, contrasts, multiplicity, marginaleffects."""
