"""The edge to S3. No raw response leaves this package."""
