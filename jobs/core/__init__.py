"""The ground floor: pure code. No clock, environment, network or disk."""
