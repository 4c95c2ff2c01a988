"""The only room that knows Textual: a viewer of run directories. It never holds a trainer and never loads torch."""
