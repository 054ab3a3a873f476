"""S3 Inventory reports: found, read and written.

Reading order: `find` finds the latest complete report of a folder, `report` reads and checks its
manifest, `data_files` reads its CSV, ORC or Parquet files, `fields` names their columns, `rows`
turns them into rows of a manifest, `write` makes a report of the same shape by listing a bucket.

A report whose files are missing or altered is refused as a whole.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
"""
