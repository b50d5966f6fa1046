"""Intervals of parameters: Wald, profiles of the criterion, errors of variances."""
