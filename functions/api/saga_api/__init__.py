"""The HTTP API: the caller from verified claims, one permission check, then Temporal or an Express machine."""
