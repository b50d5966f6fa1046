"""A fit for other programs and for papers: tidy frames, an equation, a paragraph."""
