"""What runs the application on a laptop. Nothing of the product imports it."""
