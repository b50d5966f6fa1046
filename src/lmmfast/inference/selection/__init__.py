"""Which random and fixed terms are needed: deletions, reductions, singular fits."""
