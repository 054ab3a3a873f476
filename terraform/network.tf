# The workers' network. By default it is open: a VPC with an internet gateway, where each worker has a public address, and
# nothing may connect to it. It costs nothing while no worker runs. `closed_network` has no way out: interface endpoints lead
# to a few services, and are paid for by the hour.
#
# S3 in the ledger's region is reached by a gateway endpoint, which is free. S3 refuses copies between regions that come
# through an endpoint, so that workers stream these (SEALIFT_ENDPOINTS_ONLY), or, in the open network of a policy with several
# regions, there is none, and S3 copies.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html

locals {
  makes_vpc = length(var.subnet_ids) == 0
  vpc       = toset(local.makes_vpc ? ["this"] : [])
  closed    = toset(local.makes_vpc && var.closed_network ? ["this"] : [])
  open      = setsubtract(local.vpc, local.closed)

  # A gateway endpoint leads to the S3 of its own region only.
  # https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-cross-region-privatelink-support.html
  far_regions  = setsubtract(toset(local.named[*].region), [local.region])
  by_endpoint  = local.makes_vpc ? var.closed_network || length(local.far_regions) == 0 : !var.workers_reach_internet
  s3_endpoints = setsubtract(local.vpc, local.by_endpoint ? [] : ["this"])

  # By number: a plan may not know the names of the zones.
  zones              = coalesce(var.availability_zones, var.closed_network ? 1 : 2)
  subnets            = local.makes_vpc ? { for number in range(local.zones) : tostring(number) => number } : {}
  subnet_ids         = local.makes_vpc ? [for name in keys(local.subnets) : aws_subnet.this[name].id] : var.subnet_ids
  security_group_ids = local.makes_vpc ? [aws_security_group.worker["this"].id] : var.security_group_ids
  assign_public_ip   = local.makes_vpc ? !var.closed_network : var.assign_public_ip

  # Pulling the image, writing logs, submitting and following jobs, S3 elsewhere.
  endpoints = length(local.closed) == 0 ? {} : merge(
    { for service in ["ecr.api", "ecr.dkr", "logs", "batch"] : service => { service = service, region = local.region } },
    { for region in local.far_regions : "s3-${region}" => { service = "s3", region = region } },
  )
}

# Where the endpoints lead to. Whatever a role or a leaked key may do elsewhere, from the closed network it reaches these
# places only, and only as a principal of this account.
# https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
locals {
  by_our_principals = { "aws:PrincipalAccount" = local.account }

  reached_buckets = distinct(concat(local.named[*].bucket, [for place in var.restore_to : split("/", place)[0]]))
  s3_endpoint_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        # By name and by account: a bucket that was deleted may come back as somebody else's.
        Sid       = "OurBuckets"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:*"
        Resource  = flatten([for bucket in local.reached_buckets : ["arn:aws:s3:::${bucket}", "arn:aws:s3:::${bucket}/*"]])
        Condition = { StringEquals = merge(local.by_our_principals, { "aws:ResourceAccount" = distinct(concat([local.account], compact(local.named[*].account), var.source_accounts)) }) }
      },
      {
        # ECR keeps layers in a bucket of AWS's, and signs the requests for them itself: no condition on the principal holds.
        # https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-minimum-s3-perms
        Sid       = "ImageLayers"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:GetObject"
        Resource  = ["arn:aws:s3:::prod-${local.region}-starport-layer-bucket/*"]
      },
    ]
  }

  endpoint_statements = merge(
    { for service in ["ecr.api", "ecr.dkr"] : service => [
      {
        Sid       = "LogIn"
        Effect    = "Allow"
        Principal = "*"
        Action    = "ecr:GetAuthorizationToken"
        Resource  = "*" # a login is the registry's, not a repository's
        Condition = { StringEquals = local.by_our_principals }
      },
      {
        Sid       = "PullTheImage"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource  = local.repository_arn
        Condition = { StringEquals = local.by_our_principals }
      },
    ] },
    {
      logs = [{
        Sid       = "WriteLogs"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource  = "${aws_cloudwatch_log_group.this.arn}:*"
        Condition = { StringEquals = local.by_our_principals }
      }]
      batch = [{
        Sid       = "JobsOfThisAccount"
        Effect    = "Allow"
        Principal = "*"
        Action = ["batch:SubmitJob", "batch:TagResource", "batch:TerminateJob", "batch:DescribeJobs",
        "batch:DescribeJobQueues", "batch:DescribeJobDefinitions", "batch:ListJobs"]
        Resource  = "*" # Batch offers no resource for what describes and lists
        Condition = { StringEquals = local.by_our_principals }
      }]
    },
  )

  endpoint_policies = merge(
    { for service, statements in local.endpoint_statements : service => jsonencode({ Version = "2012-10-17", Statement = statements }) },
    { s3 = jsonencode(local.s3_endpoint_policy) },
  )
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:a flow log costs by the gigabyte: the owner of the account turns one on where somebody reads it
  #checkov:skip=CKV2_AWS_12:nothing of ours is in the default group, which lets in only what is
  for_each = local.vpc

  region               = local.region
  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = local.name })
}

