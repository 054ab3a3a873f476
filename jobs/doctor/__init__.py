"""The doctor: whether an account is as the policy wants it, and whether the work is done.

    policy → expected, needs → gather (facts, known or not) → checks → lines

Reading order: `model` (line, check, what is known), `expected` and `needs` (what Terraform makes,
what roles have to be allowed), `facts`, `gather` (all requests), the checks by subject
(`bucket_checks`, `event_checks`, `batch_checks`, `role_checks`, `ledger_checks`), `examine`.
`evaluation` reads resource policies and event patterns as AWS does.

It changes nothing but two objects of its own beside the ledger, and never calls the unknown good.
"""
