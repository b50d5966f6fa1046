"""Linear hypotheses and their tests: Wald, tables of terms and of nested models."""
