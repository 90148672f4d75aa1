"""Models: cards, names, files."""
