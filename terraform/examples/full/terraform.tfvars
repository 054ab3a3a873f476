policy_file         = "examples/full/policy.yaml"
image               = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/atlantic@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
image_architecture  = "ARM64"
availability_zones  = 3
backup_concurrency  = 100
xray                = true
source_kms_key_arns = ["arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789"]
restore_to          = ["example-restored/"]
tags                = { CostCentre = "4711" }

# true, which is the default, where objects have annotations: checkers of policies may not know these actions yet
object_annotations = false
