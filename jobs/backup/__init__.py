"""Backup by events: stores each version that an S3 event names, newest on top.

Reading order: `events` parses messages (pure), `letters` describes messages that could not be handled or
delivered. The function and the runs over what it left behind copy by `jobs.sync`.

Never believe an event's own word for "newest": ask the source.
"""
