"""Clients of AWS services other than S3: Batch, SQS, SNS and Lambda.

Reading order: `clients` opens them, `batch` submits and describes jobs, `batch_arrays` says what a
submission contains (pure), `queues` receives and sends messages, `dead_letters` returns messages to
their queue.

Raw answers of AWS end here: what leaves this package are types of its own.
"""
