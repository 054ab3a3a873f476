"""Replication: brings the rows of a manifest to the destination.

Reading order: `plan` plans a run, `job` hands each key to `jobs.sync.key`, which looks at both
sides, decides by the table of `jobs.sync.table`, copies and proves.
"""
