"""Figures of a measurement: what they are, the machine that gives them, and how they are shown. bench/ makes them."""
