"""Merges schema/schedules.zed into the schema that a SpiceDB holds."""
