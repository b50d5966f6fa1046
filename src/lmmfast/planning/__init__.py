"""Before the data: designs of experiments, larger samples, power."""
