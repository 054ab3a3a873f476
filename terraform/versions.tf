terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.69.1" # the one that the checks know; `make terraform-lock` after a change
    }
  }
}

# One provider for all regions: since 6.0 every regional resource takes `region`, so that buckets, keys and rules of
# several regions can stand in one `for_each`. What says nothing is in the ledger's region.
provider "aws" {
  region = local.region

  default_tags {
    tags = merge({ System = local.name, ManagedBy = "terraform" }, var.tags)
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:the first ones by name are taken; a zone that AWS adds comes last, and local zones are left out
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  account    = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix
}
