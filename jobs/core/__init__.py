"""Words and rules that every package shares. Pure, but for the clock of the request log.

Reading order: `model` has objects, versions and places, `run` a run's spec and plan, `outcome` what
became of a row, `reasons` why, `evidence` what proves that two objects are the same, `selection` and `sampling`
which rows are taken, `prefix_map` where they go, `histories` the versions of a key, `pricing` what
requests cost, `part_sizes` how large parts are, `pace` and `rate_limits` how many at once. `enums`
and `category` are closed lists of words, `bucket_names` says which names are legal. `display` is how
the engine speaks to people, `request_log` to who debugs. `parentage` names the variables
that tie a worker's process to the one that started it.

Only the standard library, msgspec and `jobs.errors` may be imported here.
"""
