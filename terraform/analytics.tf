# The ledger in SQL for Athena: the tables of `sealift query`, jobs/ledger/table_docs.py, with the same columns.
#
# Partitions are projected: no crawler, nothing to repair. Runs cannot be counted out, so
# that a query names one: WHERE run_id = '…'. Where several attempts worked at a shard, Athena shows the outcomes of each;
# `sealift query` and report.json show the one that stands.

locals {
  ledger_root = "s3://${local.ledger.bucket}/${local.ledger.prefix}"

  # name, type, meaning
  tables = {
    outcomes = {
      about  = "What became of a row; one for each row, whichever attempts reported on it."
      format = "parquet"
      folder = "runs/"
      file   = "runs/$${run_id}/outcomes/"
      partitions = [
        { name = "run_id", type = "injected" },
      ]
      columns = [
        ["row", "bigint", "the row's number in the run"],
        ["key", "string", "the object's key at the source, as it is"],
        ["version_id", "string", "the version id at the source; null: the manifest named only the key"],
        ["status", "string", "done, same, verified, left, or what went wrong"],
        ["reason", "string", "why, as a code; empty: all went as asked"],
        ["evidence", "string", "what proves it: content, checksum, md5_etag, none"],
        ["size_bytes", "bigint", "the object's bytes that were handled"],
        ["etag", "string", "the source's ETag"],
        ["destination_version_id", "string", "the destination's version id"],
        ["destination_etag", "string", "the destination's ETag"],
        ["checksum", "string", "ALGORITHM:base64 of the content, where it is known"],
        ["detail", "string", "the one fact of that code: a name, a number, an error of S3"],
        ["depth", "string", "what was compared: listed, stored (checksums, ETags), bytes"],
        ["source_modified", "timestamp", "when S3 says the source was written, where it is known"],
        ["copy_modified", "timestamp", "the same of the copy"],
        ["at", "timestamp", "when S3 was asked, by its own clock; in SQL: \"at\""],
        ["attempt", "string", "which worker process did it; `plan`: a list of the destination showed it"],
      ]
    }
    differences = {
      about  = "A finding of a reconciliation: an object that is not the same on both sides."
      format = "parquet"
      folder = "runs/"
      file   = "runs/$${run_id}/differences/"
      partitions = [
        { name = "run_id", type = "injected" },
      ]
      columns = [
        ["key", "string", "the object's key at the source, as it is"],
        ["destination_key", "string", "the key at the destination"],
        ["version_id", "string", "the version id at the source; null: the manifest named only the key"],
        ["destination_version_id", "string", "the version id at the destination"],
        ["category", "string", "missing, extra, different, stale, unverifiable, …"],
        ["reason", "string", "why, as a code"],
        ["detail", "string", "facts of that code"],
        ["is_finding", "boolean", "whether it needs attention"],
        ["source_size_bytes", "bigint", "the size at the source"],
        ["source_etag", "string", "the ETag at the source"],
        ["source_last_modified", "timestamp", "when the source was written"],
        ["destination_size_bytes", "bigint", "the size at the destination"],
        ["destination_etag", "string", "the ETag at the destination"],
        ["destination_last_modified", "timestamp", "when the destination was written"],
      ]
    }
    journal = {
      about  = "What the event-driven path did with one event; belongs to no run."
      format = "json"
      folder = "journal/"
      file   = "journal/dt=$${dt}/"
      partitions = [
        { name = "dt", type = "date", range = "2025-01-01,NOW", format = "yyyy-MM-dd" },
      ]
      columns = [
        ["recorded_at", "string", "when it was done"],
        ["event", "string", "the event's name, as S3 gave it"],
        ["source_bucket", "string", "the bucket of the key"],
        ["key", "string", "the object's key at the source, as it is"],
        ["version_id", "string", "the version id at the source; null: the manifest named only the key"],
        ["sequencer", "string", "orders the events of one key"],
        ["status", "string", "copied, same, deleted, or what went wrong"],
        ["reason", "string", "why, as a code; empty: all went as asked"],
        ["evidence", "string", "what proves it: content, checksum, md5_etag, none"],
        ["size_bytes", "bigint", "the object's size"],
        ["etag", "string", "the source's ETag"],
        ["destination_bucket", "string", "where its copy is"],
        ["destination_key", "string", "the copy's key"],
        ["destination_version_id", "string", "the copy's version id"],
        ["destination_etag", "string", "the copy's ETag"],
        ["checksum", "string", "ALGORITHM:base64 of the content, where it is known"],
        ["event_at", "string", "when it happened at the source"],
        ["detail", "string", "the one fact of that code: a name, a number, an error of S3"],
      ]
    }
  }

  formats = {
    parquet = {
      input  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
      output = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
      serde  = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    }
    json = {
      input  = "org.apache.hadoop.mapred.TextInputFormat"
      output = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
      serde  = "org.openx.data.jsonserde.JsonSerDe"
    }
  }

  queries = {
    "bad-rows-of-a-run" = {
      about = "What did not end well in a run, by status and reason. Put in the run's id."
      sql   = "SELECT status, reason, detail, count(*) AS rows, sum(size_bytes) AS bytes\nFROM outcomes\nWHERE run_id = 'RUN'\n  AND status NOT IN ('done', 'same', 'verified', 'left')\nGROUP BY status, reason, detail\nORDER BY rows DESC"
    }
    "differences-by-folder" = {
      about = "Where the findings of a reconciliation are. Put in the run's id."
      sql   = "SELECT split_part(key, '/', 1) AS folder, category, count(*) AS findings\nFROM differences\nWHERE run_id = 'RUN' AND is_finding\nGROUP BY 1, 2\nORDER BY findings DESC"
    }
    "events-of-a-week" = {
      about = "What the event-driven path did in the last seven days."
      sql   = "SELECT dt, source_bucket, status, count(*) AS events, sum(size_bytes) AS bytes\nFROM journal\nWHERE dt >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')\nGROUP BY 1, 2, 3\nORDER BY 1 DESC, 4 DESC"
    }
    "history-of-a-key" = {
      about = "Everything that events did to one key. Put in the key."
      sql   = "SELECT recorded_at, event, version_id, status, reason, detail, destination_version_id\nFROM journal\nWHERE dt >= date_format(current_date - INTERVAL '90' DAY, '%Y-%m-%d') AND key = 'KEY'\nORDER BY sequencer"
    }
  }
}

