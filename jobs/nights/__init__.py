"""Nights: a pair's reconciliation, repair and verification, once a night.

Reading order: `calendar` says which night it is (pure), `summary` says what the night came to, as a
document of the ledger, a sentence and a page, `night` finds or makes the run of each stage, works
through it, and asks the state what is open.

Never do a night twice: a second start continues where the first one stopped.
"""
