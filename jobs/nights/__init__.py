"""Nights: a pair's reconciliation, repair and verification, once a night.

Reading order: `calendar` says which night it is (pure), `verdicts` what it came to (pure),
`documents` checks what the ledger says of a night (pure), `records` keeps its documents in the
ledger, `page` shows its summary, `stages` does its stages, `left_objects` counts what they leave,
`disproofs` carries findings from night to night until `answers` finds evidence that they are over,
`night` does all of them, `oldest_unproven` names the object that waits longest for a proof.

Never do a night twice: a second start continues where the first one stopped.
"""
