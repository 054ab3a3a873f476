# What other accounts make for this one: buckets and keys of their own, that let the roles of this account in, rules that
# forward the events of their buckets, and the replication of their hot buckets. modules/other-account makes it there, from the output `other_accounts`.
#
# S3 copies in the name of one principal, which reads the one bucket and writes the other: a role of the other account
# could not read here, so that roles stay in this account, and both sides allow them. Principals are the account and a
# condition on the role: a policy that names a role breaks when the role is made anew, and cannot be made before it.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-walkthroughs-managing-access-example2.html

locals {
  foreign           = { for bucket, each in local.written : bucket => each if each.account != local.owner }
  foreign_sources   = { for bucket, each in local.sources : bucket => each if each.account != local.owner }
  from_this_account = { AWS = "arn:aws:iam::${local.account}:root" }
  role_arns         = { for role, name in merge(local.role_names, { replication = "replication" }) : role => "arn:aws:iam::${local.account}:role${var.role_path}${local.name}-${name}" }

  # bucket → kind → the ARNs of objects there
  shared_objects = { for bucket in concat(keys(local.foreign), keys(local.foreign_sources)) : bucket => {
    for kind, arns in local.objects : kind => [for arn in arns : arn if startswith(arn, "${local.bucket_arns[bucket]}/")]
  } }

  # bucket → what roles do there: actions, the roles whose own policies have them, and where
  grants = { for bucket, kinds in local.shared_objects : bucket => concat(
    [for kind in ["source", "copy", "replica", "archive", "original", "place"] : {
      sid     = "Read${title(kind)}"
      actions = concat(["s3:GetObject", "s3:GetObjectVersion"], local.s3_read_along, ["s3:GetObjectRetention", "s3:GetObjectLegalHold"])
      roles   = [for role, each in local.roles : role if contains(each.reads, kind)]
      where   = kinds[kind]
    }],
    [for kind in ["copy", "archive"] : {
      sid     = "Write${title(kind)}"
      actions = concat(local.s3_write, ["s3:PutObjectRetention", "s3:PutObjectLegalHold"], local.s3_write_along)
      roles   = [for role, each in local.roles : role if contains(each.writes, kind)]
      where   = kinds[kind]
    }],
    [
      {
        sid     = "List"
        actions = ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketVersioning"]
        roles = [for role, each in local.roles : role if anytrue([
          for kind in each.lists : length(try(kinds[kind], [])) > 0
        ])]
        where = [local.bucket_arns[bucket]]
      },
      {
        sid     = "MirrorDeletes"
        actions = ["s3:DeleteObject"]
        roles   = [for role, each in local.roles : role if each.marks]
        where   = kinds.mirrored
      },
      {
        sid     = "ExpireWhatArchivesCover"
        actions = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
        roles   = [for role in keys(local.roles) : role if role == "expire"]
        where   = kinds.covered
      },
      {
        sid     = "DoCopiesStay"
        actions = ["s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration"]
        roles   = [for role in keys(local.roles) : role if role == "expire"]
        where   = length(concat(kinds.archive, kinds.covered)) > 0 ? [local.bucket_arns[bucket]] : []
      },
      {
        sid     = "Thaw"
        actions = ["s3:RestoreObject"]
        roles   = [for role in keys(local.roles) : role if role == "restore"]
        where   = concat(kinds.copy, kinds.archive)
      },
      {
        sid = "Replicate"
        actions = concat(["s3:ReplicateObject", "s3:ReplicateTags", "s3:ObjectOwnerOverrideToBucketOwner"],
        anytrue([for pair in local.own_replicas : pair.replica.delete_markers if pair.replica.bucket == bucket]) ? ["s3:ReplicateDelete"] : [])
        roles = ["replication"]
        where = [for rule in local.replication_rules : "${local.bucket_arns[bucket]}/${rule.prefix}*" if rule.replica.bucket == bucket && rule.hot.account == local.owner]
      },
      {
        sid     = "SeeVersioning"
        actions = ["s3:GetBucketVersioning", "s3:ListBucket"]
        roles   = ["replication"]
        where   = [for rule in local.replication_rules : local.bucket_arns[bucket] if rule.replica.bucket == bucket && rule.hot.account == local.owner]
      },
    ],
  ) }
  shared_statements = { for bucket, grants in local.grants : bucket => [for grant in grants : {
    Sid       = grant.sid
    Effect    = "Allow"
    Principal = local.from_this_account
    Action    = grant.actions
    Resource  = distinct(grant.where)
    Condition = { ArnLike = { "aws:PrincipalArn" = [for role in grant.roles : local.role_arns[role]] } }
  } if length(grant.where) > 0 && length(grant.roles) > 0] }

  # Who uses the keys of a bucket there, through S3 only.
  key_users = { for bucket, grants in local.grants : bucket => distinct(flatten([
    for grant in grants : grant.roles if length(grant.where) > 0 && grant.sid != "List" && grant.sid != "Thaw"
  ])) }
  key_statements = { for account in local.foreign_accounts : account => {
    for region in distinct([for bucket, each in local.foreign : each.region if each.account == account && each.kms_key != null]) : region => [
      {
        Sid       = "UseThroughS3"
        Effect    = "Allow"
        Principal = local.from_this_account
        Action    = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
        Resource  = "*" # in a key's policy: this key
        Condition = {
          StringEquals = { "kms:ViaService" = "s3.${region}.amazonaws.com" }
          ArnLike = { "aws:PrincipalArn" = [for role in distinct(flatten([
            for bucket, each in local.foreign : local.key_users[bucket] if each.account == account && each.region == region
          ])) : local.role_arns[role]] }
        }
      },
    ]
  } }

  # What their buckets' events are, which only rules of theirs can hear.
  foreign_events = merge(
    { for bucket, each in local.foreign_sources : "objects-${bucket}" => { account = each.account, region = each.region, pattern = local.object_patterns[bucket] } },
    { for bucket, each in local.thawing : "restored-${bucket}" => { account = each.account, region = each.region, pattern = {
      source = ["aws.s3"], detail-type = ["Object Restore Completed"], detail = { bucket = { name = [bucket] } }
    } } if each.account != local.owner },
    { for name, each in local.foreign_watched : name => merge(each, {
      # Only its own: alarms of ours that reach its bus do not come back.
      pattern = merge(local.alarm_pattern, { account = [each.account], region = [each.region] })
    }) },
  )

  # Where alarms of theirs are that have to be heard here: on replication, and on what their rules could not forward.
  foreign_watched = { for each in distinct(concat(
    [for bucket, each in local.foreign_sources : { account = each.account, region = each.region }],
    [for bucket, each in local.thawing : { account = each.account, region = each.region } if each.account != local.owner],
    [for each in values(local.alarms_of_rules) : { account = each.account, region = each.region } if each.account != local.owner],
  )) : "alarms-${each.account}-${each.region}" => each }

  # Their hot buckets: only a bucket's owners replicate it. Replicas are theirs or ours.
  foreign_rules = { for bucket in keys(local.foreign) : bucket => [for rule in local.replication_rules : {
    id                       = rule.id
    prefix                   = rule.prefix
    bucket                   = rule.replica.bucket
    region                   = rule.replica.region
    account                  = rule.replica.account == rule.hot.account ? null : rule.replica.account
    storage_class            = rule.replica.storage_class
    delete_markers           = rule.replica.delete_markers
    annotations              = var.object_annotations
    replication_time_control = rule.replica.replication_time_control
    # `create` is a key of theirs where the replica is theirs
    kms_key = local.written[rule.replica.bucket].kms_key != "create" || rule.replica.account == rule.hot.account ? local.written[rule.replica.bucket].kms_key : local.key_arns[rule.replica.region]
  } if rule.hot.bucket == bucket] }

  # Who replicates to our buckets from theirs. The path of the role is theirs to choose.
  replicator_accounts = { for bucket in keys(local.buckets) : bucket => distinct([
    for rule in local.replication_rules : rule.hot.account if rule.replica.bucket == bucket && rule.hot.account != local.owner
  ]) }
  replicators = { for account in distinct(flatten(values(local.replicator_accounts))) : account => [
    for path in ["", "*/"] : "arn:aws:iam::${account}:role/${path}${local.name}-replication"
  ] }

  other_accounts = { for account in local.foreign_accounts : account => {
    name            = local.name
    system_account  = local.account
    bus             = local.home_bus
    key_statements  = { for region, statements in local.key_statements[account] : region => jsonencode(statements) }
    places          = { for at, place in local.declared : at => place if place.account == account }
    source_policies = { for bucket, each in local.foreign_sources : bucket => jsonencode(local.shared_statements[bucket]) if each.account == account }
    buckets = { for bucket, each in local.foreign : bucket => {
      region          = each.region
      uses            = each.uses
      encryption      = each.encryption
      kms_key         = each.kms_key
      lock            = each.lock
      is_locked       = each.is_locked
      noncurrent_days = each.noncurrent_days
      transitions     = each.transitions
      hears_thaws     = contains(keys(local.thawing), bucket)
      replication     = local.foreign_rules[bucket]
      policy = jsonencode({ Version = "2012-10-17", Statement = concat(local.bucket_denies[bucket], local.shared_statements[bucket], [{
        Sid       = "SeeSettings" # `sealift doctor`
        Effect    = "Allow"
        Principal = local.from_this_account
        Action    = ["s3:GetBucketVersioning"]
        Resource  = [local.bucket_arns[bucket]]
      }]) })
      inventory = !contains(keys(local.inventoried), bucket) ? null : {
        bucket_arn = local.bucket_arns[local.inventory.buckets[each.region]]
        format     = local.inventory.format
        prefix     = trimsuffix(local.inventory.prefix, "/")
        fields     = local.inventory_fields
        kms_key    = local.key_arns[each.region]
      }
    } if each.account == account }
    alarms = { for name, each in local.alarms_of_rules : "${local.name}-${name}" => each if each.account == account }
    events = { for name, each in local.foreign_events : name => {
      region  = each.region
      name    = "${local.name}-${length(name) <= 38 ? name : "${substr(name, 0, 31)}-${substr(md5(name), 0, 6)}"}"
      pattern = jsonencode(each.pattern)
    } if each.account == account }
  } }
}

# Their rules put events on our bus.
resource "aws_cloudwatch_event_permission" "other_account" {
  for_each = toset([for each in values(local.foreign_events) : each.account])

  region         = local.region
  event_bus_name = "default"
  principal      = each.key
  action         = "events:PutEvents"
  statement_id   = "${local.name}-${each.key}"
}
