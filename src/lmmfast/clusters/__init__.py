"""Cluster-based permutation tests of one model at many points in time and space."""
