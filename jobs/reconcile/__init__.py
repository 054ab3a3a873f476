"""Reconciliation: compares two inventories and reports the differences.

Reading order: `rules` has the rules (pure) and makes SQL of them, `stage` brings reports into
columns, `partial_reports` finds reports of a part of their bucket, `join` joins two, `packed_copies`
knows what archives hold, `findings` writes the files, and what the ledger's state gets, `run` does all
of it as a run of the ledger, `repair` copies and verifies, `advice` says what a person does now,
`since_then` what is left by now of the bad rows of any run.

Never count what cannot be compared as the same.
"""
