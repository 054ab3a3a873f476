# Two regions that protect each other, in an account with rules of its own for roles and tags.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.69.1"
    }
  }
}

# One provider, although the policy has two regions: it says the account, and the module says the regions.
provider "aws" {
  region = "eu-central-1"

  default_tags {
    tags = { Team = "storage" }
  }
}

module "sealift" {
  source = "../.."

  policy_file   = "${path.module}/policy.json"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/atlantic@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip", version = "3HL4kqtJvjVBH40Nrjfkd" }

  image_architecture  = "ARM64"
  closed_network      = true
  availability_zones  = 2
  backup_concurrency  = 100
  source_kms_key_arns = ["arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789"]
  restore_to          = ["example-restored/"]

  role_path                 = "/storage/"
  role_permissions_boundary = "arn:aws:iam::123456789012:policy/storage-boundary"
  tags                      = { CostCentre = "4711" }

  # true, which is the default, where objects have annotations: checkers of policies may not know these actions yet
  object_annotations = false
}

# `terraform output -raw shell > sealift.env`, for the command line
output "shell" {
  value = module.sealift.shell
}

# for the policies of buckets and keys in other accounts
output "roles" {
  value = module.sealift.roles
}

output "doctor_policy" {
  value = module.sealift.doctor_policy
}

output "probe_policy" {
  value = module.sealift.probe_policy
}
