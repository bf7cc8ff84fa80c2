"""Masks that a network makes of its own evidence."""
