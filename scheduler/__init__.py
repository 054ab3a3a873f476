"""The Lambda functions: small handlers that back up, enqueue, submit and follow.

Reading order: `backup` stores what an S3 event names, `enqueue` makes manifests of what is left
(`backlog`), `submit` starts jobs (`batch_starts`), `follow` moves runs on and publishes their ends.
`runtime` has what a handler works with, `settings` its environment, `redelivery` says when a failed
message comes again, `event_metrics` and `log` are what it reports.

Handlers import nothing heavy: a cold start waits for each import.
"""
