"""Backup by events: stores each version that an S3 event names, newest on top.

Reading order: `events` parses messages (pure), `dead_events` says what dead letters are about,
`undelivered` what AWS could not hand over. The function and the runs over what it left behind copy by
`jobs.sync`.

Never believe an event's own word for "newest": ask the source.
"""
