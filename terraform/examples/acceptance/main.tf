# What `make acceptance` applies, tries for an hour or two, and destroys. Nothing in it is meant to stay.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.69.1"
    }
  }
}

variable "policy_file" {
  description = "The policy.json of one start, with a prefix of its own. Default: the one here, for a look at the plan."
  type        = string
  default     = null
}

variable "image" {
  description = "The container image by digest. `make acceptance` builds and pushes it."
  type        = string
  default     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sealift-acceptance@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

variable "lambda_zip" {
  description = "The functions' package, as `make lambda` builds it. Without it one in a bucket is named, which is enough for a plan."
  type        = string
  default     = null
}

variable "image_architecture" {
  description = "What the image was built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"
}

variable "object_annotations" {
  description = "As in the module. Checkers of policies may not know these actions yet, so a plan leaves them out."
  type        = bool
  default     = false
}

locals {
  policy_file = coalesce(var.policy_file, "${path.module}/policy.json")
  policy      = jsondecode(file(local.policy_file)).policy
  region      = local.policy.ledger.region

  # The user's own buckets: two sources, and one to restore to.
  back = "${local.policy.name}-back"
  mine = toset(concat([for pair in local.policy.pairs : pair.source.bucket], [local.back]))
  tags = { System = local.policy.name, Use = "acceptance" }
}

provider "aws" {
  region = local.region
}

resource "aws_s3_bucket" "mine" {
  #checkov:skip=CKV_AWS_144:lives for hours
  #checkov:skip=CKV_AWS_145:the script's objects are made up
  #checkov:skip=CKV_AWS_18:lives for hours
  #checkov:skip=CKV2_AWS_61:lives for hours
  #checkov:skip=CKV2_AWS_62:the module sets the notifications of the sources
  for_each = local.mine

  bucket              = each.key
  region              = local.region
  force_destroy       = true # it has to go with all that is in it
  object_lock_enabled = true # without a default retention: one step locks an object for a minute
  tags                = local.tags
}

resource "aws_s3_bucket_versioning" "mine" {
  for_each = aws_s3_bucket.mine

  bucket = each.value.id
  region = local.region

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "mine" {
  for_each = aws_s3_bucket.mine

  bucket                  = each.value.id
  region                  = local.region
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

module "sealift" {
  source = "../.."

  policy_file        = local.policy_file
  image              = var.image
  image_architecture = var.image_architecture
  lambda_zip         = var.lambda_zip
  lambda_object      = var.lambda_zip == null ? { bucket = "example-packages", key = "sealift/lambda-arm64.zip", version = "3HL4kqtJvjVBH40Nrjfkd" } : null
  object_annotations = var.object_annotations

  restore_to         = ["${local.back}/"]
  closed_network     = true
  backup_concurrency = 2
  disposable         = true
  tags               = local.tags

  # it sets the notifications and inventories of the sources
  depends_on = [aws_s3_bucket_versioning.mine]
}

output "environment" {
  value = module.sealift.environment
}

output "buckets" {
  description = "What is emptied before all is destroyed."
  value       = { for bucket, each in module.sealift.buckets : bucket => each.region }
}

output "job_queues" {
  value = module.sealift.job_queues
}

output "job_definitions" {
  value = module.sealift.job_definitions
}
