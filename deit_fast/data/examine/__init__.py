"""Describes betons, and checks them for damage and against their source."""
