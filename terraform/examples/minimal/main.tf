# The least that has to be said. Copy this folder, and change the names in it and in policy.yaml.

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

module "sealift" {
  source = "../.."

  policy_file = "${path.module}/policy.yaml"
  image       = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/backup@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

  # true, which is the default, where objects have annotations: checkers of policies may not know these actions yet
  object_annotations = false
}

# `terraform output -raw shell > sealift.env`, for the command line
output "shell" {
  value = module.sealift.shell
}

output "repository" {
  value = module.sealift.repository
}
