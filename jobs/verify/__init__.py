"""Verification: proves that copies are the same, and that archives are readable.

Reading order: `job` verifies copies, `copied_rows` says which of them the run before has just made,
`attestation` says what a checksum at rest proves (pure), `attest` joins such checksums to rows,
`archives_plan` and `archives_rows` plan the verification of archives, `archives_job` reads them,
`archives_kind` is their `Kind`.

Never write to either side.
"""
