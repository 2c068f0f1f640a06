"""What grows with what, as a model: calls, Lambda time, state transitions, relationships, and the quotas they meet.

What is exact in `model` is checked against runs, in tests/saga/test_scale.py, tests/*/test_calls.py and tests/unit.
"""
