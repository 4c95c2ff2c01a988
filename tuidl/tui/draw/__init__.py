"""Pure drawing: from numbers and a size to rows of cells. Knows no widget, so tests compare literal rows."""
