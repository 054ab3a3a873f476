"""The ledger: what runs are asked, plan, do and prove, as files below one S3 prefix.

Reading order: `write_rules` says which file may ever change and `guard` makes it a condition of each write, `files` is
the one write, read and listing, `ledger` has a run's documents, `agreement` checks that they belong together, `job_starts` and `start_claims` hold
claims of jobs, `journal` has the events, `tombstones` and `expired_rows` what was deleted, `catalog`, `views` and
`table_docs` make all of it SQL.

Nothing in the ledger is believed where something is deleted: whoever may write here may write anything.
"""
