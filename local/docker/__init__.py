"""Containers for `sam local`: Lambda's image or a stand-in, a Docker engine, and a bridge to the laptop stack."""
