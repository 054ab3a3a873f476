"""Rollback: a bucket or prefix put back in place, as it was at a time, from its own versions.

Nothing that a reader could miss is destroyed: what a rollback writes are copies on top and delete
markers. It removes a delete marker that the plan names by its id. Its undo removes what the run's
outcomes say it wrote. A copy goes only if its original is there and was compared with it a moment before.

Reading order: `rules` is what a key needs, and what became of it since (pure tables). `plan` lists all
versions and decides key by key, or turns the outcomes of a run round to take it back. `job` writes.
`kind` tells the engine, `undo_kind` what differs for an undo.
"""
