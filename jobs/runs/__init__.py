"""Runs: from a request to a report. Knows no kind of work by name.

Reading order: `request` says what a command wants and drafts the plan, `kind` says what each kind
of work adds. `launch` plans and publishes a run. `planning`, `filtering`, `sorting` and `sharding` cut a
manifest into shards, `there` leaves out what is copied.
`work` works through a run where it belongs, from where it is, to its report: `local_executor` and
`parent_pipe` have its workers on this machine, `batch_executor` in AWS Batch. `worker`
works through a shard. `folding` counts outcomes, `progress` says how far a run is, `summaries` lists runs.

It must never lose a row or count one twice, whatever is killed.
"""
