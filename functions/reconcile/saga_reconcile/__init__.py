"""The reconciler: finds and repairs drift between Temporal and SpiceDB."""
