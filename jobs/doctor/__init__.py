"""The doctor: does the system work? Whether the account is as configured, `terraform plan -detailed-exitcode` says.

    policy → questions → AWS, S3, the ledger → lines

A question asks one thing and says what it found. What nobody answers is a warning, never ok. Reading order: `model`
(question, finding, line), `system` (what a question works with), the questions by subject (`buckets`, `events`,
`batch`, `roles`, `pairs`), `probe` (an object on its way), `examine`. `queues` looks at those of events, and of what
reached no function.

It changes nothing, but for the object of `--probe` and, where the ledger is not at AWS, the trial of conditions.
"""
