"""Reads and writes files of a teacher's answers to the views of each epoch."""
