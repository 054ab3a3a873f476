"""Expiry: deletes originals whose copy was read and compared a moment before.

No other package deletes originals. Replicate and backup set delete markers, and only at a
destination.

Reading order: `rules` is the truth table of what may go (pure). `places` says where originals and
copies are, by documents that it writes and reads, and refuses places that lose copies.
`plan` joins listings of now and weighs what would go, and `copy_columns` says where each row's copy
is. `job` looks at originals, compares each with its copy, and deletes. `undo` removes delete markers
again. `deletions_table` lists what was deleted.

Never count as proof what could be forged, stale or about itself.
"""
