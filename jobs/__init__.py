"""Sealift: backs up, replicates and proves very large S3 buckets."""

__version__ = "0.1.0"
