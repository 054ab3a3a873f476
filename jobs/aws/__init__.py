"""Clients of AWS services other than S3's objects: Batch, SQS, SNS, Lambda, and settings.

Reading order: `clients` opens them, `batch` submits and describes jobs, `batch_arrays` says what a
submission contains (pure), `queues` receives and sends messages, `dead_letters` returns messages to
their queue. What `sealift doctor` reads and nobody changes: `readings` (known or not),
`bucket_settings`, `event_settings`, `batch_settings`, `account`.

Raw answers of AWS end here: what leaves this package are types of its own.
"""
