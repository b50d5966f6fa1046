"""Fits as files: what a fit is without its rows, a schema, and what reads it again."""
