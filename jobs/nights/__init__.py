"""Nights: a pair's reconciliation, repair and verification, once a night.

Reading order: `calendar` says which night it is and what it came to (pure), `documents` checks what
the ledger says of a night (pure), `records` keeps its documents in the ledger, `stages` does its
stages, `night` does all of them.

Never do a night twice: a second start continues where the first one stopped.
"""
