"""Runs: from a request to a report. Knows no kind of work by name.

Reading order: `request` says what a command wants and drafts the plan, `kind` says what each kind
of work adds. `launch` plans, publishes, executes and concludes a run. `planning`, `filtering`,
`sorting` and `sharding` cut a manifest into shards, `forecast` says how long they take. `worker` works
through one, `worker_log` logs it and `failure_count` says when an attempt ends because rows fail.
`folding` counts outcomes, `standing` says which bad rows are still bad, `progress` how far a run is,
`summaries` lists runs. `local_executor` and `parent_pipe` start workers on this machine, `placement`,
`batch_executor` and `batch_follow` in AWS Batch. `work` continues a run where it belongs.

It must never lose a row or count one twice, whatever is killed.
"""
