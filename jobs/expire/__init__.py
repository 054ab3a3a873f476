"""Expiry: deletes originals whose copy is proven.

No other package deletes originals. Replicate and backup set delete markers, and only at a
destination.

Reading order: `rules` is the truth table of what may go (pure), `places` says where originals and
copies are, `place_checks` refuses places that lose them, `proofs` and `candidates` find what the
ledger has proven, `runs_with_findings`, `findings` and `disproofs` find what voids a proof,
`shares` and `plan` weigh and plan the rest. `job` decides row by row with `originals`,
`copy_checks`, `marks`, `announcements`, `announcers` and `later_disproofs`. `removals` and
`deletes` delete. `undo` removes delete markers again. `deletions_table` lists what was deleted.

Never count as proof what could be forged, stale or about itself.
"""
