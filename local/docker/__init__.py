"""Containers for `sam local`: a way from them to the laptop stack, and a stand-in for Lambda's image."""
