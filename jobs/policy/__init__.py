"""The policy file: which buckets are protected, and what may be done with them.

Reading order: `model` has the types, `words` parses values such as `30d`, `rules` finds
contradictions, `coverage` says which pair a key belongs to, `run_options` what a pair means for a
run. `yaml_document` and `reader` read the file.

A policy with a mistake is refused as a whole, with the line and what to write instead.
"""
