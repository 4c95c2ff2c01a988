"""The tasks: what a step, an evaluation and a sample are."""
