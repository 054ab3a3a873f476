"""The ledger: what runs ask, plan, do and prove, as files below one S3 prefix.

Reading order: `files` is the one write, read and listing, and says which file may ever change,
`run_ids` are the names of runs, `ledger` has a
run's documents, `owner` says who may work at a run and `claims` who does what else only one may do,
`uploads` has the unfinished uploads of a shard, `journal` the events, `backlog` what waits for a
run, `tombstones` what was deleted, `one_bucket` looks for a second name of its bucket, `state` is
the rule of what we know of each object and `state_files` keeps it, and `views` makes all of it SQL.

Where something is deleted, nothing in the ledger is believed: anybody with write access to it can
write anything.
"""
