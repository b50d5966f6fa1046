"""Tables of any kind to a design: numeric columns, levels, checks, how new data are encoded."""
