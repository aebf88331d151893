"""What lies in a beton: its layout, its index of tiles, its manifest."""
