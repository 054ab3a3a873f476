# The policy, as `sealift policy check FILE --write policy.json` has read, checked and resolved it. No rule of it is
# repeated here: what is not in the file cannot be, and what is in it may be taken as it stands.

locals {
  document = jsondecode(file(var.policy_file))
  policy   = local.document.policy
  yaml     = "${dirname(var.policy_file)}/${local.document.file}"

  name      = "${var.name_prefix}${local.policy.name}"
  owner     = local.policy.account
  region    = local.policy.ledger.region
  ledger    = local.policy.ledger
  inventory = merge({ buckets = {}, prefix = "", format = "Parquet" }, local.policy.inventory)
  alarms    = local.policy.alarms
  batch     = local.policy.batch
  drill     = try(local.policy.drill, null)[*] # one or none

  pairs     = { for pair in local.policy.pairs : pair.name => pair }
  replicas  = { for name, pair in local.pairs : name => pair if pair.replica != null }
  archives  = { for name, pair in local.pairs : name => pair if pair.archive != null }
  expiring  = { for name, pair in local.archives : name => pair if pair.archive.expire != null }
  mirroring = { for name, pair in local.pairs : name => pair if pair.deletes == "mirror" }
  locking   = { for name, pair in local.pairs : name => pair if pair.destination.object_lock != null }

  # The keys of a pair's copies begin with one of these: the destination's prefix, and then the source's.
  copy_prefixes = { for name, pair in local.pairs : name => [for prefix in pair.source.prefixes : "${pair.destination.prefix}${prefix}"] }

  # The source keys that an archive rule may take: of rule and pair, the narrower prefix.
  archived_prefixes = { for name, pair in local.archives : name => distinct(flatten([
    for rule in pair.archive.rules : [
      for prefix in pair.source.prefixes : startswith(rule.prefix, prefix) ? rule.prefix : prefix
      if startswith(rule.prefix, prefix) || startswith(prefix, rule.prefix)
    ]
  ])) }

  # Every bucket that the policy names, with its region and owner.
  named = concat(
    flatten([for pair in local.policy.pairs : [
      for side in [pair.source, pair.destination, pair.replica, pair.archive] :
      { bucket = side.bucket, region = side.region, account = side.account } if side != null
    ]]),
    [for region, bucket in local.inventory.buckets : { bucket = bucket, region = region, account = local.owner }],
    [{ bucket = local.ledger.bucket, region = local.region, account = local.owner }],
    [for drill in local.drill : { bucket = drill.bucket, region = drill.region, account = local.owner }],
  )
  foreign_accounts = toset([for each in local.named : each.account if each.account != local.owner])
}
