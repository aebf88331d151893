"""Writes trained models as files for other programs, and reads these."""
