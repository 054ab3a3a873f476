"""Words and rules that every package shares. Pure: no clock, environment, network or disk.

Reading order: `model` has objects, versions and places, `run` a run's spec and plan, `outcome` what
became of a row, `evidence` what proves that two objects are the same, `selection` and `sampling`
which rows are taken, `prefix_map` where they go, `histories` the versions of a key, `pricing` what
requests cost, `pace` how many at once. `enums` and `category` are closed lists of words, `display`
is how the engine speaks to people.

Only the standard library may be imported here.
"""
