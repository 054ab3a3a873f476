"""Backup by events: stores each version that an S3 event names, newest on top.

Reading order: `events` parses messages (pure), `succession` says which version has to be on top and
the next step towards it (pure), `copy_candidates` orders what may be a copy (pure), `version_match`
compares versions, `key_sides` reads both sides of a key, `key_backup` stores one key's versions,
`job` is the worker's job, `dead_events` says what became of an event in vain.
`undelivered` says what AWS could not hand over.

Never believe an event's own word for "newest": ask the source.
"""
