"""Nights: a pair's reconciliation, repair and verification, once a night.

Reading order: `calendar` says which night it is (pure), `documents` are those of the ledger, `verdicts`
says what the night came to, as a sentence and as a page (pure), `night` finds or makes the run of each
stage, works through it, and asks the state what is open.

Never do a night twice: a second start continues where the first one stopped.
"""
