policy_file = "examples/minimal/policy.yaml"
image       = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/backup@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

# true, which is the default, where objects have annotations: checkers of policies may not know these actions yet
object_annotations = false
