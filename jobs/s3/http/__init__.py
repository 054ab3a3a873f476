"""HTTP/1.1 to S3: connections, signatures and answers, without a library in between.

Reading order: `signing` makes the head of a request, `connect` and `proxies` open a connection,
`tls` encrypts it, `connection_pool` keeps connections, `answers` reads what comes back. `endpoints`
says which host a bucket is at.

Nothing here knows what a request means. No answer may reach a request that did not ask for it, and
every size and every wait has a bound.
"""
