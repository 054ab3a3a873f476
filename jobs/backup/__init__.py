"""Backup by events: stores each version that an S3 event names, newest on top.

Reading order: `events` parses messages (pure), `kind` opens a run over the rows that the function
left behind (both copy by `jobs.sync`), `dead_events` says what became of an event in vain,
`undelivered` what AWS could not hand over.

Never believe an event's own word for "newest": ask the source.
"""
