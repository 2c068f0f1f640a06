"""AWS on a laptop: Lambda, Step Functions and API Gateway, as template.yaml describes them."""
