"""One key of a source and its copies: which step comes next, taken from a look at both sides.

Reading order: `table` (pure: two histories, their alignment, the next step), `look` reads both
sides, `facts` compares two versions, `key` takes the steps, `job` does it for a run's rows.

Nothing here takes what an event or a row says for the newest version: both sides' own histories
decide.
"""
