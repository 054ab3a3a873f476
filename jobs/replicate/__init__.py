"""Replication: brings the rows of a manifest to the destination by the job of `jobs.sync`."""
