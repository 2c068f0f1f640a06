"""Asks whether Temporal and SpiceDB agree about every schedule, repairs what differs, and explains one schedule."""
