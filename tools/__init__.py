"""What is run by hand, or in production: the schema's merge, the diagrams, the API's specification."""
