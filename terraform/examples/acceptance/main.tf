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
  description = "The policy of one start, with a prefix of its own. Default: policy.yaml, for a look at the plan."
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
  policy_file = coalesce(var.policy_file, "${path.module}/policy.yaml")
  policy      = yamldecode(file(local.policy_file))
  region      = local.policy.ledger.region

  # The user's own buckets: two sources, and one to restore to. They have to be there before the module is applied, which
  # sets their notifications and inventories: `terraform apply -target=aws_s3_bucket_versioning.mine` makes them.
  back  = "${local.policy.name}-back"
  mine  = toset(concat([for pair in local.policy.pairs : pair.source.bucket], [local.back]))
  tags  = { System = local.policy.name, Use = "acceptance" }
  zones = 1
}

provider "aws" {
  region = local.region
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

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

# The module's own keys refuse to be destroyed, as they should. These are for hours: they allow what keys.tf allows.
resource "aws_kms_key" "this" {
  for_each = toset(keys(local.policy.inventory.buckets))

  region                  = each.key
  description             = "Sealift ${local.policy.name}: buckets, queues and logs in ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 7
  tags                    = local.tags
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TheAccountAdministersItsKey"
        Effect    = "Allow"
        Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "ServicesOfThisAccount"
        Effect    = "Allow"
        Principal = { Service = ["s3.amazonaws.com", "cloudwatch.amazonaws.com"] }
        Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
      },
      {
        Sid       = "EventsToQueues"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
        Resource  = "*"
        Condition = { ArnLike = { "kms:EncryptionContext:aws:sqs:arn" = "arn:${data.aws_partition.current.partition}:sqs:*:${data.aws_caller_identity.current.account_id}:${local.policy.name}-*" } }
      },
      {
        Sid       = "EventsToTopics"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
        Resource  = "*"
        Condition = { ArnLike = { "kms:EncryptionContext:aws:sns:topicArn" = "arn:${data.aws_partition.current.partition}:sns:*:${data.aws_caller_identity.current.account_id}:${local.policy.name}-*" } }
      },
      {
        Sid       = "CloudWatchKeepsLogs"
        Effect    = "Allow"
        Principal = { Service = "logs.${each.key}.amazonaws.com" }
        Action = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"]
        Resource  = "*"
        Condition = { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:${data.aws_partition.current.partition}:logs:*:${data.aws_caller_identity.current.account_id}:log-group:/aws/*/${local.policy.name}*" } }
      },
    ]
  })
}

module "sealift" {
  source = "../.."

  policy_file        = local.policy_file
  image              = var.image
  image_architecture = var.image_architecture
  lambda_zip         = var.lambda_zip
  lambda_object      = var.lambda_zip == null ? { bucket = "example-packages", key = "sealift/lambda-arm64.zip" } : null
  object_annotations = var.object_annotations

  kms_key_arns       = { for region, key in aws_kms_key.this : region => key.arn }
  restore_to         = ["${local.back}/"]
  availability_zones = local.zones
  backup_concurrency = 2
  access_logs        = false
  tags               = local.tags
}

output "environment" {
  value = module.sealift.environment
}

output "repository" {
  value = module.sealift.repository
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
