"""Replication: brings the rows of a manifest to the destination.

Reading order: `plan` plans a run, `kind` opens its job, which is that of `jobs.sync`.
"""
