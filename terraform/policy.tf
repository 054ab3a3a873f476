# The policy file, with what it leaves out filled in, and what is wrong in it. The same rules are in
# jobs/policy/rules.py, which the command line and the functions ask; here they keep a mistake out of the plan.

locals {
  policy  = yamldecode(file(var.policy_file))
  name    = "${var.name_prefix}${try(local.policy.name, "sealift")}"
  owner   = try(tostring(coalesce(local.policy.account)), null)
  region  = local.policy.ledger.region
  given   = try([for pair in local.policy.pairs : pair], [])
  nightly = merge({ enabled = true, hour = "03:30", time_zone = "UTC" }, try(local.policy.defaults.nightly, null))

  ledger = merge({ prefix = "" }, local.policy.ledger)
  inventory = {
    buckets = try({ for region, bucket in local.policy.inventory.buckets : region => bucket }, {})
    prefix  = try(local.policy.inventory.prefix, "inventory/")
    format  = try(local.policy.inventory.format, "Parquet")
  }
  alarms = merge({ emails = [], topic = null, oldest_event_minutes = 15, night_hours = 26, monthly_budget = null },
  try(local.policy.alarms, null))
  batch = merge({ compute = "fargate_spot", vcpus = 2, memory_mib = 4096, disk_gib = 50, max_vcpus = 128, timeout_hours = 12, queue = null, orchestrator_queue = null },
  try(local.policy.batch, null))

  # Who owns each bucket of a pair: the system's account, unless the pair says another one. It is compared with `owner`,
  # never with the provider's account: a plan may not know that one, and `owner` is null where the file says no account.
  owners = [for pair in local.given : { for section in ["source", "destination", "replica", "archive"] : section =>
    { account = try(tostring(coalesce(pair[section].account)), local.owner) }
  }]

  read = [for number, pair in local.given : {
    name   = pair.name
    source = merge({ prefixes = [""], exclude = [], notifications = true, inventory = true }, pair.source, local.owners[number].source)
    destination = merge({ prefix = "", storage_class = null, encryption = "AES256", kms_key = null, annotations = "copy", object_lock = null,
    noncurrent_days = null, transitions = [] }, pair.destination, local.owners[number].destination)
    replica = try(pair.replica, null) == null ? null : merge({ storage_class = null, kms_key = null,
    replication_time_control = false, delete_markers = false }, pair.replica, local.owners[number].replica)
    archive = try(pair.archive, null) == null ? null : merge({ prefix = "", side = "source", encryption = "AES256",
    kms_key = null, object_lock = null, expire = null, rules = [] }, pair.archive, local.owners[number].archive)
    deletes = try(pair.deletes, local.policy.defaults.deletes, "retain")
    backlog_seconds = [for age in [try(pair.thresholds.backlog_age, local.policy.defaults.thresholds.backlog_age, "1h")] :
    tonumber(regex("^\\d+", age)) * local.day_seconds[substr(age, -1, 1)]][0]
    nightly = merge(local.nightly, try(pair.nightly, null))
  }]

  # What resources are made of: nothing while the file has mistakes, so that the plan shows those and no others.
  pairs     = { for name, group in { for pair in local.read : pair.name => pair... } : name => group[0] if length(local.mistakes) == 0 }
  replicas  = { for name, pair in local.pairs : name => pair if pair.replica != null }
  archives  = { for name, pair in local.pairs : name => pair if pair.archive != null }
  expiring  = { for name, pair in local.archives : name => pair if pair.archive.expire != null }
  mirroring = { for name, pair in local.pairs : name => pair if pair.deletes == "mirror" }
  locking   = { for name, pair in local.pairs : name => pair if pair.destination.object_lock != null }

  # The keys of a pair's copies begin with one of these: the destination's prefix, and then the source's.
  copy_prefixes = { for name, pairs in { for pair in local.read : pair.name => pair... } : name => flatten([
    for pair in pairs : [for prefix in pair.source.prefixes : "${pair.destination.prefix}${prefix}"]
  ]) }

  # The source keys that an archive rule may take: of rule and pair, the narrower prefix.
  archived_prefixes = { for name, pair in local.archives : name => distinct(flatten([
    for rule in pair.archive.rules : [
      for prefix in pair.source.prefixes :
      startswith(try(rule.prefix, ""), prefix) ? try(rule.prefix, "") : prefix
      if startswith(try(rule.prefix, ""), prefix) || startswith(prefix, try(rule.prefix, ""))
    ]
  ])) }

  watched = distinct([for pair in local.read : pair.source.bucket])

  # Every place that Sealift writes to.
  places = concat(
    flatten([for pair in local.read : [for prefix in local.copy_prefixes[pair.name] :
    { who = "pair ${pair.name}: destination", bucket = pair.destination.bucket, prefix = prefix }]]),
    flatten([for pair in local.read : [for prefix in local.copy_prefixes[pair.name] :
    { who = "pair ${pair.name}: replica", bucket = pair.replica.bucket, prefix = prefix }] if pair.replica != null]),
    [for pair in local.read :
    { who = "pair ${pair.name}: archive", bucket = pair.archive.bucket, prefix = pair.archive.prefix } if pair.archive != null],
    [for region, bucket in local.inventory.buckets :
    { who = "inventory.buckets.${region}", bucket = bucket, prefix = local.inventory.prefix }],
    [{ who = "ledger", bucket = local.ledger.bucket, prefix = local.ledger.prefix }],
  )

  # What is said of a whole bucket, by the reasons to have it.
  kept = concat(
    flatten([for pair in local.read : [for section, side in { destination = pair.destination, replica = pair.replica, archive = pair.archive } : {
      who                                                                 = "pair ${pair.name}: ${section}"
      section                                                             = section
      bucket                                                              = side.bucket
      keeps                                                               = jsonencode([section == "archive" ? null : pair.destination.noncurrent_days, section == "destination" ? pair.destination.transitions : []])
      says                                                                = { for name in ["object_lock", "kms_key"] : name => jsonencode(try(side[name], null)) }
    } if side != null]]),
    [for each in concat([["ledger", local.ledger.bucket]], [for region, bucket in local.inventory.buckets : ["inventory.buckets.${region}", bucket]]) : {
      who     = each[0]
      section = each[0]
      bucket  = each[1]
      keeps   = jsonencode([null, []])
      says    = { object_lock = jsonencode(null), kms_key = jsonencode("create") }
    }],
  )

  # Every prefix that stands in policies of roles.
  granted = concat(
    flatten([for pair in local.read : concat(
      [for prefix in pair.source.prefixes : { who = "pair ${pair.name}: source.prefixes", prefix = prefix }],
      [for section, side in { destination = pair.destination, archive = pair.archive } : { who = "pair ${pair.name}: ${section}.prefix", prefix = side.prefix } if side != null],
      [for rule in try(pair.archive.rules, []) : { who = "pair ${pair.name}: archive.rules", prefix = try(rule.prefix, "") }],
    )]),
    [{ who = "ledger.prefix", prefix = local.ledger.prefix }, { who = "inventory.prefix", prefix = local.inventory.prefix }],
  )

  # Every bucket that the file names, and the region that it says for it.
  named = concat(
    flatten([for pair in local.read : [
      for section, side in { source = pair.source, destination = pair.destination, replica = pair.replica, archive = pair.archive } :
      { who = "pair ${pair.name}: ${section}.bucket", bucket = side.bucket, region = side.region, account = side.account } if side != null
    ]]),
    [for region, bucket in local.inventory.buckets : { who = "inventory.buckets.${region}", bucket = bucket, region = region, account = local.owner }],
    [{ who = "ledger.bucket", bucket = local.ledger.bucket, region = local.ledger.region, account = local.owner }],
  )

  # What is billed for at least so many days: https://aws.amazon.com/s3/storage-classes/
  minimum_days = { STANDARD_IA = 30, ONEZONE_IA = 30, GLACIER_IR = 90, GLACIER = 90, DEEP_ARCHIVE = 180 }
  # from which class a lifecycle rule moves objects to which:
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html
  moves = {
    STANDARD            = ["INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"]
    STANDARD_IA         = ["INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"]
    INTELLIGENT_TIERING = ["ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"]
    ONEZONE_IA          = ["GLACIER", "DEEP_ARCHIVE"]
    GLACIER_IR          = ["GLACIER", "DEEP_ARCHIVE"]
    GLACIER             = ["DEEP_ARCHIVE"]
    DEEP_ARCHIVE        = []
  }
  day_seconds = { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }
  time_zones  = split("\n", trimspace(file("${path.module}/time-zones.txt")))

  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
  fargate_mib = {
    "1"  = range(2048, 8193, 1024), "2" = range(4096, 16385, 1024), "4" = range(8192, 30721, 1024),
    "8"  = range(16384, 61441, 4096),
    "16" = range(32768, 122881, 8192),
  }

  mistakes = concat(
    local.mistakes_of_names, local.mistakes_of_places, local.mistakes_of_regions, local.mistakes_of_accounts, local.mistakes_of_keys,
    local.mistakes_of_time, local.mistakes_of_stay, local.mistakes_of_workers,
  )

  mistakes_of_names = concat(
    [for version in [try(local.policy.version, null)] : "version ${jsonencode(version)}: expected 1, the version that this module reads" if version != 1],
    [for count in [length(local.given)] : "pairs: expected at least one pair" if count == 0],
    [for name in [local.name] : "name ${jsonencode(name)}: expected 3 to 24 lower-case letters, digits and hyphens, beginning with a letter"
    if !can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", name))],
    [for pair in local.read : "pair ${pair.name}: name: expected 2 to 32 lower-case letters, digits and hyphens, beginning with a letter"
    if !can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", pair.name))],
    [for number, pair in local.read : "pair ${pair.name}: name: another pair has it already"
    if contains(slice(local.read[*].name, 0, number), pair.name)],
    [for each in local.named : "${each.who} ${jsonencode(each.bucket)}: expected a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, no s3://, no prefix"
      if !can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", each.bucket))
      || can(regex("^xn--|^sthree-|^amzn-s3-demo-|^\\d+\\.\\d+\\.\\d+\\.\\d+$|\\.\\.|(-s3alias|--ol-s3|\\.mrap|--x-s3|--table-s3)$", each.bucket))
    ],
    # IAM would refuse the roles, half way through an apply: it takes no other characters in their policies.
    # https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
    [for each in local.granted : "${each.who} ${each.prefix}: expected characters up to U+00FF (ÿ): IAM takes no others in policies of roles"
    if can(regex("[^\\x{0000}-\\x{00FF}]", each.prefix))],
    flatten([for pair in local.read : [for number, prefix in pair.source.prefixes :
      "pair ${pair.name}: source.prefixes ${jsonencode(prefix)}: given twice" if contains(slice(pair.source.prefixes, 0, number), prefix)
    ]]),
  )

  mistakes_of_places = concat(
    [for pair in local.read : "pair ${pair.name}: destination.bucket ${pair.destination.bucket}: the pair copies to itself; expected another bucket than the source's"
    if pair.destination.bucket == pair.source.bucket],
    distinct([for place in local.places : "${place.who} ${place.bucket}: expected a bucket that is no source: a pair watches it, and what is written there would be copied again"
    if contains(local.watched, place.bucket)]),
    [for pair in local.read : "pair ${pair.name}: replica.bucket ${pair.replica.bucket}: expected another bucket than the destination's"
    if try(pair.replica.bucket, "") == pair.destination.bucket],
    flatten([for number, one in local.places : [
      for other in slice(local.places, 0, number) :
      "${one.who} ${one.bucket}/${one.prefix}: expected a place of its own: ${other.who} writes to ${other.bucket}/${other.prefix}"
      if one.bucket == other.bucket && one.who != other.who && (startswith(one.prefix, other.prefix) || startswith(other.prefix, one.prefix))
    ]]),
    flatten([for number, one in local.read : [
      for other in slice(local.read, 0, number) :
      "pair ${one.name}: source.prefixes: expected prefixes of ${one.source.bucket} that pair ${other.name} does not have already"
      if one.source.bucket == other.source.bucket && length(setintersection(one.source.prefixes, other.source.prefixes)) > 0
    ]]),
    # encryption, lock and lifecycle belong to the bucket, not to a prefix of it
    flatten([for number, one in local.read : [
      for other in slice(local.read, 0, number) :
      "pair ${one.name}: destination: expected the same encryption, kms_key, object_lock, noncurrent_days and transitions as in pair ${other.name}: both use the bucket ${one.destination.bucket}"
      if one.destination.bucket == other.destination.bucket && one.name != other.name && anytrue([
        for field in ["encryption", "kms_key", "object_lock", "noncurrent_days", "transitions"] :
        jsonencode(one.destination[field]) != jsonencode(other.destination[field])
      ])
    ]]),
    # A lifecycle rule on a part would take these apart; the policy says them of a bucket.
    flatten([for number, one in local.kept : [
      for other in slice(local.kept, 0, number) :
      "${one.who} ${one.bucket}: expected the same noncurrent_days and transitions as those of ${other.who}, or another bucket: they are the whole bucket's, and older versions would go that are to stay"
      if one.bucket == other.bucket && one.keeps != other.keeps && (one.section != other.section || one.section == "replica")
    ]]),
    flatten([for number, one in local.kept : [for other in slice(local.kept, 0, number) : [
      for name in ["object_lock", "kms_key"] :
      "${one.who} ${one.bucket}: expected the same ${name} as that of ${other.who}, or another bucket: it is the whole bucket's"
      if one.bucket == other.bucket && one.section != other.section && one.says[name] != other.says[name] && !contains([one.says[name], other.says[name]], "null")
    ]]]),
    flatten([for number, one in local.read : [
      for other in slice(local.read, 0, number) :
      "pair ${one.name}: source: expected the same notifications and inventory as in pair ${other.name}: both use the bucket ${one.source.bucket}"
      if one.source.bucket == other.source.bucket && one.name != other.name
      && (one.source.notifications != other.source.notifications || one.source.inventory != other.source.inventory)
    ]]),
  )

  mistakes_of_regions = concat(
    [for each in local.named : "${each.who} ${each.bucket}: region ${jsonencode(each.region)}: expected a region such as eu-central-1"
    if !can(regex("^[a-z]{2,3}(-[a-z]+){1,3}-\\d{1,2}$", each.region))],
    [for topic in [local.alarms.topic] : "alarms.topic ${topic}: expected a topic in ${local.region}, where the alarms are: they reach topics of their own region only"
    if topic != null && try(split(":", topic)[3], null) != local.region],
    flatten([for number, one in local.named : [
      for other in slice(local.named, 0, number) :
      "${one.who} ${one.bucket}: region ${one.region}: expected ${other.region}, where it is by ${other.who}"
      if one.bucket == other.bucket && one.region != other.region
    ]]),
    flatten([for pair in local.read : [
      for section, side in { source = pair.source, destination = pair.destination, replica = pair.replica } :
      "pair ${pair.name}: ${section}.region ${side.region}: expected a region with a bucket in inventory.buckets: S3 delivers within a region"
      if side != null && try(side.inventory, true) && length(local.inventory.buckets) > 0 && !contains(keys(local.inventory.buckets), try(side.region, ""))
    ]]),
  )

  mistakes_of_accounts = concat(
    [for each in local.named : "${each.who} ${each.bucket}: account ${jsonencode(each.account)}: expected the 12 digits of an account, in quotes"
    if each.account != null && !can(regex("^[0-9]{12}$", each.account))],
    [for each in slice(local.foreign_named, 0, min(1, length(local.foreign_named))) :
    "account null: expected the system's account, since ${each.who} is in another one" if local.owner == null],
    flatten([for number, one in local.named : [
      for other in slice(local.named, 0, number) :
      "${one.who} ${one.bucket}: account ${jsonencode(one.account)}: expected ${jsonencode(other.account)}, whose it is by ${other.who}"
      if one.bucket == other.bucket && one.account != other.account
    ]]),
    flatten([for pair in local.read : concat(
      [for name in ["notifications", "inventory"] : "pair ${pair.name}: source.${name}: expected false: the bucket's owners, ${pair.source.account}, set it there"
      if pair.source.account != local.owner && pair.source[name]],
      # A third account's keys and buckets would have to be known to the second one before it makes its rule.
      [for owners in [[pair.destination.account, local.owner]] :
        "pair ${pair.name}: replica.account ${pair.replica.account}: expected ${pair.destination.account}, whose the hot bucket is, or the system's account: only a bucket's owners replicate it"
      if pair.replica != null && pair.destination.account != local.owner && !contains(owners, try(pair.replica.account, null))],
      [for key in [try(pair.replica.kms_key, null)] :
        "pair ${pair.name}: replica.kms_key ${key}: expected the ARN of the key itself: roles of another account are not let in by an alias"
      if pair.destination.account != local.owner && try(pair.replica.account, null) == local.owner && can(regex(":alias/", key))],
      [for section, side in { destination = pair.destination, archive = pair.archive } :
        "pair ${pair.name}: ${section}.kms_key: expected create, or the ARN of a key of ${side.account}: the key that AWS manages is for its own account"
      if try(side.account != local.owner && side.encryption != "AES256" && side.kms_key == null, false)],
      [for section, side in { destination = pair.destination, replica = pair.replica, archive = pair.archive } :
        "pair ${pair.name}: ${section}.kms_key ${side.kms_key}: expected the ARN of the key itself: roles of another account are not let in by an alias"
      if try(side.account != local.owner && can(regex(":alias/", side.kms_key)), false)],
    )]),
  )
  foreign_named = [for each in local.named : each if each.account != local.owner]

  mistakes_of_keys = flatten([for pair in local.read : concat(
    [for section, side in { destination = pair.destination, archive = pair.archive } :
      "pair ${pair.name}: ${section}.kms_key: expected create, or the ARN of a key in ${side.region}: the source is in ${pair.source.region}, and keys do not cross regions"
    if side != null && try(side.encryption, "AES256") != "AES256" && try(side.kms_key, null) == null && try(side.region, "") != pair.source.region],
    [for section, side in { destination = pair.destination, archive = pair.archive } :
      "pair ${pair.name}: ${section}.encryption ${side.encryption}: expected aws:kms or aws:kms:dsse where a kms_key is given"
    if side != null && try(side.encryption, "AES256") == "AES256" && try(side.kms_key, null) != null],
    [for section, side in { destination = pair.destination, archive = pair.archive } :
      "pair ${pair.name}: ${section}.encryption ${jsonencode(side.encryption)}: expected AES256, aws:kms or aws:kms:dsse"
    if side != null && !contains(["AES256", "aws:kms", "aws:kms:dsse"], try(side.encryption, "AES256"))],
    [for side in [pair.destination] :
      "pair ${pair.name}: destination.annotations ${jsonencode(side.annotations)}: expected copy or skip"
    if !contains(["copy", "skip"], side.annotations)],
    [for section, side in { destination = pair.destination, replica = pair.replica, archive = pair.archive } :
      "pair ${pair.name}: ${section}.kms_key ${side.kms_key}: expected create, or the ARN of a key in ${side.region}, the bucket's region"
      if side != null && try(side.kms_key, null) != null && try(side.kms_key, "create") != "create"
    && !can(regex("^arn:aws[a-z-]*:kms:${try(side.region, "")}:\\d{12}:(key|alias)/", side.kms_key))],
    [for replica in [pair.replica] :
      "pair ${pair.name}: replica.kms_key: expected create, or the ARN of a key in ${replica.region}: the hot bucket uses KMS"
    if replica != null && pair.destination.encryption != "AES256" && try(replica.kms_key, null) == null],
  )])

  mistakes_of_time = flatten([for pair in local.read : concat(
    [for hour in [pair.nightly.hour] : "pair ${pair.name}: nightly.hour ${jsonencode(hour)}: expected a time from 00:00 to 23:59, HH:MM, in quotes"
    if !can(regex("^([01]\\d|2[0-3]):[0-5]\\d$", hour))],
    [for zone in [pair.nightly.time_zone] : "pair ${pair.name}: nightly.time_zone ${jsonencode(zone)}: expected an IANA time zone such as Europe/Berlin or UTC"
    if !contains(local.time_zones, zone)],
  )])

  mistakes_of_stay = flatten([for pair in local.read : concat(
    [for lock in [pair.destination.object_lock] :
      "pair ${pair.name}: destination.object_lock.days ${lock.days}: expected at least ${local.minimum_days[pair.destination.storage_class]}, which ${pair.destination.storage_class} is billed for anyway"
    if lock != null && try(lock.days < local.minimum_days[pair.destination.storage_class], false)],
    [for days in [pair.destination.noncurrent_days] :
      "pair ${pair.name}: destination.noncurrent_days ${days}: expected at least ${local.minimum_days[pair.destination.storage_class]}, which ${pair.destination.storage_class} is billed for anyway"
    if try(days < local.minimum_days[pair.destination.storage_class], false)],
    [for days in [pair.destination.noncurrent_days] :
      "pair ${pair.name}: destination.noncurrent_days ${days}: expected at least ${pair.destination.object_lock.days}: until then Object Lock keeps every version"
    if try(days < pair.destination.object_lock.days, false)],
    [for number, move in pair.destination.transitions :
      "pair ${pair.name}: destination.transitions[${number}].days ${move.days}: expected at least 30: S3 moves nothing to ${move.storage_class} sooner"
    if contains(["STANDARD_IA", "ONEZONE_IA"], move.storage_class) && move.days < 30],
    [for number, move in pair.destination.transitions :
      "pair ${pair.name}: destination.transitions[${number}].days ${move.days}: expected ${number == 0 ? 0 : pair.destination.transitions[number - 1].days} and the minimum stay of the class before, or more"
      if try(move.days < (number == 0 ? 0 : pair.destination.transitions[number - 1].days) + lookup(local.minimum_days,
    number == 0 ? coalesce(pair.destination.storage_class, "STANDARD") : pair.destination.transitions[number - 1].storage_class, 0), false)],
    [for number, move in pair.destination.transitions :
      "pair ${pair.name}: destination.transitions[${number}].storage_class ${move.storage_class}: expected a class that S3 moves to from ${number == 0 ? coalesce(pair.destination.storage_class, "STANDARD") : pair.destination.transitions[number - 1].storage_class}"
      if !contains(lookup(local.moves, number == 0 ? coalesce(pair.destination.storage_class, "STANDARD") : pair.destination.transitions[number - 1].storage_class,
    [move.storage_class]), move.storage_class)],
    flatten([for archive in [pair.archive] : [for rule in archive.rules :
      "pair ${pair.name}: archive.object_lock.days ${archive.object_lock.days}: expected at least ${local.minimum_days[rule.storage_class]}, which ${rule.storage_class} of rule ${rule.name} is billed for anyway"
    if try(archive.object_lock.days < local.minimum_days[rule.storage_class], false)] if archive != null]),
    # what is packed on the destination's side may only go once its class has been paid for
    flatten([for archive in [pair.archive] : [for rule in archive.rules :
      "pair ${pair.name}: archive.expire.grace ${try(archive.expire.grace, "30d")}: with older_than ${rule.older_than} of rule ${rule.name} less than ${local.minimum_days[pair.destination.storage_class]} days, which ${pair.destination.storage_class} is billed for anyway"
      if archive.expire != null && archive.side == "destination" && try(sum([for age in [rule.older_than, try(archive.expire.grace, "30d")] :
    tonumber(regex("^\\d+", age)) * local.day_seconds[substr(age, -1, 1)]]) < 86400 * local.minimum_days[pair.destination.storage_class], false)] if archive != null]),
  )])

  mistakes_of_workers = concat(
    [for compute in [local.batch.compute] : "batch.compute ${jsonencode(compute)}: expected fargate_spot, fargate or ec2_spot"
    if !contains(["fargate_spot", "fargate", "ec2_spot"], compute)],
    [for vcpus in [local.batch.vcpus] : "batch.vcpus ${vcpus}: expected one of 1, 2, 4, 8, 16 on Fargate"
    if local.batch.compute != "ec2_spot" && !contains(keys(local.fargate_mib), tostring(vcpus))],
    [for mib in [local.batch.memory_mib] : "batch.memory_mib ${mib}: Fargate does not offer it with ${local.batch.vcpus} vCPUs"
    if local.batch.compute != "ec2_spot" && !contains(lookup(local.fargate_mib, tostring(local.batch.vcpus), [mib]), mib)],
    [for gib in [local.batch.disk_gib] : "batch.disk_gib ${gib}: expected 21 to 200 on Fargate" if local.batch.compute != "ec2_spot" && (gib < 21 || gib > 200)],
    [for field in ["queue", "orchestrator_queue"] : "batch.${field} ${local.batch[field]}: expected the name of a job queue: letters, digits, - and _, no ARN"
    if local.batch[field] != null && !can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$", local.batch[field]))],
    [for hours in [local.alarms.night_hours] : "alarms.night_hours ${hours}: expected at most 168: CloudWatch looks back a week" if hours > 168],
    [for most in [local.batch.max_vcpus] : "batch.max_vcpus ${most}: expected at least vcpus, ${local.batch.vcpus}" if most < local.batch.vcpus],
  )
}

# Refuses the plan. It is a resource, not a check block: a check only warns.
resource "terraform_data" "policy" {
  input = filesha256(var.policy_file)

  lifecycle {
    precondition {
      condition     = length(local.mistakes) == 0
      error_message = "${var.policy_file} has mistakes:\n  ${join("\n  ", local.mistakes)}\n`sealift policy check ${var.policy_file}` names the line of each."
    }
  }
}
