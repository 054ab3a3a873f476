# Where everything goes, and what it bears. There is no provider block here, so that other configurations can call this
# module: the caller's provider says which account. Its region and its default tags decide nothing: since 6.0 every
# regional resource takes `region`, and each of them here says it. Buckets, keys and rules of several regions stand in
# one `for_each`, and need no provider each.

data "aws_caller_identity" "current" {
  lifecycle {
    # here, since all that is made waits for it, also where it is read while applying
    postcondition {
      condition     = local.owner == null || local.owner == self.account_id
      error_message = "account ${coalesce(local.owner, "null")}: expected ${self.account_id}, the account of the provider"
    }

    postcondition {
      condition     = startswith(self.arn, "arn:aws:")
      error_message = "This module is for the partition aws: in China and GovCloud ARNs, endpoints and services have other names."
    }
  }
}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:the first ones by name are taken; a zone that AWS adds comes last, and local zones are left out
  region = local.region
  state  = "available"

  # Fargate does not run in the last two, and the first has no endpoints to other regions.
  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AWS_Fargate-Regions.html
  exclude_zone_ids = ["use1-az3", "usw1-az2", "apne1-az3"]

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }

  lifecycle {
    postcondition {
      condition     = !local.makes_vpc || length(self.names) >= local.zones
      error_message = "availability_zones: ${local.zones} are more than ${local.region} has for workers: ${length(self.names)}"
    }
  }
}

# With `depends_on` on the module a plan knows nothing of these data sources. So they are values only: what there is, the
# keys of every for_each, follows from the policy and the variables.
locals {
  account = data.aws_caller_identity.current.account_id

  # The budget counts what bears `System`.
  tags = merge({ System = local.name, ManagedBy = "terraform" }, var.tags)
}
