"""Expiry: deletes originals whose copy is proven.

No other package deletes objects of users.

Reading order: `rules` is the truth table of what may go (pure), `places` says where originals and
copies are, `proofs` and `candidates` find what the ledger has proven, `found_runs`, `findings` and
`disproofs` what speaks against it, `shares` and `plan` weigh and plan it. `job` decides row by row
with `originals`, `copy_checks`, `marks`, `announcements`, `announcers` and `later_disproofs`.
`removals` and `deletes` delete. `undo` removes delete markers again. `deletions_table` lists what
went.

Never count as proof what could be forged, stale or about itself.
"""
