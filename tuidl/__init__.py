"""tuidl: train neural networks from a terminal and watch them learn."""

__version__ = "0.2.0"
