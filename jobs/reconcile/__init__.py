"""Reconciliation: compares two inventories and reports the differences.

Reading order: `rules` has the rules (pure) and `rules_sql` the same rules as SQL, `stage`,
`stage_typed` and `stage_csv_rejects` bring reports into columns, `partial_reports` finds reports of
a part of their bucket, `join_side` and `join` join them, `packed_copies` knows what archives hold,
`confirm` asks S3 about suspicions, `findings` writes the tables, `reconcile` does all of it, `run`
records it as a run, `repair` copies and verifies what is missing, `repair_result` says what that
left and `repair_advice` what a person does now, `since_then` says what later runs made of a run's
bad rows.

Never count what cannot be compared as the same.
"""
