"""Reads, describes and checks the format of a beton: its layout, its index of tiles, its manifest."""
