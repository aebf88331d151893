"""What a beton holds, and whether that is what its source holds."""
