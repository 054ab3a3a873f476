# By default: a VPC without a way out. Workers reach S3 by the gateway endpoint (free), S3 in other regions and a few
# services by interface endpoints. No NAT, no internet gateway.
#
# S3 refuses copies between regions that come through an endpoint, so that workers stream these: SEALIFT_ENDPOINTS_ONLY. A
# NAT gateway would not be enough for S3 to copy, since requests to our region's S3 still take the gateway endpoint.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html

locals {
  makes_vpc = local.makes_queue && length(var.subnet_ids) == 0
  vpc       = toset([for name in ["this"] : name if local.makes_vpc])

  # By number: a plan may not know the names of the zones.
  subnets            = local.makes_vpc ? { for number in range(var.availability_zones) : tostring(number) => number } : {}
  subnet_ids         = local.makes_vpc ? [for name in keys(local.subnets) : aws_subnet.private[name].id] : var.subnet_ids
  security_group_ids = local.makes_vpc ? [for group in aws_security_group.worker : group.id] : var.security_group_ids

  # Pulling the image, writing logs, submitting and following jobs; EC2 hosts also have to find their cluster.
  services = concat(["ecr.api", "ecr.dkr", "logs", "batch"], local.is_fargate ? [] : ["ecs", "ecs-agent", "ecs-telemetry"])

  # A gateway endpoint leads to the S3 of its own region only.
  # https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-cross-region-privatelink-support.html
  far_regions = setsubtract(toset([for each in local.named : each.region]), [local.region])

  endpoints = merge(
    { for service in local.services : service => { service = service, region = local.region } if local.makes_vpc },
    { for region in local.far_regions : "s3-${region}" => { service = "s3", region = region } if local.makes_vpc },
  )
}

# Where the endpoints lead to. Whatever a role or a leaked key may do elsewhere, from this network it reaches these
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
        Resource  = flatten([for bucket in local.reached_buckets : ["arn:${local.partition}:s3:::${bucket}", "arn:${local.partition}:s3:::${bucket}/*"]])
        Condition = { StringEquals = merge(local.by_our_principals, { "aws:ResourceAccount" = distinct(concat([local.account], compact(local.named[*].account), var.source_accounts)) }) }
      },
      {
        # ECR keeps layers in a bucket of AWS's, and signs the requests for them itself: no condition on the principal holds.
        # https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-minimum-s3-perms
        Sid       = "ImageLayers"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:GetObject"
        Resource  = ["arn:${local.partition}:s3:::prod-${local.region}-starport-layer-bucket/*"]
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
        Resource  = aws_ecr_repository.this.arn
        Condition = { StringEquals = local.by_our_principals }
      },
    ] },
    {
      logs = [{
        Sid       = "WriteLogs"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource  = "${aws_cloudwatch_log_group.batch.arn}:*"
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

  # ECS has no policies for the endpoints of its agents, and its documentation is of two minds about `ecs` itself. They
  # lead to ECS alone, and only hosts of `compute: ec2_spot` use them.
  endpoint_policies = merge(
    { for service, statements in local.endpoint_statements : service => jsonencode({ Version = "2012-10-17", Statement = statements }) },
    { s3 = jsonencode(local.s3_endpoint_policy) },
  )
}

resource "aws_vpc" "this" {
  for_each = local.vpc

  region               = local.region
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = local.name })
}

# AWS makes it open; nothing of ours is in it.
resource "aws_default_security_group" "closed" {
  for_each = local.vpc

  region = local.region
  vpc_id = aws_vpc.this[each.key].id
  tags   = local.tags
}

resource "aws_subnet" "private" {
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

resource "aws_route_table" "private" {
  for_each = local.vpc

  region = local.region
  vpc_id = aws_vpc.this[each.key].id
  tags   = merge(local.tags, { Name = local.name })
}

resource "aws_route_table_association" "private" {
  for_each = local.subnets

  region         = local.region
  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private["this"].id
}

resource "aws_vpc_endpoint" "s3" {
  for_each = local.vpc

  region            = local.region
  vpc_id            = aws_vpc.this[each.key].id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private[each.key].id]
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
  policy              = lookup(local.endpoint_policies, each.value.service, null)
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
}

resource "aws_security_group" "endpoint" {
  #checkov:skip=CKV2_AWS_5:the interface endpoints have it; not seen through for_each
  for_each = local.vpc

  region      = local.region
  name        = "${local.name}-endpoint"
  description = "Interface endpoints that Sealift workers call"
  vpc_id      = aws_vpc.this[each.key].id
  tags        = local.tags
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  for_each = local.vpc

  region                       = local.region
  security_group_id            = aws_security_group.worker[each.key].id
  description                  = "HTTPS to interface endpoints"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.endpoint[each.key].id
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  for_each = local.vpc

  region            = local.region
  security_group_id = aws_security_group.worker[each.key].id
  description       = "HTTPS to S3 through the gateway endpoint"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_id    = aws_vpc_endpoint.s3[each.key].prefix_list_id
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = local.vpc

  region                       = local.region
  security_group_id            = aws_security_group.endpoint[each.key].id
  description                  = "HTTPS from workers"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.worker[each.key].id
  tags                         = local.tags
}

resource "aws_cloudwatch_log_group" "flow" {
  for_each = local.vpc

  region            = local.region
  name              = "/aws/vpc/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.key_arns[local.region]
  tags              = local.tags
}

resource "aws_flow_log" "this" {
  for_each = local.vpc

  region          = local.region
  vpc_id          = aws_vpc.this[each.key].id
  traffic_type    = "REJECT" # what was tried and refused; accepted traffic is S3's, by the terabyte
  iam_role_arn    = aws_iam_role.flow[each.key].arn
  log_destination = aws_cloudwatch_log_group.flow[each.key].arn
  tags            = local.tags
}
