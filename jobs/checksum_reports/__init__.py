"""Reports of S3 Batch Operations' Compute checksum jobs: checksums of objects at rest.

Reading order: `report` opens a report, `rows` parses its lines (pure), `evidence` writes what it
says as a table that a reconciliation joins.

A line that contradicts another proves nothing.
"""
