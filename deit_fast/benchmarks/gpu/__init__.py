"""What a GPU can do, and what training gets of it."""
