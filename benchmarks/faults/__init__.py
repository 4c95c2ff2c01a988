"""The fault bench."""
