"""What responses drawn anew, and rows left out, say of a fit."""
