"""Verification: proves that copies are the same, and that archives are readable.

Reading order: `job` verifies copies, `attestation` says what a checksum at rest proves (pure), `attest` joins such
checksums to rows, `archives_kind` plans the verification of archives and reads them.

Never write to either side.
"""
