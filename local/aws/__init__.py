"""AWS on a laptop: the Lambda functions, state machines and HTTP API that template.yaml describes."""
