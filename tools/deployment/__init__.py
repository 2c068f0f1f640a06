"""Builds and deploys with the SAM CLI, after checks whose errors are sentences."""
