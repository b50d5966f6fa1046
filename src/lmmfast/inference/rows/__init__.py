"""What needs rows: predictions and their errors, residuals, influence, R2."""
