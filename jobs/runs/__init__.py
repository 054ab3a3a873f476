"""Runs: planning, the ledger, the worker and the executors. Knows no verb by name."""
