# Copies and replicas in a second account, applied from one root with the rights of both. Owners of another account who
# apply their part themselves have `module "vault"` in a root of theirs: ../../README.md#copies-in-another-account.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.69.1"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

provider "aws" {
  alias  = "vault"
  region = "eu-central-1"

  assume_role {
    role_arn = "arn:aws:iam::222233334444:role/terraform"
  }
}

module "sealift" {
  source = "../.."

  policy_file   = "${path.module}/policy.json"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ward@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip", version = "3HL4kqtJvjVBH40Nrjfkd" }

  # what the other account has made
  other_accounts = { "222233334444" = module.vault.made }

  # true, which is the default, where objects have annotations: checkers of policies may not know these actions yet
  object_annotations = false
}

module "vault" {
  source    = "../../modules/other-account"
  providers = { aws = aws.vault }

  asked = module.sealift.other_accounts["222233334444"]
}

# `terraform output -raw shell > sealift.env`, for the command line
output "shell" {
  value = module.sealift.shell
}

# statements that buckets of your sources in other accounts need
output "source_policies" {
  value = module.vault.source_policies
}
