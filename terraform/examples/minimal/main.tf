# The least that has to be said: change the names in policy.yaml, and the region here. ../../README.md has the commands.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.69.1"
    }
  }
}

variable "image" {
  description = "The last line of `make image-push`."
  type        = string
}

provider "aws" {
  region = "eu-central-1"
}

module "sealift" {
  source = "../.."

  policy_file = "${path.module}/policy.json"
  image       = var.image

  # true, which is the default, where objects have annotations: checkers of policies may not know these actions yet
  object_annotations = false
}

# `terraform output -raw shell > sealift.env`, for the command line
output "shell" {
  value = module.sealift.shell
}

# for a first object, and for the way out
output "source" {
  value = jsondecode(file("${path.module}/policy.json")).policy.pairs[0].source.bucket
}

output "buckets" {
  value = join("\n", keys(module.sealift.buckets))
}

output "keys" {
  value = join("\n", [for region, arn in module.sealift.keys : "${region}=${arn}"])
}
