"""statsmodels' interface to mixed models, over the same engine and results."""
