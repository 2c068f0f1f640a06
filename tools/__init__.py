"""What is run by hand, by make or in production: schema, diagrams, links, specification, set-up."""
