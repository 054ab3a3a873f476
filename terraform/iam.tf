# The roles of functions and jobs, and what each may do: read down to `roles` for the table.
#
#   backup       the function that copies by events
#   control      the other functions: they start and follow jobs, and touch no object but the ledger's
#   replicate    reads sources, writes copies; where `deletes: mirror` is said it may put delete markers, never delete a version
#   verify       reads both sides, writes the ledger
#   orchestrate  nights, backfills and comparisons: read both sides, write the ledger, start the workers of replicate and verify
#   folds        what ends runs and nights takes the state's old files away, in the ledger's state/ alone; no version of theirs
#   expire       the only one that deletes data: what archive rules cover, of pairs with `archive.expire`; it reads both places
#   drill        reads both sides and archives; writes into the drills' bucket and removes there what it wrote, and nowhere else
#   nobody       bypasses Object Lock's governance: denied to each role here, and to everyone by the buckets (bucket_policies.tf)
#
# Two things that are easy to get wrong:
#
# * S3 answers 404 for a key that is not there only to who may list the bucket, 403 to others. A HEAD brings no
#   s3:prefix, so that a plain condition on it would turn every "missing" into "denied": hence ...IfExists.
#   S3 tells such a HEAD from a LIST without a prefix by nothing, so that who may list a prefix may see the names of all
#   current keys. Versions are listed with a prefix only.
# * CopyObject copies annotations unless it is told not to, and then asks for two of their actions. Of copies in parts the
#   worker lists, reads and writes them itself. What names a version takes actions of its own, as for tags.
# * s3:DeleteObject without a version id puts a delete marker onto a versioned bucket, and destroys nothing. Destroying
#   takes s3:DeleteObjectVersion, an action of its own.

