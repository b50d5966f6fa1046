"""The same model of many responses."""
