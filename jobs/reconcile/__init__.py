"""Reconciliation: compares two inventories and reports the differences.

Reading order: `rules` has the rules (pure) and makes SQL of them, `stage` brings reports into
columns, `partial_reports` finds reports of a part of their bucket, `join` joins two, `packed_copies`
knows what archives hold, `findings` writes the files, `reconcile` does all of it, `run` records it as
a run, `repair` copies and verifies, `repair_result` says what that left and `advice` what a person
does now, `since_then` says what later runs made of a run's bad rows.

Never count what cannot be compared as the same.
"""
