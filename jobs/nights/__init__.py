"""Nights: a pair's reconciliation, repair and verification, once a night.

Reading order: `calendar` says which night it is (pure), `documents` are those of the ledger, `stages`
does the stages, `pair_state` asks the state what is open, `verdicts` says what the night came to
(pure), `page` shows its summary, `night` does all of it.

Never do a night twice: a second start continues where the first one stopped.
"""
