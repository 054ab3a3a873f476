"""The event-driven system on one machine: what AWS does around the Lambdas, done by small parts on loopback ports."""
