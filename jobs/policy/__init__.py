"""The policy: which buckets are protected, and what may be done with them.

    policy.yaml → reader, rules → policy.json (`resolved`) → functions, jobs, Terraform

Reading order: `model` has the types, `words` those of single values, `reader` and `yaml_document` read the YAML,
`rules` finds contradictions, `resolved` is what is written of it, `coverage` says which pair a key belongs to,
`run_options` what a pair means for a run.

A policy with a mistake is refused as a whole, with the line and what to write instead. Functions load no YAML.
"""
