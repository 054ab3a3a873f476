"""Restore: brings objects back out of archives, or a bucket as it was at a time.

Reading order: `as_of` and `as_of_journal` say which version was current (pure), `candidates`
collects the requested versions, `journal_rows` reads events from the journal.
`plan` chooses versions and cuts shards, `pricing` prices them, `thawing` says how long a thaw takes
and what it costs (pure), `job` asks S3 for it, reads, proves and writes.
`member_writer` writes one member.

A restore never overwrites an object.
"""
