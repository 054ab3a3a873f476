"""The doctor: whether an account is as the policy wants it, and whether the work is done.

    policy → expected, needs → gather (facts, known or not) → checks → lines

Reading order: `model` (line, check, what is known), `expected` and `needs` (what Terraform makes,
what roles have to be allowed), `facts`, `gather` and `gather_stored` (all requests), the checks by
subject (`bucket_checks`, `event_checks`, `deliveries`, `batch_checks`, `role_checks`,
`ledger_checks`), `examine`. `evaluation` reads resource policies and event patterns as AWS does.
`batch_replication` composes the command for objects that S3 does not replicate by itself,
`undelivered` looks at the queues of events that reached no function.

It changes nothing but two objects of its own beside the ledger, and never calls the unknown good.
"""
