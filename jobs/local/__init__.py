"""The event-driven system on one machine: SeaweedFS, and the functions in this process.

Reading order: `system` starts all parts, `seaweedfs` the S3 server, and takes its
notifications, `filer_events` turns them into S3's, `backups` calls the function, `runs` starts what
the function hands over, `status` counts.

Nothing listens beyond loopback.
"""
