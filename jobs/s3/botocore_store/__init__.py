"""The Store on botocore: AWS's own client, instead of ours.

Reading order: `client` makes botocore's client and bends what Sealift needs otherwise, `parameters`
turns our types into botocore's parameters, `answers` turns its answers into our types, `failures`
its exceptions into our errors, `store` is the `Store` that puts them together.

It is slower than `jobs.s3.rest_store` and holds more memory. It is there for an endpoint that our
client does not get along with, and as a second opinion: a test sends both the same calls.

Nothing here signs, parses XML or opens a connection.
"""
