"""What the saga means, whatever engine it talks to: models, ids, errors, settings, deadlines, observability."""
