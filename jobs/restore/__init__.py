"""Restore: brings objects back out of archives, or a bucket as it was at a time.

Reading order: `as_of` and `as_of_journal` say which version was current (pure), `candidates`
collects the requested versions, from bucket, archives and journal. `plan` chooses versions, cuts
shards and prices them, `thawing` says how long a thaw takes and what it costs (pure), `job` asks S3
for it, reads, proves and writes.

A restore never overwrites an object.
"""