locals {
  # what comes along with an object, for who copies it
  s3_list_annotations  = var.object_annotations ? ["s3:ListObjectAnnotations", "s3:ListObjectVersionAnnotations"] : []
  s3_read_annotations  = concat(local.s3_list_annotations, var.object_annotations ? ["s3:GetObjectAnnotation", "s3:GetObjectVersionAnnotation"] : [])
  s3_write_annotations = var.object_annotations ? ["s3:PutObjectAnnotation", "s3:PutObjectVersionAnnotation"] : []
  # S3 asks for it to replicate them, and for nothing at the replica:
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-example-walkthroughs.html#replication-annotations
  s3_replicate_annotations = var.object_annotations ? ["s3:GetObjectVersionAnnotationForReplication"] : []
  # A killed copy goes on with the parts that S3 lists, and is given up until none are left.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions
  s3_write       = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
  s3_read_tags   = ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"]
  s3_read_along  = concat(local.s3_read_tags, local.s3_read_annotations)
  s3_write_along = concat(["s3:PutObjectTagging"], local.s3_write_annotations)

  # Object ARNs by what they are to us. A pair's prefix bounds each of them.
  objects = {
    source  = distinct(flatten([for pair in local.pairs : [for prefix in pair.source.prefixes : "${local.bucket_arns[pair.source.bucket]}/${prefix}*"]]))
    copy    = distinct(flatten([for name, pair in local.pairs : [for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.destination.bucket]}/${prefix}*"]]))
    replica = distinct(flatten([for name, pair in local.replicas : [for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.replica.bucket]}/${prefix}*"]]))
    archive = distinct([for pair in local.archives : "${local.bucket_arns[pair.archive.bucket]}/${pair.archive.prefix}*"])
    restore = [for place in var.restore_to : "arn:aws:s3:::${place}*"]
    drill   = [for drill in local.drill : "${local.bucket_arns[drill.bucket]}/${drill.prefix}*"]
    reports = [for bucket in values(local.inventory.buckets) : "${local.bucket_arns[bucket]}/${local.inventory.prefix}*"]
    ledger  = ["${local.bucket_arns[local.ledger.bucket]}/${local.ledger.prefix}*"]
    state   = ["${local.bucket_arns[local.ledger.bucket]}/${local.ledger.prefix}state/*"]

    mirrored      = distinct(flatten([for name, pair in local.mirroring : [for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.destination.bucket]}/${prefix}*"]]))
    locked_source = distinct(flatten([for pair in local.locking : [for prefix in pair.source.prefixes : "${local.bucket_arns[pair.source.bucket]}/${prefix}*"]]))
    locked_copy   = distinct(flatten([for name, pair in local.locking : [for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.destination.bucket]}/${prefix}*"]]))

    # what archive rules cover, on the side that they pack
    covered = distinct(flatten([for name, pair in local.expiring : [for prefix in local.archived_prefixes[name] :
      pair.archive.side == "source" ? "${local.bucket_arns[pair.source.bucket]}/${prefix}*" : "${local.bucket_arns[pair.destination.bucket]}/${pair.destination.prefix}${prefix}*"
    ]]))

    # what expire looks at: the originals of a pair, and the documents of places, which it looks for everywhere in both buckets
    original = distinct(flatten([for name, pair in local.expiring : [for prefix in pair.archive.side == "source" ? pair.source.prefixes : local.copy_prefixes[name] :
      "${local.bucket_arns[pair.archive.side == "source" ? pair.source.bucket : pair.destination.bucket]}/${prefix}*"
    ]]))
    place = distinct([for place in local.declared : "${local.bucket_arns[place.bucket]}/*${local.place_folder}*"])
  }

  # What the prefixes of a pair have in common: nights list a side by it, and look at a destination by its prefix alone.
  shared_prefixes = { for name, pair in local.pairs : name => substr(pair.source.prefixes[0], 0, max([
    for length in range(length(pair.source.prefixes[0]) + 1) : length
    if alltrue([for prefix in pair.source.prefixes : startswith(prefix, substr(pair.source.prefixes[0], 0, length))])
  ]...)) }

  # bucket → the prefixes by which the names of current keys are listed there
  named_prefixes = { for kind, places in {
    source  = [for name, pair in local.pairs : { bucket = pair.source.bucket, prefix = local.shared_prefixes[name] }]
    copy    = [for pair in local.pairs : { bucket = pair.destination.bucket, prefix = pair.destination.prefix }]
    replica = [for pair in local.replicas : { bucket = pair.replica.bucket, prefix = pair.destination.prefix }]
  } : kind => { for place in places : place.bucket => place.prefix... } }

  # bucket → the prefixes by which versions are listed there
  listed = { for kind, places in {
    source  = flatten([for pair in local.pairs : [for prefix in pair.source.prefixes : { bucket = pair.source.bucket, prefix = prefix }]])
    copy    = flatten([for name, pair in local.pairs : [for prefix in local.copy_prefixes[name] : { bucket = pair.destination.bucket, prefix = prefix }]])
    replica = flatten([for name, pair in local.replicas : [for prefix in local.copy_prefixes[name] : { bucket = pair.replica.bucket, prefix = prefix }]])
    archive = [for pair in local.archives : { bucket = pair.archive.bucket, prefix = pair.archive.prefix }]
    packed  = [for pair in local.expiring : { bucket = pair.archive.bucket, prefix = pair.archive.prefix } if pair.archive.side == "destination"]
    drill   = [for drill in local.drill : { bucket = drill.bucket, prefix = drill.prefix }]
    reports = [for bucket in values(local.inventory.buckets) : { bucket = bucket, prefix = local.inventory.prefix }]
    ledger  = [{ bucket = local.ledger.bucket, prefix = local.ledger.prefix }]
    restore = [for place in var.restore_to : { bucket = split("/", place)[0], prefix = join("/", slice(split("/", place), 1, length(split("/", place)))) }]

    original = [for place in local.declared : { bucket = place.bucket, prefix = place.prefix } if place.rank < 2]
    place    = [for place in local.declared : { bucket = place.bucket, prefix = "*${local.place_folder}" }]
  } : kind => { for place in places : place.bucket => place.prefix... } }

  # KMS keys by what they encrypt; an alias stands for its key, since IAM does not know aliases.
  given_keys = toset([for each in values(local.buckets) : each.kms_key if can(regex(":alias/", each.kms_key))])
  resolved   = { for alias in local.given_keys : alias => data.aws_kms_alias.given[alias].target_key_arn }
  keys = { for kind, arns in {
    source  = var.source_kms_key_arns
    copy    = [for pair in local.pairs : local.bucket_keys[pair.destination.bucket]]
    replica = [for pair in local.replicas : local.bucket_keys[pair.replica.bucket]]
    archive = [for pair in local.archives : local.bucket_keys[pair.archive.bucket]]
    drill   = [for drill in local.drill : local.key_arns[drill.region]]
    reports = [for region in keys(local.inventory.buckets) : local.key_arns[region]]
    ledger  = [local.key_arns[local.region]]
    restore = var.source_kms_key_arns
    kept    = [for region in var.kept_key_regions : local.made_key_arns[region]] # under older copies

    original = flatten([for pair in local.expiring : pair.archive.side == "source" ? var.source_kms_key_arns : [local.bucket_keys[pair.destination.bucket]]])
    place    = []
  } : kind => [for arn in arns : lookup(local.resolved, coalesce(arn, "none"), arn) if arn != null] }

  # role → action → the buckets where a prefix that it lists begins with the same, in one statement
  list_groups = { for role, each in local.roles : role => { for action, listed in {
    "s3:ListBucket"         = merge(local.listed, local.named_prefixes)
    "s3:ListBucketVersions" = local.listed
    } : action => { for bucket, patterns in {
      for bucket in distinct(flatten([for kind in concat(each.lists, ["ledger"]) : keys(listed[kind])])) : bucket => distinct(flatten([
        [for kind in concat(each.lists, ["ledger"]) : [for prefix in try(listed[kind][bucket], []) : "${prefix}*"]],
      ]))
    } : jsonencode(contains(patterns, "*") ? ["*"] : sort(patterns)) => "arn:aws:s3:::${bucket}"... }
    if action == "s3:ListBucket" || role != "control" } # it lists no versions
  }

  # Who reads, writes, lists and starts what; `marks`: may put delete markers. Everybody reads and writes the ledger. What
  # compares and decides starts the workers of replicate; nothing starts expire but a person.
  roles = merge(
    {
      backup      = { function = true, reads = ["source", "copy"], writes = ["copy"], lists = ["source", "copy"], marks = true, submits = [] }
      control     = { function = true, reads = [], writes = [], lists = [], marks = false, submits = ["nightly", "drill", "backfill", "replicate", "restore"] }
      replicate   = { function = false, reads = ["source", "copy", "reports"], writes = ["copy"], lists = ["source", "copy", "reports"], marks = true, submits = ["replicate", "verify"] }
      verify      = { function = false, reads = ["source", "copy", "replica", "archive", "reports"], writes = [], lists = ["source", "copy", "replica", "archive", "reports"], marks = false, submits = ["verify"] }
      orchestrate = { function = false, reads = ["source", "copy", "replica", "reports"], writes = [], lists = ["source", "copy", "replica", "packed", "reports"], marks = false, submits = ["replicate", "verify"] }
    },
    { for job, each in {
      compact = { function = false, reads = ["source", "copy", "archive", "reports"], writes = ["archive"], lists = ["source", "copy", "archive", "reports"], marks = false, submits = ["compact", "verify"] }
      restore = { function = false, reads = ["source", "copy", "replica", "archive", "restore"], writes = ["restore"], lists = ["source", "copy", "replica", "archive", "restore"], marks = false, submits = ["restore", "verify"] }
      expire  = { function = false, reads = ["original", "archive", "place"], writes = [], lists = ["original", "archive", "place"], marks = false, submits = [] }
      drill   = { function = false, reads = ["source", "copy", "replica", "archive", "drill"], writes = ["drill"], lists = ["source", "copy", "replica", "archive", "drill"], marks = false, submits = [] }
    } : job => each if contains(keys(local.jobs), job) },
  )

  # Who ends runs that say something of copies, and so makes generations of the ledger's state.
  folding = ["replicate", "verify", "orchestrate", "drill"] # a drill verifies the copies that it finds wrong

  # Who destroys versions, and where: what archives cover, and what drills have restored.
  destroyed = { expire = local.objects.covered, drill = local.objects.drill }

  # What each role may delete: these, delete markers where the policy mirrors deletes, and in the state.
  deletable = { for role, each in local.roles : role => concat(
    lookup(local.destroyed, role, []),
    each.marks ? local.objects.mirrored : [],
    contains(local.folding, role) ? local.objects.state : [],
  ) }

  statements = { for role, each in local.roles : role => concat(
    [
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = distinct(flatten([for kind in concat(each.reads, ["ledger"]) : local.objects[kind]]))
      },
      {
        Sid      = "Write"
        Effect   = "Allow"
        Action   = local.s3_write
        Resource = distinct(flatten([for kind in concat(each.writes, ["ledger"]) : local.objects[kind]]))
      },
    ],
    [for reads in [distinct(flatten([for kind in each.reads : local.objects[kind]]))] : {
      Sid      = "ReadAlong"
      Effect   = "Allow"
      Action   = role == "compact" ? concat(local.s3_read_tags, local.s3_list_annotations) : local.s3_read_along # an archive holds no annotations
      Resource = reads
    } if length(each.writes) > 0],
    # no original goes whose copy lacks its tags or annotations
    [for reads in [concat(local.objects.original, local.objects.archive)] : {
      Sid      = "CompareAlong"
      Effect   = "Allow"
      Action   = local.s3_read_along
      Resource = reads
    } if role == "expire"],
    [for writes in [distinct(flatten([for kind in each.writes : local.objects[kind]]))] : {
      Sid      = "WriteAlong"
      Effect   = "Allow"
      Action   = local.s3_write_along
      Resource = writes
    } if length(writes) > 0 && role != "compact"],
    # a HEAD brings no prefix: the condition on names of current keys is one on what brings one
    [for statement in flatten([for action, groups in local.list_groups[role] : [for patterns, buckets in groups : patterns == jsonencode(["*"]) ?
      jsonencode({ Effect = "Allow", Action = action, Resource = buckets }) :
      jsonencode({ Effect = "Allow", Action = action, Resource = buckets, Condition = {
        (action == "s3:ListBucket" ? "StringLikeIfExists" : "StringLike") = { "s3:prefix" = jsondecode(patterns) }
      } })
    ]]) : jsondecode(statement)], # as texts they are of one type
    [for buckets in [distinct(flatten([for kind in each.lists : keys(local.listed[kind])]))] : {
      Sid      = "AreThereVersions"
      Effect   = "Allow"
      Action   = "s3:GetBucketVersioning"
      Resource = [for bucket in buckets : "arn:aws:s3:::${bucket}"]
    } if contains(["backup", "replicate", "verify", "orchestrate", "restore", "expire", "drill"], role)],
    # what a lifecycle rule removes, or a replicated delete, is no copy
    [for buckets in [distinct(concat(keys(local.listed.archive), keys(local.listed.original)))] : {
      Sid      = "DoCopiesStay"
      Effect   = "Allow"
      Action   = ["s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration"]
      Resource = [for bucket in buckets : "arn:aws:s3:::${bucket}"]
    } if role == "expire"],
    # `replicate --object-lock`: as the source has them; neither can be shortened without a bypass
    [for kind in ["locked_source"] : {
      Sid      = "ReadLocks"
      Effect   = "Allow"
      Action   = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
      Resource = concat(local.objects[kind], local.objects.locked_copy)
    } if role == "replicate" && length(local.objects[kind]) > 0],
    [for kind in ["locked_copy"] : {
      Sid      = "WriteLocks"
      Effect   = "Allow"
      Action   = ["s3:PutObjectRetention", "s3:PutObjectLegalHold"]
      Resource = local.objects[kind]
    } if role == "replicate" && length(local.objects[kind]) > 0],
    # without a version id: a delete marker, for pairs with `deletes: mirror` alone
    [for resources in [local.objects.mirrored] : {
      Sid      = "MirrorDeletes"
      Effect   = "Allow"
      Action   = "s3:DeleteObject"
      Resource = resources
    } if each.marks && length(resources) > 0],
    # deltas and generations that two newer ones hold (jobs/ledger/state_files.py)
    [for resources in [local.objects.state] : {
      Sid      = "FoldState"
      Effect   = "Allow"
      Action   = "s3:DeleteObject"
      Resource = resources
    } if contains(local.folding, role)],
    [for resources in [local.objects.covered] : {
      Sid      = "ReadLocksAndHolds"
      Effect   = "Allow"
      Action   = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
      Resource = resources
    } if role == "expire" && length(resources) > 0],
    [for resources in [lookup(local.destroyed, role, [])] : {
      Sid      = role == "expire" ? "ExpireWhatArchivesCover" : "RemoveWhatDrillsRestored"
      Effect   = "Allow"
      Action   = concat(["s3:DeleteObjectVersion"], role == "expire" ? ["s3:DeleteObject"] : [])
      Resource = resources
    } if length(resources) > 0],
    [for resources in [concat(local.objects.archive, local.objects.copy)] : {
      Sid      = "Thaw"
      Effect   = "Allow"
      Action   = "s3:RestoreObject"
      Resource = resources
    } if role == "restore"],
    [for arns in [distinct(flatten([for kind in concat(each.reads, each.writes, ["ledger", "kept"]) : local.keys[kind]]))] : {
      Sid       = "Decrypt"
      Effect    = "Allow"
      Action    = "kms:Decrypt"
      Resource  = arns
      Condition = { StringLike = { "kms:ViaService" = "s3.*.amazonaws.com" } }
    }],
    [for arns in [distinct(flatten([for kind in concat(each.writes, ["ledger"]) : local.keys[kind]]))] : {
      Sid       = "Encrypt"
      Effect    = "Allow"
      Action    = "kms:GenerateDataKey"
      Resource  = arns
      Condition = { StringLike = { "kms:ViaService" = "s3.*.amazonaws.com" } }
    }],
    local.submit_statements[role],
    flatten([for role in [role] : local.function_statements[role] if each.function]),
    local.guards[role],
  ) }

  submit_statements = { for role, each in local.roles : role => concat(
    [for names in [[for job in each.submits : local.job_names[job] if contains(keys(local.job_names), job)]] : {
      Sid    = "SubmitJobs"
      Effect = "Allow"
      Action = "batch:SubmitJob"
      Resource = concat([local.queue_arns[each.function ? "orchestrators" : "workers"]], flatten([for name in names : [
        "arn:aws:batch:${local.region}:${local.account}:job-definition/${name}",
        "arn:aws:batch:${local.region}:${local.account}:job-definition/${name}:*",
      ]]))
    } if length(names) > 0],
    # Both name a job by its id, which is Batch's to choose. SubmitJob with tags asks for TagResource, on a job that is
    # not there yet, so that no condition can tell it from one on another's job; what is ended bears our tag.
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_batch.html
    [for jobs in ["arn:aws:batch:${local.region}:${local.account}:job/*"] : {
      Sid      = "TagJobs"
      Effect   = "Allow"
      Action   = "batch:TagResource"
      Resource = jobs
    } if length(each.submits) > 0],
    [for jobs in ["arn:aws:batch:${local.region}:${local.account}:job/*"] : {
      Sid       = "EndOurJobs"
      Effect    = "Allow"
      Action    = "batch:TerminateJob"
      Resource  = jobs
      Condition = { StringEquals = { "aws:ResourceTag/sealift:system" = local.name } }
    } if length(each.submits) > 0],
    [for actions in [concat(["batch:ListJobs"], each.function ? [] : ["batch:DescribeJobs", "batch:DescribeJobQueues", "batch:DescribeJobDefinitions"])] : {
      Sid      = "SeeJobs"
      Effect   = "Allow"
      Action   = actions
      Resource = "*" # Batch offers no resource for what describes and lists
    } if length(each.submits) > 0],
  ) }

  # What every function needs, and what some of them alone do.
  function_statements = { for role in ["backup", "control"] : role => concat(
    [
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.this.arn}:*"
      },
      {
        Sid      = "DeadLetters"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.this["undelivered"].arn
      },
      {
        Sid       = "OurOwnKey"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = local.key_arns[local.region]
        Condition = { StringEquals = { "kms:ViaService" = [for service in ["sqs", "sns", "lambda"] : "${service}.${local.region}.amazonaws.com"] } }
      },
    ],
    [for queue in ["objects"] : {
      Sid      = "TakeEvents"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"]
      Resource = aws_sqs_queue.this[queue].arn
    } if role == "backup"],
    [for sid, each in {
      StartRuns  = { action = "lambda:InvokeFunction", resource = "arn:aws:lambda:${local.region}:${local.account}:function:${local.name}-submit" }
      TellPeople = { action = "sns:Publish", resource = local.topic_arn }
    } : { Sid = sid, Effect = "Allow", Action = each.action, Resource = each.resource } if role == "control"],
  ) }

  # Denied whatever else is allowed, also by a policy that somebody adds to the role one day.
  guards = { for role, each in local.roles : role => concat(
    [
      {
        Sid      = "NoBypass"
        Effect   = "Deny"
        Action   = concat(["s3:BypassGovernanceRetention"], contains(keys(local.destroyed), role) ? [] : ["s3:DeleteObjectVersion"])
        Resource = "*"
      },
      {
        Sid      = "NotThePolicyFile"
        Effect   = "Deny"
        Action   = concat(local.s3_write, local.s3_write_along)
        Resource = "${local.bucket_arns[local.ledger.bucket]}/${local.policy_key}"
      },
      {
        Sid      = "NoPlaces" # they are declared by people, or here
        Effect   = "Deny"
        Action   = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
        Resource = "arn:aws:s3:::*${local.place_folder}${join("", [for number in range(32) : "?"])}.json"
      },
    ],
    [for name in [lookup(local.job_names, "expire", null)] : {
      Sid      = "NobodyStartsExpire" # but a person
      Effect   = "Deny"
      Action   = "batch:SubmitJob"
      Resource = ["arn:aws:batch:*:*:job-definition/${name}", "arn:aws:batch:*:*:job-definition/${name}:*"]
    } if name != null],
    [for resources in [local.objects.drill] : {
      Sid         = "NothingElseIsDestroyed" # nor the state's versions, in which it may put delete markers
      Effect      = "Deny"
      Action      = ["s3:DeleteObjectVersion"]
      NotResource = resources
    } if role == "drill"],
    [for resources in [local.deletable[role]] : {
      Sid         = "NoDeletesElsewhere"
      Effect      = "Deny"
      Action      = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
      NotResource = resources
    } if length(resources) > 0],
    [for resources in [local.deletable[role]] : {
      Sid      = "NoDeletes"
      Effect   = "Deny"
      Action   = ["s3:DeleteObject"]
      Resource = "*"
    } if length(resources) == 0],
  ) }
}

data "aws_kms_alias" "given" {
  for_each = local.given_keys

  region = split(":", each.key)[3]
  name   = split(":", each.key)[5]
}

locals {
  role_names    = { for role, each in local.roles : role => "${each.function ? "fn" : "job"}-${role}" }
  role_policies = { for role, each in local.all_roles : role => jsonencode({ Version = "2012-10-17", Statement = each.statements }) }

  # What a plan knows of their length. ARNs of what is not there yet are left out: they are a quarter of a small policy's.
  known_lengths = { for role, each in local.roles : local.role_names[role] => 2000 + sum(concat(
    [for kind in concat(each.reads, each.writes, ["ledger", "ledger"]) : length(jsonencode(local.objects[kind]))],
    flatten([for groups in values(local.list_groups[role]) : [for patterns, buckets in groups : length(jsonencode([buckets, patterns]))]]),
    [for kind in each.lists : length(jsonencode(keys(local.listed[kind])))],
    [2 * length(jsonencode(local.deletable[role]))],
  )) }
  too_many_pairs = "The policies of a role may have 10,240 characters, and this policy file names more buckets and prefixes than fit: make two of it, each with a name and a ledger prefix of its own."
}
