"""Runs: from a request to a report. Knows no verb by name.

Reading order: `launch` plans, publishes, executes and concludes a run, `planning`, `filtering`, `sorting` and
`sharding` cut a manifest into shards, `worker` works through one, `leases` says who may, `folding` counts outcomes.
`local_executor` and `parent_process` start workers on this machine, `placement`, `batch_executor` and `batch_follow`
in AWS Batch, `run_claim` stops earlier attempts, `work` goes on with a run wherever it belongs.

No row may be lost or counted twice, whatever is killed.
"""
