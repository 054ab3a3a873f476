policy_file = "examples/full/policy.json"

object_annotations = false # the checker does not know these actions yet
image              = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sealift@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

lambda_object = {
  bucket  = "example-packages"
  key     = "sealift/lambda-arm64.zip"
  version = "3HL4kqtJvjVBH40Nrjfkd"
}