resource "aws_glue_catalog_database" "this" {
  region      = local.region
  name        = replace(local.name, "-", "_")
  description = "Sealift's ledger: ${local.ledger_uri}"
  tags        = local.tags
}

resource "aws_glue_catalog_table" "this" {
  for_each = local.tables

  region        = local.region
  database_name = aws_glue_catalog_database.this.name
  name          = each.key
  description   = each.value.about
  table_type    = "EXTERNAL_TABLE"

  parameters = merge(
    {
      EXTERNAL                    = "TRUE"
      classification              = each.value.format
      "projection.enabled"        = "true"
      "storage.location.template" = "${local.ledger_root}${each.value.file}"
    },
    merge([for partition in each.value.partitions : {
      for name, value in partition : "projection.${partition.name}.${name}" => value if name != "name"
    }]...),
  )

  dynamic "partition_keys" {
    for_each = each.value.partitions

    content {
      name = partition_keys.value.name
      type = "string"
    }
  }

  storage_descriptor {
    location      = "${local.ledger_root}${each.value.folder}"
    input_format  = local.formats[each.value.format].input
    output_format = local.formats[each.value.format].output

    ser_de_info {
      serialization_library = local.formats[each.value.format].serde
    }

    dynamic "columns" {
      for_each = each.value.columns

      content {
        name    = columns.value[0]
        type    = columns.value[1]
        comment = columns.value[2]
      }
    }
  }
}

resource "aws_athena_workgroup" "this" {
  region      = local.region
  name        = local.name
  description = "Queries over Sealift's ledger"
  tags        = local.tags

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = 1099511627776 # a TiB: about five dollars

    result_configuration {
      output_location = "s3://${local.ledger.bucket}/${local.athena_prefix}"

      encryption_configuration {
        encryption_option = "SSE_KMS"
        kms_key_arn       = local.key_arns[local.region]
      }
    }
  }
}

resource "aws_athena_named_query" "this" {
  for_each = local.queries

  region      = local.region
  name        = each.key
  description = each.value.about
  workgroup   = aws_athena_workgroup.this.name
  database    = aws_glue_catalog_database.this.name
  query       = each.value.sql
}
