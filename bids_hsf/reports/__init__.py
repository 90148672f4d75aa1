"""Pages, pictures and texts for people, made of the derivatives alone."""
