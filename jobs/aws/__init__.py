"""Clients of AWS services other than S3's objects: Batch, SQS, SNS, Lambda.

Reading order: `clients` opens them, `batch` submits and describes jobs, `batch_arrays` says what a
submission contains (pure), `queues` receives and sends messages, looks at dead letters and returns them,
`bucket_settings` reads which rules of a bucket remove objects.

Raw answers of AWS end here: what leaves this package are types of its own. Only the doctor sees them, which asks each
question once.
"""
