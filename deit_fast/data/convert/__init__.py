"""From images to a beton."""
