"""Pages that show what a configuration does to images, and what a model has learned."""
