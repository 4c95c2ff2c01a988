"""The panels of the dashboard, one widget a file."""
