"""What follows from a fit: tests, degrees of freedom, intervals, means, influence."""
