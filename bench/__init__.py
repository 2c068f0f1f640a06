"""Measurements that take minutes. Nothing imports them."""
