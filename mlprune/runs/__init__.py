"""A run's folder: claiming it, and what is in it."""
