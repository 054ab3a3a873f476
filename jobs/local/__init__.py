"""The event-driven system on one machine: what AWS does around the Lambdas.

Reading order: `system` starts all parts, `seaweedfs` the S3 server, `stray_servers` stops what a
killed start left, `relay` passes every request to SeaweedFS, `notifications` and `notifier` turn
requests into S3 events, `sqs_server` and `sqs_queue` are the queues, `queue_file` keeps them,
`event_source` calls the functions, `batch_queue` runs their jobs, `status` shows what happens.
`loopback` is what the servers have in common.

Nothing listens beyond loopback.
"""
