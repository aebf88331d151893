"""Copies betons from other machines to a folder of this one, before or while they are used."""