resource "aws_internet_gateway" "this" {
  for_each = local.open

  region = local.region
  vpc_id = aws_vpc.this[each.key].id
  tags   = merge(local.tags, { Name = local.name })
}

# The VPC's own table, so that each subnet has it.
resource "aws_default_route_table" "this" {
  for_each = local.vpc

  region                 = local.region
  default_route_table_id = aws_vpc.this[each.key].default_route_table_id
  tags                   = merge(local.tags, { Name = local.name })

  dynamic "route" {
    for_each = aws_internet_gateway.this

    content {
      cidr_block = "0.0.0.0/0"
      gateway_id = route.value.id
    }
  }
}

resource "aws_subnet" "this" {
  for_each = local.subnets

  region            = local.region
  vpc_id            = aws_vpc.this["this"].id
  availability_zone = data.aws_availability_zones.available.names[each.value]
  cidr_block        = cidrsubnet(var.vpc_cidr, 2, each.value)
  tags              = merge(local.tags, { Name = "${local.name}-${each.key}" })

  # It stays where it is. Zones that the plan does not know yet would make another subnet, under running workers.
  lifecycle {
    ignore_changes = [availability_zone]
  }
}

data "aws_subnet" "given" {
  count = length(var.subnet_ids)

  region = local.region
  id     = var.subnet_ids[count.index]
}

resource "aws_vpc_endpoint" "s3" {
  for_each = local.s3_endpoints

  region            = local.region
  vpc_id            = aws_vpc.this[each.key].id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_default_route_table.this[each.key].id]
  policy            = local.endpoint_policies["s3"]
  tags              = merge(local.tags, { Name = "${local.name}-s3" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.endpoints

  region              = local.region
  vpc_id              = aws_vpc.this["this"].id
  service_name        = "com.amazonaws.${each.value.region}.${each.value.service}"
  service_region      = each.value.region == local.region ? null : each.value.region # EC2 may take a near one for a customer's
  vpc_endpoint_type   = "Interface"
  subnet_ids          = local.subnet_ids
  security_group_ids  = [aws_security_group.endpoint["this"].id]
  private_dns_enabled = true
  policy              = local.endpoint_policies[each.value.service]
  tags                = merge(local.tags, { Name = "${local.name}-${each.key}" })

  # Beside a gateway endpoint S3's private names may be kept for resolvers outside of the VPC. Ours are inside.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/privatelink-interface-endpoints.html#private-dns
  dynamic "dns_options" {
    for_each = each.value.service == "s3" ? [false] : []

    content {
      private_dns_only_for_inbound_resolver_endpoint = dns_options.value
    }
  }
}

resource "aws_security_group" "worker" {
  for_each = local.vpc

  region      = local.region
  name        = "${local.name}-worker"
  description = "Sealift workers: they call, nothing calls them"
  vpc_id      = aws_vpc.this[each.key].id
  tags        = local.tags

  egress {
    description     = "HTTPS"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    cidr_blocks     = var.closed_network ? [] : ["0.0.0.0/0"]
    security_groups = [for group in aws_security_group.endpoint : group.id]
    prefix_list_ids = var.closed_network ? [aws_vpc_endpoint.s3[each.key].prefix_list_id] : []
  }
}

resource "aws_security_group" "endpoint" {
  #checkov:skip=CKV2_AWS_5:the interface endpoints have it; not seen through for_each
  for_each = local.closed

  region      = local.region
  name        = "${local.name}-endpoint"
  description = "Interface endpoints that Sealift workers call"
  vpc_id      = aws_vpc.this[each.key].id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = local.closed

  region                       = local.region
  security_group_id            = aws_security_group.endpoint[each.key].id
  description                  = "HTTPS from workers"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.worker[each.key].id
  tags                         = local.tags
}
