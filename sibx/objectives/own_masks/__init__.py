"""Masks that a network makes from its own evidence."""
