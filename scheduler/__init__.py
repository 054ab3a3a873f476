"""The Lambdas: small handlers that enqueue, submit and follow runs."""
