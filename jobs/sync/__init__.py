"""One key of a source and its copies: which step comes next, taken from a look at both sides.

Reading order: `edges` (pure: what is known of a version, and which version each copy belongs to), `table`
(pure: the next step), `look` reads both sides and asks for what is not known,
`key` takes the steps, for events and for a run's rows.

Nothing here takes what an event or a row says for the newest version: both sides' own histories
decide.
"""
